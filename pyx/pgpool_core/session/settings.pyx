"""Interned blocks of settings and the SQL that turns one into another; see settings.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcmp, memcpy, strlen

from pgpool_core.pool.sync cimport (pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock,
                                    pthread_mutex_unlock)
from pgpool_core.wire.span cimport Span

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *, const char *, size_t)

cdef extern from * nogil:
    """
    static const char *const pgpool_tracked[] = {
        "DateStyle", "IntervalStyle", "TimeZone", "application_name", "client_encoding",
        "standard_conforming_strings",
    };
    """
    const char *pgpool_tracked[6]

cdef enum:
    N_TRACKED = 6


cdef Settings *settings_new() noexcept nogil:
    """An empty table, owned by the caller; NULL when memory is short."""
    cdef Settings *table = <Settings *>calloc(1, sizeof(Settings))
    if table == NULL:
        return NULL
    table.buckets = <Block **>calloc(SETTINGS_BUCKETS, sizeof(Block *))
    if table.buckets == NULL:
        free(table)
        return NULL
    pthread_mutex_init(&table.lock, NULL)
    return table


cdef void settings_free(Settings *table) noexcept nogil:
    """Free the table and every block, counted or not."""
    cdef uint32_t i
    cdef Block *block
    cdef Block *next
    if table == NULL:
        return
    for i in range(SETTINGS_BUCKETS):
        block = table.buckets[i]
        while block != NULL:
            next = block.next
            free(block)
            block = next
    free(table.buckets)
    pthread_mutex_destroy(&table.lock)
    free(table)


cdef bint setting_tracked(Span name, Span *canonical) noexcept nogil:
    """True when clients keep their own value of `name` (any case); `canonical` is PostgreSQL's spelling."""
    cdef int i
    for i in range(N_TRACKED):
        if strlen(pgpool_tracked[i]) == name.len and strncasecmp(pgpool_tracked[i], <const char *>name.at, name.len) == 0:
            canonical.at = <const uint8_t *>pgpool_tracked[i]
            canonical.len = name.len
            return True
    return False


cdef Block *block_ref(Settings *table, Block *block) noexcept nogil:
    """One more holder of `block` (which may be NULL)."""
    if block != NULL:
        pthread_mutex_lock(&table.lock)
        block.refs += 1
        pthread_mutex_unlock(&table.lock)
    return block


cdef void block_unref(Settings *table, Block *block) noexcept nogil:
    """One holder less; the last one frees it."""
    cdef Block **at
    if block == NULL:
        return
    pthread_mutex_lock(&table.lock)
    block.refs -= 1
    if block.refs == 0:
        at = &table.buckets[block.hash % SETTINGS_BUCKETS]
        while at[0] != block:
            at = &at[0].next
        at[0] = block.next
        free(block)
    pthread_mutex_unlock(&table.lock)


cdef uint32_t hash_bytes(const uint8_t *data, uint32_t n) noexcept nogil:
    cdef uint32_t h = 2166136261        # FNV-1a
    cdef uint32_t i
    for i in range(n):
        h = (h ^ data[i]) * 16777619
    return h


cdef Block *intern(Settings *table, const uint8_t *data, uint32_t n) noexcept nogil:
    """The block with exactly these bytes, one holder more; NULL when memory is short."""
    cdef uint32_t h = hash_bytes(data, n)
    cdef Block *block
    pthread_mutex_lock(&table.lock)
    block = table.buckets[h % SETTINGS_BUCKETS]
    while block != NULL and not (block.hash == h and block.len == n and memcmp(block.data, data, n) == 0):
        block = block.next
    if block == NULL:
        block = <Block *>malloc(sizeof(Block) + n)
        if block != NULL:
            block.refs = 0
            block.hash = h
            block.len = n
            block.verified = 0
            memcpy(block.data, data, n)
            block.next = table.buckets[h % SETTINGS_BUCKETS]
            table.buckets[h % SETTINGS_BUCKETS] = block
    if block != NULL:
        block.refs += 1
    pthread_mutex_unlock(&table.lock)
    return block


cdef inline uint32_t entry(const Block *block, uint32_t at, Span *name, Span *value) noexcept nogil:
    """Read the entry at `at`; returns where the next one begins."""
    name.at = block.data + at
    name.len = <uint32_t>(<const uint8_t *>memchr(name.at, 0, block.len - at) - name.at)
    value.at = name.at + name.len + 1
    value.len = <uint32_t>(<const uint8_t *>memchr(value.at, 0, block.len - at - name.len - 1) - value.at)
    return at + name.len + value.len + 2


