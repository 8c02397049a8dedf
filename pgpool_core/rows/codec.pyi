"""How values of one PostgreSQL type become Python's and back."""

from collections.abc import Callable
from typing import Any

class Codec:
    oid: int
    name: str
    format: int
    takes_lists: bool
    takes_tuples: bool
    def __init__(self, oid: int, name: str, *, format: int = 1) -> None: ...
    def loads(self, data: bytes) -> Any: ...
    def dumps(self, value: Any) -> bytes: ...

class Text(Codec): ...
class Raw(Codec): ...
class Void(Codec): ...

class Custom(Codec):
    def __init__(
        self,
        oid: int,
        name: str,
        *,
        format: int,
        loader: Callable[[Any], Any] | None,
        dumper: Callable[[Any], Any] | None,
    ) -> None: ...
