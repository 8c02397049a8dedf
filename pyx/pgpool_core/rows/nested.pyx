"""Types that are made of others: arrays, ranges, multiranges, composites, hstore.

A number that says how much is to come is checked against the bytes that are there before anything is made for it.
Source: PostgreSQL's array_send, range_send, multirange_send, record_send; hstore_send.
"""

from cpython.unicode cimport PyUnicode_AsUTF8AndSize, PyUnicode_DecodeUTF8
from libc.stdint cimport int32_t, uint8_t

from pgpool_core.rows.codec cimport BINARY, TEXT, Codec
from pgpool_core.rows.out cimport Out
from pgpool_core.rows.record cimport Record, Shape, record_of
from pgpool_core.wire.be cimport load_be32

cdef extern from "Python.h":
    int Py_EnterRecursiveCall(const char *where) except -1
    void Py_LeaveRecursiveCall()

cdef enum:
    MAX_DIMENSIONS = 6
    RANGE_EMPTY = 1
    RANGE_LOWER_INCLUSIVE = 2
    RANGE_UPPER_INCLUSIVE = 4
    RANGE_LOWER_INFINITE = 8
    RANGE_UPPER_INFINITE = 16


cdef class Reader:
    """What is left of a value; borrows its bytes."""

    cdef const uint8_t *at
    cdef const uint8_t *end

    cdef int32_t number(self) except? -1:
        if self.end - self.at < 4:
            raise ValueError("a value ends early")
        self.at += 4
        return <int32_t>load_be32(self.at - 4)

    cdef const uint8_t *bytes_of(self, Py_ssize_t size) except NULL:
        if size < 0 or size > self.end - self.at:
            raise ValueError("a value ends early")
        self.at += size
        return self.at - size

    cdef object value(self, Codec codec):
        """A length and that many bytes; -1 is NULL."""
        cdef int32_t size = self.number()
        if size == -1:
            return None
        return codec.decode(self.bytes_of(size), size)

    cdef int done(self) except -1:
        if self.at != self.end:
            raise ValueError("a value goes on behind its end")
        return 0


cdef Reader reader(const uint8_t *at, Py_ssize_t length):
    cdef Reader made = Reader.__new__(Reader)
    made.at = at
    made.end = at + length
    return made


cdef int put_value(Out out, Codec codec, object value) except -1:
    cdef Py_ssize_t start
    if value is None:
        return out.put32(-1)
    start = out.begin()
    codec.encode(value, out)
    return out.end(start)


