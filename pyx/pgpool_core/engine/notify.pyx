"""How notifications reach clients; see notify.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from pgpool_core.engine.buf cimport Buf, buf_add, buf_bytes, buf_free, buf_steal
from pgpool_core.engine.channels cimport channel_find, channel_leave, channel_part, channels_join, channels_leave
from pgpool_core.engine.client cimport client_go_on
from pgpool_core.engine.client_end cimport client_fatal
from pgpool_core.engine.conn cimport conn_doom, conn_send, counters_of
from pgpool_core.engine.counters cimport Counters, count_add
from pgpool_core.engine.mailbox cimport MAIL_CHANNELS_LOST, MAIL_LISTEN_FAILED, MAIL_LISTENING, MAIL_NOTIFY, Mail
from pgpool_core.engine.records cimport *
from pgpool_core.engine.timers cimport TIMER_QUERY_WAIT, timer_clear
from pgpool_core.pool.server cimport Server
from pgpool_core.wire.be cimport load_be32
from pgpool_core.wire.build cimport build_error, build_notice, build_ready
from pgpool_core.wire.codes cimport TX_IDLE
from pgpool_core.wire.scan cimport HEADER_LEN
from pgpool_core.wire.span cimport Span

cdef extern from "<string.h>" nogil:
    size_t strnlen(const char *, size_t)


cdef bint between(ClientConn *c) noexcept nogil:
    """Whether `c` stands between two transactions and all that it was sent is whole."""
    cdef ServerConn *s
    if c.state == CL_IDLE or c.state == CL_WAITING:
        return True
    if c.state != CL_ACTIVE or c.seat.server == NULL:
        return False
    s = <ServerConn *>(<Server *>c.seat.server).owner
    return (s.tx_status == TX_IDLE and s.expect.owed == 0 and s.expect.copying == 0 and not s.open_group
            and s.cur.remain == 0 and c.cur.remain == 0 and s.query_start_us == 0)


cdef bint room(Buf *b, size_t n) noexcept nogil:
    """Have room for `n` bytes more, and for as much again: what comes piece by piece is not copied each time."""
    cdef uint8_t *fresh
    cdef size_t cap = 2 * (<size_t>b.len + n)
    if b.off + b.len + n <= b.cap:
        return True
    fresh = <uint8_t *>malloc(cap)
    if fresh == NULL:
        return False
    if b.len:
        memcpy(fresh, buf_bytes(b), b.len)
    free(b.at)
    b.at = fresh
    b.off = 0
    b.cap = <uint32_t>cap
    return True


cdef void too_many(Worker *w, ClientConn *c) noexcept nogil:
    """`c` does not read, or is in a transaction for too long: it ends with this turn, while lists are whole."""
    cdef const char *why = "too many notifications wait for this client"
    cdef ServerConn *s = NULL
    if c.state == CL_ACTIVE and c.seat.server != NULL:
        s = <ServerConn *>(<Server *>c.seat.server).owner
    if s == NULL or s.cur.remain == 0:
        conn_send(w, &c.conn, w.scratch, build_error(w.scratch, SCRATCH_SIZE, "FATAL", "54000", why, NULL))
    conn_doom(w, &c.conn, why)


cdef void deliver(Worker *w, ClientConn *c, const uint8_t *messages, size_t n) noexcept nogil:
    """Whole messages for `c`: now, or when its transaction is over."""
    cdef Listens *l = c.listens
    if c.conn.doomed:
        return
    if l.queue.len == 0 and between(c):
        if c.conn.out.len + n > MAX_QUEUE or (c.conn.out.len and not room(&c.conn.out, n)):
            too_many(w, c)
        else:
            count_add(&counters_of(w, c.pool).sent, n)
            conn_send(w, &c.conn, messages, n)
    elif l.queue.len + n > MAX_QUEUE or not room(&l.queue, n):
        too_many(w, c)
    else:
        buf_add(&l.queue, messages, n)


cdef void notify_settle(Worker *w, ClientConn *c) noexcept nogil:
    """The transaction of `c` is over: what it has unlistened to counts, and it hears what has come meanwhile."""
    cdef Listens *l = c.listens
    cdef Buf mine
    cdef Span name
    cdef uint32_t at = 0
    if not l.undone:
        if l.ending_all:
            channels_leave(w, c)
        while at < l.ending.len:
            name.at = buf_bytes(&l.ending) + at + 1
            name.len = buf_bytes(&l.ending)[at]
            channel_leave(w, c, name)
            at += 1 + name.len
    buf_free(&l.ending)
    l.ending_all = l.undone = 0
    if l.queue.len:
        mine = buf_steal(&l.queue)
        deliver(w, c, buf_bytes(&mine), mine.len)
        buf_free(&mine)


cdef void answer(Worker *w, ClientConn *c, const uint8_t *error, size_t n) noexcept nogil:
    """The LISTEN that `c` waits for has worked, or failed with `error`: `c` goes on."""
    cdef Buf mine = buf_steal(&c.listens.answer)
    cdef Counters *k = counters_of(w, c.pool)
    if c.conn.timer.kind == TIMER_QUERY_WAIT:
        timer_clear(&w.timers, &c.conn.timer)
    if error == NULL:
        count_add(&k.listens, 1)
        count_add(&k.sent, mine.len)              # as if a server had said it
        conn_send(w, &c.conn, buf_bytes(&mine), mine.len)
    else:
        conn_send(w, &c.conn, error, n)
        count_add(&k.sent, n)
        n = build_ready(w.scratch, SCRATCH_SIZE, TX_IDLE)
        conn_send(w, &c.conn, w.scratch, n)
        count_add(&k.sent, n)
    buf_free(&mine)
    c.holding = 0
    client_go_on(w, c)


cdef void notify_arrives(Worker *w, ClientConn *c, const uint8_t *names, uint32_t n) noexcept nogil:
    """`c` has come from another process, where it listened to these: it does so again before it goes on, and is told what it may have missed."""
    cdef size_t length = build_notice(w.scratch, SCRATCH_SIZE, "WARNING", "01000",
                                      "notifications may have been missed: the pooler has been replaced", NULL)
    if not channels_join(w, c, names, n):
        client_fatal(w, c, "57P01", "the pooler is too busy to listen")
    elif c.listens.coming == 0:
        conn_send(w, &c.conn, w.scratch, length)
    elif not buf_add(&c.listens.answer, w.scratch, length):
        conn_doom(w, &c.conn, "out of memory")
    else:
        c.listens.arriving = c.holding = c.conn.paused = 1


cdef void waiting(Channel *ch, ClientConn **list) noexcept nogil:
    """Move those who wait for `ch` to `list`. They hold no server and are in no queue, so nobody else ends one of them."""
    cdef Subscription *sub = ch.first
    while sub != NULL:
        if sub.waits:
            sub.waits = 0
            if sub.client.listens.coming:
                sub.client.listens.coming -= 1
                if sub.client.listens.coming:     # it goes on when all are there
                    sub = sub.next
                    continue
            sub.client.listens.answer_next = list[0]
            list[0] = sub.client
        sub = sub.next


cdef void answer_all(Worker *w, ClientConn *list, const uint8_t *error, size_t n) noexcept nogil:
    """Answer those on `list`; with an error they do not listen to what they asked for."""
    cdef ClientConn *c
    while list != NULL:
        c = list
        list = c.listens.answer_next
        if error != NULL and c.moved and c.listens.arriving:
            client_fatal(w, c, "57P01", "what it listened to before the restart of the pooler cannot be listened to any more")
            continue
        c.listens.arriving = 0
        if error != NULL:                         # what it asked for last stands first
            channel_part(w, c.listens, &c.listens.own)
        if not c.conn.doomed:
            answer(w, c, error, n)


cdef void notify(Worker *w, uint32_t pool, const uint8_t *messages, size_t n) noexcept nogil:
    """Whole NotificationResponses, as control's connection got them."""
    cdef size_t at = 0, length
    cdef Span name
    cdef Channel *ch
    cdef Subscription *sub
    while at < n:
        length = 1 + <size_t>load_be32(messages + at + 1)
        name.at = messages + at + HEADER_LEN + 4
        name.len = <uint32_t>strnlen(<const char *>name.at, length - HEADER_LEN - 4)
        ch = channel_find(w, pool, name)
        sub = ch.first if ch != NULL else NULL
        while sub != NULL:
            if not sub.waits:
                count_add(&counters_of(w, sub.client.pool).notifications, 1)
                deliver(w, sub.client, messages + at, length)
            sub = sub.next
        at += length


