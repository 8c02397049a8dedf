"""What one simple statement does, read word by word; and small questions about the tokens that follow a word."""

from libc.stdint cimport uint8_t

from pgpool_core.session.sqlscan cimport SqlScan


cdef bint set_is_local(const uint8_t *behind, const uint8_t *end, int reading) noexcept nogil
cdef bint is_insert_target(const uint8_t *behind, const uint8_t *end, int reading) noexcept nogil
cdef bint call_is_local(const uint8_t *behind, const uint8_t *end, int reading) noexcept nogil
cdef bint is_prepare_transaction(const uint8_t *behind, const uint8_t *end, int reading) noexcept nogil
cdef void prove(const uint8_t *text, const uint8_t *end, int reading, SqlScan *out) noexcept nogil
