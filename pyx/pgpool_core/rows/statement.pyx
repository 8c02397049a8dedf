"""A statement that a server has prepared; see statement.pxd. And whether a text may leave something in its session."""

from libc.stdint cimport uint8_t

from pgpool_core.rows.codec cimport Codec
from pgpool_core.rows.record cimport Shape
from pgpool_core.session.effects cimport Effects, effects_valid
from pgpool_core.session.sqlscan cimport SqlScan, scan_defines, scan_sql
from pgpool_core.session.sqltoken cimport READ_TRAILING, READ_UNKNOWN
from pgpool_core.session.sqlwords cimport (
    SQL_ADVISORY, SQL_DATABASE_DDL, SQL_FUNCTION_DDL, SQL_HOLDS, SQL_LISTENS, SQL_LOADS, SQL_LOCAL_SET, SQL_OPAQUE,
    SQL_PREPARES, SQL_SEQUENCES, SQL_SETS, SQL_TEMPS,
)

DOES_LEAVE = 1
DOES_FUNCTIONS = 2
DOES_SEQUENCES = 4
DOES_LOAD = 8
DOES_DATABASES = 16

cdef enum:
    LEAVING = SQL_ADVISORY | SQL_HOLDS | SQL_LISTENS | SQL_LOADS | SQL_OPAQUE | SQL_PREPARES | SQL_TEMPS


def leaves_something(bytes text not None):
    """Whether a text of SQL may leave settings, locks, temporary tables or the like in its session; says yes too often, never too seldom.

    What functions and triggers do of themselves does not stand in the text.
    """
    cdef SqlScan found
    cdef const uint8_t *at = <const uint8_t *><const char *>text
    cdef size_t size = len(text)
    with nogil:
        scan_sql(at, size, READ_UNKNOWN, NULL, &found)
    if found.flags & <unsigned int>LEAVING:
        return True
    return bool(found.flags & <unsigned int>SQL_SETS) and not found.flags & <unsigned int>SQL_LOCAL_SET


def text_does(bytes text not None, bytes effects=None):
    """What a text of SQL may do that outlasts its transaction: DOES_*.

    Args:
        effects: what is known of functions (`session.effects.effects_pack`): what they do then counts too.
    """
    cdef SqlScan found
    cdef const uint8_t *at = <const uint8_t *><const char *>text
    cdef size_t size = len(text)
    cdef const Effects *known = NULL
    cdef unsigned int flags, does = 0
    if effects is not None:
        known = <const Effects *><const char *>effects
        if not effects_valid(known, len(effects)):
            raise ValueError("not a table of effects")
    with nogil:
        scan_sql(at, size, READ_UNKNOWN | READ_TRAILING, known, &found)
    flags = found.flags | found.hidden
    if flags & <unsigned int>LEAVING or flags & SQL_SETS and not (found.flags & SQL_LOCAL_SET and not found.hidden & SQL_SETS):
        does |= DOES_LEAVE
    if flags & (SQL_FUNCTION_DDL | SQL_OPAQUE) or scan_defines(&found):
        does |= DOES_FUNCTIONS
    if flags & SQL_SEQUENCES:
        does |= DOES_SEQUENCES
    if flags & SQL_LOADS:
        does |= DOES_LOAD
    if flags & SQL_DATABASE_DDL:
        does |= DOES_DATABASES
    return does


cdef bytes formats(codecs):
    return b"".join([(<int>(<Codec?>codec).format).to_bytes(2, "big") for codec in codecs])


cdef class Statement:
    """A prepared statement; immutable, and good for one connection."""

    def __init__(self, *, bytes name not None, str text not None, parameters, Shape shape, bint leaves):
        self.name = name
        self.text = text
        self.parameters = tuple(parameters)
        self.shape = shape
        self.leaves = leaves
        count = len(self.parameters).to_bytes(2, "big")
        self.bind_head = name + b"\0" + count + formats(self.parameters) + count
        results = () if shape is None else shape.codecs
        self.bind_tail = len(results).to_bytes(2, "big") + formats(results)
        self.raw_tail = b"\0\0"

    def __repr__(self):
        return f"<Statement {self.name.decode()} takes {len(self.parameters)} gives {0 if self.shape is None else len(self.shape)}>"
