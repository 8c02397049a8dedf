"""What the text of a Query or Parse may do to the session that it runs in, found in one look at the text.

The flags never miss anything that the text itself says, and may say too much. What they cannot see: functions,
triggers and rules with effects of their own (`calls` names the functions that are called), values that come with Bind,
and a temporary table made without its word because an earlier search_path begins with pg_temp. What is known of functions
and the rest may be given along (`session.effects`): then `hidden` says what they may do.

A text with an error in its syntax does nothing in PostgreSQL; its flags mean nothing.
"""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.session.effects cimport Effects
from pgpool_core.session.sqlwords cimport *
from pgpool_core.wire.span cimport Span


cdef enum:
    MAX_CALLS = 8

    # What the text does, if PostgreSQL accepts it, beside what flags of another kind say. Names are as written:
    # `name_fold` makes them PostgreSQL's.
    PROVED_NONE = 0
    PROVED_SET = 1                # name, value
    PROVED_SET_TIME_ZONE = 2      # value
    PROVED_SET_NAMES = 3          # value: client_encoding
    PROVED_SET_SCHEMA = 4         # value: search_path
    PROVED_SET_ROLE = 5           # value; NONE resets
    PROVED_SET_AUTHORIZATION = 6  # value
    PROVED_RESET = 7              # name
    PROVED_RESET_TIME_ZONE = 8
    PROVED_RESET_AUTHORIZATION = 9
    PROVED_RESET_ALL = 10
    PROVED_DEALLOCATE = 11        # name
    PROVED_DEALLOCATE_ALL = 12
    PROVED_DISCARD_ALL = 13
    PROVED_DISCARD_PLANS = 14
    PROVED_DISCARD_TEMP = 15
    PROVED_DISCARD_SEQUENCES = 16
    PROVED_LISTEN = 17            # name
    PROVED_UNLISTEN = 18          # name
    PROVED_UNLISTEN_ALL = 19
    PROVED_NOTIFY = 20            # name, perhaps value
    PROVED_PREPARE = 21           # name; value: from behind the name to the end of the text
    PROVED_EXECUTE = 22           # name; value: the same
    PROVED_CLOSE = 23             # name
    PROVED_CLOSE_ALL = 24
    PROVED_BEGIN = 25             # also START TRANSACTION
    PROVED_COMMIT = 26            # also END; not AND CHAIN, not COMMIT PREPARED
    PROVED_ROLLBACK = 27          # also ABORT; not TO, not AND CHAIN, not ROLLBACK PREPARED

    VALUE_NONE = 0
    VALUE_DEFAULT = 1             # the words DEFAULT and, of SET TIME ZONE, LOCAL
    VALUE_WORD = 2
    VALUE_NUMBER = 3              # perhaps with a sign
    VALUE_STRING = 4              # '...', quotes and doubled quotes included, no backslashes
    VALUE_ESCAPED = 5             # '...' or E'...' with backslashes that mean something
    VALUE_NAME = 6                # "...", quotes included
    VALUE_LIST = 7                # more than one, with commas
    VALUE_OTHER = 8               # INTERVAL ...; the rest of PREPARE and EXECUTE


cdef struct SqlScan:              # borrows the text
    uint32_t flags                # SQL_*
    uint32_t hidden               # SQL_*: what the names in it lead to; without `effects` 0
    uint32_t statements           # without empty ones; too many for functions written BEGIN ATOMIC
    uint8_t verb                  # VERB_* of the first statement
    uint8_t proved                # PROVED_*, only where there is one statement
    uint8_t local                 # SET LOCAL
    uint8_t name_quoted
    uint8_t value_kind            # VALUE_*
    uint8_t call_count
    uint8_t calls_overflow        # there may be more calls than these
    uint8_t bodies                # strings in it may be SQL
    Span name                     # with its quotes
    Span value
    uint32_t calls[MAX_CALLS]     # call_hash of functions called by name, each once, and of other names before a bracket


cdef inline bint scan_defines(const SqlScan *scan) noexcept nogil:
    """Whether something may lead to an effect from now on that did not: what a text creates or changes has one, or names one."""
    return scan.flags & SQL_FUNCTION_DDL or (scan.flags & SQL_DDL and (scan.hidden or scan.flags & SQL_DEFINES))


cdef inline bint scan_does_nothing(const SqlScan *scan) noexcept nogil:
    """Whether the text leaves nothing behind, nor takes anything away."""
    return (scan.flags & ~<uint32_t>SQL_CALLS | scan.hidden) == 0


cdef void scan_sql(const uint8_t *text, size_t len, int reading, const Effects *effects, SqlScan *out) noexcept nogil
cdef uint32_t words_in(const uint8_t *at, const uint8_t *end) noexcept nogil
