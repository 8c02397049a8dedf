"""Values to bytes and back, without a server; and what a server might send that is no value."""

from __future__ import annotations

import contextlib
import datetime as dt
import math
import struct
from decimal import Decimal
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool_core import Range
from pgpool_core.client.catalogue import BUILT_IN, Catalogue
from pgpool_core.rows import nested
from pgpool_core.rows.codec import Codec, Custom, Text
from pgpool_core.rows.inbox import Inbox
from pgpool_core.rows.record import Record, Shape

BY_NAME = {codec.name: codec for codec in BUILT_IN.values()}
UTC = dt.UTC
WHOLE_MINUTES = st.integers(-959, 959).map(lambda minutes: dt.timezone(dt.timedelta(minutes=minutes)))
TEXTS = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\0"))
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=None).filter(
    lambda value: value.as_tuple().exponent >= -16383 and value.adjusted() < 4000
)
NO_ZERO = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int2": st.integers(-(2**15), 2**15 - 1),
    "int4": st.integers(-(2**31), 2**31 - 1),
    "int8": st.integers(-(2**63), 2**63 - 1),
    "oid": st.integers(0, 2**32 - 1),
    "float4": st.floats(width=32, allow_nan=False),
    "float8": st.floats(allow_nan=False),
    "text": TEXTS,
    "bytea": st.binary(),
    "uuid": st.uuids(),
    "numeric": DECIMALS,
    "date": st.dates(),
    "time": st.times(),
    "timetz": st.times(timezones=WHOLE_MINUTES),
    "timestamp": st.datetimes(),
    "timestamptz": st.datetimes(timezones=st.just(UTC)),
    "interval": st.timedeltas(dt.timedelta(days=-(10**6)), dt.timedelta(days=10**6)),
    "jsonb": st.recursive(
        st.none() | st.booleans() | st.integers() | NO_ZERO,  # which jsonb cannot hold
        lambda inner: st.lists(inner) | st.dictionaries(NO_ZERO, inner),
        max_leaves=5,
    ),
    "inet": st.ip_addresses() | st.ip_addresses().map(lambda address: ip_interface(f"{address}/7")),
    "cidr": st.ip_addresses().map(lambda address: ip_network(f"{address}/9", strict=False)),
    "int4[]": st.lists(st.none() | st.integers(-(2**31), 2**31 - 1)),
    "text[]": st.integers(1, 3).flatmap(
        lambda width: st.lists(st.lists(st.none() | TEXTS, min_size=width, max_size=width), min_size=1)
    ),
    "int8range": st.builds(
        Range,
        st.none() | st.integers(-5, 0),
        st.none() | st.integers(1, 5),
        lower_inc=st.booleans(),
        upper_inc=st.booleans(),
        empty=st.booleans(),
    ),
}


def read_back(codec: Codec, value: Any) -> Any:
    return codec.loads(codec.dumps(value))


@pytest.mark.parametrize("name", VALUES)
@given(data=st.data())
def test_what_is_sent_can_be_read_back(name: str, data: st.DataObject) -> None:
    value = data.draw(VALUES[name])
    back = read_back(BY_NAME[name], value)
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("name", sorted(BY_NAME))
@given(data=st.binary(max_size=64))
def test_any_bytes_are_a_value_or_an_ordinary_error(name: str, data: bytes) -> None:
    with contextlib.suppress(ValueError, ArithmeticError):
        BY_NAME[name].loads(data)


def test_numbers_keep_their_places_behind_the_point() -> None:
    for text in ("0", "0.00", "-0.00100", "10000", "9999.99990000", "1e40", "-12345.678900", "0.00000001"):
        value = Decimal(text)
        assert read_back(BY_NAME["numeric"], value) == value
        assert -read_back(BY_NAME["numeric"], value).as_tuple().exponent == max(-value.as_tuple().exponent, 0)


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none(text: str) -> None:
    assert str(read_back(BY_NAME["numeric"], Decimal(text))) == text


def test_the_largest_weight_there_is() -> None:
    assert BY_NAME["numeric"].loads(struct.pack("!hhHHh", 1, 32767, 0, 0, 1)).adjusted() == 4 * 32767


