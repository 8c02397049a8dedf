"""One row and what its columns are; see record.pxd.

Source: PostgreSQL docs, "Message Formats", DataRow.
"""

cimport cython
from cpython.object cimport PyObject, PyObject_RichCompare
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int32_t, uint8_t
from libc.stdlib cimport free, malloc

from pgpool_core.rows.codec cimport Codec
from pgpool_core.wire.be cimport load_be16, load_be32

cdef extern from "Python.h":
    void PyObject_GC_UnTrack(PyObject *it)

from pgpool_core.errors import DecodeError, ServerProtocolError


cdef class Shape:
    """Names and types of columns, shared by all rows of a result."""

    def __init__(self, names, codecs):
        cdef Py_ssize_t i
        self.names = tuple(names)
        self.codecs = tuple(codecs)
        self.count = len(self.names)
        if len(self.codecs) != self.count:
            raise ValueError("a column has a name and a codec")
        for codec in self.codecs:
            if not isinstance(codec, Codec):
                raise TypeError("a column has a name and a codec")
        self.places = {name: i for i, name in enumerate(self.names)}
        free(self.fast)
        self.fast = <PyObject **>malloc((<size_t>self.count + 1) * sizeof(PyObject *))
        if self.fast is NULL:
            raise MemoryError
        self.atomic = True
        for i in range(self.count):
            self.fast[i] = <PyObject *>self.codecs[i]
            self.atomic = self.atomic and (<Codec>self.fast[i]).atomic

    def __dealloc__(self):
        free(self.fast)

    def __len__(self):
        return self.count

    def __eq__(self, other):
        if not isinstance(other, Shape):
            return NotImplemented
        return self.names == (<Shape>other).names

    def __hash__(self):
        return hash(self.names)

    def record(self, values):
        """A row of these columns with other values."""
        cdef tuple row = tuple(values)
        cdef Record made = Record.__new__(Record)
        if len(row) != self.count:
            raise ValueError(f"{self.count} values are expected")
        made.shape = self
        made.row = row
        return made

    cdef object read(self, const uint8_t *at, Py_ssize_t length, Codec instead, bint bare, Py_ssize_t *place):
        """The record in the body of a DataRow, or with `bare` a tuple of its values; with `instead`, all are read by that codec.

        ServerProtocolError where the row is no row of these columns. What a codec raises goes out as it is: `place` says
        which column was being read (`misread`). Called for every row: nothing in here catches anything.
        """
        cdef const uint8_t *end = at + length
        cdef Py_ssize_t i
        cdef int32_t size
        cdef object value
        cdef tuple row
        cdef PyObject *codec = <PyObject *>instead
        cdef bint own = instead is None
        if length < 2 or load_be16(at) != self.count:
            raise ServerProtocolError("a DataRow has not the columns of its RowDescription")
        at += 2
        row = PyTuple_New(self.count)
        for i in range(self.count):
            if end - at < 4:
                raise ServerProtocolError("a DataRow ends early")
            size = <int32_t>load_be32(at)
            at += 4
            if size == -1:
                value = None
            elif size < 0 or size > end - at:
                raise ServerProtocolError("a DataRow ends early")
            else:
                place[0] = i
                if own:
                    codec = self.fast[i]
                value = (<Codec>codec).decode(at, size)
                at += size
            Py_INCREF(value)
            PyTuple_SET_ITEM(row, i, value)
        if at != end:
            raise ServerProtocolError("a DataRow goes on behind its last column")
        if self.atomic:
            PyObject_GC_UnTrack(<PyObject *>row)
        return row if bare else record_of(self, row)

    cdef object misread(self, Py_ssize_t place, error):
        """The DecodeError of `error`, which came out of `read`."""
        return DecodeError(f'column "{self.names[place]}" of type {self.codecs[place].name} cannot be read: {error}')


@cython.freelist(2048)  # a few answers' worth: 80 KiB
cdef class Record:
    """A row: a sequence of values, each also by its column's name, as item or attribute; `dict(record)` works.

    Where two columns have one name, the name means the last. An attribute that a row has of its own (`keys`, `index`, ...) hides
    the column. Equal to a record or tuple of the same values.
    """

    def __init__(self):
        raise TypeError("records come from a query, or from Shape.record")

    def __getitem__(self, key):
        if isinstance(key, str):
            place = self.shape.places.get(key)
            if place is None:
                raise KeyError(self.missing(key))
            return self.row[place]
        return self.row[key]

    def __getattr__(self, name):
        place = self.shape.places.get(name)
        if place is None:
            raise AttributeError(self.missing(name))
        return self.row[place]

    def __setattr__(self, name, value):
        raise AttributeError("a row cannot be changed: dict(row) can")

    cdef str missing(self, str name):
        return f"this row has no column {name!r}: it has {', '.join(self.shape.names)}"

    def __len__(self):
        return len(self.row)

    def __iter__(self):
        return iter(self.row)

    def __contains__(self, value):
        return value in self.row

    def __hash__(self):
        return hash(self.row)

    def __richcmp__(self, other, int op):
        cdef object left = (<Record>self).row if isinstance(self, Record) else self
        cdef object right = (<Record>other).row if isinstance(other, Record) else other
        if not isinstance(left, tuple) or not isinstance(right, tuple):
            return NotImplemented
        return PyObject_RichCompare(left, right, op)

    def __repr__(self):
        said = " ".join(f"{name}={value!r}" for name, value in zip(self.shape.names, self.row))
        return f"<Record {said}>"

    def __reduce__(self):
        return remade, (self.shape.names, self.row)

    def keys(self):
        """The names of the columns, in order."""
        return self.shape.names

    def values(self):
        """The values, in order."""
        return self.row

    def items(self):
        """Pairs of name and value, in order."""
        return tuple(zip(self.shape.names, self.row))

    def get(self, str name not None, default=None):
        """The value of a column, or `default` where there is no such column."""
        place = self.shape.places.get(name)
        return default if place is None else self.row[place]

    def index(self, value):
        """The first column with that value."""
        return self.row.index(value)

    def count(self, value):
        """How many columns have that value."""
        return self.row.count(value)


cdef Record record_of(Shape shape, tuple row):
    """A record of values that `shape` has read, or that could not be part of a cycle either where it is atomic."""
    cdef Record record = Record.__new__(Record)
    record.shape = shape
    record.row = row
    if shape.atomic:
        PyObject_GC_UnTrack(<PyObject *>record)
    return record


def remade(tuple names not None, tuple row not None):
    """A record that has been pickled; its columns have names, and no types any more."""
    return Shape(names, [Codec(0, "unknown")] * len(names)).record(row)
