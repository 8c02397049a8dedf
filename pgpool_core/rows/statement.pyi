"""A statement that a server has prepared, and what a text may leave in its session."""

from collections.abc import Iterable

from pgpool_core.rows.codec import Codec
from pgpool_core.rows.record import Shape

DOES_LEAVE: int  # settings, locks, temporary tables or the like
DOES_FUNCTIONS: int  # change functions
DOES_SEQUENCES: int  # use sequences
DOES_LOAD: int  # load a library, which stays
DOES_DATABASES: int  # create, change or drop a database

def leaves_something(text: bytes) -> bool: ...
def text_does(text: bytes, effects: bytes | None = None) -> int: ...

class Statement:
    name: bytes
    text: str
    parameters: tuple[Codec, ...]
    shape: Shape | None
    leaves: bool
    def __init__(
        self, *, name: bytes, text: str, parameters: Iterable[Codec], shape: Shape | None, leaves: bool
    ) -> None: ...
