"""What clients have prepared, by content: each text once, shared by all threads, whatever its names are.

A `Statement` is the body of a Parse behind the name (query, zero, Int16, OIDs), as it is meant under some settings (`salt`). It never
changes, but for its epoch, and lives as long as somebody holds it: clients by their names, servers by what they have prepared.

Another Parse of the same text gets the same statement as long as it means the same; one that is *alone* is not found any more, and
stays with those who hold it.
"""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from pgpool_core.sync.mutex cimport pthread_mutex_t
from pgpool_core.statements.hash cimport HashKey
from pgpool_core.statements.meaning cimport Changes


cdef extern from "<endian.h>" nogil:
    uint64_t htobe64(uint64_t)


cdef enum:
    MAX_TEXT_LEN = 1 << 20        # bytes of one Parse body that are kept
    TEXT_SHARDS = 16              # locks, a power of two
    SERVER_NAME_LEN = 23          # of every name at a server, without its zero

    EPOCH_NEVER = 0               # no statement is ever at this epoch
    NOWHERE = 0                   # id that no statement ever has: its name exists at no server

    ENCODING_AT = 56              # bits of a salt: from here on 6 with the number of the client_encoding of what is beyond ASCII
    ENCODING_NONE = 0             # there is nothing
    ENCODING_OTHER = 63           # nobody knows which
    REFUSALS = 256                # a power of two

cdef extern from *:
    """
    #define PGPOOL_ASIDE (~(uint64_t)0)
    #define PGPOOL_STALE (~(uint64_t)1)
    #define PGPOOL_FOREIGN (~(uint64_t)2)
    #define PGPOOL_ALONE ((uint64_t)1 << 63)
    #define PGPOOL_OWN ((uint64_t)1 << 62)
    """
    const uint64_t ASIDE "PGPOOL_ASIDE"   # another one: its name is for a Parse that PostgreSQL is only to judge
    const uint64_t STALE "PGPOOL_STALE"   # another one, which no server has: for a Bind that is to fail
    const uint64_t FOREIGN "PGPOOL_FOREIGN"     # the same, for bytes that would be read in another encoding
    const uint64_t ALONE "PGPOOL_ALONE"   # bit of a salt: no Parse finds this statement
    const uint64_t OWN "PGPOOL_OWN"       # another one: nor has one ever


cdef struct Statement:            # owned by its table
    Statement *next
    uint64_t id                   # never used again; makes the name at the server
    uint64_t hash
    uint64_t epoch                # atomic; grows when plans made before have become useless
    uint64_t hidden               # atomic; the engine's: what its functions may do, behind the generation of what is known of them
    uint64_t salt                 # what else its meaning depends on; atomic: ALONE may be added
    uint64_t seen                 # atomic; number of the last of the table's changes that is known not to matter to it
    uint32_t refs                 # atomic; reaches 0 only under the shard's lock
    uint32_t flags                # atomic: what running it may leave in a session; the engine's to say
    uint32_t len                  # bytes in `data`
    uint8_t momentary             # it says 'now' or the like: each Parse of it means something else
    uint8_t sent                  # atomic; another process has got it
    uint8_t data[1]


cdef struct TextShard:
    pthread_mutex_t lock
    Statement **buckets
    uint32_t n_buckets            # a power of two
    uint32_t count


cdef struct Texts:                # the table
    HashKey key
    uint64_t last_id              # atomic
    Changes changes               # of what texts are about
    uint8_t[REFUSALS] refused     # atomic; by hash: how often statements have been refused over what their values are
    TextShard shards[TEXT_SHARDS]


cdef Texts *texts_new() noexcept nogil
cdef void texts_free(Texts *table) noexcept nogil
cdef Statement *text_intern(Texts *table, const uint8_t *data, uint32_t n, uint64_t salt) noexcept nogil
cdef Statement *text_alone(Texts *table, const uint8_t *data, uint32_t n, uint64_t salt) noexcept nogil
cdef Statement *text_meant(Texts *table, const uint8_t *data, uint32_t n, uint64_t salt) noexcept nogil
cdef Statement *text_arrives(Texts *table, const uint8_t *data, uint32_t n, uint64_t salt, uint64_t id) noexcept nogil
cdef bint text_lasts(Texts *table, Statement *statement) noexcept nogil
cdef void text_refused(Texts *table, Statement *statement) noexcept nogil
cdef Statement *text_ref(Statement *statement) noexcept nogil
cdef void text_unref(Texts *table, Statement *statement) noexcept nogil
cdef void text_outdate(Statement *statement) noexcept nogil


cdef inline uint8_t encoding_in(uint64_t salt) noexcept nogil:
    return <uint8_t>(salt >> ENCODING_AT & 63)


cdef inline void hex_digits(uint8_t *out, uint32_t number) noexcept nogil:
    """Write 8 of them, all at once: each has a byte of one word."""
    cdef uint64_t x = number
    cdef uint64_t letters                         # 1 in each byte above 9
    x = (x | x << 16) & <uint64_t>0x0000FFFF0000FFFF
    x = (x | x << 8) & <uint64_t>0x00FF00FF00FF00FF
    x = (x | x << 4) & <uint64_t>0x0F0F0F0F0F0F0F0F
    letters = (x + <uint64_t>0x0606060606060606) >> 4 & <uint64_t>0x0101010101010101
    x += <uint64_t>0x3030303030303030 + letters * 0x27
    x = htobe64(x)
    memcpy(out, &x, 8)


cdef inline void server_name(uint8_t *out, uint64_t id) noexcept nogil:
    """Write SERVER_NAME_LEN bytes: `pgpool_` and 16 hexadecimal digits."""
    out[0] = 0x70
    out[1] = 0x67
    out[2] = 0x70
    out[3] = 0x6F
    out[4] = 0x6F
    out[5] = 0x6C
    out[6] = 0x5F
    hex_digits(out + 7, <uint32_t>(id >> 32))
    hex_digits(out + 15, <uint32_t>id)
