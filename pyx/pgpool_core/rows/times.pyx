"""Dates, times, timestamps, intervals.

The server counts from 2000-01-01: days for a date, microseconds for a timestamp. Infinity has no Python value: it is read as the
first or last date or datetime that there is, and sent as the text "infinity" or "-infinity".
Source: PostgreSQL's date_send, time_send, timetz_send, timestamp_send, interval_send.
"""

import datetime as _datetime

from cpython.datetime cimport (
    PyDate_Check, PyDateTime_Check, PyDelta_Check, PyTime_Check, date_new, datetime_new, datetime_tzinfo, import_datetime,
    time_new, time_tzinfo, timedelta_new,
)
from libc.stdint cimport INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, int32_t, int64_t, uint8_t, uint32_t, uint64_t

from pgpool_core.rows.codec cimport Codec
from pgpool_core.rows.out cimport Out
from pgpool_core.wire.be cimport load_be32, store_be32

import_datetime()

cdef object UTC = _datetime.timezone.utc
cdef object timezone = _datetime.timezone
cdef object FIRST_DATE = _datetime.date.min
cdef object LAST_DATE = _datetime.date.max
cdef object FIRST = _datetime.datetime.min
cdef object LAST = _datetime.datetime.max
cdef object FIRST_UTC = FIRST.replace(tzinfo=UTC)
cdef object LAST_UTC = LAST.replace(tzinfo=UTC)

cdef enum:
    EPOCH = 10957                 # days from 1970-01-01 to 2000-01-01
    FIRST_DAY = -719162 - 10957   # 0001-01-01, in days from 2000-01-01
    LAST_DAY = 2932896 - 10957    # 9999-12-31

cdef int64_t SECOND = 1000000
cdef int64_t DAY = 86400000000


cdef struct Civil:
    int year
    int month
    int day


