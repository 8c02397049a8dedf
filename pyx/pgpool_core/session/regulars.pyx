"""Remembered greetings; see regulars.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, memmove

from pgpool_core.session.settings cimport Settings, block_ref, block_unref


cdef Regular *set_of(Regular *table, const void *whose, const uint8_t *packet, uint32_t n) noexcept nogil:
    """By all bytes of the packet, eight at a time; those of a service differ in a few of them."""
    cdef uint64_t h = (<uint64_t>whose >> 4) ^ n
    cdef uint64_t word
    cdef uint32_t at = 0
    while at < n:
        word = 0
        memcpy(&word, packet + at, 8 if n - at >= 8 else n - at)
        h = (h ^ word) * <uint64_t>0x9E3779B97F4A7C15
        h ^= h >> 32
        at += 8
    return &table[h % (REGULARS // REGULAR_WAYS) * REGULAR_WAYS]


cdef Regular *found(Regular *among, const void *whose, const uint8_t *packet, uint32_t n) noexcept nogil:
    cdef uint32_t i
    for i in range(REGULAR_WAYS):
        if among[i].whose == whose and among[i].packet_len == n and memcmp(among[i].bytes, packet, n) == 0:
            return &among[i]
    return NULL


cdef Regular *regular_find(Regular *table, const void *whose, uint64_t version, const uint8_t *packet, uint32_t n) noexcept nogil:
    """What is known of clients of `whose` that begin with `packet`; borrowed until the table learns. NULL: nothing, or nothing of this version."""
    cdef Regular *at
    if n > REGULAR_PACKET_MAX:
        return NULL
    at = found(set_of(table, whose, packet, n), whose, packet, n)
    return at if at != NULL and at.version == version else NULL


cdef void forget(Regular *regular, Settings *settings) noexcept nogil:
    free(regular.bytes)
    block_unref(settings, regular.settings)


cdef void regular_learn(Regular *table, Settings *settings, const Regular *fresh, const uint8_t *packet, const uint8_t *greeting) noexcept nogil:
    """A client that began with `packet` has been greeted like this; not remembered where it is too long or memory is short."""
    cdef Regular *newest
    cdef Regular *goes
    cdef uint8_t *texts
    if fresh.packet_len > REGULAR_PACKET_MAX or fresh.greeting_len > REGULAR_GREETING_MAX:
        return
    texts = <uint8_t *>malloc(fresh.packet_len + fresh.greeting_len)
    if texts == NULL:
        return
    memcpy(texts, packet, fresh.packet_len)
    memcpy(texts + fresh.packet_len, greeting, fresh.greeting_len)
    newest = set_of(table, fresh.whose, packet, fresh.packet_len)
    goes = found(newest, fresh.whose, packet, fresh.packet_len)
    if goes == NULL:
        goes = newest + REGULAR_WAYS - 1
    forget(goes, settings)
    memmove(newest + 1, newest, <size_t>(goes - newest) * sizeof(Regular))
    newest[0] = fresh[0]
    newest.bytes = texts
    block_ref(settings, newest.settings)


cdef void regulars_free(Regular *table, Settings *settings) noexcept nogil:
    cdef uint32_t i
    for i in range(REGULARS if table != NULL else 0):
        forget(&table[i], settings)
    free(table)
