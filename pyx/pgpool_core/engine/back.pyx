"""Settings that are given up; see back.pxd."""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.engine.asked cimport ask
from pgpool_core.engine.conn cimport conn_mix
from pgpool_core.engine.records cimport *
from pgpool_core.engine.setting_names cimport WENT_BACK, WENT_BACK_ONE
from pgpool_core.session.replay cimport REPLAY_OK, replay_bound, replay_write
from pgpool_core.session.settings cimport (MAX_NAME_LEN, SETTINGS_OK, Block, block_entry, block_get, block_ref, block_unref,
                                           put_setting, setting_name)
from pgpool_core.session.sqlscan cimport *
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.wire.be cimport store_be32
from pgpool_core.wire.codes cimport FE_QUERY, TX_BLOCK
from pgpool_core.wire.expect cimport EXPECT_CHORE, EXPECT_OK
from pgpool_core.wire.scan cimport HEADER_LEN
from pgpool_core.wire.span cimport HASH_BEGIN, Span, hash_on, same, text_span

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *, const char *, size_t)

cdef enum:
    BACK_NOTHING = 0
    BACK_ONE = 1                  # one setting, by its name
    BACK_ALL = 2
    BACK_WORDS = 3                # the text is not plain: its words have to tell


cdef uint8_t given_up(const SqlScan *scan, uint8_t *room, Span *name) noexcept nogil:
    """What a text gives up; `name` is a constant or lies in `room`, which has MAX_NAME_LEN bytes."""
    cdef Span found
    cdef bint default = scan.value_kind == VALUE_DEFAULT
    if scan.proved == PROVED_NONE or scan.proved > PROVED_DISCARD_SEQUENCES:
        return BACK_WORDS
    if scan.local:
        return BACK_NOTHING
    if scan.proved == PROVED_RESET_ALL or scan.proved == PROVED_DISCARD_ALL:
        return BACK_ALL
    if scan.proved == PROVED_RESET or (scan.proved == PROVED_SET and default):
        found = scan.name
        if scan.name_quoted:
            found.at += 1
            found.len -= 2
    elif scan.proved == PROVED_RESET_TIME_ZONE or (scan.proved == PROVED_SET_TIME_ZONE and default):
        found = text_span("timezone")
    elif scan.proved == PROVED_SET_NAMES and default:
        found = text_span("client_encoding")
    elif scan.proved == PROVED_RESET_AUTHORIZATION or (scan.proved == PROVED_SET_AUTHORIZATION and default):
        found = text_span("session_authorization")
    else:
        return BACK_NOTHING
    return BACK_ONE if setting_name(found, room, name) == SETTINGS_OK else BACK_WORDS


cdef bint says_so(const uint8_t *text, size_t n) noexcept nogil:
    """`reset`, `default` or `discard`, in any case and anywhere."""
    cdef size_t i
    for i in range(n - 4 if n > 4 else 0):
        if text[i] | 0x20 == 0x72 and strncasecmp(<const char *>text + i, "reset", 5) == 0:
            return True
        if text[i] | 0x20 == 0x64 and n - i >= 7 and (strncasecmp(<const char *>text + i, "default", 7) == 0
                                                     or strncasecmp(<const char *>text + i, "discard", 7) == 0):
            return True
    return False


cdef uint32_t back_flags(ServerConn *s, const SqlScan *scan, const uint8_t *text, size_t n) noexcept nogil:
    """WENT_BACK, WENT_BACK_ONE or 0 for a text that goes to `s`, of which `scan` is the scan."""
    cdef uint8_t[MAX_NAME_LEN] room
    cdef Span name
    cdef uint8_t kind = given_up(scan, room, &name)
    cdef uint32_t hash
    if kind == BACK_WORDS:
        return WENT_BACK if says_so(text, n) else 0
    if kind != BACK_ONE:
        return WENT_BACK if kind == BACK_ALL else 0
    hash = hash_on(HASH_BEGIN, name)
    if (s.suspect | s.probing) & WENT_BACK_ONE and s.gave_up != hash:
        return WENT_BACK                          # more than one: which, is not kept
    s.gave_up = hash
    return WENT_BACK_ONE


cdef bint back_meant(const ServerConn *s, Span name, bint standing) noexcept nogil:
    """Whether the texts that the probe has asked about gave `name` up.

    Where they are not plain: if it was `standing` in the client's block before.
    """
    if s.probing & WENT_BACK:
        return standing
    return s.probing & WENT_BACK_ONE != 0 and s.gave_up == hash_on(HASH_BEGIN, name)


cdef bint back_may(const ClientConn *c, const ServerConn *s) noexcept nogil:
    """Whether a query of ours may stand behind the text looked at last: inside a transaction block, nothing unanswered."""
    return s.tx_status == TX_BLOCK and s.expect.owed == 0 and s.chore == CHORE_NONE and not s.open_group \
        and c.start != NULL and c.start != c.pool.resets


cdef void back_take(Worker *w, ClientConn *c, ServerConn *s, uint32_t before) noexcept nogil:
    """What the text looked at last gives up, and `c` began with, is in `s.back` now, for back_send.

    So the probe finds it set. `before`: what was suspected before this text.
    """
    cdef uint8_t[MAX_NAME_LEN] room
    cdef Span one, name, value, other
    cdef uint32_t at = 0
    cdef uint8_t kind = given_up(&w.scan, room, &one)
    cdef Block *resets
    block_unref(w.plane.settings, s.back)
    s.back = NULL
    if (kind != BACK_ONE and kind != BACK_ALL) or w.scan.proved == PROVED_DISCARD_ALL:
        return
    pthread_mutex_lock(&c.pool.lock)
    resets = block_ref(w.plane.settings, c.pool.resets)
    pthread_mutex_unlock(&c.pool.lock)
    while at < c.start.len:
        at = block_entry(c.start, at, &name, &value)
        if kind == BACK_ONE and not same(name, one):
            continue
        if kind == BACK_ALL and (same(name, text_span("role")) or same(name, text_span("session_authorization"))):
            continue
        if block_get(resets, name, &other) and same(value, other):
            continue
        if not put_setting(w.plane.settings, &s.back, name, value):
            break
    block_unref(w.plane.settings, resets)
    if s.back != NULL:
        s.suspect &= before | ~<uint32_t>(WENT_BACK | WENT_BACK_ONE)


cdef int back_send(Worker *w, ServerConn *s) noexcept nogil:
    """Mix the query that sets what `s.back` has; EXPECT_OK, or EXPECT_FULL."""
    cdef size_t n = 0
    cdef bint must_wait = False
    cdef Block *back = s.back
    cdef bint fits = replay_bound(NULL, back) <= SCRATCH_SIZE - HEADER_LEN - 1 \
        and replay_write(NULL, back, w.scratch + HEADER_LEN, SCRATCH_SIZE - HEADER_LEN - 1, &n, &must_wait) == REPLAY_OK
    s.back = NULL
    block_unref(w.plane.settings, back)
    if not fits or n == 0:
        return EXPECT_OK                          # at the end of the transaction, then
    w.scratch[0] = FE_QUERY
    w.scratch[HEADER_LEN + n] = 0
    store_be32(w.scratch + 1, <uint32_t>(n + 5))
    conn_mix(w, &s.conn, w.scratch, HEADER_LEN + n + 1)
    s.chore = CHORE_BACK
    s.chore_failed = 0
    return ask(s, EXPECT_CHORE)
