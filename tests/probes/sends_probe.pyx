"""Door to the sending half of `engine.conn` for tests: one connection of a worker that has nothing else."""

from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free

from pgpool_core.engine.again cimport conn_next_again, conns_again
from pgpool_core.engine.buf cimport buf_free
from pgpool_core.engine.conn cimport (SEND_DEAD, conn_again, conn_flush, conn_not_again, conn_push, conn_put, conn_send,
                                      conn_settle_all)
from pgpool_core.engine.io_epoll cimport IO_EPOLL, epoll_add, epoll_start, epoll_stop
from pgpool_core.engine.records cimport KIND_CLIENT, Conn, Upcalls, Worker
from pgpool_core.engine.sends cimport sends_new
from pgpool_core.engine.sys cimport EFD_CLOEXEC, EFD_NONBLOCK, close, eventfd


cdef void note_blocked(Worker *w, Conn *c) noexcept nogil:
    c.paused = 1


cdef Upcalls upcalls
upcalls.blocked = note_blocked


cdef class Sending:
    """Writes to the socket `fd`, which stays the caller's."""

    cdef Worker *w
    cdef Conn *c

    def __cinit__(self, int fd):
        self.w = <Worker *>calloc(1, sizeof(Worker))
        self.c = <Conn *>calloc(1, sizeof(Conn))
        if self.w == NULL or self.c == NULL:
            raise MemoryError
        self.w.io = IO_EPOLL
        self.w.up = &upcalls
        self.w.poll_fd = -1
        self.w.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)
        self.w.sends = sends_new()
        self.c.fd = fd
        self.c.kind = KIND_CLIENT
        if self.w.sends == NULL or not epoll_start(self.w) or not epoll_add(self.w, self.c):
            raise OSError("no poll set")

    def __dealloc__(self):
        if self.w != NULL:
            epoll_stop(self.w)
            if self.w.wake_fd >= 0:
                close(self.w.wake_fd)
            free(self.w.sends)
            free(self.w)
        if self.c != NULL:
            buf_free(&self.c.out)
            free(self.c)

    def put_off(self, bint on):
        """Whether sends are left to the turn's end from now on."""
        self.w.puts_off = on

    def write(self, bytes data):
        assert conn_send(self.w, self.c, <const uint8_t *>data, len(data)) != SEND_DEAD

    def put(self, bytes data):
        """Bytes that go ahead of the next that are written."""
        assert conn_put(self.w, self.c, <const uint8_t *>data, len(data))

    def settle(self):
        """The turn's end."""
        conn_settle_all(self.w)

    def flush(self):
        """The socket takes more."""
        assert conn_flush(self.w, self.c) != SEND_DEAD

    def read_again(self, list numbers):
        """Which of these connections, by number, are read again when reading each takes the ones behind it that are negative off the list."""
        cdef Conn *all_of_them = <Conn *>calloc(len(numbers), sizeof(Conn))
        cdef Conn *c
        cdef list found = []
        if all_of_them == NULL:
            raise MemoryError
        for i in range(len(numbers)):
            conn_again(self.w, &all_of_them[i])
        left = conns_again(self.w)
        while left:
            left -= 1
            c = conn_next_again(self.w)
            if c == NULL:
                break
            found.append(numbers[c - all_of_them])
            for i in range(len(numbers)):
                if numbers[i] < 0:
                    conn_not_again(self.w, &all_of_them[i])
        assert self.w.again_head == NULL and self.w.again_tail == NULL
        free(all_of_them)
        return found

    def push(self):
        """What was put goes, unless bytes wait already."""
        assert conn_push(self.w, self.c) != SEND_DEAD

    @property
    def waits(self):
        """Whether bytes wait for the socket to take more."""
        return bool(self.c.writing)
