"""Doors to `statements` for tests and fuzz targets.

Messages are copied to memory of exactly the size that has come, so that a sanitizer sees one byte too many.
"""

cimport cython
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from pgpool_core.statements.again cimport again_fits
from pgpool_core.statements.failure cimport FAILURE_OUTDATED, failure_read, failure_told
from pgpool_core.statements.hash cimport HashKey, hash_bytes
from pgpool_core.statements.meaning cimport changes_add, is_momentary
from pgpool_core.statements.names cimport Name, Names, names_clear, names_free
from pgpool_core.statements.outgoing cimport Ends, OUT_LOOK, OUT_SEND, SPAN, Outgoing, outgoing_pass, outgoing_plan
from pgpool_core.statements.owed cimport (
    Owed, owed_answer, owed_barrier, owed_free, owed_orphan, owed_ready, owed_request, owed_struck,
)
from pgpool_core.statements.prepared cimport (
    Planted, Prepared, prepared_clear, prepared_find, prepared_free, prepared_init,
)
from pgpool_core.statements.rewrite cimport (
    NAME_FOUND, NamePlace, error_fields, ErrorFields, find_server_name, name_place, parse_text_ok, put_error,
    put_unnamed, used_once,
)
from pgpool_core.statements.text cimport (
    EPOCH_NEVER, SERVER_NAME_LEN, TEXT_SHARDS, Statement, Texts as CTexts, server_name, text_meant, text_outdate, text_unref, texts_free,
    texts_new,
)
from pgpool_core.wire.scan cimport HEADER_LEN, Frame
from pgpool_core.wire.span cimport Span


cdef uint8_t *exact(bytes data) except NULL:
    """A copy with nothing behind it; the caller frees it."""
    cdef uint8_t *at = <uint8_t *>malloc(len(data) if data else 1)
    if at is NULL:
        raise MemoryError
    memcpy(at, <const uint8_t *>data, len(data))
    return at


def hashed(uint64_t a, uint64_t b, bytes data):
    cdef HashKey key
    cdef uint8_t *at = exact(data)
    key.a, key.b = a, b
    try:
        return hash_bytes(&key, at, len(data))
    finally:
        free(at)


def name_of(uint64_t id):
    """The name at the server of the statement `id`."""
    cdef uint8_t[SERVER_NAME_LEN] name
    server_name(name, id)
    return (<const char *>name)[:SERVER_NAME_LEN]


def place(int fe_type, bytes body, uint32_t body_len):
    """(verdict, name, offset of the name, offset behind it) in a message of whose body `body` has come."""
    cdef NamePlace found
    cdef uint8_t *at = exact(body)
    cdef int verdict
    try:
        verdict = name_place(<uint8_t>fe_type, at, <uint32_t>len(body), body_len, &found)
        if verdict != NAME_FOUND:
            return verdict, None, 0, 0
        return verdict, (<const char *>found.name.at)[:found.name.len], found.at, found.end
    finally:
        free(at)


def text_ok(bytes text):
    cdef uint8_t *at = exact(text)
    try:
        return bool(parse_text_ok(at, <uint32_t>len(text)))
    finally:
        free(at)


def fields(bytes body):
    """(sqlstate, message, routine) of an ErrorResponse, or None."""
    cdef ErrorFields found
    cdef uint8_t *at = exact(body)
    try:
        if not error_fields(at, <uint32_t>len(body), &found):
            return None
        return ((<const char *>found.sqlstate.at)[:found.sqlstate.len],
                (<const char *>found.message.at)[:found.message.len],
                (<const char *>found.routine.at)[:found.routine.len])
    finally:
        free(at)


def server_id(bytes text):
    """The number in the first name of ours in `text`, or None."""
    cdef Span span
    cdef uint64_t id = 0
    cdef uint8_t *at = exact(text)
    span.at, span.len = at, <uint32_t>len(text)
    try:
        return id if find_server_name(span, &id) else None
    finally:
        free(at)


def group_used_once(bytes group):
    cdef uint8_t *at = exact(group)
    try:
        return used_once(at, len(group))
    finally:
        free(at)


def momentary(bytes text):
    cdef uint8_t *at = exact(text)
    try:
        return bool(is_momentary(at, <uint32_t>len(text)))
    finally:
        free(at)


def unnamed_error(bytes body, size_t cap):
    cdef uint8_t *at = exact(body)
    cdef uint8_t *out = <uint8_t *>malloc(cap if cap > 0 else 1)
    cdef size_t n
    try:
        n = put_unnamed(out, cap, at, <uint32_t>len(body))
        return (<const char *>out)[:n]
    finally:
        free(at)
        free(out)


