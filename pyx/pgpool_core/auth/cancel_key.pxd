"""Cancel keys: which client of this process is meant, in eight bytes that nobody else can guess.

Alone, a key is the worker, the slot and 32 random bits of the client. Among peers it is as PgBouncer writes it: the second and third
byte name the process, low byte first, and the two lowest bits of the last byte say how often the request may still be passed on. What
is left, 44 bits, holds worker, slot and 15 random bits, permuted with a key of this process, so that knowing where clients live does
not help to guess.
Source: PgBouncer docs, peer_id and [peers].
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from pgpool_core.auth.digest cimport SHA256_LEN


cdef enum:
    CANCEL_KEY_LEN = 8
    CANCEL_TTL = 3                # how often a request may be passed on

    CANCEL_OURS = 0
    CANCEL_PEER = 1               # of another process: `peer_id`
    CANCEL_NONE = 2               # of nobody


cdef struct CancelKeys:           # how this process writes its keys
    uint16_t peer_id              # 0: it has no peers
    uint8_t permutation[SHA256_LEN]


cdef struct CancelWho:
    uint32_t worker
    uint32_t slot
    uint32_t secret
    uint32_t secret_mask          # the bits of `secret` that the key holds
    uint16_t peer_id


# `out` has CANCEL_KEY_LEN bytes
cdef void cancel_key_write(const CancelKeys *keys, uint32_t worker, uint32_t slot, uint32_t secret, uint8_t *out) noexcept nogil
cdef int cancel_key_read(const CancelKeys *keys, const uint8_t *key, CancelWho *out) noexcept nogil
