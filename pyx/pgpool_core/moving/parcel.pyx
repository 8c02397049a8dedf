"""Writing and reading parcels; see parcel.pxd."""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport realloc
from libc.string cimport memchr, memcmp, memcpy, memset

from pgpool_core.session.settings cimport block_sound
from pgpool_core.statements.names cimport MAX_NAME_LEN
from pgpool_core.statements.text cimport ASIDE, MAX_TEXT_LEN, NOWHERE
from pgpool_core.wire.be cimport load_be16, load_be32, store_be32
from pgpool_core.wire.span cimport Span

cdef enum:
    HEAD_LEN = 4
    ENTRY_LEN = 5                 # kind and length of an entry
    ADDR_LEN = 16
    CLIENT_LEN = CANCEL_KEY + 5 * 8 + 3 * 4 + 4 + ADDR_LEN + 2 + 2 * 4
    SERVER_LEN = 2 * 8 + 4 + 2 + 4
    MAX_USER = 127
    MAX_CHANNEL = 63
    MAX_KEY = 255                 # a server's record has its length in a byte
    MAX_HOST = 1024
    FIRST_CAP = 512


cdef inline uint8_t *put64(uint8_t *at, uint64_t value) noexcept nogil:
    store_be32(at, <uint32_t>(value >> 32))
    store_be32(at + 4, <uint32_t>value)
    return at + 8


cdef inline uint8_t *put32(uint8_t *at, uint32_t value) noexcept nogil:
    store_be32(at, value)
    return at + 4


cdef inline uint64_t get64(const uint8_t *at) noexcept nogil:
    return <uint64_t>load_be32(at) << 32 | load_be32(at + 4)


cdef uint8_t *room(ParcelWriter *w, uint32_t n) noexcept nogil:
    """Where the next `n` bytes go; NULL, and the parcel has failed, when there is no room."""
    cdef uint64_t need = <uint64_t>w.len + n
    cdef uint64_t cap = w.cap if w.cap else FIRST_CAP
    cdef uint8_t *fresh
    if w.failed or need > PARCEL_MAX:
        w.failed = 1
        return NULL
    if need > w.cap:
        while cap < need:
            cap *= 2
        fresh = <uint8_t *>realloc(w.at, cap)
        if fresh == NULL:
            w.failed = 1
            return NULL
        w.at = fresh
        w.cap = <uint32_t>cap
    fresh = w.at + w.len
    w.len += n
    return fresh


cdef uint8_t *entry(ParcelWriter *w, uint8_t kind, uint32_t n) noexcept nogil:
    """The place of an entry's `n` bytes, its head being written; NULL when there is no room."""
    cdef uint8_t *at = room(w, ENTRY_LEN + n) if n <= PARCEL_MAX else NULL
    if at == NULL:
        w.failed = 1
        return NULL
    at[0] = kind
    store_be32(at + 1, n)
    return at + ENTRY_LEN


cdef void parcel_begin(ParcelWriter *w) noexcept nogil:
    """An empty parcel; `w` may hold anything before, and its bytes are the caller's to free."""
    cdef uint8_t *at
    memset(w, 0, sizeof(ParcelWriter))
    at = room(w, HEAD_LEN)
    if at != NULL:
        memcpy(at, b"PGP", 3)
        at[3] = PARCEL_VERSION


cdef void parcel_client(ParcelWriter *w, const ClientFacts *f, Span user) noexcept nogil:
    cdef uint8_t *at = entry(w, PARCEL_CLIENT, CLIENT_LEN)
    if at == NULL:
        return
    memcpy(at, f.key, CANCEL_KEY)
    at = put64(put64(put64(put64(put64(at + CANCEL_KEY, f.connect_us), f.request_us), f.idle_us), f.pinned_us), f.pin_cause)
    at = put32(put32(put32(at, f.pins), f.unnamed_flags), f.warned)
    at[0], at[1], at[2], at[3] = f.unnamed_here, f.unnamed_fresh, f.pin_told, f.family
    memcpy(at + 4, f.addr, ADDR_LEN)
    at += 4 + ADDR_LEN
    at[0], at[1] = <uint8_t>(f.port >> 8), <uint8_t>f.port
    put32(put32(at + 2, <uint32_t>f.uid), <uint32_t>f.pid)
    parcel_bytes(w, PARCEL_USER, user.at, user.len)


cdef void parcel_server(ParcelWriter *w, const ServerFacts *f, Span key, Span host) noexcept nogil:
    cdef uint8_t *at = entry(w, PARCEL_SERVER, SERVER_LEN)
    if at == NULL:
        return
    at = put32(put64(put64(at, f.created_us), f.adopted_us), f.backend_pid)
    at[0], at[1] = <uint8_t>(f.port >> 8), <uint8_t>f.port
    at[2], at[3], at[4], at[5] = f.family_unix, f.was_reset, f.sequences_due, f.in_doubt
    parcel_bytes(w, PARCEL_KEY, key.at, key.len)
    parcel_bytes(w, PARCEL_HOST, host.at, host.len)