def renamed_error(bytes body, uint64_t id, bytes name, size_t cap):
    cdef Span span
    cdef uint8_t *at = exact(body)
    cdef uint8_t *out = <uint8_t *>malloc(cap if cap > 0 else 1)
    cdef size_t n
    span.at, span.len = <const uint8_t *>name, <uint32_t>len(name)
    try:
        n = put_error(out, cap, at, <uint32_t>len(body), id, span)
        return (<const char *>out)[:n]
    finally:
        free(at)
        free(out)


cdef class Texts:
    """One table; its holders keep it alive."""
    cdef CTexts *table

    def __cinit__(self):
        self.table = texts_new()
        if self.table is NULL:
            raise MemoryError

    def __dealloc__(self):
        texts_free(self.table)

    def intern(self, bytes text, uint64_t salt=0):
        cdef uint8_t *at = exact(text)
        held = Held(self)
        held.statement = text_meant(self.table, at, <uint32_t>len(text), salt)
        free(at)
        return held

    def changes(self, *names):
        """Tables of these names are not what they were; without names: anything may be."""
        cdef bytes said = b"".join(name + b"\0" for name in names)
        changes_add(&self.table.changes, said, <uint32_t>len(said))

    def __len__(self):
        cdef int i
        return sum(self.table.shards[i].count for i in range(TEXT_SHARDS))

    def longest(self):
        """How many are in the fullest bucket."""
        cdef int i
        cdef uint32_t b, most = 0, length
        cdef Statement *statement
        for i in range(TEXT_SHARDS):
            for b in range(self.table.shards[i].n_buckets):
                length = 0
                statement = self.table.shards[i].buckets[b]
                while statement is not NULL:
                    length += 1
                    statement = statement.next
                most = max(most, length)
        return most

    def all(self):
        """Every text and its number of holders."""
        cdef int i
        cdef uint32_t b
        cdef Statement *statement
        found = []
        for i in range(TEXT_SHARDS):
            for b in range(self.table.shards[i].n_buckets):
                statement = self.table.shards[i].buckets[b]
                while statement is not NULL:
                    found.append(((<const char *>statement.data)[:statement.len], statement.refs))
                    statement = statement.next
        return found


@cython.no_gc_clear
cdef class Held:
    """One hold on a statement, given up when this object goes."""
    cdef Texts texts
    cdef Statement *statement

    def __init__(self, Texts texts not None):
        self.texts = texts

    def __dealloc__(self):
        if self.statement is not NULL:
            text_unref(self.texts.table, self.statement)

    @property
    def id(self):
        return self.statement.id

    @property
    def refs(self):
        return self.statement.refs

    @property
    def text(self):
        return (<const char *>self.statement.data)[:self.statement.len]

    def outdate(self):
        text_outdate(self.statement)


@cython.no_gc_clear
cdef class Client:
    """A client's names."""
    cdef Texts texts
    cdef Names *names

    def __init__(self, Texts texts not None):
        self.texts = texts

    def __dealloc__(self):
        names_free(self.names)

    @property
    def allocated(self):
        return self.names is not NULL

    def stands(self):
        """Name -> text behind it, as the server has confirmed."""
        return self._names(False)

    def planned(self):
        return self._names(True)

    def count(self):
        """Names kept, whatever for."""
        return 0 if self.names is NULL else self.names.count

    def _names(self, bint planned):
        cdef uint32_t b
        cdef Name *name
        cdef Statement *statement
        found = {}
        if self.names is NULL:
            return found
        for b in range(self.names.n_buckets):
            name = self.names.buckets[b]
            while name is not NULL:
                statement = name.planned if planned else name.stands
                if statement is not NULL:
                    found[(<const char *>name.text)[:name.len]] = (<const char *>statement.data)[:statement.len]
                name = name.next
        return found

    def may_send_again(self, bytes group):
        """Whether a group that was refused for an outdated plan can be sent once more."""
        cdef uint8_t *at = exact(group)
        cdef bint fits
        cdef size_t n = len(group)
        try:
            with nogil:
                fits = self.names is not NULL and again_fits(self.names, at, n)
            return bool(fits)
        finally:
            free(at)

    def clear(self):
        """DEALLOCATE ALL has been done for this client."""
        with nogil:
            names_clear(self.names)


