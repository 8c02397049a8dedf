"""A statement that a server has prepared, and what a text may leave in its session."""

from collections.abc import Iterable

from pgpool_core.rows.codec import Codec
from pgpool_core.rows.record import Shape

def leaves_something(text: bytes) -> bool: ...

class Statement:
    name: bytes
    text: str
    parameters: tuple[Codec, ...]
    shape: Shape | None
    leaves: bool
    def __init__(
        self, *, name: bytes, text: str, parameters: Iterable[Codec], shape: Shape | None, leaves: bool
    ) -> None: ...