cdef void parcel_bytes(ParcelWriter *w, uint8_t kind, const uint8_t *data, uint32_t n) noexcept nogil:
    parcel_two(w, kind, data, n, NULL, 0)


cdef void parcel_two(ParcelWriter *w, uint8_t kind, const uint8_t *a, uint32_t an, const uint8_t *b, uint32_t bn) noexcept nogil:
    """One entry of two stretches of bytes."""
    cdef uint8_t *at = entry(w, kind, an + bn)
    if at != NULL and an:
        memcpy(at, a, an)
    if at != NULL and bn:
        memcpy(at + an, b, bn)


cdef void parcel_block(ParcelWriter *w, uint8_t kind, const uint8_t *data, uint32_t n, bint verified) noexcept nogil:
    cdef uint8_t *at = entry(w, kind, n + 1)
    if at == NULL:
        return
    at[0] = verified
    memcpy(at + 1, data, n)


cdef void parcel_text(ParcelWriter *w, uint64_t id, uint64_t salt, uint32_t flags, const uint8_t *data, uint32_t n) noexcept nogil:
    cdef uint8_t *at = entry(w, PARCEL_TEXT, n + 20)
    if at != NULL:
        memcpy(put32(put64(put64(at, id), salt), flags), data, n)


cdef void parcel_name(ParcelWriter *w, uint64_t id, bint fresh, const uint8_t *name, uint32_t n) noexcept nogil:
    cdef uint8_t *at = entry(w, PARCEL_NAME, n + 9)
    if at == NULL:
        return
    at = put64(at, id)
    at[0] = fresh
    memcpy(at + 1, name, n)


cdef void parcel_planted(ParcelWriter *w, uint64_t id, bint fresh) noexcept nogil:
    cdef uint8_t *at = entry(w, PARCEL_PLANTED, 9)
    if at != NULL:
        put64(at, id)[0] = fresh


cdef bint plain(Span text, uint32_t longest) noexcept nogil:
    """A name without zero bytes that is not too long."""
    return 0 < text.len <= longest and memchr(text.at, 0, text.len) == NULL


cdef bint flag(uint8_t value) noexcept nogil:
    return value <= 1


cdef bint read_client(Parcel *p, const uint8_t *at, uint32_t n) noexcept nogil:
    cdef ClientFacts *f = &p.client
    if p.has_client or n != CLIENT_LEN:
        return False
    p.has_client = 1
    memcpy(f.key, at, CANCEL_KEY)
    at += CANCEL_KEY
    f.connect_us, f.request_us, f.idle_us = get64(at), get64(at + 8), get64(at + 16)
    f.pinned_us, f.pin_cause = get64(at + 24), get64(at + 32)
    at += 40
    f.pins, f.unnamed_flags, f.warned = load_be32(at), load_be32(at + 4), load_be32(at + 8)
    at += 12
    f.unnamed_here, f.unnamed_fresh, f.pin_told, f.family = at[0], at[1], at[2], at[3]
    memcpy(f.addr, at + 4, ADDR_LEN)
    f.port = load_be16(at + 4 + ADDR_LEN)
    f.uid, f.pid = <int32_t>load_be32(at + 6 + ADDR_LEN), <int32_t>load_be32(at + 10 + ADDR_LEN)
    return flag(at[0]) and flag(at[1]) and flag(at[2]) and (f.family == 1 or f.family == 4 or f.family == 6)


cdef bint read_server(Parcel *p, const uint8_t *at, uint32_t n) noexcept nogil:
    cdef ServerFacts *f = &p.server
    if p.has_server or n != SERVER_LEN:
        return False
    p.has_server = 1
    f.created_us, f.adopted_us, f.backend_pid, f.port = get64(at), get64(at + 8), load_be32(at + 16), load_be16(at + 20)
    at += 22
    f.family_unix, f.was_reset, f.sequences_due, f.in_doubt = at[0], at[1], at[2], at[3]
    return flag(at[0]) and flag(at[1]) and flag(at[2]) and at[3] <= 2


cdef bint read_span(Span *out, const uint8_t *at, uint32_t n) noexcept nogil:
    """An entry that may come once."""
    if out.at != NULL:
        return False
    out.at, out.len = at, n
    return True


cdef bint read_block(Parcel *p, int which, const uint8_t *at, uint32_t n) noexcept nogil:
    if n == 0 or not flag(at[0]) or not block_sound(at + 1, n - 1):
        return False
    p.verified[which] = at[0]
    return read_span(&p.blocks[which], at + 1, n - 1)


