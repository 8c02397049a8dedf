"""Memory of the process that it holds and does not need; compiled from pyx/pgpool_core/engine/memory.pyx."""

def trim() -> None:
    """Give what has been freed back to the system, wherever it lies. A millisecond or so; nothing where the C library is not GNU's."""

def shed() -> None:
    """Let go of the pages of program files (code and constants): those that are used come back from the file, 16 at a time.

    Only of what nobody may write to; relocated data stays. Nothing but on Linux.
    Source: dl_iterate_phdr(3), madvise(2).
    """
