"""Several entries of the queue of `expect` at one go, by a loop that holds its place in registers. Declarations only."""

from libc.stdint cimport uint8_t, uint32_t

from pgpool_core.wire.expect cimport EXPECT_COPY_END, EXPECT_NONE, EXPECT_STRUCK, Expect, expect_slots


cdef struct Stretch:              # a part of the queue, from the entry at hand on; the queue is left alone until it is said what became of it
    uint8_t *slots                # borrowed from the queue
    uint32_t mask
    uint32_t at
    uint32_t n                    # entries, or room for so many


cdef inline Stretch stretch_owed(Expect *q) noexcept nogil:
    """The answers that come next."""
    cdef Stretch part
    part.slots, part.mask, part.at, part.n = expect_slots(q), q.cap - 1, q.head, q.len
    return part


cdef inline Stretch stretch_room(Expect *q) noexcept nogil:
    """Where the next messages are written down."""
    cdef Stretch part
    part.slots, part.mask, part.n = expect_slots(q), q.cap - 1, q.cap - q.len
    part.at = (q.head + q.len) & part.mask
    return part


cdef inline void stretch_next(Stretch *part) noexcept nogil:
    part.at = (part.at + 1) & part.mask
    part.n -= 1


cdef inline uint8_t stretch_head(Stretch *part) noexcept nogil:
    """What expect_head would say."""
    cdef uint8_t kind
    while part.n:
        kind = part.slots[part.at]
        if kind != EXPECT_STRUCK and kind != EXPECT_COPY_END:
            return kind
        stretch_next(part)
    return EXPECT_NONE


cdef inline void stretch_put(Stretch *part, uint8_t kind) noexcept nogil:
    """There is room."""
    part.slots[part.at] = kind
    stretch_next(part)


cdef inline void stretch_took(const Stretch *part, Expect *q) noexcept nogil:
    """What stands in front of `part` has been answered, and no ReadyForQuery was among the answers."""
    q.head = part.at
    q.len = part.n


cdef inline void stretch_wrote(const Stretch *part, Expect *q) noexcept nogil:
    """What has been put has gone to the server, which neither skips anything nor is in a copy. `owed` is the caller's to count."""
    q.len = q.cap - part.n
