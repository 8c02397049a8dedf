"""The scan of texts for control, which reads the bodies of functions; compiled from pyx/pgpool_core/session/bodies.pyx."""

MATTERS: int  # what something hidden may do that matters to a session; the scan's SQL_* bits, as are the others
OPAQUE: int
TEMPS: int
SEQUENCES: int
SETS: int
FUNCTIONS: tuple[
    str, ...
]  # PostgreSQL's own by whose names the scan knows them, but for those that count a sequence on

def text_flags(text: bytes) -> int: ...
def words_flags(text: bytes) -> int: ...
