"""Finding out that a server has answered everything; see doubt.pxd."""

from libc.stdint cimport uint8_t, uint32_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, strlen

from pgpool_core.engine.asked cimport ask
from pgpool_core.engine.buf cimport buf_bytes, buf_free
from pgpool_core.engine.conn cimport conn_send
from pgpool_core.engine.inquiry cimport MAX_ANSWER
from pgpool_core.engine.pins cimport pins_set
from pgpool_core.engine.records cimport *
from pgpool_core.engine.server_end cimport server_quit
from pgpool_core.pool.pool cimport MODE_SESSION
from pgpool_core.sync.atomic cimport pgpool_load32
from pgpool_core.wire.be cimport load_be32
from pgpool_core.wire.build cimport build_query, build_ready
from pgpool_core.wire.codes cimport (BE_NOTICE, BE_NOTIFICATION, BE_PARAMETER_STATUS, BE_ROW_DESCRIPTION, TX_IDLE)
from pgpool_core.wire.expect cimport EXPECT_CHORE, EXPECT_OK
from pgpool_core.wire.scan cimport HEADER_LEN

cdef extern from "<openssl/rand.h>" nogil:
    int RAND_bytes(unsigned char *, int)

cdef enum:
    WORD_LEN = 32                 # of the column's name, with its zero byte
    QUERY_LEN = 64


cdef void write_word(const ServerConn *s, char *out) noexcept nogil:
    """To WORD_LEN bytes."""
    snprintf(out, WORD_LEN, "pgpool_core_%016llx", <unsigned long long>s.doubt_word)


cdef bint doubt_may_end(const ServerConn *s, const ClientConn *c) noexcept nogil:
    """The server is idle, its client is between messages, and everything that has been seen to be asked is answered."""
    return s.in_doubt == DOUBT_MOVED and s.expect.owed == 0 and s.tx_status == TX_IDLE and not s.open_group and not s.expect.copying \
        and s.cur.remain == 0 and c.cur.remain == 0 and not c.holding and not c.leaving and s.chore == CHORE_NONE \
        and c.state == CL_ACTIVE and pgpool_load32(&s.cancels) == 0 and c.pool.pool.settings.mode != MODE_SESSION


cdef bint send_question(Worker *w, ServerConn *s) noexcept nogil:
    cdef char[WORD_LEN] word
    cdef char[QUERY_LEN] query
    cdef size_t n
    buf_free(&s.answer)
    s.chore_failed = 0
    write_word(s, word)
    snprintf(query, QUERY_LEN, "select 1 as %s", word)
    n = build_query(w.scratch, SCRATCH_SIZE, <const uint8_t *>query, strlen(query))
    if n == 0 or ask(s, EXPECT_CHORE) != EXPECT_OK:
        return False
    s.chore = CHORE_DOUBT
    conn_send(w, &s.conn, w.scratch, n)
    return True


cdef void doubt_ask(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil:
    """Ask for the word; the client is held meanwhile."""
    if RAND_bytes(<unsigned char *>&s.doubt_word, sizeof(s.doubt_word)) != 1:
        s.in_doubt = DOUBT_LASTS
        return
    c.holding = 1
    if not send_question(w, s):
        server_quit(w, s, "out of memory")


cdef bint is_word(ServerConn *s) noexcept nogil:
    """Whether the answer is the one to our question. What a server may say at any time can stand in front of it."""
    cdef char[WORD_LEN] word
    cdef const uint8_t *at = buf_bytes(&s.answer)
    cdef size_t left = s.answer.len, n
    write_word(s, word)
    while left >= HEADER_LEN:
        n = 1 + <size_t>load_be32(at + 1)
        if n > left:
            return False
        if at[0] == BE_ROW_DESCRIPTION:
            return n > HEADER_LEN + 2 + strlen(word) and memcmp(at + HEADER_LEN + 2, word, strlen(word) + 1) == 0
        if at[0] != BE_NOTICE and at[0] != BE_NOTIFICATION and at[0] != BE_PARAMETER_STATUS:
            return False
        at += n
        left -= n
    return False


cdef bint doubt_answered(Worker *w, ServerConn *s, ClientConn *c) noexcept nogil:
    """An answer is whole. True when the server has been given up, or the word is still to come."""
    if is_word(s):
        buf_free(&s.answer)
        s.in_doubt = 0
        s.dirty = 1                               # whoever had it there may have left something
        pins_set(w, c, c.pins & ~<uint32_t>PIN_UNKNOWN)
        return False
    if s.chore_failed or s.tx_status != TX_IDLE or s.answer.len > MAX_ANSWER:
        server_quit(w, s, "what its server still had to answer could not be told apart")
        return True
    conn_send(w, &c.conn, buf_bytes(&s.answer), s.answer.len)
    conn_send(w, &c.conn, w.scratch, build_ready(w.scratch, SCRATCH_SIZE, TX_IDLE))
    buf_free(&s.answer)
    if ask(s, EXPECT_CHORE) != EXPECT_OK:         # the answer to the same question
        server_quit(w, s, "out of memory")
        return True
    s.chore = CHORE_DOUBT
    return True
