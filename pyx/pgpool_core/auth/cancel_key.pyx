"""Cancel keys; see cancel_key.pxd."""

from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t

from pgpool_core.auth.digest cimport DIGEST_OK, SHA256_LEN, hmac_sha256
from pgpool_core.wire.be cimport load_be32, store_be32
from pgpool_core.wire.span cimport Span

cdef enum:
    WORKER_BITS = 7
    SLOT_BITS = 22
    SECRET_BITS = 15
    HALF_BITS = 22                # 7 + 22 + 15 bits in two halves
    ROUNDS = 6


cdef bint round_value(const CancelKeys *keys, uint8_t number, uint32_t half, uint32_t *out) noexcept nogil:
    cdef uint8_t[5] text
    cdef uint8_t[SHA256_LEN] digest
    cdef Span part
    text[0] = number
    store_be32(&text[1], half)
    part.at = &text[0]
    part.len = sizeof(text)
    if hmac_sha256(keys.permutation, &part, 1, digest) != DIGEST_OK:
        return False
    out[0] = load_be32(digest) & ((1 << HALF_BITS) - 1)
    return True


cdef bint permute(const CancelKeys *keys, uint64_t *value, bint back) noexcept nogil:
    """A Feistel network over 44 bits; `back` undoes it. False: libcrypto failed."""
    cdef uint32_t left = <uint32_t>(value[0] >> HALF_BITS) & ((1 << HALF_BITS) - 1)
    cdef uint32_t right = <uint32_t>value[0] & ((1 << HALF_BITS) - 1)
    cdef uint32_t mixed = 0, held
    cdef int i
    for i in range(ROUNDS):
        if not round_value(keys, <uint8_t>(ROUNDS - 1 - i if back else i), left if back else right, &mixed):
            return False
        if back:
            held = left
            left = right ^ mixed
            right = held
        else:
            held = right
            right = left ^ mixed
            left = held
    value[0] = <uint64_t>left << HALF_BITS | right
    return True


cdef void cancel_key_write(const CancelKeys *keys, uint32_t worker, uint32_t slot, uint32_t secret, uint8_t *out) noexcept nogil:
    """Write the key of a client. One that cannot be written (a slot beyond 22 bits, libcrypto fails) is of nobody."""
    cdef uint64_t value
    if keys.peer_id == 0:
        store_be32(out, (worker + 1) << 24 | slot)
        store_be32(out + 4, secret)
        return
    value = (<uint64_t>worker << SLOT_BITS | slot) << SECRET_BITS | (secret & ((1 << SECRET_BITS) - 1))
    if worker >> WORKER_BITS or slot >> SLOT_BITS or not permute(keys, &value, False):
        store_be32(out, 0)
        store_be32(out + 4, 0)
        return
    out[0] = <uint8_t>(value >> 38)
    out[1] = <uint8_t>keys.peer_id
    out[2] = <uint8_t>(keys.peer_id >> 8)
    store_be32(out + 3, <uint32_t>(value >> 6))
    out[7] = <uint8_t>(value << 2 | CANCEL_TTL)


cdef int cancel_key_read(const CancelKeys *keys, const uint8_t *key, CancelWho *out) noexcept nogil:
    """Whose a key is: CANCEL_OURS and `out`, CANCEL_PEER and `out.peer_id`, or CANCEL_NONE.

    A key that was given out before peer_id was changed may be taken for a peer's; then nothing is found there.
    """
    cdef uint64_t value
    if keys.peer_id == 0:
        value = load_be32(key)
        if value >> 24 == 0:
            return CANCEL_NONE
        out.worker = <uint32_t>(value >> 24) - 1
        out.slot = <uint32_t>value & 0xFFFFFF
        out.secret = load_be32(key + 4)
        out.secret_mask = <uint32_t>-1
        return CANCEL_OURS
    out.peer_id = <uint16_t>(key[1] | <uint16_t>key[2] << 8)
    if out.peer_id == 0:
        return CANCEL_NONE
    if out.peer_id != keys.peer_id:
        return CANCEL_PEER
    value = <uint64_t>(key[0] & 0x3F) << 38 | <uint64_t>load_be32(key + 3) << 6 | key[7] >> 2
    if key[0] & 0xC0 or not permute(keys, &value, True):
        return CANCEL_NONE
    out.worker = <uint32_t>(value >> (SLOT_BITS + SECRET_BITS))
    out.slot = <uint32_t>(value >> SECRET_BITS) & ((1 << SLOT_BITS) - 1)
    out.secret_mask = (1 << SECRET_BITS) - 1
    out.secret = <uint32_t>value & out.secret_mask
    return CANCEL_OURS