cdef class Array(Codec):
    """An array, as a list (of lists, where it has more dimensions). Its lower bounds are not kept."""

    cdef readonly Codec element
    cdef unsigned int element_oid     # a domain's, where `element` is the codec of its base type
    cdef int lower                    # the bound that is sent

    def __init__(
        self, unsigned int oid, str name not None, *, Codec element not None, unsigned int element_oid=0, int lower=1
    ):
        Codec.__init__(self, oid, name)
        self.element = element
        self.lower = lower
        self.element_oid = element_oid or element.oid
        self.takes_lists = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        cdef Reader source = reader(at, length)
        cdef int32_t dimensions = source.number()
        cdef int32_t sizes[MAX_DIMENSIONS]
        cdef Py_ssize_t total = 1
        cdef int i
        source.number()
        source.number()
        if not 0 <= dimensions <= MAX_DIMENSIONS:
            raise ValueError("an array has at most 6 dimensions")
        for i in range(dimensions):
            sizes[i] = source.number()
            source.number()
            if sizes[i] < 0 or (sizes[i] and total > length // sizes[i]):
                raise ValueError("an array has not so many elements")
            total *= sizes[i]
        if dimensions == 0 or total == 0:
            source.done()
            return []
        made = self.read(source, sizes, dimensions)
        source.done()
        return made

    cdef list read(self, Reader source, int32_t *sizes, int dimensions):
        cdef list made = []
        cdef int32_t i
        for i in range(sizes[0]):
            if dimensions == 1:
                made.append(source.value(self.element))
            else:
                made.append(self.read(source, sizes + 1, dimensions - 1))
        return made

    cdef bint is_dimension(self, object value):
        if isinstance(value, list):
            return not self.element.takes_lists
        if isinstance(value, tuple):
            return not self.element.takes_tuples
        return False

    cdef bint is_hollow(self, object value, int depth) except -1:
        """Whether there is nothing but lists in it, however deep."""
        for item in value:
            if depth == MAX_DIMENSIONS or not self.is_dimension(item) or not self.is_hollow(item, depth + 1):
                return False
        return True

    cdef int encode(self, object value, Out out) except -1:
        cdef list sizes
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"a list is expected, not {type(value).__name__}")
        sizes = [len(value)]
        first = value
        while len(first) and self.is_dimension(first[0]):
            first = first[0]
            sizes.append(len(first))
            if len(sizes) > MAX_DIMENSIONS:
                raise ValueError("an array has at most 6 dimensions")
        if 0 in sizes:
            if not self.is_hollow(value, 1):
                raise ValueError("the lists in an array must have equal lengths")
            sizes = []
        out.put32(<int32_t>len(sizes))
        out.put32(1)  # it may have NULLs
        out.put32(<int32_t>self.element_oid)
        for size in sizes:
            out.put32(size)
            out.put32(self.lower)
        if sizes:
            self.write(value, sizes, 0, out)
        return 0

    cdef int write(self, object value, list sizes, int depth, Out out) except -1:
        if len(value) != sizes[depth]:
            raise ValueError("the lists in an array must have equal lengths")
        for item in value:
            if depth + 1 == len(sizes):
                if item is not None and self.is_dimension(item):
                    raise ValueError("the lists in an array must have equal depths")
                put_value(out, self.element, item)
            elif self.is_dimension(item):
                self.write(item, sizes, depth + 1, out)
            else:
                raise ValueError("the lists in an array must have equal depths")
        return 0


cdef class TextArray(Codec):
    """An array whose elements nothing is known of, as a list of texts; read and written as literal."""

    cdef readonly Codec element
    cdef readonly str delimiter

    def __init__(self, unsigned int oid, str name not None, *, Codec element not None, str delimiter not None):
        Codec.__init__(self, oid, name, format=TEXT)
        if element.format != TEXT:
            raise ValueError("its element must be read as text")
        self.element = element
        self.delimiter = delimiter
        self.takes_lists = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        cdef str text = PyUnicode_DecodeUTF8(<const char *>at, length, NULL)
        cdef Py_ssize_t i
        if text.startswith("["):
            text = text[text.index("=") + 1 :]
        made, i = self.read(text, 0, 0)
        if i != len(text):
            raise ValueError("an array goes on behind its end")
        return made

    cdef tuple read(self, str text, Py_ssize_t i, int depth):
        cdef list made = []
        cdef list word
        cdef bint quoted
        if i >= len(text) or text[i] != "{" or depth >= MAX_DIMENSIONS:
            raise ValueError("an array does not begin")
        i += 1
        if i < len(text) and text[i] == "}":
            return made, i + 1
        while True:
            if i < len(text) and text[i] == "{":
                inner, i = self.read(text, i, depth + 1)
                made.append(inner)
            else:
                word, quoted = [], i < len(text) and text[i] == '"'
                i += quoted
                while i < len(text) and (text[i] != '"' if quoted else text[i] not in "}" + self.delimiter):
                    i += text[i] == "\\"
                    word.append(text[i : i + 1])
                    i += 1
                i += quoted
                item = "".join(word)
                made.append(None if item == "NULL" and not quoted else self.element.loads(item.encode()))
            if i < len(text) and text[i] == self.delimiter:
                i += 1
            elif i < len(text) and text[i] == "}":
                return made, i + 1
            else:
                raise ValueError("an array ends early")

    cdef int encode(self, object value, Out out) except -1:
        cdef bytes data
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"a list is expected, not {type(value).__name__}")
        data = self.written(value, 1).encode()
        return out.put(<const char *>data, len(data))

    cdef str written(self, object value, int depth):
        cdef list words = []
        if depth > MAX_DIMENSIONS:
            raise ValueError("an array has at most 6 dimensions")
        for item in value:
            if item is None:
                words.append("NULL")
            elif isinstance(item, list) and not self.element.takes_lists:
                words.append(self.written(item, depth + 1))
            else:
                word = self.element.dumps(item).decode()
                words.append('"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"')
        return "{" + self.delimiter.join(words) + "}"


