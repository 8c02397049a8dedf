"""Who listens to what; see channels.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memcmp, memcpy

from pgpool_core.engine.buf cimport Buf, buf_add, buf_free
from pgpool_core.engine.conn cimport plane_post
from pgpool_core.engine.mailbox cimport MAIL_CHANNELS, MAIL_LISTEN, Mail
from pgpool_core.engine.records cimport *
from pgpool_core.wire.span cimport HASH_BEGIN, Span, hash_apart, hash_on

cdef enum:
    FIRST_BUCKETS = 64


cdef uint32_t hash_of(uint32_t pool, Span name) noexcept nogil:
    """Of the pool and the name."""
    return hash_on(hash_apart(HASH_BEGIN ^ pool), name)


cdef Channel *channel_find(Worker *w, uint32_t pool, Span name) noexcept nogil:
    cdef uint32_t h = hash_of(pool, name)
    cdef Channel *ch
    if w.channel_buckets == 0:
        return NULL
    ch = w.channels[h & (w.channel_buckets - 1)]
    while ch != NULL and not (ch.hash == h and ch.pool == pool and ch.len == name.len
                              and memcmp(ch.name, name.at, name.len) == 0):
        ch = ch.next
    return ch


cdef bint widen(Worker *w) noexcept nogil:
    """Have at least as many buckets as channels."""
    cdef uint32_t wide = w.channel_buckets * 2 if w.channel_buckets else FIRST_BUCKETS
    cdef uint32_t i
    cdef Channel **fresh
    cdef Channel *ch
    if w.channel_count < w.channel_buckets:
        return True
    fresh = <Channel **>calloc(wide, sizeof(Channel *))
    if fresh == NULL:
        return w.channel_buckets != 0             # long lists are better than none
    for i in range(w.channel_buckets):
        while w.channels[i] != NULL:
            ch = w.channels[i]
            w.channels[i] = ch.next
            ch.next = fresh[ch.hash & (wide - 1)]
            fresh[ch.hash & (wide - 1)] = ch
    free(w.channels)
    w.channels = fresh
    w.channel_buckets = wide
    return True


cdef bint post(Worker *w, uint32_t pool, const uint8_t *name, uint8_t n, uint64_t token) noexcept nogil:
    """Have control listen (`token`), or stop (0); False when its ring is full."""
    cdef Mail mail
    mail.kind = MAIL_LISTEN
    mail.client = mail.server = 0
    mail.a = pool
    mail.b = token
    mail.len = n
    mail.data = malloc(n)
    if mail.data == NULL:
        return False
    memcpy(mail.data, name, n)
    if not plane_post(w, &mail):
        free(mail.data)
        return False
    return True


cdef void drop(Worker *w, Channel *ch) noexcept nogil:
    """Nobody here listens to `ch` any more, and control does not think so."""
    cdef Channel **at = &w.channels[ch.hash & (w.channel_buckets - 1)]
    while at[0] != ch:
        at = &at[0].next
    at[0] = ch.next
    w.channel_count -= 1
    free(ch)


cdef Channel *channel_for(Worker *w, uint32_t pool, Span name) noexcept nogil:
    """The channel of that name, made and asked for where it is new; NULL when that cannot be."""
    cdef Channel *ch = channel_find(w, pool, name)
    if ch != NULL:
        return ch
    if not widen(w):
        return NULL
    ch = <Channel *>calloc(1, sizeof(Channel))
    if ch == NULL:
        return NULL
    w.channel_tokens += 1
    ch.token = w.channel_tokens
    ch.pool = pool
    ch.hash = hash_of(pool, name)
    ch.len = <uint8_t>name.len
    memcpy(ch.name, name.at, name.len)
    if not post(w, pool, ch.name, ch.len, ch.token):
        free(ch)
        return NULL
    ch.next = w.channels[ch.hash & (w.channel_buckets - 1)]
    w.channels[ch.hash & (w.channel_buckets - 1)] = ch
    w.channel_count += 1
    return ch


cdef int channel_join(Worker *w, ClientConn *c, Span name) noexcept nogil:
    """`c` listens to `name` (1 to 63 bytes, folded) from now on, or when control does: JOIN_*."""
    cdef Listens *l = c.listens
    cdef Subscription *sub
    cdef Channel *ch
    if l == NULL:
        l = c.listens = <Listens *>calloc(1, sizeof(Listens))
        if l == NULL:
            return JOIN_BUSY
    if l.count >= MAX_OWN:
        return JOIN_MANY
    ch = channel_find(w, c.pool.pool.id, name)
    sub = l.own
    while ch != NULL and sub != NULL:
        if sub.channel == ch:
            return JOIN_LIVE                      # if the connection is lost just now, it will hear of that
        sub = sub.own
    sub = <Subscription *>calloc(1, sizeof(Subscription))
    if sub == NULL:
        return JOIN_BUSY
    ch = channel_for(w, c.pool.pool.id, name)
    if ch == NULL:
        free(sub)
        return JOIN_BUSY
    sub.channel = ch
    sub.client = c
    sub.waits = ch.state != CHANNEL_LIVE
    sub.own = l.own
    l.own = sub
    l.count += 1
    sub.next = ch.first
    if ch.first != NULL:
        ch.first.prev = sub
    ch.first = sub
    ch.clients += 1
    return JOIN_WAITS if sub.waits else JOIN_LIVE


cdef bint channels_rest(const ClientConn *c) noexcept nogil:
    """Nothing about its channels is under way."""
    cdef const Listens *l = c.listens
    cdef const Subscription *sub
    if l == NULL:
        return True
    if l.coming or l.queue.len or l.answer.len or l.ending.len or l.ending_all:
        return False
    sub = l.own
    while sub != NULL:
        if sub.waits:
            return False
        sub = sub.own
    return True


cdef bint channels_put(const ClientConn *c, Buf *out) noexcept nogil:
    """Add the names of its channels, each behind its length, the first one first; False when memory is short."""
    cdef const Subscription *sub = c.listens.own if c.listens != NULL else NULL
    while sub != NULL:
        if not buf_add(out, &sub.channel.len, 1) or not buf_add(out, sub.channel.name, sub.channel.len):
            return False
        sub = sub.own
    return True


cdef bint channels_join(Worker *w, ClientConn *c, const uint8_t *names, uint32_t n) noexcept nogil:
    """`c` has come with these; `coming` says how many control is yet to listen to. False: it cannot go on."""
    cdef Span name
    cdef int joined
    while n:
        name.at = names + 1
        name.len = names[0]
        names += 1 + name.len
        n -= 1 + name.len
        joined = channel_join(w, c, name)
        if joined < 0:
            return False
        c.listens.coming += joined == JOIN_WAITS
    return True


cdef void channel_part(Worker *w, Listens *l, Subscription **at) noexcept nogil:
    """End the subscription at `at`, and the channel when it was its last."""
    cdef Subscription *sub = at[0]
    cdef Channel *ch = sub.channel
    at[0] = sub.own
    l.count -= 1
    if sub.prev != NULL:
        sub.prev.next = sub.next
    else:
        ch.first = sub.next
    if sub.next != NULL:
        sub.next.prev = sub.prev
    ch.clients -= 1
    free(sub)
    if ch.clients == 0 and post(w, ch.pool, ch.name, ch.len, 0):
        drop(w, ch)                               # else it is kept, and control listens in vain


cdef void channel_leave(Worker *w, ClientConn *c, Span name) noexcept nogil:
    """UNLISTEN name."""
    cdef Subscription **at
    if c.listens == NULL:
        return
    at = &c.listens.own
    while at[0] != NULL:
        if at[0].channel.len == name.len and memcmp(at[0].channel.name, name.at, name.len) == 0:
            channel_part(w, c.listens, at)
            return
        at = &at[0].own


cdef void channels_leave(Worker *w, ClientConn *c) noexcept nogil:
    """UNLISTEN *."""
    while c.listens != NULL and c.listens.own != NULL:
        channel_part(w, c.listens, &c.listens.own)


cdef void channels_forget(Worker *w, ClientConn *c) noexcept nogil:
    """`c` ends."""
    cdef Listens *l = c.listens
    channels_leave(w, c)
    c.listens = NULL
    buf_free(&l.queue)
    buf_free(&l.answer)
    buf_free(&l.ending)
    free(l)


cdef void channels_tell(Worker *w, uint64_t token) noexcept nogil:
    """Send control a row for each channel."""
    cdef ChannelRow *rows
    cdef Channel *ch
    cdef Mail mail
    cdef uint32_t i, n = 0
    if w.channel_count == 0:
        return
    rows = <ChannelRow *>calloc(w.channel_count, sizeof(ChannelRow))
    if rows == NULL:
        return
    for i in range(w.channel_buckets):
        ch = w.channels[i]
        while ch != NULL:
            rows[n].pool = ch.pool
            rows[n].clients = ch.clients
            rows[n].len = ch.len
            memcpy(rows[n].name, ch.name, ch.len)
            n += 1
            ch = ch.next
    mail.kind = MAIL_CHANNELS
    mail.client = mail.server = 0
    mail.a = token
    mail.b = n
    mail.data = rows
    mail.len = <uint32_t>(n * sizeof(ChannelRow))
    if not plane_post(w, &mail):
        free(rows)


cdef void channels_free(Worker *w) noexcept nogil:
    """The worker has ended, its clients are gone: free the table."""
    cdef uint32_t i
    cdef Channel *ch
    for i in range(w.channel_buckets):
        while w.channels[i] != NULL:
            ch = w.channels[i]
            w.channels[i] = ch.next
            free(ch)
    free(w.channels)
    w.channels = NULL
    w.channel_buckets = w.channel_count = 0
