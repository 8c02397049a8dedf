"""The atomic operations that the planes share, as the compiler gives them."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t


cdef extern from * nogil:
    """
    #define pgpool_load32(p)         __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define pgpool_store32(p, v)     __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    #define pgpool_load64(p)         __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define pgpool_store64(p, v)     __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    #define pgpool_load8(p)          __atomic_load_n((p), __ATOMIC_ACQUIRE)
    #define pgpool_store8(p, v)      __atomic_store_n((p), (v), __ATOMIC_RELEASE)
    #define pgpool_add32(p, v)       __atomic_add_fetch((p), (v), __ATOMIC_ACQ_REL)
    #define pgpool_next64(p)         __atomic_add_fetch((p), 1, __ATOMIC_RELAXED)
    #define pgpool_or32(p, v)        __atomic_fetch_or((p), (v), __ATOMIC_ACQ_REL)
    #define pgpool_swap32(p, v)      __atomic_exchange_n((p), (v), __ATOMIC_ACQ_REL)
    #define pgpool_swap_ptr(p, v)    __atomic_exchange_n((void **)(p), (void *)(v), __ATOMIC_ACQ_REL)
    #define pgpool_load_ptr(p)       __atomic_load_n((void **)(p), __ATOMIC_ACQUIRE)
    #define pgpool_store_ptr(p, v)   __atomic_store_n((void **)(p), (void *)(v), __ATOMIC_RELEASE)
    static inline int pgpool_cas_ptr(void **p, void *old, void *fresh) {
        return __atomic_compare_exchange_n(p, &old, fresh, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    }
    static inline int pgpool_cas64(uint64_t *p, uint64_t old, uint64_t fresh) {
        return __atomic_compare_exchange_n(p, &old, fresh, 0, __ATOMIC_ACQ_REL, __ATOMIC_RELAXED);
    }
    """
    uint8_t pgpool_load8(uint8_t *)
    void pgpool_store8(uint8_t *, uint8_t)
    uint32_t pgpool_load32(uint32_t *)
    void pgpool_store32(uint32_t *, uint32_t)
    uint64_t pgpool_load64(uint64_t *)
    void pgpool_store64(uint64_t *, uint64_t)
    uint32_t pgpool_add32(uint32_t *, int)
    uint64_t pgpool_next64(uint64_t *)
    uint32_t pgpool_or32(uint32_t *, uint32_t)
    uint32_t pgpool_swap32(uint32_t *, uint32_t)
    void *pgpool_swap_ptr(void *, void *)
    void *pgpool_load_ptr(void *)
    void pgpool_store_ptr(void *, void *)
    bint pgpool_cas_ptr(void **, void *, void *)
    bint pgpool_cas64(uint64_t *, uint64_t, uint64_t)
