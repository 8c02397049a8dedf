"""Groups that are sent once more; see redo.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from pgpool_core.engine.asked cimport ask
from pgpool_core.engine.buf cimport Buf, buf_add, buf_bytes, buf_free, buf_steal
from pgpool_core.engine.client cimport client_go_on
from pgpool_core.engine.conn cimport conn_doom, conn_send
from pgpool_core.engine.records cimport *
from pgpool_core.engine.server_end cimport server_quit
from pgpool_core.statements.again cimport again_fits
from pgpool_core.wire.be cimport load_be32
from pgpool_core.wire.build cimport build_empty, build_query
from pgpool_core.wire.codes cimport BE_ERROR, FE_SYNC, TX_IDLE
from pgpool_core.wire.expect cimport EXPECT_CHORE, EXPECT_OK, EXPECT_SYNC
from pgpool_core.wire.scan cimport HEADER_LEN


cdef void redo_keep(ServerConn *s, const uint8_t *data, size_t n) noexcept nogil:
    """So much more of the group has been forwarded."""
    if s.group.len + n > REDO_MAX or not buf_add(&s.group, data, n):
        s.redo = REDO_NOT


cdef int redo_peek(const uint8_t *data, size_t n, size_t behind) noexcept nogil:
    """What follows the ParameterDescription that ends at `behind`: PostgreSQL says it before it looks at the rows."""
    cdef uint32_t length
    if behind >= n:
        return REDO_SEES_NOTHING
    if data[behind] != BE_ERROR:
        return REDO_SEES_NOT
    if n - behind < HEADER_LEN:
        return REDO_SEES_NOTHING
    length = load_be32(data + behind + 1)
    if length < 4 or length > HOLD_MAX:
        return REDO_SEES_NOT
    return REDO_SEES if length < n - behind else REDO_SEES_NOTHING


cdef bint redo_withholds(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil:
    """The group has been refused for an outdated plan: True where it is sent again, and the client hears nothing of it.

    What the client sends meanwhile waits.
    """
    cdef bint whole = s.redo == REDO_WHOLE
    if not s.redo & REDO_LASTS or s.expect.owed != whole or s.open_group == whole or c.state != CL_ACTIVE or c.leaving \
            or c.holding or c.cur.remain or c.names == NULL \
            or not again_fits(c.names, buf_bytes(&s.group), s.group.len):
        return False
    if not whole:
        if ask(s, EXPECT_SYNC) != EXPECT_OK:
            return False
        s.open_group = 0
        conn_send(w, &s.conn, w.scratch, build_empty(w.scratch, SCRATCH_SIZE, FE_SYNC))
    s.redo = REDO_FAILED
    c.awaiting = 0
    c.holding = 1
    return True


cdef void redo_text(ServerConn *s, const uint8_t *text, size_t n, bint begins) noexcept nogil:
    """A Query goes to `s`: one that only begins a transaction block can be sent again, if need be."""
    s.begin_len = 0
    if begins and n <= BEGIN_MAX and redo_first(s) and not s.open_group:
        memcpy(s.begin, text, n)
        s.begin_len = <uint8_t>n


cdef void redo_ready(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil:
    """ReadyForQuery behind the refusal."""
    cdef uint8_t[BEGIN_MAX + 16] text
    cdef size_t n
    if s.tx_status == TX_IDLE:
        redo_send(w, s, c)
        return
    memcpy(text, <const char *>"ROLLBACK;", 9)
    memcpy(text + 9, s.begin, s.began_len)
    n = build_query(w.scratch, SCRATCH_SIZE, text, 9 + <size_t>s.began_len)
    if ask(s, EXPECT_CHORE) != EXPECT_OK:
        server_quit(w, s, "out of memory")
        return
    s.chore = CHORE_BEGIN
    s.chore_failed = 0
    conn_send(w, &s.conn, w.scratch, n)


cdef void redo_send(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil:
    """The group goes to `s` in front of what the client has sent since."""
    cdef Buf since = buf_steal(&c.conn.held)
    cdef bint fits = buf_add(&c.conn.held, buf_bytes(&s.group), s.group.len) \
        and buf_add(&c.conn.held, buf_bytes(&since), since.len)
    buf_free(&since)
    c.holding = 0
    if not fits:
        conn_doom(w, &c.conn, "out of memory")
        return
    s.redo = REDO_AGAIN
    client_go_on(w, c)
    if c.seat.server == &s.seat and s.redo == REDO_AGAIN:
        s.redo = REDO_NOT
