"""Functions with effects of their own; see functions.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memchr, strlen

from pgpool_core.engine.conn cimport plane_wake
from pgpool_core.engine.mailbox cimport Mail
from pgpool_core.engine.meanings cimport DDL_ANY, DDL_FUNCTIONS, DDL_TABLES, meanings_changed
from pgpool_core.engine.records cimport *
from pgpool_core.pool.pool cimport MAX_POOLS, MODE_SESSION
from pgpool_core.session.effects cimport effects_valid
from pgpool_core.session.known cimport known_forget
from pgpool_core.session.sqlscan cimport *
from pgpool_core.session.sqltoken cimport READ_TRAILING, READ_UNKNOWN
from pgpool_core.statements.meaning cimport text_mentions
from pgpool_core.sync.atomic cimport pgpool_add32, pgpool_load32, pgpool_load64, pgpool_store32, pgpool_store64

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *, const char *, size_t)

cdef enum:
    N_PREPARED = 64               # a power of two

# Transactions that may have changed functions and have been prepared, by literal_sum of their names; atomic. Where two want
# one place the later one has it.
cdef uint64_t[N_PREPARED] prepared


cdef const Effects *functions_of(Worker *w, const PoolRecord *pool) noexcept nogil:
    """What is known; NULL: nothing."""
    cdef uint32_t mark = pgpool_load32(&pool.functions)
    return w.effects[mark - 1] if mark else NULL


cdef bint runs(uint8_t verb) noexcept nogil:
    """A statement with this verb may call functions."""
    return verb > VERB_NONE and not (VERB_SET <= verb <= VERB_RELEASE or VERB_DEALLOCATE <= verb <= VERB_NOTIFY
                                     or verb == VERB_CLOSE or verb == VERB_LOAD)


cdef bint mentions(const uint8_t *text, size_t n, const char *word) noexcept nogil:
    return text_mentions(text, n, <const uint8_t *>word, strlen(word))


cdef bint may_create(const SqlScan *scan, const uint8_t *text, size_t n) noexcept nogil:
    """Whether a DO block, or what a function is to run, has the words for changing functions, or what calls them."""
    return (mentions(text, n, "create") or mentions(text, n, "alter")) and (
        (scan != NULL and scan.hidden) or mentions(text, n, "function") or mentions(text, n, "procedure")
        or mentions(text, n, "trigger") or mentions(text, n, "view") or mentions(text, n, "rule")
        or mentions(text, n, "set_config") or mentions(text, n, "advisory"))


cdef uint64_t literal_sum(const uint8_t *text, size_t n, const char *word) noexcept nogil:
    """A number for the string behind the last `word` of a text; 0 = there is none. FNV-1a."""
    cdef size_t length = strlen(word)
    cdef size_t i = n
    cdef uint64_t sum = <uint64_t>14695981039346656037
    while i > 0:
        i -= 1
        if n - i > length and strncasecmp(<const char *>text + i, word, length) == 0:
            break
    else:
        return 0
    while i < n and text[i] != 0x27:
        i += 1
    i += 1
    if i >= n:
        return 0
    while i < n and text[i] != 0x27:
        sum = (sum ^ text[i]) * <uint64_t>1099511628211
        i += 1
    return sum if sum else 1


cdef void prepares(const uint8_t *text, size_t n) noexcept nogil:
    """Where PREPARE TRANSACTION ends a transaction that may have changed functions, COMMIT PREPARED does so later."""
    cdef uint64_t sum = literal_sum(text, n, "transaction") if mentions(text, n, "prepare") else 0
    if sum:
        pgpool_store64(&prepared[sum & (N_PREPARED - 1)], sum)


cdef bint commits_prepared(const uint8_t *text, size_t n) noexcept nogil:
    """COMMIT PREPARED of such a transaction."""
    cdef uint64_t sum = literal_sum(text, n, "prepared")
    return sum != 0 and pgpool_load64(&prepared[sum & (N_PREPARED - 1)]) == sum


cdef bint changes_functions(const SqlScan *scan, const uint8_t *text, size_t n) noexcept nogil:
    """Whether a text may change functions, or what leads to them."""
    return scan_defines(scan) or scan.hidden & SQL_FUNCTION_DDL \
        or ((scan.flags | scan.hidden) & SQL_OPAQUE and may_create(scan, text, n)) \
        or (ends_prepared(scan) and commits_prepared(text, n))


cdef inline uint32_t hidden_by(const SqlScan *scan) noexcept nogil:
    """What the names in the text lead to. In a definition something else may lead there from now on."""
    if scan.flags & SQL_FUNCTION_DDL == 0 and scan_defines(scan):
        return scan.hidden | SQL_FUNCTION_DDL
    return scan.hidden


cdef inline uint32_t opaque(const ClientConn *c, uint32_t flags) noexcept nogil:
    """Of a text with these flags nobody knows what it may do by what it calls; what is to be added to them."""
    if c.pool.session_state == SESSION_PIN:
        return 0
    return SQL_OPAQUE if flags & SQL_OPAQUE else SQL_OPAQUE | SQL_STALE


cdef bint beyond_ascii(const uint8_t *text, size_t n) noexcept nogil:
    cdef size_t i
    for i in range(n):
        if text[i] >= 0x80:
            return True
    return False


cdef uint32_t functions_look(Worker *w, ClientConn *c, ServerConn *s, const SqlScan *scan, const uint8_t *text,
                             size_t n) noexcept nogil:
    """functions_text, where there may be something."""
    cdef uint32_t hidden = hidden_by(scan)
    cdef bint unknown                             # what functions do
    if pgpool_load32(&c.pool.functions) == 0:
        return 0
    unknown = s.function_ddl & DDL_FUNCTIONS or functions_stale(w, c.pool)
    if changes_functions(scan, text, n):
        s.function_ddl |= DDL_FUNCTIONS
        unknown |= scan.statements > 1
    if s.function_ddl & DDL_FUNCTIONS:
        prepares(text, n)
    unknown = unknown and (runs(scan.verb) or scan.statements > 1)
    if unknown or (misreads(c) and beyond_ascii(text, n)):
        hidden |= opaque(c, scan.flags | hidden)
    return hidden | SQL_HIDDEN if hidden else 0


cdef void functions_value(ServerConn *s, const uint8_t *value, size_t n) noexcept nogil:
    """A value for a text that may run it."""
    if may_create(NULL, value, n):
        s.function_ddl |= DDL_FUNCTIONS


cdef void functions_unwatched(Worker *w, ServerConn *s, const uint8_t *text, size_t n) noexcept nogil:
    """A text goes to a server of a pool whose texts are looked at for nothing else: clients of other pools may call what it makes."""
    cdef SqlScan scan
    if pgpool_load32(&s.pool.functions) == 0 \
            or (s.pool.pool.settings.mode != MODE_SESSION and s.pool.session_state != SESSION_OFF):
        return
    scan_sql(text, n, READ_UNKNOWN | READ_TRAILING, functions_of(w, s.pool), &scan)
    if changes_functions(&scan, text, n):
        s.function_ddl |= DDL_FUNCTIONS
    if s.function_ddl & DDL_FUNCTIONS:
        prepares(text, n)


cdef uint32_t functions_used(Worker *w, ClientConn *c, ServerConn *s, Statement *statement) noexcept nogil:
    """functions_statement, where there may be something."""
    cdef uint32_t hidden
    if pgpool_load32(&c.pool.functions) == 0:
        return 0
    hidden = known_by(functions_of(w, c.pool), statement)
    if s.function_ddl & DDL_FUNCTIONS or functions_stale(w, c.pool) or (misreads(c) and beyond_ascii(statement.data, statement.len)):
        hidden |= opaque(c, hidden)
    return hidden | SQL_HIDDEN if hidden else 0


cdef uint32_t known_by(const Effects *known, Statement *statement) noexcept nogil:
    """hidden_by of a statement; looked for once for all that has been read of its database."""
    cdef const uint8_t *end
    cdef uint64_t seen
    cdef SqlScan scan
    if known == NULL or known.count == 0:
        return 0
    seen = pgpool_load64(&statement.hidden)
    if <uint32_t>(seen >> 32) != known.generation:
        end = <const uint8_t *>memchr(statement.data, 0, statement.len)
        scan_sql(statement.data, end - statement.data if end != NULL else statement.len, READ_UNKNOWN | READ_TRAILING,
                 known, &scan)
        seen = <uint64_t>known.generation << 32 | hidden_by(&scan)
        pgpool_store64(&statement.hidden, seen)
    return <uint32_t>seen


cdef void functions_changed(Plane *plane, ServerConn *s) noexcept nogil:
    """A transaction that may have changed functions or tables has ended on `s`, or a text before the last of a pipeline has."""
    cdef uint32_t mark = pgpool_load32(&s.pool.functions)
    cdef bint of_functions = s.function_ddl & ~<uint32_t>(DDL_TABLES | DDL_ANY)
    meanings_changed(plane, s)
    if s.expect.owed == 0:
        s.function_ddl = 0
    if mark and of_functions:
        pgpool_add32(&plane.marks[mark - 1].changes, 1)
        pgpool_store32(&plane.functions_news, 1)
        plane_wake(plane)


cdef void functions_mail(Worker *w, Mail *mail) noexcept nogil:
    """Control knows better."""
    if mail.a >= MAX_POOLS or not effects_valid(<const Effects *>mail.data, mail.len):
        return
    known_forget(w.known)
    free(w.effects[mail.a])
    w.effects[mail.a] = <Effects *>mail.data
    mail.data = NULL


cdef void functions_free(Worker *w) noexcept nogil:
    """The end of `w`."""
    cdef uint32_t i
    if w.effects != NULL:
        for i in range(MAX_POOLS):
            free(w.effects[i])
    free(w.effects)
