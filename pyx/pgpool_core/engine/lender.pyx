"""Control's side of loans; see lender.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

from pgpool_core.engine.buf cimport buf_add
from pgpool_core.engine.conn cimport worker_wake
from pgpool_core.engine.letters cimport bytes_of
from pgpool_core.engine.records cimport *
from pgpool_core.sync.atomic cimport pgpool_cas_ptr, pgpool_load_ptr, pgpool_or32, pgpool_swap32, pgpool_swap_ptr
from pgpool_core.sync.mutex cimport pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.tls.face cimport session_taken
from pgpool_core.wire.codes cimport TX_IDLE


cdef Loan *loan_new(Plane *plane, PoolRecord *pool, uint32_t worker, uint64_t token, bytes startup) except NULL:
    """A loan that its worker does not know of yet; freed by that worker, or with the plane."""
    cdef Loan *loan
    if worker >= plane.n_workers:
        raise ValueError("no such worker")
    loan = <Loan *>calloc(1, sizeof(Loan))
    if loan == NULL or not buf_add(&loan.startup, <const uint8_t *><const char *>startup, len(startup)):
        free(loan)
        raise MemoryError
    loan.fd = -1
    loan.token = token
    loan.worker = worker
    loan.pool = pool
    pthread_mutex_lock(&plane.loan_lock)
    loan.next = plane.loans
    if loan.next != NULL:
        loan.next.prev = loan
    plane.loans = loan
    pthread_mutex_unlock(&plane.loan_lock)
    return loan


cdef void loan_order(Plane *plane, Loan *loan, uint32_t what, bint wake) noexcept nogil:
    """Tell its worker, which reads it with whatever else wakes it where that is soon enough."""
    cdef Worker *w = &plane.workers[loan.worker]
    cdef void *head
    if pgpool_or32(&loan.orders, what) == 0:
        while True:
            head = pgpool_load_ptr(&w.orders)
            loan.orders_next = <Loan *>head
            if pgpool_cas_ptr(<void **>&w.orders, head, loan):
                break
    if wake:
        worker_wake(w)


cdef void loan_back(Plane *plane, Loan *loan, uint32_t returned, bytes queries, bytes xacts, bytes parameters):
    """It comes back as `returned` says (RETURNED_*); its numbers have been written already."""
    loan.returned = returned
    buf_add(&loan.queries, <const uint8_t *><const char *>queries, len(queries))
    buf_add(&loan.xacts, <const uint8_t *><const char *>xacts, len(xacts))
    if not buf_add(&loan.parameters, <const uint8_t *><const char *>parameters, len(parameters)):
        loan.returned |= RETURNED_SPENT
    loan_order(plane, loan, LOAN_RETURN, True)


cdef tuple lent_letter(Loan *loan):
    cdef int fd = loan.fd
    loan.fd = -1                                  # moves to whoever gets the letter
    return ("lent", loan.token, loan.server, fd, loan.backend_pid, loan.backend_key[:loan.key_len], <bytes>loan.host,
            loan.port, bool(loan.family_unix), bytes_of(&loan.unread), loan.forgotten, bool(loan.waited), session_taken(&loan.tls))


cdef list loan_letters(Plane *plane, dict known):
    """What the workers have said about loans, in that order. `known`: those that somebody waits for or has, by token."""
    cdef Loan *loan = <Loan *>pgpool_swap_ptr(<void *>&plane.news, NULL)
    cdef Loan *first = NULL
    cdef Loan *next
    cdef uint32_t news
    cdef list letters = []
    while loan != NULL:
        next = loan.news_next
        loan.news_next = first
        first = loan
        loan = next
    while first != NULL:
        loan = first
        first = loan.news_next
        news = pgpool_swap32(&loan.news, 0)
        if news & LOAN_ENDED:
            if loan.token in known:
                letters.append(("loan_ended", loan.token, bytes_of(&loan.message)))
            else:
                loan_order(plane, loan, LOAN_FORGET, True)
        elif loan.token in known:
            letters.append(lent_letter(loan))
        else:                                     # nobody wants it any more
            loan.tx_status = TX_IDLE
            loan_order(plane, loan, LOAN_RETURN, True)
    return letters
