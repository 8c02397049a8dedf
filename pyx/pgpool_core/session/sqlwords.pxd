"""The words that tell what a text of SQL may do to its session, and how to find them."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t


cdef enum:
    # What a text may do. Each may be set without need; none is missing where it is true.
    SQL_SETS = 1 << 0             # SET, RESET, set_config() and what else changes a setting, role or session authorization
    SQL_LOCAL_SET = 1 << 1        # with SQL_SETS: every one of them ends with the transaction
    SQL_LISTENS = 1 << 2
    SQL_UNLISTENS = 1 << 3
    SQL_NOTIFIES = 1 << 4         # pg_notify() too
    SQL_PREPARES = 1 << 5         # not PREPARE TRANSACTION
    SQL_EXECUTES = 1 << 6         # also in EXPLAIN and CREATE TABLE AS
    SQL_DEALLOCATES = 1 << 7
    SQL_TEMPS = 1 << 8            # temporary tables, views, sequences; anything named pg_temp
    SQL_HOLDS = 1 << 9            # cursors WITH HOLD
    SQL_CLOSES = 1 << 10
    SQL_ADVISORY = 1 << 11        # advisory locks of the session
    SQL_UNLOCKS = 1 << 12
    SQL_LOADS = 1 << 13
    SQL_DISCARDS = 1 << 14
    SQL_OPAQUE = 1 << 15          # DO, CALL, functions that run SQL from their arguments: anything may happen inside
    SQL_SEQUENCES = 1 << 16       # nextval() and setval(), and currval() and lastval(), which read what they have left
    SQL_DATABASE_DDL = 1 << 17
    SQL_FUNCTION_DDL = 1 << 18    # functions, procedures, triggers, rules, extensions: what was known of them is void
    SQL_CALLS = 1 << 19           # `calls` has some, or more than there is room for

    SQL_DDL = 1 << 20             # a statement begins with CREATE, ALTER or DROP, or is SELECT INTO

    SQL_ALL = (1 << 21) - 1

    # What a definition leads to whose text has it: a view, a default, a policy.
    SQL_DEFINES = SQL_SETS | SQL_NOTIFIES | SQL_ADVISORY | SQL_UNLOCKS | SQL_LOADS | SQL_OPAQUE

    SEEN_WRITES = 1 << 28         # inside a scan only: rows of something are changed
    SEEN_UPDATE = 1 << 29         # inside a scan only: UPDATE pg_settings is a SET
    SEEN_SETTINGS = 1 << 30

    VERB_NONE = 0                 # no statement at all
    VERB_OTHER = 1
    VERB_SELECT = 2               # also VALUES and TABLE
    VERB_INSERT = 3
    VERB_UPDATE = 4
    VERB_DELETE = 5
    VERB_MERGE = 6
    VERB_WITH = 7
    VERB_SET = 8
    VERB_RESET = 9
    VERB_SHOW = 10
    VERB_BEGIN = 11               # also START TRANSACTION
    VERB_COMMIT = 12              # also END, COMMIT PREPARED
    VERB_ROLLBACK = 13            # also ABORT, ROLLBACK TO, ROLLBACK PREPARED
    VERB_SAVEPOINT = 14
    VERB_RELEASE = 15
    VERB_PREPARE = 16             # also PREPARE TRANSACTION
    VERB_EXECUTE = 17
    VERB_DEALLOCATE = 18
    VERB_DISCARD = 19
    VERB_LISTEN = 20
    VERB_UNLISTEN = 21
    VERB_NOTIFY = 22
    VERB_DECLARE = 23
    VERB_FETCH = 24               # also MOVE
    VERB_CLOSE = 25
    VERB_LOAD = 26
    VERB_DO = 27
    VERB_CALL = 28
    VERB_COPY = 29
    VERB_EXPLAIN = 30
    VERB_CREATE = 31
    VERB_ALTER = 32
    VERB_DROP = 33

    # Words that matter by what stands around them.
    WORD_PLAIN = 0                # not in the table
    WORD_QUIET = 1                # in front of a bracket it calls nothing that leaves a trace
    WORD_CREATE = 2               # CREATE, ALTER, DROP
    WORD_REPLACE = 3              # OR REPLACE, GLOBAL, LOCAL: TEMP may follow
    WORD_INTO = 4
    WORD_INSERT = 5               # INSERT, MERGE: the INTO behind them makes no table
    WORD_TEMP = 6
    WORD_WITH = 7
    WORD_HOLD = 8
    WORD_RULE_DO = 9              # DO, ALSO, INSTEAD: NOTIFY may follow
    WORD_NOTIFY = 10
    WORD_DATABASE = 11
    WORD_FUNCTION = 12
    WORD_SET = 13
    WORD_PREPARE = 14
    WORD_SET_CONFIG = 15
    WORD_CATALOG = 16             # pg_catalog
    WORD_DO = 17
    WORD_INSERT_INTO = 18         # not in the table, nor are the next: INTO behind WORD_INSERT
    WORD_TARGET = 19              # the table behind it
    WORD_NAME = 20                # a name between double quotes
    WORD_STRING = 21
    WORD_DOT = 22
    WORD_OPEN = 23                # a bracket
    WORD_SYMBOL = 24              # all else

    WORD_MAX = 38                 # bytes of the longest word
    WORD_BUCKETS = 2048


cdef struct Word:                 # a row of the table, which never changes
    uint32_t lead                 # SQL_* where it begins a statement
    uint32_t any                  # SQL_* wherever it stands
    uint32_t quoted               # SQL_* wherever it stands, even between double quotes or behind a dot
    uint32_t body                 # SQL_* in the text of a function
    uint16_t next                 # row with the same hash, 0 = none
    uint8_t id
    uint8_t verb
    uint8_t special               # it is more than WORD_QUIET, or has an effect where it does not lead
    uint8_t len
    uint8_t text[WORD_MAX]        # each byte | 0x20


cdef Word *WORDS                  # row 0 is for words that are not in the table
cdef const uint16_t *WORD_HEADS   # WORD_BUCKETS rows, by word_hash


cdef inline uint32_t word_hash(const uint8_t *at, size_t len) noexcept nogil:
    """Which bucket a word of 1 to WORD_MAX bytes is in, whatever its case."""
    return <uint32_t>((at[0] & 31) + (at[len - 1] & 31) * 32 + ((at[len >> 1] & 31) ^ len) * 59) & (WORD_BUCKETS - 1)


cdef inline const Word *word_find(const Word *words, const uint16_t *heads, const uint8_t *at,
                                  size_t len) noexcept nogil:
    """The row of the word at `at`, which has at least one byte; row 0 if there is none."""
    cdef uint32_t row
    cdef size_t i
    if len > WORD_MAX:
        return words
    row = heads[word_hash(at, len)]
    while row:
        if words[row].len == len:
            i = 0
            while i < len and at[i] | 0x20 == words[row].text[i]:
                i += 1
            if i == len:
                break
        row = words[row].next
    return &words[row]


cdef inline uint32_t call_hash(const uint8_t *at, size_t len) noexcept nogil:
    """What `SqlScan.calls` has for a function of this name, without schema and quotes, whatever its case: FNV-1a."""
    cdef uint32_t sum = <uint32_t>2166136261
    cdef size_t i
    cdef uint8_t byte
    for i in range(len):
        byte = at[i]
        if 0x41 <= byte <= 0x5A:
            byte |= 0x20
        sum = (sum ^ byte) * <uint32_t>16777619
    return sum