cdef inline int compare(Span a, Span b) noexcept nogil:
    cdef int order = memcmp(a.at, b.at, a.len if a.len < b.len else b.len)
    return order if order else <int>a.len - <int>b.len


cdef inline uint8_t *put(uint8_t *at, Span text) noexcept nogil:
    memcpy(at, text.at, text.len)
    at[text.len] = 0
    return at + text.len + 1


cdef inline uint8_t *put_value(uint8_t *at, Span text) noexcept nogil:
    """`text` with '?' for every byte that is not ASCII, as PostgreSQL itself writes an application_name.

    No tracked setting has other bytes among its values, and their meaning would depend on the encoding that a server
    stands at when they are replayed: in SJIS, BIG5, GBK a backslash or quote may be the second half of a character.
    """
    cdef uint32_t i
    for i in range(text.len):
        at[i] = text.at[i] if text.at[i] < 0x7F else 0x3F
    at[text.len] = 0
    return at + text.len + 1


cdef int block_with(Settings *table, Block *base, Span name, Span value, Block **out) noexcept nogil:
    """`base` (NULL = empty) with `name` set to `value`; the caller holds the result and still holds `base`."""
    cdef uint8_t[MAX_BLOCK_LEN] data
    cdef uint8_t *end = data
    cdef uint32_t at = 0
    cdef Span n, v
    cdef bint placed = False
    cdef int order
    cdef uint64_t need = <uint64_t>name.len + value.len + 2
    if base != NULL:
        need += base.len
        if block_get(base, name, &v):
            need -= name.len + v.len + 2
    if need > MAX_BLOCK_LEN or value.len > MAX_SETTING_LEN:
        return SETTINGS_TOO_LONG
    while base != NULL and at < base.len:
        at = entry(base, at, &n, &v)
        order = compare(n, name)
        if order >= 0 and not placed:
            end = put_value(put(end, name), value)
            placed = True
        if order != 0:
            end = put(put(end, n), v)
    if not placed:
        end = put_value(put(end, name), value)
    out[0] = intern(table, data, <uint32_t>(end - data))
    return SETTINGS_OK if out[0] != NULL else SETTINGS_NO_MEMORY


cdef bint block_get(const Block *block, Span name, Span *value) noexcept nogil:
    """The value of `name`; borrowed from `block`."""
    cdef uint32_t at = 0
    cdef Span n, v
    while block != NULL and at < block.len:
        at = entry(block, at, &n, &v)
        if compare(n, name) == 0:
            value[0] = v
            return True
    return False


cdef int quote(uint8_t *out, size_t cap, Span name, Span value, size_t *used) noexcept nogil:
    """`SET name = 'value';`, with E'' where the value holds a backslash."""
    cdef size_t at = used[0]
    cdef uint32_t i
    cdef bint escape = memchr(value.at, 0x5C, value.len) != NULL
    if at + name.len + 2 * <size_t>value.len + 16 > cap:
        return SETTINGS_TOO_LONG
    memcpy(out + at, b"SET ", 4)
    memcpy(out + at + 4, name.at, name.len)
    at += 4 + name.len
    out[at] = 0x3D                      # '='
    at += 1
    if escape:
        out[at] = 0x45                  # 'E'
        at += 1
    out[at] = 0x27                      # "'"
    at += 1
    for i in range(value.len):
        if value.at[i] == 0x27 or value.at[i] == 0x5C:
            out[at] = value.at[i]
            at += 1
        out[at] = value.at[i]
        at += 1
    out[at] = 0x27
    out[at + 1] = 0x3B                  # ';'
    used[0] = at + 2
    return SETTINGS_OK


cdef int block_replay(const Block *have, const Block *want, uint8_t *out, size_t cap, size_t *out_len) noexcept nogil:
    """Write the SQL that makes a server standing at `have` stand at `want`; `*out_len` 0 when nothing differs.

    Names come from the table of tracked settings, so only values need quoting.
    """
    cdef uint32_t at = 0
    cdef Span name, value, old
    out_len[0] = 0
    while want != NULL and at < want.len:
        at = entry(want, at, &name, &value)
        if block_get(have, name, &old) and compare(old, value) == 0:
            continue
        if quote(out, cap, name, value, out_len) != SETTINGS_OK:
            return SETTINGS_TOO_LONG
    return SETTINGS_OK
