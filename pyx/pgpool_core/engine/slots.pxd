"""Arrays of records that never move: a handle is slot index and generation, so a late event cannot hit a reused slot."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from pgpool_core.sync.atomic cimport pgpool_load32, pgpool_load8


cdef enum:
    CHUNK_SLOTS = 256
    MAX_CHUNKS = 65536


cdef struct SlotHead:             # the first member of every record kept in slots
    uint32_t slot
    uint32_t gen                  # counts up when the slot is freed; 24 bits travel in a handle
    uint32_t next_free
    uint8_t live


cdef struct Slots:                # one thread allocates and frees, or a lock is held
    uint8_t **chunks
    uint32_t record_size
    uint32_t n_chunks
    uint32_t free_head            # slot + 1; 0 = none
    uint32_t live


cdef bint slots_init(Slots *slots, uint32_t record_size) noexcept nogil
cdef void slots_free(Slots *slots) noexcept nogil
cdef SlotHead *slot_new(Slots *slots) noexcept nogil
cdef void slot_release(Slots *slots, SlotHead *record) noexcept nogil


cdef inline uint32_t slots_room(Slots *slots) noexcept nogil:
    """How many slots there are, live or not: more may come, none go."""
    return pgpool_load32(&slots.n_chunks) * CHUNK_SLOTS


cdef inline SlotHead *slot_at(Slots *slots, uint32_t slot) noexcept nogil:
    """The record of `slot`, live or not; NULL for a slot that never was."""
    cdef uint32_t chunk = slot // CHUNK_SLOTS
    if chunk >= pgpool_load32(&slots.n_chunks):
        return NULL
    return <SlotHead *>(slots.chunks[chunk] + <size_t>(slot % CHUNK_SLOTS) * slots.record_size)


cdef inline bint slot_live(SlotHead *record) noexcept nogil:
    """For those who look through all slots beside the thread that allocates."""
    return pgpool_load8(&record.live) != 0


cdef inline uint64_t handle_of(const SlotHead *record, uint8_t tag) noexcept nogil:
    """Slot, generation and an 8-bit tag (kind of record, or worker) in one word; never 0 for a tag above 0."""
    return <uint64_t>tag << 56 | <uint64_t>(record.gen & 0xFFFFFF) << 32 | record.slot


cdef inline SlotHead *slot_of(Slots *slots, uint64_t handle) noexcept nogil:
    """The live record that `handle` was made from; NULL when it has gone. Any thread may ask; the record may go meanwhile."""
    cdef SlotHead *record = slot_at(slots, <uint32_t>handle)
    if record == NULL or not slot_live(record) or (pgpool_load32(&record.gen) & 0xFFFFFF) != (<uint32_t>(handle >> 32) & 0xFFFFFF):
        return NULL
    return record
