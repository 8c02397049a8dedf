"""Tables of names with hidden effects; compiled from pyx/pgpool_core/session/effects.pyx."""

from collections.abc import Iterable, Mapping

def effects_pack(
    names: Mapping[bytes, tuple[int, int]], settings: Iterable[bytes], *, serial: int, generation: int
) -> bytes: ...