cdef bint read_numbered(uint8_t kind, const uint8_t *at, uint32_t n, ParcelText *out) noexcept nogil:
    """An entry that begins with the number of a text."""
    memset(out, 0, sizeof(ParcelText))
    if n < 8:
        return False
    out.id = get64(at)
    if out.id == NOWHERE or out.id == ASIDE:
        return False
    at += 8
    n -= 8
    if kind == PARCEL_PLANTED:
        if n == 1:
            out.fresh = at[0]
        return n == 1 and flag(out.fresh)
    if kind == PARCEL_TEXT:
        if n < 12:
            return False
        out.salt, out.flags = get64(at), load_be32(at + 8)
        at += 12
        n -= 12
        out.body.at, out.body.len = at, n
        return n <= MAX_TEXT_LEN
    if n < 1 or not flag(at[0]):
        return False
    out.fresh = at[0]
    out.body.at, out.body.len = at + 1, n - 1
    return plain(out.body, MAX_NAME_LEN)


cdef bint channels_sound(const uint8_t *at, uint32_t n) noexcept nogil:
    """Names of 1 to 63 bytes, each behind its length."""
    cdef Span name
    while n:
        name.at = at + 1
        name.len = at[0]
        if name.len >= n or not plain(name, MAX_CHANNEL):
            return False
        at += 1 + name.len
        n -= 1 + name.len
    return True


cdef bint read_entry(Parcel *p, uint8_t kind, const uint8_t *at, uint32_t n) noexcept nogil:
    cdef ParcelText text
    if kind == PARCEL_CLIENT:
        return read_client(p, at, n)
    if kind == PARCEL_SERVER:
        return read_server(p, at, n)
    if kind == PARCEL_USER:
        return read_span(&p.user, at, n) and plain(p.user, MAX_USER)
    if kind == PARCEL_UNREAD:
        return read_span(&p.unread, at, n)
    if kind == PARCEL_KEY:
        return read_span(&p.key, at, n) and n <= MAX_KEY
    if kind == PARCEL_HOST:
        return read_span(&p.host, at, n) and plain(p.host, MAX_HOST)
    if kind == PARCEL_CHANNELS:
        return read_span(&p.channels, at, n) and channels_sound(at, n)
    if kind == PARCEL_SETTINGS or kind == PARCEL_START:
        return read_block(p, kind - PARCEL_SETTINGS, at, n)
    if kind == PARCEL_STANDS or kind == PARCEL_BEGUN:
        return read_block(p, 2 + kind - PARCEL_STANDS, at, n)
    if kind == PARCEL_TEXT or kind == PARCEL_NAME or kind == PARCEL_PLANTED:
        return read_numbered(kind, at, n, &text)
    return False


cdef int parcel_read(const uint8_t *data, size_t n, Parcel *out) noexcept nogil:
    """Look at a whole parcel; what PARCEL_OK leaves in `out` borrows from `data`."""
    cdef uint32_t at = HEAD_LEN, length
    memset(out, 0, sizeof(Parcel))
    if n < HEAD_LEN or n > PARCEL_MAX or memcmp(data, b"PGP", 3) != 0 or data[3] != PARCEL_VERSION:
        return PARCEL_BROKEN
    out.data, out.len = data, <uint32_t>n
    while at < out.len:
        if out.len - at < ENTRY_LEN:
            return PARCEL_BROKEN
        length = load_be32(data + at + 1)
        if length > out.len - at - ENTRY_LEN or not read_entry(out, data[at], data + at + ENTRY_LEN, length):
            return PARCEL_BROKEN
        at += ENTRY_LEN + length
    if out.has_client != (out.user.at != NULL) or out.has_server != (out.key.at != NULL) \
            or out.has_server != (out.host.at != NULL):
        return PARCEL_BROKEN
    if (out.has_client and out.blocks[0].at == NULL) or (out.has_server and out.blocks[2].at == NULL):
        return PARCEL_BROKEN
    return PARCEL_OK if out.has_client or out.has_server else PARCEL_BROKEN


cdef bint parcel_next(const Parcel *p, uint8_t kind, uint32_t *at, ParcelText *out) noexcept nogil:
    """The next entry of a kind that begins with a number, from `at` on, which is 0 at first."""
    cdef uint32_t length
    cdef uint8_t found
    if at[0] == 0:
        at[0] = HEAD_LEN
    while at[0] < p.len:
        found = p.data[at[0]]
        length = load_be32(p.data + at[0] + 1)
        at[0] += ENTRY_LEN + length
        if found == kind:
            read_numbered(kind, p.data + at[0] - length, length, out)
            return True
    return False
