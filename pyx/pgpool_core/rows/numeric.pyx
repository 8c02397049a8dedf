"""numeric: Decimal and digits of base 10,000.

Source: PostgreSQL's numeric_send: how many digits, the weight of the first, sign, digits behind the point, the digits.
"""

from decimal import Decimal as _Decimal

from cpython.unicode cimport PyUnicode_DecodeASCII
from libc.stdint cimport int16_t, uint8_t
from libc.stdlib cimport free, malloc

from pgpool_core.rows.codec cimport Codec
from pgpool_core.rows.out cimport Out
from pgpool_core.wire.be cimport load_be16

cdef object Decimal = _Decimal

cdef enum:
    NEGATIVE = 0x4000
    NOT_A_NUMBER = 0xC000
    INFINITE = 0xD000
    MINUS_INFINITE = 0xF000
    MAX_BEFORE = 131072           # digits in front of the point
    MAX_BEHIND = 16383
    MAX_BITS = 435412             # of a whole number with so many digits


cdef class Numeric(Codec):
    """numeric. Whole numbers are good parameters too; floating point is not, as its digits are hardly those that were meant."""

    def __cinit__(self):
        self.atomic = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        cdef int count, weight, sign, scale
        if length < 8:
            raise ValueError("a numeric has at least 8 bytes")
        count, weight = load_be16(at), <int16_t>load_be16(at + 2)
        sign, scale = load_be16(at + 4), load_be16(at + 6)
        if length != 8 + 2 * count or scale > MAX_BEHIND:
            raise ValueError("a numeric contradicts itself")
        if sign == NOT_A_NUMBER:
            return Decimal("NaN")
        if sign == INFINITE or sign == MINUS_INFINITE:
            return Decimal("Infinity") if sign == INFINITE else Decimal("-Infinity")
        if sign != 0 and sign != NEGATIVE:
            raise ValueError("a numeric has no sign")
        return Decimal(written(at + 8, count, weight, sign == NEGATIVE, scale))

    cdef int encode(self, object value, Out out) except -1:
        cdef str digits, behind
        cdef int weight, count, sign = 0, scale, group
        cdef Py_ssize_t i, left_out
        if isinstance(value, int) and not isinstance(value, bool):
            if value.bit_length() > MAX_BITS:
                raise OverflowError("value out of range")
            value = Decimal(value)
        if not isinstance(value, Decimal):
            raise TypeError(f"a Decimal or int is expected, not {type(value).__name__}")
        if not value.is_finite():
            out.put32(0)
            if value.is_nan():
                sign = NOT_A_NUMBER
            else:
                sign = MINUS_INFINITE if value.is_signed() else INFINITE
            out.put16(<int16_t>sign)
            return out.put16(0)
        exponent = value.as_tuple().exponent
        if value.adjusted() >= MAX_BEFORE or exponent < -MAX_BEHIND or exponent >= MAX_BEFORE:
            raise OverflowError("value out of range")
        if value.is_signed() and value:
            sign = NEGATIVE
        digits, _, behind = format(value.copy_abs(), "f").partition(".")
        scale = <int>len(behind)
        digits = digits.lstrip("0")
        digits = "0" * ((4 - len(digits) % 4) % 4) + digits
        weight = <int>(len(digits) // 4) - 1
        digits += behind + "0" * ((4 - len(behind) % 4) % 4)
        left_out = (len(digits) - len(digits.lstrip("0"))) // 4
        digits = digits[4 * left_out : 4 * ((len(digits.rstrip("0")) + 3) // 4)]
        weight -= <int>left_out
        count = <int>(len(digits) // 4)
        out.put16(<int16_t>count)
        out.put16(<int16_t>(weight if count else 0))
        out.put16(<int16_t>sign)
        out.put16(<int16_t>scale)
        for i in range(count):
            group = int(digits[4 * i : 4 * i + 4])
            out.put16(<int16_t>group)
        return 0


cdef str written(const uint8_t *digits, int count, int weight, bint negative, int scale):
    """The number in digits; groups beyond `count` are zero, and `scale` says how many digits stand behind the point."""
    cdef int before = weight + 1 if weight >= 0 else 0
    cdef char *text
    cdef Py_ssize_t length = 0
    cdef int place, i, left = scale
    cdef char group_text[4]
    text = <char *>malloc(<size_t>(4 * before + scale + 8))
    if text is NULL:
        raise MemoryError
    try:
        if negative:
            text[0] = 45
            length = 1
        if before == 0:
            text[length] = 48
            length += 1
        for place in range(before):
            spell(group_of(digits, count, place), group_text)
            for i in range(4):
                text[length] = group_text[i]
                length += 1
        if scale:
            text[length] = 46
            length += 1
        place = weight + 1  # the group behind the point has the weight -1
        while left > 0:
            spell(group_of(digits, count, place), group_text)
            for i in range(4):
                if left == 0:
                    break
                text[length] = group_text[i]
                length += 1
                left -= 1
            place += 1
        return PyUnicode_DecodeASCII(text, length, NULL)
    finally:
        free(text)


cdef int group_of(const uint8_t *digits, int count, int place) except -1:
    cdef int group
    if not 0 <= place < count:
        return 0
    group = load_be16(digits + 2 * place)
    if group > 9999:
        raise ValueError("a numeric has a digit that is none")
    return group


cdef void spell(int group, char *out) noexcept nogil:
    out[0] = <char>(48 + group // 1000)
    out[1] = <char>(48 + group // 100 % 10)
    out[2] = <char>(48 + group // 10 % 10)
    out[3] = <char>(48 + group % 10)