def test_a_whole_number_with_more_digits_than_numeric_has_is_refused() -> None:
    assert BY_NAME["numeric"].loads(BY_NAME["numeric"].dumps(10**131071)) == 10**131071
    for value in (10**131072, 1 << 10**8):
        with pytest.raises(OverflowError, match="out of range"):
            BY_NAME["numeric"].dumps(value)


def test_an_array_that_claims_to_be_huge_takes_no_memory() -> None:
    head = struct.pack("!iii", 2, 0, 23) + struct.pack("!ii", 2**30, 1) + struct.pack("!ii", 2**30, 1)
    with pytest.raises(ValueError, match="not so many"):
        BY_NAME["int4[]"].loads(head)


@pytest.mark.parametrize("name", ["date", "timestamp", "timestamptz"])
def test_infinity_is_the_last_or_first_day_there_is_and_is_sent_as_text(name: str) -> None:
    codec = BY_NAME[name]
    assert read_back(codec, "infinity").year == 9999
    assert read_back(codec, "-infinity").year == 1


def test_a_sentinel_date_stays_the_date_that_it_is() -> None:
    assert BY_NAME["date"].dumps(dt.date(9999, 12, 31)) != BY_NAME["date"].dumps("infinity")


def test_years_that_python_has_not_are_refused() -> None:
    with pytest.raises(ValueError, match="no date"):
        BY_NAME["date"].loads(struct.pack("!i", 2**31 - 2))
    with pytest.raises(ValueError, match="no datetime"):
        BY_NAME["timestamp"].loads(struct.pack("!q", 2**63 - 2))
    with pytest.raises(ValueError, match="time of the day"):
        BY_NAME["time"].loads(struct.pack("!q", 86_400_000_000))


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("bool", 1, "bool is expected"),
        ("int2", 40000, "out of range"),
        ("int4", 2**31, "out of range"),
        ("int4", "1", "integer"),
        ("int4", 1.5, "integer"),
        ("float4", 1e300, "out of range"),
        ("text", 5, "str is expected"),
        ("numeric", 1.5, "Decimal or int"),
        ("numeric", Decimal("1e200000"), "out of range"),
        ("date", dt.datetime(2000, 1, 1), "date is expected"),
        ("timestamp", dt.datetime(2000, 1, 1, tzinfo=UTC), "without a time zone"),
        ("timestamptz", dt.datetime(2000, 1, 1), "with a time zone"),
        ("int4[]", 5, "list is expected"),
        ("int4[]", [[1], [2, 3]], "equal lengths"),
        ("int4[]", [[], [1], [2, 3]], "equal lengths"),
        ("int4[]", [[], 1], "equal lengths"),
        ("int4[]", [[1], 2], "equal depths"),
        ("int4[]", [1, [2]], "equal depths"),
        ("int4range", (1, 2), "Range is expected"),
        ("record", (1,), "cannot be sent"),
        ("inet", 5, "ipaddress"),
        ("inet", ip_address("fe80::1%eth0"), "scope"),
        ("inet", ip_interface("fe80::1%eth0/64"), "scope"),
        ("inet", "fe80::1%eth0", "scope"),
        ("cidr", "fe80::%eth0/64", "scope"),
    ],
)
def test_a_value_of_another_type_is_refused(name: str, value: Any, what: str) -> None:
    codec = Catalogue().codecs([2249])[0] if name == "record" else BY_NAME[name]
    with pytest.raises((TypeError, ValueError, OverflowError), match=what):
        codec.dumps(value)


def test_not_a_number_comes_back() -> None:
    assert math.isnan(read_back(BY_NAME["float8"], math.nan))


@given(value=st.lists(st.none() | TEXTS) | st.lists(st.lists(TEXTS, min_size=2, max_size=2), min_size=1))
def test_arrays_of_unknown_types_come_back_as_texts(value: list[Any]) -> None:
    codec = nested.TextArray(1, "things", element=Text(2, "thing", format=0), delimiter=",")
    assert read_back(codec, value) == value


@given(text=st.text('{}",\\[]=:NUL ab', max_size=20))
def test_any_literal_is_an_array_or_an_ordinary_error(text: str) -> None:
    codec = nested.TextArray(1, "things", element=Text(2, "thing", format=0), delimiter=",")
    with contextlib.suppress(ValueError):
        assert isinstance(codec.loads(text.encode()), list)


