"""One row and what its columns are; see record.pxd.

Source: PostgreSQL docs, "Message Formats", DataRow.
"""

from cpython.number cimport PyNumber_AsSsize_t
from cpython.object cimport PyObject, PyObject_RichCompare
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.tuple cimport PyTuple_New
from libc.stdint cimport int32_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from pgpool_core.rows.codec cimport Codec
from pgpool_core.wire.be cimport load_be16, load_be32

cdef extern from "Python.h":
    ctypedef struct PyTypeObject:
        Py_ssize_t tp_basicsize
    ctypedef struct PyTupleObject:
        PyObject *ob_item[1]
    void PyObject_GC_UnTrack(PyObject *it)
    void *PyObject_Malloc(size_t size)
    object PyObject_Init(PyObject *memory, PyTypeObject *type)

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
        if len(row) != self.count:
            raise ValueError(f"{self.count} values are expected")
        return linked(self, row)

    cdef object read(self, const uint8_t *at, Py_ssize_t length, Codec instead, bint bare, Py_ssize_t *place):
        """The record in the body of a DataRow, or with `bare` a tuple of its values; with `instead`, all are read by that codec.

        ServerProtocolError where the row is no row of these columns. What a codec raises goes out as it is: `place` says
        which column was being read (`misread`). Called for every row: nothing in here catches anything.
        """
        cdef const uint8_t *end = at + length
        cdef Py_ssize_t i
        cdef int32_t size
        cdef object value, made
        cdef PyObject **values
        cdef PyObject *codec = <PyObject *>instead
        cdef bint own = instead is None
        if length < 2 or load_be16(at) != self.count:
            raise ServerProtocolError("a DataRow has not the columns of its RowDescription")
        at += 2
        if bare or not self.atomic:
            made = PyTuple_New(self.count)
            values = (<PyTupleObject *>made).ob_item
        else:
            made = blank(self)
            values = values_of(<Record>made)
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
            values[i] = <PyObject *>value
        if at != end:
            raise ServerProtocolError("a DataRow goes on behind its last column")
        if not bare:
            return made if self.atomic else linked(self, <tuple>made)
        if self.atomic:
            PyObject_GC_UnTrack(<PyObject *>made)
        return made

    cdef object misread(self, Py_ssize_t place, error):
        """The DecodeError of `error`, which came out of `read`."""
        return DecodeError(f'column "{self.names[place]}" of type {self.codecs[place].name} cannot be read: {error}')


cdef class Record:
    """A row: a sequence of values, each also by its column's name, as item or attribute; `dict(record)` works.

    Where two columns have one name, the name means the last. An attribute that a row has of its own (`keys`, `index`, ...) hides
    the column. Equal to a record or tuple of the same values.
    """

    def __cinit__(self):
        be_of(self, NO_COLUMNS)                   # not for `blank`, which makes most

    def __init__(self):
        raise TypeError("records come from a query, or from Shape.record")

    def __dealloc__(self):
        cdef PyObject **values = values_of(self)
        cdef Py_ssize_t i
        for i in range(self.columns):
            Py_XDECREF(values[i])
        Py_XDECREF(self.shape)

    def __getitem__(self, key):
        cdef Py_ssize_t i
        if isinstance(key, str):
            place = (<Shape>self.shape).places.get(key)
            if place is None:
                raise KeyError(missing(self, key))
            return value_of(self, place)
        if not isinstance(key, int):
            return row_of(self)[key]
        i = PyNumber_AsSsize_t(key, IndexError)
        if i < 0:
            i += len(self)
        if not 0 <= i < len(self):
            raise IndexError("this row has not so many columns")
        return value_of(self, i)

    def __getattr__(self, name):
        place = (<Shape>self.shape).places.get(name)
        if place is None:
            raise AttributeError(missing(self, name))
        return value_of(self, place)

    def __setattr__(self, name, value):
        raise AttributeError("a row cannot be changed: dict(row) can")

    def __len__(self):
        return len((<Linked>self).row) if self.columns < 0 else self.columns

    def __iter__(self):
        return iter(row_of(self))

    def __contains__(self, value):
        return value in row_of(self)

    def __hash__(self):
        return hash(row_of(self))

    def __richcmp__(self, other, int op):
        cdef object left = row_of(<Record>self) if isinstance(self, Record) else self
        cdef object right = row_of(<Record>other) if isinstance(other, Record) else other
        if not isinstance(left, tuple) or not isinstance(right, tuple):
            return NotImplemented
        return PyObject_RichCompare(left, right, op)

    def __repr__(self):
        said = " ".join(f"{name}={value!r}" for name, value in self.items())
        return f"<Record {said}>"

    def __reduce__(self):
        return remade, (self.keys(), self.values())

    def __sizeof__(self):
        return object.__sizeof__(self) + (self.columns if self.columns > 0 else 0) * <Py_ssize_t>sizeof(PyObject *)

    def keys(self):
        """The names of the columns, in order."""
        return (<Shape>self.shape).names

    def values(self):
        """The values, in order."""
        return row_of(self)

    def items(self):
        """Pairs of name and value, in order."""
        return tuple(zip(self.keys(), row_of(self)))

    def get(self, str name not None, default=None):
        """The value of a column, or `default` where there is no such column."""
        place = (<Shape>self.shape).places.get(name)
        return default if place is None else value_of(self, place)

    def index(self, value):
        """The first column with that value."""
        return row_of(self).index(value)

    def count(self, value):
        """How many columns have that value."""
        return row_of(self).count(value)