cdef void back(Worker *w, Channel *ch, const uint8_t *notice, size_t n) noexcept nogil:
    """`ch` is listened to again: each client that was listening hears so, once for all its channels."""
    cdef Subscription *sub = ch.first
    ch.state = CHANNEL_LIVE
    while sub != NULL:
        if not sub.waits and sub.client.listens.noticed != w.channel_tokens:
            sub.client.listens.noticed = w.channel_tokens
            deliver(w, sub.client, notice, n)
        sub = sub.next


cdef void notify_mail(Worker *w, Mail *mail) noexcept nogil:
    """What control says about the channels of a pool."""
    cdef uint32_t i
    cdef Channel *ch
    cdef ClientConn *list = NULL
    cdef Span name
    if mail.kind == MAIL_NOTIFY:
        notify(w, <uint32_t>mail.a, <uint8_t *>mail.data, mail.len)
        return
    if mail.kind == MAIL_LISTENING:
        name.at = <uint8_t *>mail.data
        name.len = mail.len
        ch = channel_find(w, <uint32_t>mail.a, name)
        if ch != NULL and ch.state == CHANNEL_ASKED and ch.token == mail.client:
            ch.state = CHANNEL_LIVE
            waiting(ch, &list)
            answer_all(w, list, NULL, 0)
        return
    w.channel_tokens += 1
    for i in range(w.channel_buckets):
        ch = w.channels[i]
        while ch != NULL:
            if ch.pool == mail.a:
                if mail.kind == MAIL_CHANNELS_LOST:
                    if ch.state == CHANNEL_LIVE:
                        ch.state = CHANNEL_LOST
                elif mail.kind == MAIL_LISTEN_FAILED:
                    waiting(ch, &list)
                elif ch.state == CHANNEL_LOST:
                    back(w, ch, <uint8_t *>mail.data, mail.len)
                    waiting(ch, &list)
            ch = ch.next
    if mail.kind == MAIL_LISTEN_FAILED:
        answer_all(w, list, <uint8_t *>mail.data, mail.len)
    else:
        answer_all(w, list, NULL, 0)