cdef class Range(Codec):
    """A range; `factory` makes what Python sees from lower, upper, lower_inc, upper_inc, empty, and has these attributes."""

    cdef readonly Codec element
    cdef object factory

    def __init__(self, unsigned int oid, str name not None, *, Codec element not None, factory):
        Codec.__init__(self, oid, name)
        self.element = element
        self.factory = factory

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        cdef Reader source = reader(at, length)
        cdef uint8_t flags = source.bytes_of(1)[0]
        lower = upper = None
        if not flags & (RANGE_EMPTY | RANGE_LOWER_INFINITE):
            lower = source.value(self.element)
        if not flags & (RANGE_EMPTY | RANGE_UPPER_INFINITE):
            upper = source.value(self.element)
        source.done()
        return self.factory(
            lower, upper, lower_inc=bool(flags & RANGE_LOWER_INCLUSIVE), upper_inc=bool(flags & RANGE_UPPER_INCLUSIVE),
            empty=bool(flags & RANGE_EMPTY),
        )

    cdef int encode(self, object value, Out out) except -1:
        cdef uint8_t flags = 0
        if not isinstance(value, self.factory):
            raise TypeError(f"a {self.factory.__name__} is expected, not {type(value).__name__}")
        if value.empty:
            out.take(1)[0] = RANGE_EMPTY
            return 0
        if value.lower is None:
            flags |= RANGE_LOWER_INFINITE
        elif value.lower_inc:
            flags |= RANGE_LOWER_INCLUSIVE
        if value.upper is None:
            flags |= RANGE_UPPER_INFINITE
        elif value.upper_inc:
            flags |= RANGE_UPPER_INCLUSIVE
        out.take(1)[0] = flags
        if value.lower is not None:
            put_value(out, self.element, value.lower)
        if value.upper is not None:
            put_value(out, self.element, value.upper)
        return 0


cdef class Multirange(Codec):
    """A multirange, as a list of ranges."""

    cdef readonly Codec element

    def __init__(self, unsigned int oid, str name not None, *, Codec element not None):
        Codec.__init__(self, oid, name)
        self.element = element
        self.takes_lists = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        cdef Reader source = reader(at, length)
        cdef int32_t count = source.number()
        cdef list made = []
        if count < 0 or count > length // 4:
            raise ValueError("a multirange has not so many ranges")
        for _ in range(count):
            made.append(source.value(self.element))
        source.done()
        return made

    cdef int encode(self, object value, Out out) except -1:
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"a list is expected, not {type(value).__name__}")
        out.put32(<int32_t>len(value))
        for item in value:
            if item is None:
                raise ValueError("a multirange has no NULL")
            put_value(out, self.element, item)
        return 0