cdef class Linked(Record):
    """As any Record."""


cdef PyTypeObject *PLAIN = <PyTypeObject *>Record
cdef Shape NO_COLUMNS = Shape((), ())


cdef inline PyObject **values_of(Record record) noexcept:
    """Those that stand behind it."""
    return <PyObject **>(<char *><PyObject *>record + PLAIN.tp_basicsize)


cdef inline int be_of(Record record, Shape shape) except -1:
    """What is new gets its columns."""
    Py_XDECREF(record.shape)
    Py_INCREF(shape)
    record.shape = <PyObject *>shape
    return 0


cdef Record blank(Shape shape):
    """A record with room for its values, none of which is there yet."""
    cdef size_t size = <size_t>PLAIN.tp_basicsize + <size_t>shape.count * sizeof(PyObject *)
    cdef PyObject *memory = <PyObject *>PyObject_Malloc(size)
    cdef Record made
    if memory is NULL:
        raise MemoryError
    memset(memory, 0, size)
    made = PyObject_Init(memory, PLAIN)
    made.columns = shape.count
    be_of(made, shape)
    return made


cdef Linked linked(Shape shape, tuple row):
    cdef Linked made = Linked.__new__(Linked)
    be_of(made, shape)
    made.columns = -1
    made.row = row
    return made


cdef Record record_of(Shape shape, tuple row):
    """A record of values that `shape` has read, or that could not be part of a cycle either where it is atomic."""
    cdef Record made
    cdef Py_ssize_t i
    if not shape.atomic:
        return linked(shape, row)
    made = blank(shape)
    for i in range(shape.count):
        value = row[i]
        Py_INCREF(value)
        values_of(made)[i] = <PyObject *>value
    return made


cdef object value_of(Record record, Py_ssize_t i):
    if record.columns < 0:
        return (<Linked>record).row[i]
    return <object>values_of(record)[i]


cdef tuple row_of(Record record):
    """Its values as a tuple."""
    cdef tuple row
    cdef Py_ssize_t i
    if record.columns < 0:
        return (<Linked>record).row
    row = PyTuple_New(record.columns)
    for i in range(record.columns):
        Py_INCREF(<object>values_of(record)[i])
        (<PyTupleObject *>row).ob_item[i] = values_of(record)[i]
    PyObject_GC_UnTrack(<PyObject *>row)
    return row


cdef str missing(Record record, str name):
    return f"this row has no column {name!r}: it has {', '.join((<Shape>record.shape).names)}"


def remade(tuple names not None, tuple row not None):
    """A record that has been pickled; its columns have names, and no types any more."""
    return Shape(names, [Codec(0, "unknown")] * len(names)).record(row)
