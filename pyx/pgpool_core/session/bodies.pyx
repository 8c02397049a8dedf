"""The scan of texts for control, which reads the bodies of functions: doors only. See bodies.pyi."""

from libc.stdint cimport uint8_t

from pgpool_core.session cimport sqlwords as c
from pgpool_core.session.sqlscan cimport SqlScan, scan_sql, words_in
from pgpool_core.session.sqltoken cimport READ_STANDARD

from pgpool_core.session.sqlwords import FUNCTIONS as WITH_EFFECTS

# What something hidden may do that matters to a session.
MATTERS = (c.SQL_SETS | c.SQL_LISTENS | c.SQL_UNLISTENS | c.SQL_NOTIFIES | c.SQL_PREPARES | c.SQL_DEALLOCATES
           | c.SQL_EXECUTES | c.SQL_TEMPS | c.SQL_HOLDS | c.SQL_CLOSES | c.SQL_ADVISORY | c.SQL_UNLOCKS | c.SQL_LOADS
           | c.SQL_DISCARDS | c.SQL_OPAQUE | c.SQL_FUNCTION_DDL)
OPAQUE = c.SQL_OPAQUE
SETS = c.SQL_SETS
TEMPS = c.SQL_TEMPS
SEQUENCES = c.SQL_SEQUENCES
FUNCTIONS = tuple(sorted(WITH_EFFECTS.keys() - {"pg_settings", "nextval", "setval"}))


def text_flags(bytes text not None):
    """What a text of SQL may do, SET LOCAL and its like left out: MATTERS."""
    cdef SqlScan found
    cdef const uint8_t *at = <const uint8_t *><const char *>text
    cdef size_t size = len(text)
    with nogil:
        scan_sql(at, size, READ_STANDARD, NULL, &found)
    if found.flags & c.SQL_LOCAL_SET:
        found.flags &= ~<unsigned int>c.SQL_SETS
    return found.flags & <unsigned int>MATTERS


def words_flags(bytes text not None):
    """What the words of a text may do, wherever they stand: MATTERS."""
    cdef const uint8_t *at = <const uint8_t *><const char *>text
    return words_in(at, at + len(text)) & <unsigned int>MATTERS
