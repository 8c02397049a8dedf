"""Types that are made of others."""

from collections.abc import Iterable
from typing import Any

from pgpool_core.rows.codec import Codec
from pgpool_core.rows.record import Shape

class Reader: ...

class Array(Codec):
    element: Codec
    def __init__(self, oid: int, name: str, *, element: Codec, element_oid: int = 0, lower: int = 1) -> None: ...

class TextArray(Codec):
    element: Codec
    delimiter: str
    def __init__(self, oid: int, name: str, *, element: Codec, delimiter: str) -> None: ...

class Range(Codec):
    element: Codec
    def __init__(self, oid: int, name: str, *, element: Codec, factory: type[Any]) -> None: ...

class Multirange(Codec):
    element: Codec
    def __init__(self, oid: int, name: str, *, element: Codec) -> None: ...

class Composite(Codec):
    shape: Shape
    def __init__(self, oid: int, name: str, *, shape: Shape, oids: Iterable[int]) -> None: ...

class Anonymous(Codec):
    def __init__(self, oid: int, name: str, *, known: dict[int, Codec]) -> None: ...

class Hstore(Codec): ...
