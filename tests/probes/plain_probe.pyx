"""Door to what `engine` passes at a glance: the plain parts of answers and of groups."""

from libc.stdint cimport uint8_t
from libc.stdlib cimport calloc, free

from pgpool_core.engine.answers cimport answers_past
from pgpool_core.engine.counters cimport Counters
from pgpool_core.engine.groups cimport EYES_TRACK, EYES_WATCH, groups_past
from pgpool_core.engine.records cimport ClientConn, Plane, PoolRecord, ServerConn, Worker
from pgpool_core.engine.redo cimport REDO_KEPT
from pgpool_core.session.known cimport KnownTexts, known_scan
from pgpool_core.session.sqlscan cimport SqlScan
from pgpool_core.statements.owed cimport owed_free, owed_pass
from pgpool_core.wire.codes cimport FE_CLOSE, FE_PARSE
from pgpool_core.wire.expect cimport (EXPECT_BIND, EXPECT_CHORE, EXPECT_DESCRIBE, EXPECT_EXECUTE, EXPECT_INLINE, EXPECT_NAMED,
                                      EXPECT_QUERY, EXPECT_SYNC, expect_drop, expect_free, expect_head, expect_init, expect_push)

NAMED, BIND, DESCRIBE, EXECUTE = EXPECT_NAMED, EXPECT_BIND, EXPECT_DESCRIBE, EXPECT_EXECUTE
QUERY, SYNC, CHORE = EXPECT_QUERY, EXPECT_SYNC, EXPECT_CHORE
ROOM = EXPECT_INLINE


cdef class Link:
    """A client and its server, of which nothing is there but what is needed for that."""

    cdef Worker *w
    cdef Plane *plane
    cdef PoolRecord *pool
    cdef ClientConn *c
    cdef ServerConn *s
    cdef Counters *k

    def __cinit__(self):
        self.w = <Worker *>calloc(1, sizeof(Worker))
        self.plane = <Plane *>calloc(1, sizeof(Plane))
        self.pool = <PoolRecord *>calloc(1, sizeof(PoolRecord))
        self.c = <ClientConn *>calloc(1, sizeof(ClientConn))
        self.s = <ServerConn *>calloc(1, sizeof(ServerConn))
        self.k = <Counters *>calloc(1, sizeof(Counters))
        if self.w == NULL or self.plane == NULL or self.pool == NULL or self.c == NULL or self.s == NULL or self.k == NULL:
            raise MemoryError
        self.w.known = <KnownTexts *>calloc(1, sizeof(KnownTexts))
        if self.w.known == NULL:
            raise MemoryError
        self.w.plane = self.plane
        self.c.pool = self.s.pool = self.pool
        self.w.now_us = 1
        self.plane.max_packet_size = 100
        self.c.unnamed_here = 1
        expect_init(&self.s.expect)

    def __dealloc__(self):
        if self.s != NULL:
            expect_free(&self.s.expect)
            owed_free(&self.s.owed, &self.s.prepared)
        if self.w != NULL:
            free(self.w.known)
        free(self.w)
        free(self.plane)
        free(self.pool)
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

    def parsed(self, bint here):
        """The client has parsed an unnamed statement since it got this server, or not."""
        self.c.unnamed_here = here

    def begun(self):
        """A group has."""
        self.s.open_group = 1

    def kept(self):
        """The group is, to be sent once more if need be."""
        self.s.redo = REDO_KEPT

    @property
    def kept_on(self):
        """It still is, and has not ended."""
        return self.s.redo == REDO_KEPT

    def answers(self, bytes data):
        return answers_past(self.s, <const uint8_t *>data, len(data), 0)

    def known(self, bytes text):
        """The text has come often enough to be known."""
        cdef SqlScan scan
        for _ in range(3):
            known_scan(self.w.known, <const uint8_t *>text, len(text), NULL, &scan)

    def groups(self, bytes data, bint tracked, bint watched=False):
        cdef uint8_t eyes = (EYES_TRACK if tracked else 0) | (EYES_WATCH if watched else 0)
        return groups_past(self.w, self.c, self.s, self.k, eyes, <const uint8_t *>data, len(data), 0)

    @property
    def open(self):
        return bool(self.s.open_group)

    @property
    def parses(self):
        """Of unnamed statements that the server is yet to answer."""
        return sum([self.s.owed.ring[(self.s.owed.head + i) & (self.s.owed.cap - 1)].count for i in range(self.s.owed.len)])

    @property
    def requests(self):
        """What a ReadyForQuery is to answer, as `expect` and as `owed` have it."""
        return self.s.expect.owed, self.s.owed.sent

    def owes(self):
        """What the server still owes, which is forgotten with that."""
        cdef list found = []
        while expect_head(&self.s.expect):
            found.append(expect_head(&self.s.expect))
            expect_drop(&self.s.expect)
        return found
