"""What the process holds and does not need, given back to the system; see memory.pyi."""

cdef extern from * nogil:
    """
    #include <stdlib.h>
    #ifdef __GLIBC__
    #include <malloc.h>
    static void pgpool_trim(void) { malloc_trim(0); }
    #else
    static void pgpool_trim(void) {}
    #endif
    """
    void pgpool_trim()


def trim():
    with nogil:
        pgpool_trim()