cdef Civil civil_of(int64_t days) noexcept nogil:
    """The date `days` after 2000-01-01; Howard Hinnant's algorithm, for the years 1 to 9999."""
    cdef int64_t since = days + EPOCH + 719468
    cdef int64_t era = (since if since >= 0 else since - 146096) // 146097
    cdef int64_t of_era = since - era * 146097
    cdef int64_t year = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    cdef int64_t of_year = of_era - (365 * year + year // 4 - year // 100)
    cdef int64_t shifted = (5 * of_year + 2) // 153
    cdef Civil out
    out.day = <int>(of_year - (153 * shifted + 2) // 5 + 1)
    out.month = <int>(shifted + 3 if shifted < 10 else shifted - 9)
    out.year = <int>(year + era * 400 + (1 if out.month <= 2 else 0))
    return out


cdef int64_t days_to(int64_t year, int64_t month, int64_t day) noexcept nogil:
    """Days from 2000-01-01 to a date from the year 1 on."""
    cdef int64_t era, of_era, of_year
    if month <= 2:
        year -= 1
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468 - EPOCH


cdef int sized(Py_ssize_t length, Py_ssize_t due) except -1:
    if length != due:
        raise ValueError(f"the server sent {length} bytes where the type has {due}")
    return 0


cdef inline int64_t load64(const uint8_t *at) noexcept nogil:
    return <int64_t>((<uint64_t>load_be32(at) << 32) | load_be32(at + 4))


cdef int put64(Out out, int64_t value) except -1:
    cdef uint8_t *at = out.take(8)
    store_be32(at, <uint32_t>(<uint64_t>value >> 32))
    store_be32(at + 4, <uint32_t>value)
    return 0


cdef int wrong(str what, object value) except -1:
    raise TypeError(f"a {what} is expected, not {type(value).__name__}")


cdef int endless(object value) except -2:
    """1 or -1 for the texts that mean infinity, else 0."""
    if isinstance(value, str):
        if value == "infinity":
            return 1
        if value == "-infinity":
            return -1
    return 0


cdef object moment(int64_t us, object zone):
    cdef int64_t days = us // DAY
    cdef int64_t rest
    cdef Civil date
    if us % DAY < 0:
        days -= 1
    rest = us - days * DAY
    if not FIRST_DAY <= days <= LAST_DAY:
        raise ValueError("Python has no datetime of that year")
    date = civil_of(days)
    return datetime_new(
        date.year, date.month, date.day, <int>(rest // (3600 * SECOND)), <int>(rest // (60 * SECOND) % 60),
        <int>(rest // SECOND % 60), <int>(rest % SECOND), zone,
    )


cdef object moment_or_end(const uint8_t *at, Py_ssize_t length, object first, object last, object zone):
    """A timestamp as the server sends it; infinity is Python's `first` or `last`."""
    cdef int64_t us
    sized(length, 8)
    us = load64(at)
    if us == INT64_MAX:
        return last
    if us == INT64_MIN:
        return first
    return moment(us, zone)


cdef bint put_end(Out out, object value) except -1:
    """Write what a text that means infinity says; False for a datetime, which is left to be written."""
    cdef int end = endless(value)
    if end:
        put64(out, INT64_MAX if end > 0 else INT64_MIN)
        return True
    if not PyDateTime_Check(value):
        wrong("datetime", value)
    return False


cdef object clock(int64_t us, object zone):
    if not 0 <= us < DAY:
        raise ValueError("Python has no such time of the day")
    return time_new(
        <int>(us // (3600 * SECOND)), <int>(us // (60 * SECOND) % 60), <int>(us // SECOND % 60), <int>(us % SECOND), zone
    )


cdef int64_t us_of_day(object value) except -1:
    return (<int64_t>value.hour * 3600 + <int64_t>value.minute * 60 + <int64_t>value.second) * SECOND + \
        <int64_t>value.microsecond


cdef int64_t us_since(object value) except? -1:
    """Microseconds from 2000-01-01, by the value's own clock."""
    return days_to(value.year, value.month, value.day) * DAY + us_of_day(value)


cdef int64_t us_of_delta(object value) except? -1:
    return (<int64_t>value.days * 86400 + <int64_t>value.seconds) * SECOND + <int64_t>value.microseconds


cdef class Date(Codec):
    """date."""

    def __cinit__(self):
        self.atomic = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        cdef int32_t days
        cdef Civil date
        sized(length, 4)
        days = <int32_t>load_be32(at)
        if days == INT32_MAX:
            return LAST_DATE
        if days == INT32_MIN:
            return FIRST_DATE
        if not FIRST_DAY <= days <= LAST_DAY:
            raise ValueError("Python has no date of that year")
        date = civil_of(days)
        return date_new(date.year, date.month, date.day)

    cdef int encode(self, object value, Out out) except -1:
        cdef int end = endless(value)
        if end:
            return out.put32(INT32_MAX if end > 0 else INT32_MIN)
        if not PyDate_Check(value) or PyDateTime_Check(value):
            wrong("date", value)
        return out.put32(<int32_t>days_to(value.year, value.month, value.day))


cdef class Time(Codec):
    """time without time zone."""

    def __cinit__(self):
        self.atomic = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        sized(length, 8)
        return clock(load64(at), None)

    cdef int encode(self, object value, Out out) except -1:
        if not PyTime_Check(value):
            wrong("time", value)
        if time_tzinfo(value) is not None:
            raise ValueError("a time without a time zone is expected")
        return put64(out, us_of_day(value))


cdef class TimeTz(Codec):
    """time with time zone."""

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        cdef int32_t west
        sized(length, 12)
        west = <int32_t>load_be32(at + 8)
        if not -86400 < west < 86400:
            raise ValueError("Python has no such time zone")
        return clock(load64(at), timezone(timedelta_new(0, -west, 0)))

    cdef int encode(self, object value, Out out) except -1:
        if not PyTime_Check(value):
            wrong("time", value)
        offset = value.utcoffset()
        if offset is None:
            raise ValueError("a time with a time zone is expected")
        put64(out, us_of_day(value))
        return out.put32(<int32_t>(-us_of_delta(offset) // SECOND))


cdef class Timestamp(Codec):
    """timestamp without time zone."""

    def __cinit__(self):
        self.atomic = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        return moment_or_end(at, length, FIRST, LAST, None)

    cdef int encode(self, object value, Out out) except -1:
        if put_end(out, value):
            return 0
        if datetime_tzinfo(value) is not None:
            raise ValueError("a datetime without a time zone is expected")
        return put64(out, us_since(value))


cdef class TimestampTz(Codec):
    """timestamp with time zone, read as UTC."""

    def __cinit__(self):
        self.atomic = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        return moment_or_end(at, length, FIRST_UTC, LAST_UTC, UTC)

    cdef int encode(self, object value, Out out) except -1:
        if put_end(out, value):
            return 0
        if datetime_tzinfo(value) is UTC:
            return put64(out, us_since(value))
        offset = value.utcoffset()
        if offset is None:
            raise ValueError("a datetime with a time zone is expected")
        return put64(out, us_since(value) - us_of_delta(offset))


cdef class Interval(Codec):
    """interval. A timedelta has no months: twelve are read as 365 days, and those beyond as 30 each."""

    def __cinit__(self):
        self.atomic = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        cdef int64_t us, days, months
        sized(length, 16)
        us, days, months = load64(at), <int32_t>load_be32(at + 8), <int32_t>load_be32(at + 12)
        days += months // 12 * 365 + months % 12 * 30
        # Reduced before it meets Python's C integers, which are narrower.
        days += us // DAY
        us %= DAY
        if not -999999999 <= days <= 999999999:
            raise ValueError("Python has no timedelta of that length")
        return timedelta_new(<int>days, <int>(us // SECOND), <int>(us % SECOND))

    cdef int encode(self, object value, Out out) except -1:
        if not PyDelta_Check(value):
            wrong("timedelta", value)
        put64(out, <int64_t>value.seconds * SECOND + <int64_t>value.microseconds)
        out.put32(<int32_t>value.days)
        return out.put32(0)