def test_a_row_type_takes_tuples_records_and_dicts() -> None:
    shape = Shape(["a", "b"], [BY_NAME["int4"], BY_NAME["text"]])
    codec = nested.Composite(1, "pair", shape=shape, oids=[23, 25])
    row = read_back(codec, (1, "x"))
    assert (row.a, row.b) == (1, "x")
    assert read_back(codec, row) == row == (1, "x")
    assert read_back(codec, {"b": "y"}) == (None, "y")
    with pytest.raises(ValueError, match="no field 'c'"):
        codec.dumps({"c": 1})
    with pytest.raises(ValueError, match="2 fields"):
        codec.dumps((1,))


def test_hstore_is_a_dict() -> None:
    codec = nested.Hstore(1, "hstore")
    assert read_back(codec, {"a": "1", "b": None}) == {"a": "1", "b": None}


def test_a_codec_of_the_users_gets_text_or_bytes() -> None:
    text = Custom(1, "t", format=0, loader=lambda said: ("read", said), dumper=str)
    assert text.dumps(5) == b"5"
    assert text.loads(b"5") == ("read", "5")
    assert Custom(1, "t", format=1, loader=bytes.hex, dumper=None).loads(b"\x01") == "01"


def nested_records(depth: int) -> bytes:
    """`row(row(...))` as record_send writes it."""
    whole, size = [struct.pack("!i", 0)], 4
    for _ in range(depth):
        whole.append(struct.pack("!iIi", 1, 2249, size))
        size += 12
    return b"".join(reversed(whole))


def test_records_in_records_are_read_as_deep_as_python_goes() -> None:
    codec = Catalogue().codecs([2249])[0]
    value, depth = codec.loads(nested_records(100)), 0
    while value:
        (value,) = value
        depth += 1
    assert depth == 100
    for bottomless in (100_000, 1_000_000):
        with pytest.raises(RecursionError):
            codec.loads(nested_records(bottomless))


# -- records ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def record() -> Record:
    return Shape(["id", "name", "keys"], [BY_NAME["int4"], BY_NAME["text"], BY_NAME["int4"]]).record([7, "x", 3])


def test_a_record_is_read_by_index_name_and_attribute(record: Record) -> None:
    assert (record[0], record["name"], record.id, record[-1], record[:2]) == (7, "x", 7, 3, (7, "x"))
    assert record.get("nothing", 5) == 5
    assert record["keys"] == 3, "a method of that name hides the attribute only"


def test_a_record_is_a_sequence_and_makes_a_dict(record: Record) -> None:
    assert (list(record), len(record), tuple(record)) == ([7, "x", 3], 3, (7, "x", 3))
    assert dict(record) == {"id": 7, "name": "x", "keys": 3} == dict(record.items())
    first, *rest = record
    assert (first, rest) == (7, ["x", 3])


def test_a_record_equals_a_tuple_and_can_be_a_key(record: Record) -> None:
    assert record == (7, "x", 3)
    assert {record: 1}[(7, "x", 3)] == 1
    assert record < (8,)
    assert record != [7, "x", 3]


def test_a_record_can_be_pickled(record: Record) -> None:
    import pickle

    back = pickle.loads(pickle.dumps(record))
    assert (back, back.name) == (record, "x")


def test_what_a_record_has_not_is_named(record: Record) -> None:
    with pytest.raises(AttributeError, match="no column 'nothing'"):
        _ = record.nothing
    with pytest.raises(KeyError):
        _ = record["nothing"]
    with pytest.raises(IndexError):
        _ = record[3]
    with pytest.raises(TypeError):
        Record()


def test_an_address_and_its_text_are_the_same() -> None:
    assert BY_NAME["inet"].dumps("10.0.0.1") == BY_NAME["inet"].dumps(ip_address("10.0.0.1"))


def test_only_rows_that_can_be_in_a_cycle_are_known_to_the_garbage_collector() -> None:
    import gc

    inbox, rows = Inbox(), list[Record]()
    for codec, value, tracked in (
        ("int4", 1, False),
        ("text", "x", False),
        ("int4[]", [1], True),
        ("jsonb", {"a": []}, True),
    ):
        rows.clear()
        inbox.expect(Shape(["it"], [BY_NAME[codec]]), rows)
        data = BY_NAME[codec].dumps(value)
        body = struct.pack("!hi", 1, len(data)) + data
        inbox.feed(b"D" + struct.pack("!I", len(body) + 4) + body)
        inbox.next()
        assert rows == [(value,)]
        assert gc.is_tracked(rows[0]) is tracked
        assert gc.is_tracked(rows[0].values()) is tracked


