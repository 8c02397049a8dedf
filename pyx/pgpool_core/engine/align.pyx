"""Making a server stand as its client wants it; see align.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, strlen

from pgpool_core.engine.asked cimport ask
from pgpool_core.engine.client_end cimport client_fatal
from pgpool_core.engine.conn cimport conn_push, conn_put, conn_send
from pgpool_core.engine.records cimport *
from pgpool_core.engine.server_end cimport server_quit
from pgpool_core.session.replay cimport REPLAY_OK, replay_bound, replay_write
from pgpool_core.session.settings cimport (Block, block_entry, block_get, block_ref, block_unref, put_setting,
                                           setting_tracked)
from pgpool_core.statements.names cimport Name, names_find
from pgpool_core.statements.rewrite cimport NAME_FOUND, NamePlace, name_place
from pgpool_core.sync.atomic cimport pgpool_load8, pgpool_store8
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.wire.be cimport store_be32
from pgpool_core.wire.build cimport build_parameter
from pgpool_core.wire.codes cimport FE_BIND, FE_PARSE, FE_QUERY
from pgpool_core.wire.expect cimport EXPECT_CHORE, EXPECT_OK
from pgpool_core.wire.scan cimport HEADER_LEN, Frame
from pgpool_core.wire.span cimport Span, same, text_span

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *, const char *, size_t)


cdef void server_stands(Worker *w, ServerConn *s, Block *settings) noexcept nogil:
    """The server has `settings` (moved) now. Under the pool's lock: SHOW SERVERS looks into them there."""
    cdef Block *before
    pthread_mutex_lock(&s.pool.pool.lock)
    before = s.settings
    s.settings = settings
    pthread_mutex_unlock(&s.pool.pool.lock)
    block_unref(w.plane.settings, before)


cdef bint is_reset(PoolRecord *pool, const ServerConn *s, Span name, Span value) noexcept nogil:
    """Whether RESET may make `value` of the tracked `name` on `s`: it began with that, or would have without connect_query."""
    cdef Span other
    cdef bint found = block_get(s.begun, name, &other) and same(value, other)
    if not found:
        pthread_mutex_lock(&pool.lock)
        found = block_get(pool.resets, name, &other) and same(value, other)
        pthread_mutex_unlock(&pool.lock)
    return found


cdef bint seems_reset(const ClientConn *c, const ServerConn *s, Span name, Span start) noexcept nogil:
    """`c`, which began with `start`, has set the tracked `name` to what RESET makes of it, and `s` has that too.

    PostgreSQL would call it set or not, depending on who had `s` before; after a RESET it would look the same.
    """
    cdef Span value, other, canonical
    return setting_tracked(name, &canonical) and block_get(c.settings, name, &value) and not same(value, start) \
        and block_get(s.settings, name, &other) and same(value, other) and is_reset(c.pool, s, name, value)


cdef bint settings_seem_reset(const ClientConn *c, const ServerConn *s) noexcept nogil:
    """settings_differ, where both have the same, but `c` began with something else."""
    cdef Span name, value
    cdef uint32_t at = 0
    while at < c.start.len:
        at = block_entry(c.start, at, &name, &value)
        if seems_reset(c, s, name, value):
            return True
    return False


cdef bint known(Worker *w, const ClientConn *c, const ServerConn *s, Block **out) noexcept nogil:
    """What of the settings of `s` need not be said to it again; held for the caller. False when memory is short."""
    cdef Span name, value, nothing
    cdef uint32_t at = 0
    nothing.at = NULL
    nothing.len = 0
    out[0] = block_ref(w.plane.settings, s.settings)
    while c.start != NULL and c.start != c.settings and at < c.start.len:
        at = block_entry(c.start, at, &name, &value)
        if seems_reset(c, s, name, value) and not put_setting(w.plane.settings, out, name, nothing):
            return False
    return True


