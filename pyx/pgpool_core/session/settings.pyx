"""Interned blocks of settings; see settings.pxd."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc
from libc.string cimport memchr, memcmp, memcpy, strcmp, strlen

from pgpool_core.sync.atomic cimport pgpool_store8
from pgpool_core.sync.mutex cimport pthread_mutex_destroy, pthread_mutex_init, pthread_mutex_lock, pthread_mutex_unlock
from pgpool_core.wire.span cimport HASH_BEGIN, Span, hash_on

cdef extern from "<strings.h>" nogil:
    int strncasecmp(const char *, const char *, size_t)

cdef extern from * nogil:
    """
    static const char *const pgpool_tracked[] = {
        "DateStyle", "IntervalStyle", "TimeZone", "application_name", "client_encoding",
        "standard_conforming_strings",
    };
    /* PostgreSQL's encodings whose characters may end in bytes of ASCII, by all their names without signs: encnames.c. */
    static const char *const pgpool_trailing[] = {
        "big5", "gb18030", "gbk", "johab", "mskanji", "shiftjis", "shiftjis2004", "sjis", "uhc",
        "win932", "win936", "win949", "win950", "windows932", "windows936", "windows949", "windows950",
    };
    """
    const char *pgpool_tracked[6]
    const char *pgpool_trailing[17]

cdef enum:
    N_TRACKED = 6
    N_TRAILING = 17


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
    """True when PostgreSQL reports every change of `name` (any case); `canonical` is its spelling."""
    cdef int i
    for i in range(N_TRACKED):
        if strlen(pgpool_tracked[i]) == name.len and strncasecmp(pgpool_tracked[i], <const char *>name.at, name.len) == 0:
            canonical.at = <const uint8_t *>pgpool_tracked[i]
            canonical.len = name.len
            return True
    return False


cdef int setting_name(Span name, uint8_t *out, Span *canonical) noexcept nogil:
    """`name` as blocks spell it; `canonical` points to a constant or into `out`, which has MAX_NAME_LEN bytes.

    A name has letters, digits, `_`, `$`, `.` and bytes beyond ASCII, as PostgreSQL's own check of custom names says.
    """
    cdef uint32_t i
    cdef uint8_t b
    if setting_tracked(name, canonical):
        return SETTINGS_OK
    if name.len == 0 or name.len > MAX_NAME_LEN:
        return SETTINGS_BAD_NAME
    for i in range(name.len):
        b = name.at[i]
        if 0x41 <= b <= 0x5A:
            b += 0x20
        elif not (0x61 <= b <= 0x7A or 0x30 <= b <= 0x39 or b == 0x5F or b == 0x24 or b == 0x2E or b >= 0x80):
            return SETTINGS_BAD_NAME
        out[i] = b
    canonical.at = out
    canonical.len = name.len
    return SETTINGS_OK


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


cdef bint is_trailing(const Block *block) noexcept nogil:
    """Whether its client_encoding has characters whose later bytes are those of ASCII; it is compared as PostgreSQL does."""
    cdef Span name, value
    cdef char[16] folded
    cdef uint32_t i, n = 0
    cdef uint8_t b
    name.at, name.len = <const uint8_t *><const char *>b"client_encoding", 15
    if not block_get(block, name, &value):
        return False
    for i in range(value.len):
        b = value.at[i] | 0x20
        if 0x61 <= b <= 0x7A or 0x30 <= b <= 0x39:
            if n == sizeof(folded) - 1:
                return False
            folded[n] = <char>b
            n += 1
    folded[n] = 0
    for i in range(N_TRAILING):
        if strcmp(folded, pgpool_trailing[i]) == 0:
            return True
    return False


cdef Block *intern(Settings *table, const uint8_t *data, uint32_t n) noexcept nogil:
    """The block with exactly these bytes, one holder more; NULL when memory is short."""
    cdef Span whole
    cdef uint32_t h
    cdef Block *block
    whole.at, whole.len = data, n
    h = hash_on(HASH_BEGIN, whole)
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
            block.trailing = is_trailing(block)
            block.next = table.buckets[h % SETTINGS_BUCKETS]
            table.buckets[h % SETTINGS_BUCKETS] = block
    if block != NULL:
        block.refs += 1
    pthread_mutex_unlock(&table.lock)
    return block


cdef uint32_t block_entry(const Block *block, uint32_t at, Span *name, Span *value) noexcept nogil:
    """Read the entry at `at`, which begins at 0; returns where the next one begins, `block.len` after the last."""
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


cdef uint8_t *put_value(uint8_t *at, Span name, Span text) noexcept nogil:
    """`text`; for a tracked setting with '?' for every byte that is not ASCII, as PostgreSQL writes an application_name.

    No tracked setting has other bytes among its values.
    """
    cdef uint32_t i
    cdef Span canonical
    if not setting_tracked(name, &canonical):
        return put(at, text)
    for i in range(text.len):
        at[i] = text.at[i] if text.at[i] < 0x7F else 0x3F
    at[text.len] = 0
    return at + text.len + 1


cdef int block_with(Settings *table, Block *base, Span name, Span value, Block **out) noexcept nogil:
    """`base` (NULL = empty) with `name` set to `value`, or without `name` where `value.at` is NULL.

    The caller holds the result and still holds `base`. A value has no zero byte.
    """
    cdef uint8_t *data
    cdef uint8_t *end
    cdef uint32_t at = 0
    cdef Span n, v
    cdef bint placed = value.at == NULL
    cdef int order
    cdef uint64_t need = <uint64_t>name.len + value.len + 2
    cdef uint64_t result = need
    if base != NULL:
        need += base.len
        result = need
        if block_get(base, name, &v):
            result -= <uint64_t>name.len + v.len + 2
    if result > MAX_BLOCK_LEN and not placed and not (setting_tracked(name, &n) and result <= MAX_BLOCK_LEN + MAX_TRACKED_LEN):
        return SETTINGS_TOO_LONG
    data = end = <uint8_t *>malloc(need)
    if data == NULL:
        return SETTINGS_NO_MEMORY
    while base != NULL and at < base.len:
        at = block_entry(base, at, &n, &v)
        order = compare(n, name)
        if order >= 0 and not placed:
            end = put_value(put(end, name), name, value)
            placed = True
        if order != 0:
            end = put(put(end, n), v)
    if not placed:
        end = put_value(put(end, name), name, value)
    out[0] = intern(table, data, <uint32_t>(end - data))
    free(data)
    return SETTINGS_OK if out[0] != NULL else SETTINGS_NO_MEMORY


cdef bint block_sound(const uint8_t *data, uint32_t n) noexcept nogil:
    """Whether `data` is what a block may hold: names with their values, each with its zero, in order, none twice."""
    cdef uint32_t at = 0
    cdef Span name, before
    cdef const uint8_t *end
    before.at = NULL
    before.len = 0
    if n > MAX_BLOCK_LEN + MAX_TRACKED_LEN:
        return False
    while at < n:
        name.at = data + at
        end = <const uint8_t *>memchr(name.at, 0, n - at)
        if end == NULL or end == name.at or end - name.at > MAX_NAME_LEN:
            return False
        name.len = <uint32_t>(end - name.at)
        at += name.len + 1
        end = <const uint8_t *>memchr(data + at, 0, n - at)
        if end == NULL or (before.at != NULL and compare(before, name) >= 0):
            return False
        at = <uint32_t>(end - data) + 1
        before = name
    return True


cdef int block_of(Settings *table, const uint8_t *data, uint32_t n, bint verified, Block **out) noexcept nogil:
    """The block with exactly these bytes, which are sound; the caller holds it."""
    out[0] = intern(table, data, n)
    if out[0] == NULL:
        return SETTINGS_NO_MEMORY
    if verified:
        pgpool_store8(&out[0].verified, 1)
    return SETTINGS_OK


cdef bint put_setting(Settings *table, Block **block, Span name, Span value) noexcept nogil:
    """Have `*block`, held by the caller, be as block_with says; False, and nothing changed, when that cannot be."""
    cdef Block *fresh
    if block_with(table, block[0], name, value, &fresh) != SETTINGS_OK:
        return False
    block_unref(table, block[0])
    block[0] = fresh
    return True


cdef bint block_get(const Block *block, Span name, Span *value) noexcept nogil:
    """The value of `name`; borrowed from `block`."""
    cdef uint32_t at = 0
    cdef Span n, v
    while block != NULL and at < block.len:
        at = block_entry(block, at, &n, &v)
        if compare(n, name) == 0:
            value[0] = v
            return True
    return False
