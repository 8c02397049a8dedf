"""Setting a plane up, taking it down; see life.pxd."""

import os

from libc.errno cimport EINVAL, ENOSYS, EOPNOTSUPP
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport calloc, free

from pgpool_core.auth.crypto cimport RAND_bytes
from pgpool_core.auth.credentials cimport credentials_free, credentials_new
from pgpool_core.auth.strikes cimport strikes_free, strikes_init
from pgpool_core.engine.buf cimport buf_free
from pgpool_core.engine.io_epoll cimport IO_EPOLL
from pgpool_core.engine.io_uring cimport IO_URING, uring_works
from pgpool_core.engine.inquiry cimport inquiry_free
from pgpool_core.engine.loan cimport loan_free
from pgpool_core.engine.mailbox cimport mailbox_free, mailbox_init
from pgpool_core.engine.conn cimport worker_wake
from pgpool_core.engine.named cimport named_free, named_part
from pgpool_core.engine.records cimport *
from pgpool_core.engine.routes cimport routes_free, routes_new
from pgpool_core.engine.slots cimport slot_at, slots_free, slots_init, slots_room
from pgpool_core.engine.sys cimport EFD_CLOEXEC, EFD_NONBLOCK, ENOMEM, close, eventfd, pgpool_send
from pgpool_core.engine.terms cimport terms_free, terms_new
from pgpool_core.engine.worker cimport worker_close, worker_free, worker_init
from pgpool_core.pool.pool cimport MAX_POOLS, poolset_free, poolset_new
from pgpool_core.session.settings cimport settings_free, settings_new
from pgpool_core.statements.text cimport texts_free, texts_new
from pgpool_core.sync.atomic cimport pgpool_store32
from pgpool_core.sync.mutex cimport pthread_mutex_destroy, pthread_mutex_init
from pgpool_core.tls.context cimport context_unref
from pgpool_core.tls.session cimport tls_free
from pgpool_core.wire.build cimport build_empty
from pgpool_core.wire.codes cimport FE_TERMINATE
from pgpool_core.wire.expect cimport expect_free


cdef extern from *:
    int PGPOOL_CORE_URING         # of setup.py


cdef str why_not(int refusal):
    """Why there is no io_uring, in words for the operator."""
    if refusal == 0:
        return ""
    if not PGPOOL_CORE_URING:
        return "built without liburing"
    if refusal == ENOSYS or refusal == EOPNOTSUPP or refusal == EINVAL:
        return f"this kernel has not all of it that is needed ({os.strerror(refusal)})"
    return f"the system refuses it ({os.strerror(refusal)})"


cdef int plane_open(Plane *plane, uint32_t workers, int backend, int *refusal) except -1:
    """Everything that the plane needs before its threads run; what could be had is freed by plane_free.

    `refusal`: why there is no io_uring, an errno; 0 where there is, or nobody has asked for it.
    """
    cdef uint32_t i
    refusal[0] = 0
    plane.control_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
    pthread_mutex_init(&plane.server_lock, NULL)
    pthread_mutex_init(&plane.loan_lock, NULL)
    pthread_mutex_init(&plane.ignored_lock, NULL)
    RAND_bytes(plane.cancel_keys.permutation, sizeof(plane.cancel_keys.permutation))
    plane.bytes_a_turn = 5 * PACKET
    plane.set = poolset_new()
    plane.records = <PoolRecord **>calloc(MAX_POOLS, sizeof(PoolRecord *))
    plane.marks = <FunctionsMark *>calloc(MAX_POOLS, sizeof(FunctionsMark))
    plane.credentials = credentials_new()
    plane.texts = texts_new()
    if not strikes_init(&plane.strikes):
        raise MemoryError
    plane.routes = routes_new()
    plane.terms = terms_new()
    plane.settings = settings_new()
    plane.workers = <Worker *>calloc(workers, sizeof(Worker))
    if (plane.set == NULL or plane.records == NULL or plane.marks == NULL or plane.credentials == NULL
            or plane.routes == NULL or plane.terms == NULL or plane.settings == NULL or plane.workers == NULL
            or plane.control_fd < 0 or not mailbox_init(&plane.outbox)
            or not slots_init(&plane.servers, sizeof(ServerConn))):
        raise MemoryError
    plane.io_adapts = backend == BACKEND_AUTO
    if backend != BACKEND_EPOLL:
        refusal[0] = -uring_works()
        if refusal[0] == 0 and not open_workers(plane, workers, IO_URING):
            refusal[0] = ENOMEM
        if refusal[0] == 0 or backend == BACKEND_URING:
            return 0
    if not open_workers(plane, workers, IO_EPOLL):
        raise OSError("a worker cannot be set up: out of descriptors or memory")
    return 0


cdef bint open_workers(Plane *plane, uint32_t workers, const Io *io) noexcept nogil:
    """All of them, or none."""
    cdef uint32_t i
    for i in range(workers):
        plane.n_workers = i + 1
        if not worker_init(&plane.workers[i], plane, i, io):
            while plane.n_workers:
                plane.n_workers -= 1
                worker_free(&plane.workers[plane.n_workers])
            return False
    return True