cdef void settings_align(Worker *w, ClientConn *c, ServerConn *s) noexcept nogil:
    """Put the replay of the client's settings into the server's `out`: it goes with the client's bytes, in front of them.

    So does DISCARD SEQUENCES where somebody else's currval would be seen.

    Values that no server has accepted yet, and roles, are tried alone first, so that no query runs under wrong ones; so is what a
    very short statement_timeout may cancel. The others are taken in a transaction block: should they be refused all the same, what follows fails with it (25P02).

    Where memory is short the client ends, and with it a server that a part of the replay would go to.
    """
    cdef Block *have
    cdef bint fits = known(w, c, s, &have)
    cdef size_t bound = replay_bound(have, c.settings)
    cdef size_t n = 0, length
    cdef bint must_wait = False, alone, begun = False
    cdef uint8_t[HEADER_LEN] head
    cdef uint8_t *sql = w.scratch
    cdef const char *before
    cdef const char *behind
    if bound > SCRATCH_SIZE:
        sql = <uint8_t *>malloc(bound)
    fits = fits and sql != NULL and replay_write(have, c.settings, sql, bound, &n, &must_wait) == REPLAY_OK
    block_unref(w.plane.settings, have)
    alone = must_wait or not pgpool_load8(&c.settings.verified) or hurries(s)
    before = head_of(alone, s.sequences_due)
    behind = b"" if alone else b"COMMIT"
    if fits and (n or s.sequences_due):
        begun = True
        length = strlen(before) + n + strlen(behind)
        head[0] = FE_QUERY
        store_be32(head + 1, <uint32_t>(4 + length + 1))
        fits = (conn_put(w, &s.conn, head, HEADER_LEN)
                and conn_put(w, &s.conn, <const uint8_t *>before, strlen(before)) and conn_put(w, &s.conn, sql, n)
                and conn_put(w, &s.conn, <const uint8_t *>behind, strlen(behind) + 1)
                and ask(s, EXPECT_CHORE) == EXPECT_OK)
        n += s.sequences_due
    s.sequences_due = 0
    if bound > SCRATCH_SIZE:
        free(sql)
    if begun and not fits:
        server_quit(w, s, "out of memory")
        return
    if not fits:
        client_fatal(w, c, "53200", "out of memory")
        return
    if n == 0:
        return
    s.chore = CHORE_SETTINGS
    s.chore_failed = 0
    s.chore_alone = alone
    block_unref(w.plane.settings, s.wanted)
    s.wanted = block_ref(w.plane.settings, c.settings)
    if alone:
        c.holding = 1
        conn_push(w, &s.conn)


cdef bint hurries(const ServerConn *s) noexcept nogil:
    """Whether `s` stands at a statement_timeout below a second, as far as its value tells: it may cancel the replay."""
    cdef Span value
    cdef uint32_t digits = 0
    if not block_get(s.settings, text_span("statement_timeout"), &value):
        return False
    while digits < value.len and 0x30 <= value.at[digits] <= 0x39:
        digits += 1
    if digits == value.len or (value.len == digits + 2 and value.at[digits] == 0x6D and value.at[digits + 1] == 0x73):   # "ms"
        return digits < 4 and not (digits == 1 and value.at[0] == 0x30)
    return memchr(value.at, 0x2E, value.len) != NULL or memchr(value.at, 0x75, value.len) != NULL    # "0.5s", "900us"


cdef const char *head_of(bint alone, bint forgets) noexcept nogil:
    """What a replay begins with."""
    if alone:
        return b"DISCARD SEQUENCES;" if forgets else b""
    return b"BEGIN;DISCARD SEQUENCES;" if forgets else b"BEGIN;"