@cython.no_gc_clear
cdef class Server:
    """What a server has prepared, and what it owes; linked to the client of the last `plan`."""
    cdef Texts texts
    cdef Client client
    cdef Prepared prepared
    cdef Owed owed

    def __init__(self, Texts texts not None):
        self.texts = texts
        prepared_init(&self.prepared, texts.table)
        memset(&self.owed, 0, sizeof(Owed))

    def __dealloc__(self):
        owed_free(&self.owed, &self.prepared)
        prepared_free(&self.prepared)

    def plan(self, Client client not None, bytes message, *, uint32_t limit=100, uint64_t salt=0, uint64_t span=0, failed=False,
             pending=False):
        """(verdict, bytes of the pieces, skip, parses) for a message of which `message` has come, header included."""
        cdef Ends ends
        cdef Frame frame
        cdef Outgoing out
        cdef uint32_t i
        cdef size_t have = len(message)
        cdef uint8_t *at
        cdef int verdict
        if client is not self.client and self.owed.len:
            raise AssertionError("handed over while the server owes something")
        self.client = client
        ends.texts = self.texts.table
        ends.names = &client.names
        ends.prepared = &self.prepared
        ends.owed = &self.owed
        ends.limit = limit
        ends.salt = salt
        ends.span = SPAN | span if span else 0
        ends.looked = message[:1] == b"P"
        ends.failed = failed
        ends.pending = pending
        ends.no_unnamed = False
        frame.type = message[0]
        frame.body_len = <uint32_t>(int.from_bytes(message[1:HEADER_LEN], "big") - 4)
        at = exact(message)
        try:
            with nogil:
                verdict = outgoing_plan(&ends, &frame, at, have, &out)
                if verdict == OUT_LOOK:
                    ends.looked = True
                    verdict = outgoing_plan(&ends, &frame, at, have, &out)
            if verdict != OUT_SEND:
                return verdict, b"", 0, 0
            pieces = b"".join((<const char *>out.pieces[i].at)[:out.pieces[i].len] for i in range(out.n_pieces))
            return verdict, pieces, out.skip, out.parses
        finally:
            free(at)

    def pass_on(self, Client client not None, int fe_type):
        """The message goes untouched, for a pinned client."""
        cdef Ends ends
        cdef Frame frame
        ends.texts = self.texts.table
        ends.names = &client.names
        ends.prepared = &self.prepared
        ends.owed = &self.owed
        frame.type = <uint8_t>fe_type
        return outgoing_pass(&ends, &frame)

    def request(self):
        owed_request(&self.owed)

    def ready(self):
        owed_ready(&self.owed, &self.prepared)

    def struck(self, uint32_t n):
        owed_struck(&self.owed, n)

    def barrier(self):
        owed_barrier(&self.owed)

    def answer(self, int be_type):
        cdef int verdict
        with nogil:
            verdict = owed_answer(&self.owed, &self.prepared, <uint8_t>be_type)
        return verdict

    def failure(self, bytes body, size_t cap=65536, *, told=True):
        """(verdict, message to forward instead) for an ErrorResponse, which the client gets to read if `told`."""
        cdef uint8_t *at = exact(body)
        cdef uint8_t *out = <uint8_t *>malloc(cap if cap > 0 else 1)
        cdef size_t n = 0
        cdef int verdict
        try:
            verdict = failure_read(&self.owed, &self.prepared, self.client.names if self.client is not None else NULL, at, <uint32_t>len(body), out, cap, &n)
            if verdict == FAILURE_OUTDATED and told:
                failure_told(&self.owed, &self.prepared)
            if n > cap:
                raise AssertionError("more was written than there is room for")
            return verdict, (<const char *>out)[:n]
        finally:
            free(at)
            free(out)

    def orphan(self, Client client not None):
        """The linked client leaves, its names are freed, the server goes on."""
        owed_orphan(&self.owed)
        names_free(client.names)
        client.names = NULL
        self.client = None

    def clear(self):
        """The server has done DEALLOCATE ALL."""
        with nogil:
            prepared_clear(&self.prepared)

    @property
    def owed_len(self):
        return self.owed.len

    @property
    def groups(self):
        """(being answered, being sent)"""
        return self.owed.answered, self.owed.sent

    @property
    def count(self):
        """What the server will have."""
        return self.prepared.count

    @property
    def entries(self):
        return self.prepared.entries

    def here(self):
        """Name at the server -> text, as the server has confirmed; None where something else has that name."""
        cdef Planted *at = self.prepared.oldest
        found = {}
        while at is not NULL:
            if prepared_find(&self.prepared, at.statement.id) is not at:
                raise AssertionError("an entry that is not found by its id")
            if at.here:
                text = None if at.epoch == EPOCH_NEVER else (<const char *>at.statement.data)[:at.statement.len]
                found[name_of(at.statement.id)] = text
            at = at.newer
        return found

    def by_age(self):
        """Texts, the longest unused first."""
        cdef Planted *at = self.prepared.oldest
        found = []
        while at is not NULL:
            found.append((<const char *>at.statement.data)[:at.statement.len])
            at = at.newer
        return found
