"""Memory of the process that it holds and does not need; compiled from pyx/pgpool_core/engine/memory.pyx."""

def trim() -> None:
    """Give what has been freed back to the system, wherever it lies. A millisecond or so; nothing where the C library is not GNU's."""