cdef bint ends_block(const uint8_t *text, size_t n) noexcept nogil:
    """Whether a text may begin with COMMIT, ROLLBACK or what else ends a transaction block, a failed one too."""
    cdef size_t at = 0
    while at < n and (text[at] == 0x20 or 0x09 <= text[at] <= 0x0D):
        at += 1
    if n - at < 3:
        return True                               # more may be to come
    if text[at] | 0x20 == 0x63:                   # 'c'
        return strncasecmp(<const char *>text + at, "com", 3) == 0
    if text[at] | 0x20 == 0x65:
        return strncasecmp(<const char *>text + at, "end", 3) == 0
    if text[at] | 0x20 == 0x72:
        return strncasecmp(<const char *>text + at, "rol", 3) == 0
    if text[at] | 0x20 == 0x61:
        return strncasecmp(<const char *>text + at, "abo", 3) == 0
    if text[at] | 0x20 == 0x70:
        return strncasecmp(<const char *>text + at, "pre", 3) == 0
    return not 0x61 <= text[at] | 0x20 <= 0x7A    # a comment, an empty statement in front


cdef bint settings_end(ClientConn *c, const Frame *f, const uint8_t *body, size_t have) noexcept nogil:
    """Whether a message must wait until the replay in front of it has been answered: it may end a transaction block.

    A replay that is refused leaves a failed one, in which nothing runs. What stands behind the end of it would.
    """
    cdef const uint8_t *text = body
    cdef NamePlace place
    cdef Name *name
    if f.body_len < have:
        have = f.body_len
    if f.type == FE_PARSE:
        text = <const uint8_t *>memchr(body, 0, have)
        text = body + have if text == NULL else text + 1
    elif f.type == FE_BIND and c.names != NULL:
        if name_place(f.type, body, <uint32_t>have, f.body_len, &place) != NAME_FOUND:
            return False
        name = names_find(c.names, place.name)
        if name == NULL or name.planned == NULL:
            return False
        return ends_block(name.planned.data, name.planned.len)
    elif f.type != FE_QUERY:
        return False
    return ends_block(text, have - <size_t>(text - body))


cdef void settings_aligned(Worker *w, ServerConn *s) noexcept nogil:
    """The replay has been answered: `s` stands as wanted, with PostgreSQL's own spelling of what it has reported."""
    cdef Block *now = s.wanted
    cdef Span name, value, canonical
    cdef uint32_t at = 0
    s.wanted = NULL
    if s.chore_failed or now == NULL:
        block_unref(w.plane.settings, now)        # nothing of it has been done
        return
    while s.settings != NULL and at < s.settings.len:
        at = block_entry(s.settings, at, &name, &value)
        if setting_tracked(name, &canonical) and not put_setting(w.plane.settings, &now, canonical, value):
            pgpool_store8(&s.seat.close_needed, 1)               # we no longer know how it stands
    pgpool_store8(&now.verified, 1)
    server_stands(w, s, now)


cdef void settings_tell(Worker *w, ClientConn *c, const Block *now) noexcept nogil:
    """Tell `c` what of `now` PostgreSQL reports and `c` believes to be otherwise; what it was told last is in its block."""
    cdef Span name, value, canonical, told
    cdef uint32_t at = 0
    while now != NULL and at < now.len:
        at = block_entry(now, at, &name, &value)
        if setting_tracked(name, &canonical) and not (block_get(c.settings, name, &told) and same(told, value)):
            conn_send(w, &c.conn, w.scratch, build_parameter(w.scratch, SCRATCH_SIZE, name, value))


cdef uint8_t rights_of(Span name, Span value) noexcept nogil:
    if not same(name, text_span("is_superuser")):
        return RIGHTS_UNKNOWN
    return RIGHTS_SUPERUSER if same(value, text_span("on")) else RIGHTS_PLAIN


cdef void rights_tell(Worker *w, ClientConn *c, const ServerConn *s) noexcept nogil:
    """Tell `c` whether its role, which `s` stands at, is a superuser's, where it believes otherwise.

    At login nobody knows that of a role in the startup packet.
    """
    cdef Span value
    if c.rights == RIGHTS_UNKNOWN or s.rights == RIGHTS_UNKNOWN or c.rights == s.rights or c.loan != NULL:
        return
    c.rights = s.rights
    if s.rights == RIGHTS_SUPERUSER:
        value = text_span("on")
    else:
        value = text_span("off")
    conn_send(w, &c.conn, w.scratch, build_parameter(w.scratch, SCRATCH_SIZE, text_span("is_superuser"), value))
