"""What one server has prepared, in the order of last use.

As with names, `here` is what the server has said and `planned` what it will have unless the group fails. Each entry holds
its statement. Used by the thread that has the server.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

from pgpool_core.statements.text cimport Statement, Texts


cdef struct Planted:              # owned by its set
    Planted *next                 # in its bucket
    Planted *newer
    Planted *older
    Statement *statement          # held
    uint64_t epoch                # of the statement when the server prepared it; EPOCH_NEVER: something else has its name
    uint64_t planned_epoch
    uint64_t group                # of the last message that changes it, while in flight
    uint32_t flights              # unanswered messages that change it
    uint8_t here
    uint8_t planned


cdef struct Prepared:             # all zero but `texts` = nothing prepared
    Texts *texts
    Planted **buckets             # NULL until the first entry
    Planted *newest
    Planted *oldest
    uint32_t n_buckets            # a power of two
    uint32_t entries
    uint32_t count                # of entries that are planned: what the server will have
    uint32_t clears               # times that it has forgotten all


cdef void prepared_init(Prepared *set, Texts *texts) noexcept nogil
cdef Planted *prepared_find(Prepared *set, uint64_t id) noexcept nogil
cdef Planted *prepared_add(Prepared *set, Statement *statement) noexcept nogil
cdef void prepared_touch(Prepared *set, Planted *at) noexcept nogil
cdef void prepared_plan(Prepared *set, Planted *at, bint there, uint64_t epoch, uint64_t group) noexcept nogil
cdef void prepared_is(Prepared *set, Planted *at, bint here, uint64_t epoch) noexcept nogil
cdef void prepared_settle(Prepared *set, Planted *at) noexcept nogil
cdef Planted *prepared_oldest(Prepared *set, const Planted *spare) noexcept nogil
cdef void prepared_clear(Prepared *set) noexcept nogil
cdef void prepared_free(Prepared *set) noexcept nogil
