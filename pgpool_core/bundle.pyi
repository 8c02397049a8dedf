"""Every other compiled module of the package, linked into this one; compiled from pyx/pgpool_core/bundle.pyx.

One shared object is mapped and relocated once, where a file for each module would have cost every process five mappings apiece and
the pages at their edges. It is loaded by the first compiled room that is imported (`compiled.py`).
"""

from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

class Finder:
    """Finds and loads the modules in here by their full names. Source: Python's library reference, `importlib.abc`."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None: ...
    def create_module(self, spec: ModuleSpec) -> ModuleType: ...
    def exec_module(self, module: ModuleType) -> None: ...

FINDER: Final[Finder]

def install() -> None:
    """Put `FINDER` in front of `sys.meta_path`, once: a file that an earlier build has left beside a room is not found instead."""