cdef class Composite(Codec):
    """A row type, as a Record; tuples and dicts are good parameters too."""

    cdef readonly Shape shape
    cdef tuple oids               # of the fields: a domain's, where its codec is that of its base type

    def __init__(self, unsigned int oid, str name not None, *, Shape shape not None, oids):
        Codec.__init__(self, oid, name)
        self.shape = shape
        self.oids = tuple(oids)
        if len(self.oids) != shape.count:
            raise ValueError("a field has a type")
        self.takes_tuples = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        cdef Reader source = reader(at, length)
        cdef list row = []
        cdef Py_ssize_t i
        if source.number() != self.shape.count:
            raise ValueError("the type has changed: it has other fields now")
        for i in range(self.shape.count):
            if <unsigned int>source.number() != <unsigned int>self.oids[i]:
                raise ValueError("the type has changed: it has other fields now")
            row.append(source.value(<Codec>self.shape.fast[i]))
        source.done()
        return record_of(self.shape, tuple(row))

    cdef int encode(self, object value, Out out) except -1:
        cdef Py_ssize_t i
        cdef tuple row
        if isinstance(value, dict):
            unknown = [name for name in value if name not in self.shape.places]
            if unknown:
                raise ValueError(f"{self.name} has no field {unknown[0]!r}")
            row = tuple([value.get(name) for name in self.shape.names])
        elif isinstance(value, (tuple, Record)):
            row = tuple(value)
        else:
            raise TypeError(f"a tuple, Record or dict is expected, not {type(value).__name__}")
        if len(row) != self.shape.count:
            raise ValueError(f"{self.name} has {self.shape.count} fields, not {len(row)}")
        out.put32(<int32_t>self.shape.count)
        for i in range(self.shape.count):
            out.put32(<int32_t><unsigned int>self.oids[i])
            put_value(out, <Codec>self.shape.fast[i], row[i])
        return 0


cdef class Anonymous(Codec):
    """`record`, a row type without a name, as a tuple. A field of a type that is not in `known` is its bytes."""

    cdef dict known

    def __init__(self, unsigned int oid, str name not None, *, dict known not None):
        Codec.__init__(self, oid, name)
        self.known = known
        self.takes_tuples = True

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        """It may hold records itself, as deep as its sender likes; as deep as Python lets functions call each other is read."""
        Py_EnterRecursiveCall(b" while reading a record in a record")
        try:
            return self.fields(reader(at, length), length)
        finally:
            Py_LeaveRecursiveCall()

    cdef tuple fields(self, Reader source, Py_ssize_t length):
        cdef int32_t count = source.number()
        cdef int32_t size
        cdef list row = []
        if count < 0 or count > length // 8:
            raise ValueError("a record has not so many fields")
        for _ in range(count):
            codec = self.known.get(<unsigned int>source.number())
            if codec is not None and (<Codec?>codec).format == BINARY:
                row.append(source.value(<Codec>codec))
                continue
            size = source.number()
            row.append(None if size == -1 else (<const char *>source.bytes_of(size))[:size])
        source.done()
        return tuple(row)

    cdef int encode(self, object value, Out out) except -1:
        raise TypeError("a record without a type cannot be sent: cast the parameter to a named row type")


cdef class Hstore(Codec):
    """hstore, as a dict of str to str or None."""

    cdef object decode(self, const uint8_t *at, Py_ssize_t length):
        cdef Reader source = reader(at, length)
        cdef int32_t count = source.number()
        cdef dict made = {}
        if count < 0 or count > length // 8:
            raise ValueError("an hstore has not so many keys")
        for _ in range(count):
            key = self.word(source)
            if key is None:
                raise ValueError("a key of an hstore is NULL")
            made[key] = self.word(source)
        source.done()
        return made

    cdef object word(self, Reader source):
        cdef int32_t size = source.number()
        if size == -1:
            return None
        return PyUnicode_DecodeUTF8(<const char *>source.bytes_of(size), size, NULL)

    cdef int encode(self, object value, Out out) except -1:
        if not isinstance(value, dict):
            raise TypeError(f"a dict is expected, not {type(value).__name__}")
        out.put32(<int32_t>len(value))
        for key, each in value.items():
            self.put_word(key, out)
            if each is None:
                out.put32(-1)
            else:
                self.put_word(each, out)
        return 0

    cdef int put_word(self, object value, Out out) except -1:
        cdef Py_ssize_t size
        cdef const char *at
        if not isinstance(value, str):
            raise TypeError(f"keys and values of an hstore are str, not {type(value).__name__}")
        at = PyUnicode_AsUTF8AndSize(value, &size)
        out.put32(<int32_t>size)
        return out.put(at, size)
