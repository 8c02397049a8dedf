"""Slot arrays; see slots.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from pgpool_core.sync.atomic cimport pgpool_store32, pgpool_store64, pgpool_store8


cdef bint slots_init(Slots *slots, uint32_t record_size) noexcept nogil:
    """An empty array for records of `record_size` bytes, a multiple of eight; False when memory is short."""
    memset(slots, 0, sizeof(Slots))
    slots.record_size = record_size
    slots.chunks = <uint8_t **>calloc(MAX_CHUNKS, sizeof(uint8_t *))
    return slots.chunks != NULL


cdef void slots_free(Slots *slots) noexcept nogil:
    """Free the array; what its records own must be freed before."""
    cdef uint32_t i
    if slots.chunks != NULL:
        for i in range(slots.n_chunks):
            free(slots.chunks[i])
        free(slots.chunks)
    memset(slots, 0, sizeof(Slots))


cdef bint add_chunk(Slots *slots) noexcept nogil:
    cdef uint8_t *chunk
    cdef SlotHead *record
    cdef uint32_t i
    if slots.n_chunks == MAX_CHUNKS:
        return False
    chunk = <uint8_t *>calloc(CHUNK_SLOTS, slots.record_size)
    if chunk == NULL:
        return False
    i = CHUNK_SLOTS
    while i > 0:                                 # backwards, so that low slots are handed out first
        i -= 1
        record = <SlotHead *>(chunk + <size_t>i * slots.record_size)
        record.slot = slots.n_chunks * CHUNK_SLOTS + i
        record.gen = 1
        record.next_free = slots.free_head
        slots.free_head = record.slot + 1
    slots.chunks[slots.n_chunks] = chunk
    pgpool_store32(&slots.n_chunks, slots.n_chunks + 1)      # whoever looks from elsewhere sees what stands above
    return True


cdef inline void clear(SlotHead *record, uint32_t size) noexcept nogil:
    """All zero behind its head, word by word: another thread that saw the last user of the slot may still be looking whose it is."""
    cdef uint64_t *word = <uint64_t *>(<uint8_t *>record + sizeof(SlotHead))
    cdef uint32_t i
    for i in range((size - <uint32_t>sizeof(SlotHead)) // <uint32_t>sizeof(uint64_t)):
        pgpool_store64(&word[i], 0)


cdef SlotHead *slot_new(Slots *slots) noexcept nogil:
    """A record, all zero behind its head; NULL when memory or slots are used up."""
    cdef SlotHead *record
    if slots.free_head == 0 and not add_chunk(slots):
        return NULL
    record = slot_at(slots, slots.free_head - 1)
    slots.free_head = record.next_free
    clear(record, slots.record_size)
    pgpool_store8(&record.live, 1)
    slots.live += 1
    return record


cdef void slot_release(Slots *slots, SlotHead *record) noexcept nogil:
    """Give the slot back; every handle to it is void from now on."""
    cdef uint32_t gen = record.gen + 1
    pgpool_store8(&record.live, 0)
    pgpool_store32(&record.gen, gen if gen & 0xFFFFFF else gen + 1)     # others may be asking whose it is
    record.next_free = slots.free_head
    slots.free_head = record.slot + 1
    slots.live -= 1
