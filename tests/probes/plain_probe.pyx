"""Door to what `engine` passes at a glance: the plain parts of answers and of groups."""

from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free

from pgpool_core.engine.answers cimport answers_past
from pgpool_core.engine.counters cimport Counters
from pgpool_core.engine.groups cimport groups_past, is_plain
from pgpool_core.engine.records cimport ClientConn, Plane, ServerConn, Worker
from pgpool_core.statements.owed cimport owed_free, owed_pass
from pgpool_core.wire.codes cimport FE_CLOSE, FE_PARSE
from pgpool_core.wire.expect cimport (EXPECT_BIND, EXPECT_CHORE, EXPECT_DESCRIBE, EXPECT_EXECUTE, EXPECT_NAMED, EXPECT_QUERY,
                                      EXPECT_SYNC, expect_drop, expect_free, expect_head, expect_init, expect_push)

NAMED, BIND, DESCRIBE, EXECUTE = EXPECT_NAMED, EXPECT_BIND, EXPECT_DESCRIBE, EXPECT_EXECUTE
QUERY, SYNC, CHORE = EXPECT_QUERY, EXPECT_SYNC, EXPECT_CHORE


cdef class Link:
    """A client and its server, of which nothing is there but what is needed for that."""

    cdef Worker *w
    cdef Plane *plane
    cdef ClientConn *c
    cdef ServerConn *s
    cdef Counters *k

    def __cinit__(self):
        self.w = <Worker *>calloc(1, sizeof(Worker))
        self.plane = <Plane *>calloc(1, sizeof(Plane))
        self.c = <ClientConn *>calloc(1, sizeof(ClientConn))
        self.s = <ServerConn *>calloc(1, sizeof(ServerConn))
        self.k = <Counters *>calloc(1, sizeof(Counters))
        if self.w == NULL or self.plane == NULL or self.c == NULL or self.s == NULL or self.k == NULL:
            raise MemoryError
        self.w.plane = self.plane
        self.w.now_us = 1
        self.plane.max_packet_size = 100
        self.c.unnamed_here = 1
        expect_init(&self.s.expect)

    def __dealloc__(self):
        if self.s != NULL:
            expect_free(&self.s.expect)
            owed_free(&self.s.owed, &self.s.prepared)
        free(self.w)
        free(self.plane)
        free(self.c)
        free(self.s)
        free(self.k)

    def asked(self, int kind):
        """The server has been asked; NAMED: for an unnamed Parse."""
        expect_push(&self.s.expect, kind)
        if kind == EXPECT_NAMED:
            owed_pass(&self.s.owed, FE_PARSE)

    def closed(self):
        """The client closes a portal."""
        expect_push(&self.s.expect, EXPECT_NAMED)
        owed_pass(&self.s.owed, FE_CLOSE)

    def begun(self):
        """A group has."""
        self.s.open_group = 1

    def answers(self, bytes data):
        return answers_past(self.s, <const uint8_t *>data, len(data), 0)

    def groups(self, bytes data, bint tracked):
        if not is_plain(self.c, self.s):
            return 0
        return groups_past(self.w, self.c, self.s, self.k, tracked, <const uint8_t *>data, len(data), 0)

    @property
    def open(self):
        return bool(self.s.open_group)

    def owes(self):
        """What the server still owes, which is forgotten with that."""
        cdef list found = []
        while expect_head(&self.s.expect):
            found.append(expect_head(&self.s.expect))
            expect_drop(&self.s.expect)
        return found
