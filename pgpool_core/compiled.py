"""What a compiled room calls before its modules are looked for; loads the shared object that has them all (`bundle`).

Rooms call it, and the package does not: whatever needs no compiled module neither pays for loading them nor has to be built.
"""

from __future__ import annotations


def use_bundle() -> None:
    """Have the modules of compiled rooms found.

    Raises:
        ImportError: they have not been built for this Python.
    """
    try:
        from pgpool_core.bundle import install
    except ModuleNotFoundError as missing:
        raise ImportError(
            "pgpool_core's compiled modules are not there for this Python; in a source tree, `pip install -e .` builds them",
            name=missing.name,
        ) from missing
    install()