cdef void plane_end(Plane *plane) noexcept nogil:
    """Have the workers' threads end; they have ended when they are joined."""
    cdef uint32_t i
    for i in range(plane.n_workers):
        pgpool_store32(&plane.workers[i].stop, 1)
        worker_wake(&plane.workers[i])


cdef void plane_free(Plane *plane) noexcept nogil:
    """The workers have ended: free everything."""
    cdef uint32_t i
    for i in range(plane.n_workers):
        worker_free(&plane.workers[i])
    while plane.loans != NULL:
        loan_free(plane, plane.loans)
    for i in range(plane.set.n_pools):
        free_record(plane.records[i])
    mailbox_free(&plane.outbox)
    slots_free(&plane.servers)
    credentials_free(plane.credentials)
    strikes_free(&plane.strikes)
    texts_free(plane.texts)
    routes_free(plane.routes)
    terms_free(plane.terms)
    settings_free(plane.settings)
    poolset_free(plane.set)
    if plane.control_fd >= 0:
        close(plane.control_fd)
    free(plane.records)
    free(plane.marks)
    free(plane.workers)
    free(plane.ignored)
    free(plane.extra)
    buf_free(&plane.login_notice)
    context_unref(plane.client_tls)
    free(plane)


cdef void plane_shut(Plane *plane) noexcept nogil:
    """The workers have ended, their mail has been read: close every descriptor that is left."""
    cdef uint32_t i
    cdef Worker *w
    for i in range(plane.n_workers):
        w = &plane.workers[i]
        if w.io != NULL:
            w.io.stop(w)
            w.io = NULL
        shut(&w.wake_fd)
        shut(&w.spare_fd)
    shut(&plane.control_fd)


cdef inline void shut(int *fd) noexcept nogil:
    """Close a descriptor for good."""
    if fd[0] >= 0:
        close(fd[0])
        fd[0] = -1


cdef void plane_close_all(Plane *plane) noexcept nogil:
    """The workers' threads have ended: close every client, tell every server good-bye and close it."""
    cdef uint32_t i, slot
    cdef ServerConn *s
    for slot in range(slots_room(&plane.servers)):
        s = <ServerConn *>slot_at(&plane.servers, slot)
        if s.conn.head.live:
            named_part(s)                         # the names go with the clients
    for i in range(plane.n_workers):
        worker_close(&plane.workers[i])
    close_servers(plane)


cdef void close_servers(Plane *plane) noexcept nogil:
    cdef uint32_t slot
    cdef ServerConn *s
    cdef uint8_t[8] terminate
    cdef size_t n = build_empty(terminate, sizeof(terminate), FE_TERMINATE)
    for slot in range(slots_room(&plane.servers)):
        s = <ServerConn *>slot_at(&plane.servers, slot)
        if not s.conn.head.live:
            continue
        if s.conn.fd >= 0:
            if s.conn.tls == NULL:                # with TLS the end of the stream has to say it
                pgpool_send(s.conn.fd, terminate, n)
            close(s.conn.fd)
            s.conn.fd = -1
        buf_free(&s.conn.out)
        buf_free(&s.conn.early)
        buf_free(&s.conn.held)
        tls_free(s.conn.tls)
        s.conn.tls = NULL
        buf_free(&s.greeting)
        expect_free(&s.expect)
        inquiry_free(s)
        named_free(s)
        free(s.host)
        s.host = NULL


cdef void plane_close_files(Plane *plane) noexcept nogil:
    """In a forked child: close every descriptor by number, touch nothing else."""
    cdef uint32_t i, slot
    cdef ServerConn *s
    cdef ClientConn *c
    cdef Loan *loan = plane.loans
    while loan != NULL:
        if loan.fd >= 0:
            close(loan.fd)
        loan = loan.next
    for i in range(plane.n_workers):
        close(plane.workers[i].poll_fd)
        close(plane.workers[i].ring_fd)
        close(plane.workers[i].wake_fd)
        close(plane.workers[i].spare_fd)
        for slot in range(slots_room(&plane.workers[i].clients)):
            c = <ClientConn *>slot_at(&plane.workers[i].clients, slot)
            if c.conn.head.live and c.conn.fd >= 0:
                close(c.conn.fd)
    for slot in range(slots_room(&plane.servers)):
        s = <ServerConn *>slot_at(&plane.servers, slot)
        if s.conn.head.live and s.conn.fd > 0:
            close(s.conn.fd)
    close(plane.control_fd)


cdef void free_record(PoolRecord *record) noexcept nogil:
    pthread_mutex_destroy(&record.lock)
    buf_free(&record.database)
    buf_free(&record.user)
    buf_free(&record.reset_query)
    buf_free(&record.connect_query)
    buf_free(&record.check_query)
    buf_free(&record.welcome)
    buf_free(&record.error)
    buf_free(&record.first_error)
    free(record)
