"""Tables of names with hidden effects; see effects.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t

cdef enum:
    MAX_NAMES = 1 << 20           # in one table


cdef bint effects_valid(const Effects *table, size_t n) noexcept nogil:
    """Whether `n` bytes are a table as effects_pack makes it."""
    return n >= sizeof(Effects) and table.size == n and table.mask < MAX_NAMES * 4 and table.mask & (table.mask + 1) == 0 \
        and n == sizeof(Effects) + (<size_t>table.mask + 1) * sizeof(Effect) + table.settings_len \
        and table.count <= table.mask


cdef uint64_t name_sum(const uint8_t *at, size_t len) noexcept nogil:
    """A number for a name, never 0: FNV-1a of its bytes, letters in lower case, a run of bytes above 127 as one."""
    cdef uint64_t sum = <uint64_t>14695981039346656037
    cdef uint8_t byte, before = 0
    cdef size_t i
    for i in range(len):
        byte = at[i]
        if 0x41 <= byte <= 0x5A:
            byte |= 0x20
        elif byte >= 0x80:
            byte = 0x80
            if before == 0x80:
                continue
        before = byte
        sum = (sum ^ byte) * <uint64_t>1099511628211
    return sum if sum else 1


cdef inline const Effect *places(const Effects *table) noexcept nogil:
    return <const Effect *>(<const uint8_t *>table + sizeof(Effects))


cdef const Effect *effects_find(const Effects *table, const uint8_t *at, size_t len) noexcept nogil:
    """What the name leads to; NULL where the table does not have it."""
    cdef const Effect *all = places(table)
    cdef uint64_t sum = name_sum(at, len)
    cdef uint32_t place = <uint32_t>sum & table.mask
    while all[place].sum:
        if all[place].sum == sum:
            return &all[place]
        place = (place + 1) & table.mask
    return NULL


cdef const uint8_t *effects_settings(const Effects *table) noexcept nogil:
    """`settings_len` bytes."""
    return <const uint8_t *>table + sizeof(Effects) + (<size_t>table.mask + 1) * sizeof(Effect)


def effects_pack(names, settings, *, uint32_t serial, uint32_t generation):
    """The table of `names` (name: what happens where it stands, and where the text changes rows too) as bytes."""
    cdef Effects head
    cdef Effect *all
    cdef uint64_t sum
    cdef uint32_t place, size, pair
    cdef int i
    cdef uint32_t flags, written
    cdef bytes name
    cdef bytes room = b"".join(bytes(setting) + b"\0" for setting in settings)
    if len(names) > MAX_NAMES:
        raise ValueError("too many names")
    size = 8
    while size < 2 * len(names) + 2:
        size *= 2
    for i in range(128):
        head.pairs[i] = 0
    head.serial, head.generation, head.mask, head.settings_len = serial, generation, size - 1, <uint32_t>len(room)
    head.count = 0
    cdef bytearray table = bytearray(size * sizeof(Effect))
    all = <Effect *>(<char *>table)
    for name, (flags, written) in names.items():
        if not name:
            continue
        sum = name_sum(<const uint8_t *><const char *>name, len(name))
        place = <uint32_t>sum & head.mask
        while all[place].sum and all[place].sum != sum:
            place = (place + 1) & head.mask
        head.count += all[place].sum == 0
        all[place].sum = sum
        all[place].flags |= flags
        all[place].written |= written
        pair = name_pair(<const uint8_t *><const char *>name, len(name))
        head.pairs[pair >> 3] |= <uint8_t>(1 << (pair & 7))
    head.size = <uint32_t>(sizeof(Effects) + len(table) + len(room))
    cdef bytes whole = (<const char *>&head)[:sizeof(Effects)]
    return whole + bytes(table) + room
