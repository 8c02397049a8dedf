"""Door to `forwarded` for tests and fuzz targets; inputs lie in memory of exactly their size."""

from libc.stdint cimport uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from pgpool_core.forwarded.header cimport FORWARDED_NEED_MORE, FORWARDED_OK, Forwarded, forwarded_parse


def feed(bytes data, chunks=()):
    """Show `data` to forwarded_parse in growing pieces; sizes beyond `chunks` are all that is left.

    Returns the first final status, or FORWARDED_NEED_MORE, and for a good header its length, family, address and port.
    """
    cdef Forwarded found
    cdef size_t have = 0
    cdef uint8_t *buf
    cdef int status = FORWARDED_NEED_MORE
    sizes = iter(chunks)
    while status == FORWARDED_NEED_MORE and have < <size_t>len(data):
        have = min(len(data), have + max(1, next(sizes, len(data))))
        buf = <uint8_t *>malloc(have)
        if buf is NULL:
            raise MemoryError
        memcpy(buf, <const char *>data, have)
        with nogil:
            status = forwarded_parse(buf, have, &found)
        free(buf)
    if status != FORWARDED_OK:
        return (status,)
    return status, found.len, found.family, bytes(found.addr[:16]), found.port
