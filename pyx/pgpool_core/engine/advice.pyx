"""Notices about session state; see advice.pxd."""

from libc.stdint cimport uint16_t, uint32_t

from pgpool_core.engine.client_end cimport client_log
from pgpool_core.engine.conn cimport conn_send, counters_of
from pgpool_core.engine.counters cimport PIN_KINDS, count_add
from pgpool_core.engine.records cimport *
from pgpool_core.session.sqlscan cimport *
from pgpool_core.wire.build cimport build_notice

cdef extern from * nogil:
    """
    /* By the number of the bit: what is left, what is kept, what to do about it. */
    static const struct { const char *left, *kept, *hint; } pgpool_advice[] = {
        {"a setting of this session stays on the server, for whichever client comes next (session_state = warn)",
         "this client keeps its server until it leaves (session_state = pin)",
         "Use SET LOCAL, or session_state = auto."},
        {"a prepared statement stays on the server, for whichever client comes next (session_state = warn)",
         "this client keeps its server: it has a prepared statement of SQL's PREPARE",
         "Use the prepared statements of the driver, or DEALLOCATE it."},
        {"a cursor WITH HOLD stays on the server, for whichever client comes next (session_state = warn)",
         "this client keeps its server: it has a cursor WITH HOLD",
         "Read the cursor inside its transaction, or CLOSE it early."},
        {"a LISTEN stays on the server, for whichever client comes next (session_state = warn)",
         "this client keeps its server: it listens",
         "Send LISTEN as a query of its own, with session_state = auto: it needs no server then."},
        {"a temporary object stays on the server, for whichever client comes next (session_state = warn)",
         "this client keeps its server: it has a temporary object",
         "Use ON COMMIT DROP, or drop it early."},
        {"an advisory lock stays with the server, for whichever client comes next (session_state = warn)",
         "this client keeps its server: it has an advisory lock of the session",
         "Use pg_advisory_xact_lock, which ends with the transaction."},
        {"a loaded library stays on the server, for whichever client comes next (session_state = warn)",
         "this client keeps its server until it leaves: it has loaded a library",
         "Use session_preload_libraries."},
    };
    """
    cdef struct pgpool_advice_row:
        const char *left
        const char *kept
        const char *hint
    pgpool_advice_row pgpool_advice[7]

cdef enum:
    KINDS = 7                     # rows of the table


cdef void advise_left(Worker *w, ClientConn *c, uint32_t flags) noexcept nogil:
    """session_state = warn: a text that may do `flags` (SQL_*) goes to the server."""
    cdef uint32_t kinds = 0
    cdef uint32_t bit
    if flags & SQL_SETS:
        kinds |= LEFT_SETTING
    if flags & SQL_PREPARES:
        kinds |= PIN_PREPARED
    if flags & SQL_HOLDS:
        kinds |= PIN_CURSOR
    if flags & SQL_LISTENS:
        kinds |= PIN_LISTEN
    if flags & SQL_TEMPS:
        kinds |= PIN_TEMPORARY
    if flags & SQL_ADVISORY:
        kinds |= PIN_LOCK
    if flags & SQL_LOADS:
        kinds |= PIN_LOAD
    for bit in range(KINDS):
        if not kinds >> bit & 1:
            continue
        count_add(&counters_of(w, c.pool).warned_of[bit], 1)
        if not c.warned >> bit & 1:
            c.warned |= <uint16_t>(1 << bit)
            c.warnings_due |= <uint16_t>(1 << bit)
            client_log(w, c, 2, pgpool_advice[bit].left, False)


cdef void advise_pinned(ClientConn *c, uint32_t pins) noexcept nogil:
    """`c` has begun to keep its server for these reasons; the first time is the only one that it is told of."""
    if c.pool.pin_notice and not c.pin_told:
        c.pin_told = 1
        c.pin_due = <uint16_t>pins


cdef void advise_tell(Worker *w, ClientConn *c) noexcept nogil:
    """The stream to `c` stands between two messages: send what is due. Scratch is used."""
    cdef uint32_t bit
    cdef size_t n = 0
    for bit in range(PIN_KINDS):
        if c.warnings_due >> bit & 1:
            n += build_notice(w.scratch + n, SCRATCH_SIZE - n, "WARNING", "01000", pgpool_advice[bit].left,
                              pgpool_advice[bit].hint)
        if c.pin_due >> bit & 1:
            if bit < KINDS:
                n += build_notice(w.scratch + n, SCRATCH_SIZE - n, "NOTICE", "00000", pgpool_advice[bit].kept,
                                  pgpool_advice[bit].hint if bit else NULL)
            else:
                n += build_notice(w.scratch + n, SCRATCH_SIZE - n, "NOTICE", "00000",
                                  "this client keeps its server for its session state", NULL)
    c.warnings_due = c.pin_due = 0
    if n:
        count_add(&counters_of(w, c.pool).sent, n)
        conn_send(w, &c.conn, w.scratch, n)
