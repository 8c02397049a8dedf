"""What a process tells another one about a client, an idle server, or a client with the server that it keeps.

A parcel is `PGP`, the version, and entries: a kind, a length (Int32), so many bytes. The two descriptors travel beside it. Numbers
are big-endian; times are those of the monotonic clock, which all processes of a machine share. A text is told once: later
parcels name it by its number.

Reading trusts nothing: whatever `parcel_read` takes can be used without a further look at lengths.
"""

from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t

from pgpool_core.wire.span cimport Span


cdef enum:
    PARCEL_VERSION = 3            # both processes must have the same
    PARCEL_MAX = 1 << 25          # bytes; who has more than that stays

    PARCEL_CLIENT = 1             # its numbers: once, in front of what is the client's
    PARCEL_USER = 2               # the name that it logged in with
    PARCEL_SETTINGS = 3           # its settings, always: a byte, 1 where a server has stood like this; then a block
    PARCEL_START = 4              # the same of what it began with
    PARCEL_UNREAD = 5             # bytes that it has sent and nobody has used
    PARCEL_TEXT = 6               # of statements: number, salt, flags, text
    PARCEL_NAME = 7               # number of a text, a byte: 1 where the client knows what rows it has now; the client's name for it
    PARCEL_SERVER = 8             # its numbers: once
    PARCEL_KEY = 9                # its backend key
    PARCEL_HOST = 10              # where a cancel request for it has to go
    PARCEL_STANDS = 11            # its settings, always, as PARCEL_SETTINGS
    PARCEL_BEGUN = 12             # what it reported at login
    PARCEL_PLANTED = 13           # number of a text that it has prepared, a byte: 1 where that is not outdated
    PARCEL_CHANNELS = 14          # that it listens to without a server: a byte of length and the name of each; once

    PARCEL_OK = 0
    PARCEL_BROKEN = -1

    CANCEL_KEY = 8                # bytes


cdef struct ClientFacts:
    uint8_t key[8]                # its cancel key
    uint64_t connect_us
    uint64_t request_us
    uint64_t idle_us
    uint64_t pinned_us
    uint64_t pin_cause
    uint32_t pins
    uint32_t unnamed_flags
    uint32_t warned
    uint8_t unnamed_here
    uint8_t unnamed_fresh
    uint8_t pin_told
    uint8_t family                # who it is: as pgpool_peer of the engine
    uint8_t addr[16]
    uint16_t port
    int32_t uid
    int32_t pid


cdef struct ServerFacts:
    uint64_t created_us
    uint64_t adopted_us
    uint32_t backend_pid
    uint16_t port
    uint8_t family_unix
    uint8_t was_reset
    uint8_t sequences_due
    uint8_t in_doubt              # DOUBT_* of the engine


cdef struct ParcelWriter:         # owns `at`; all zero = empty
    uint8_t *at
    uint32_t len
    uint32_t cap
    uint8_t failed                # memory is short, or it is longer than PARCEL_MAX: what has been written is of no use


cdef struct Parcel:               # borrows all of it from what was read
    const uint8_t *data
    uint32_t len
    uint8_t has_client
    uint8_t has_server
    ClientFacts client
    ServerFacts server
    Span user
    Span unread
    Span channels                 # lengths and names; `at` NULL = none
    Span key
    Span host
    Span blocks[4]                # settings, start, of the server: as it stands, as it began; `at` NULL = none
    uint8_t verified[4]


cdef struct ParcelText:           # borrowed
    uint64_t id
    uint64_t salt
    uint32_t flags
    Span body                     # of a text; of PARCEL_NAME the name
    uint8_t fresh                 # of PARCEL_PLANTED and PARCEL_NAME


cdef void parcel_begin(ParcelWriter *w) noexcept nogil
cdef void parcel_client(ParcelWriter *w, const ClientFacts *facts, Span user) noexcept nogil
cdef void parcel_server(ParcelWriter *w, const ServerFacts *facts, Span key, Span host) noexcept nogil
cdef void parcel_block(ParcelWriter *w, uint8_t kind, const uint8_t *data, uint32_t n, bint verified) noexcept nogil
cdef void parcel_bytes(ParcelWriter *w, uint8_t kind, const uint8_t *data, uint32_t n) noexcept nogil
cdef void parcel_two(ParcelWriter *w, uint8_t kind, const uint8_t *a, uint32_t an, const uint8_t *b, uint32_t bn) noexcept nogil
cdef void parcel_text(ParcelWriter *w, uint64_t id, uint64_t salt, uint32_t flags, const uint8_t *data, uint32_t n) noexcept nogil
cdef void parcel_name(ParcelWriter *w, uint64_t id, bint fresh, const uint8_t *name, uint32_t n) noexcept nogil
cdef void parcel_planted(ParcelWriter *w, uint64_t id, bint fresh) noexcept nogil

cdef int parcel_read(const uint8_t *data, size_t n, Parcel *out) noexcept nogil
cdef bint parcel_next(const Parcel *p, uint8_t kind, uint32_t *at, ParcelText *out) noexcept nogil
