"""The first packet of a connection: StartupMessage, SSLRequest, GSSENCRequest or CancelRequest.

It has no type byte. `startup_parse` looks at whatever has come and keeps nothing, so it is called again from the first
byte when more arrives; until the packet is whole that costs a look at its first eight bytes.
"""

from libc.stdint cimport uint8_t, uint16_t, uint32_t

from pgpool_core.wire.span cimport Span


cdef enum:
    STARTUP_OK = 0
    STARTUP_NEED_MORE = 1         # not a failure: call again when more bytes have come
    STARTUP_SSL = 2               # packet_len is set: what follows it in the buffer came unencrypted
    STARTUP_GSS = 3               # the same
    STARTUP_CANCEL = 4            # cancel_pid and cancel_key are set

    STARTUP_BAD_LENGTH = -1       # length word below 8 or above MAX_STARTUP_LEN, or wrong for this request
    STARTUP_BAD_LAYOUT = -2       # no terminator as last byte, or a name without a value
    STARTUP_OLD_PROTOCOL = -3     # protocol 1 or 2
    STARTUP_BAD_PROTOCOL = -4     # neither 3.x nor one of the requests
    STARTUP_NO_USER = -5          # no "user", or an empty one
    STARTUP_USER_TOO_LONG = -6    # above MAX_USER_LEN bytes
    STARTUP_DIRECT_TLS = -7       # the first byte opens a TLS handshake
    STARTUP_DATABASE_TOO_LONG = -8    # above MAX_DATABASE_LEN bytes

    MAX_STARTUP_LEN = 65535       # bytes with the length word: PgBouncer's bound; PostgreSQL takes 10,000
    MAX_USER_LEN = 127            # bytes, PgBouncer's bound
    MAX_DATABASE_LEN = 63         # bytes, PgBouncer's bound and PostgreSQL's
    MAX_CANCEL_KEY_LEN = 256      # protocol 3.2; it is 4 bytes in 3.0

    REPLICATION_NONE = 0
    REPLICATION_PHYSICAL = 1      # a walsender that streams WAL and base backups
    REPLICATION_LOGICAL = 2       # a walsender of one database, which takes SQL too
    REPLICATION_BAD = -1          # neither "database" nor a boolean


cdef struct Startup:              # every Span borrows from the parsed buffer
    uint32_t packet_len           # bytes of the packet with its length word
    uint16_t major
    uint16_t minor
    Span user                     # never empty on STARTUP_OK
    Span database                 # the user's name where the client named none
    Span replication              # absent: at is NULL. Repeated names: the last one counts, as in PostgreSQL
    Span options
    Span application_name
    uint32_t first_param          # where startup_next_param begins
    uint32_t protocol_options     # how many names begin with "_pq_."
    uint32_t cancel_pid
    Span cancel_key


# Writes `out` on a result of 0 or above other than STARTUP_NEED_MORE; its fields mean nothing otherwise.
cdef int startup_parse(const uint8_t *buf, size_t avail, Startup *out) noexcept nogil

# What `replication` asks for: REPLICATION_*.
cdef int startup_replication(const Startup *s) noexcept nogil

# Every parameter in the order of the packet, user and "_pq_." names too. Begin with `at[0] = s.first_param` (or 0);
# 1 = one more, 0 = no more. `buf` is the parsed buffer, or a copy of its first packet_len bytes.
cdef int startup_next_param(const uint8_t *buf, const Startup *s, uint32_t *at, Span *name, Span *value) noexcept nogil

# NegotiateProtocolVersion: 3.0 and the protocol options of this client, none of which we know. Send it, once, when
# `minor` or `protocol_options` is above 0. Bytes written, or 0 when `cap` is too small.
cdef size_t build_negotiate(const uint8_t *buf, const Startup *s, uint8_t *out, size_t cap) noexcept nogil
