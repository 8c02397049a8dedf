"""A door to `session.regulars` for tests; its tables are over blocks of the settings probe's tables."""

from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc

from pgpool_core.session.regulars cimport REGULARS, Regular, regular_find, regular_greeting, regular_learn, regulars_free
from pgpool_core.session.settings cimport SETTINGS_BUCKETS, SETTINGS_OK, Block, Settings, block_unref, block_with, settings_free, settings_new
from pgpool_core.wire.span cimport Span


cdef class Regulars:
    """A worker's table of remembered greetings; `whose` is any number but 0, `settings` the value of one setting."""
    cdef Settings *blocks
    cdef Regular *table

    def __cinit__(self):
        self.blocks = settings_new()
        self.table = <Regular *>calloc(REGULARS, sizeof(Regular))
        if self.blocks is NULL or self.table is NULL:
            raise MemoryError

    def __dealloc__(self):
        self.close()
        settings_free(self.blocks)

    def close(self):
        """Free the table, not the blocks."""
        regulars_free(self.table, self.blocks)
        self.table = NULL

    def learn(self, size_t whose, uint64_t version, bytes packet, bytes greeting, bytes settings, uint8_t rights=0):
        cdef Regular fresh
        cdef Span name, value
        name.at, name.len = b"work_mem", 8
        value.at, value.len = <const uint8_t *>settings, <uint32_t>len(settings)
        fresh.whose, fresh.version, fresh.bytes = <const void *>whose, version, NULL
        fresh.packet_len, fresh.greeting_len, fresh.key_at = <uint32_t>len(packet), <uint32_t>len(greeting), 0
        fresh.rights = rights
        if block_with(self.blocks, NULL, name, value, &fresh.settings) != SETTINGS_OK:
            raise MemoryError
        regular_learn(self.table, self.blocks, &fresh, <const uint8_t *>packet, <const uint8_t *>greeting)
        block_unref(self.blocks, fresh.settings)

    def find(self, size_t whose, uint64_t version, bytes packet):
        """(greeting, settings, rights) of who begins with `packet`; None where nothing is known."""
        cdef const Regular *known = regular_find(self.table, <const void *>whose, version, <const uint8_t *>packet,
                                                 <uint32_t>len(packet))
        if known is NULL:
            return None
        return ((<const char *>regular_greeting(known))[:known.greeting_len],
                (<const char *>known.settings.data)[9:known.settings.len - 1], known.rights)

    def __len__(self):
        """Blocks of settings that are held."""
        cdef uint32_t i
        cdef Block *block
        n = 0
        for i in range(SETTINGS_BUCKETS):
            block = self.blocks.buckets[i]
            while block is not NULL:
                n += 1
                block = block.next
        return n