def read_rows(columns: int, value: int | None, *, bare: bool = False) -> list[Record]:
    """One row of that value in all columns, as a server sends it."""
    inbox, rows = Inbox(), list[Record]()
    inbox.expect(Shape([f"c{i}" for i in range(columns)], [BY_NAME["int8"]] * columns), rows, bare=bare)
    field = b"\xff" * 4 if value is None else struct.pack("!iq", 8, value)
    body = struct.pack("!h", columns) + field * columns
    inbox.feed(b"D" + struct.pack("!I", len(body) + 4) + body)
    inbox.next()
    return rows


@pytest.mark.parametrize("columns", [0, 1, 2, 60, 61, 1600])
def test_a_row_of_any_width_is_read_and_leaves_nothing(columns: int) -> None:
    import gc
    import sys

    (row,) = read_rows(columns, 2**40)
    assert row == (2**40,) * columns
    assert len(row) == len(list(row)) == columns
    assert sys.getsizeof(row) - sys.getsizeof(read_rows(0, 1)[0]) == columns * struct.calcsize("P")
    assert read_rows(columns, 2**40, bare=True) == [row]

    def left_by(times: int) -> int:
        before = sys.getallocatedblocks()
        for _ in range(times):
            read_rows(columns, 2**40)
        gc.collect()
        return sys.getallocatedblocks() - before

    left_by(10)  # free lists are filled
    assert left_by(200) < 100


def test_values_outlive_their_row() -> None:
    row = read_rows(2, 2**40)[0]
    values, first, both = row.values(), row[0], row[:]
    del row
    assert (values, first, both) == ((2**40, 2**40), 2**40, (2**40, 2**40))


def test_places_in_a_row_are_those_of_a_tuple() -> None:
    row = Shape(["a", "b"], [BY_NAME["int4"]] * 2).record([1, 2])
    for record in (row, read_rows(2, 7)[0]):
        assert (record[-2], record[-1], record[True]) == (record.values()[0], record.values()[1], record.values()[1])
        for place in (2, -3, 2**70, -(2**70)):
            with pytest.raises(IndexError):
                _ = record[place]
        with pytest.raises(TypeError):
            _ = record[1.5]  # type: ignore[call-overload]


def test_a_record_that_nobody_has_read_is_empty() -> None:
    class Own(Record):
        pass

    for record in (Record.__new__(Record), Own.__new__(Own)):
        assert (len(record), record.keys(), record.values(), repr(record)) == (0, (), (), "<Record >")
        with pytest.raises(IndexError):
            _ = record[0]


def test_a_row_in_a_cycle_is_collected() -> None:
    import gc
    import weakref

    class Marked(list[object]):
        pass

    marked = Marked()
    gone = weakref.ref(marked)
    marked.append(Shape(["it"], [BY_NAME["int4"]]).record([marked]))
    del marked
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("length", [0, 1, 2, 7, 8, 9, 255, 256, 257])
@pytest.mark.parametrize("last", ["", "z", "é", "€", "🦉"])
def test_a_text_is_read_as_python_decodes_it(length: int, last: str) -> None:
    text = "abcdefgh"[: length % 8] + "x" * (length - length % 8) + last
    assert BY_NAME["text"].loads(text.encode()) == text


@pytest.mark.parametrize("data", [b"\xff", b"abc\xe2\x82", b"12345678\x80", b"\xc0\x80abcdefgh"])
def test_what_is_no_utf_8_is_refused(data: bytes) -> None:
    with pytest.raises(UnicodeDecodeError):
        BY_NAME["text"].loads(data)


def test_the_base_of_codecs_says_that_it_is_none() -> None:
    with pytest.raises(TypeError, match="only the base of codecs: it reads no values"):
        Codec(1, "base").loads(b"")
    with pytest.raises(TypeError, match="only the base of codecs: it writes no values"):
        Codec(1, "base").dumps(1)
