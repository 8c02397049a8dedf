"""Values through a real server: what we read is what psycopg and asyncpg read, and what we send arrives as what it is."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import asyncpg
import psycopg
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.range import Range as PsycopgRange

import pgpool_core
from pgpool_core import ConfigError, DecodeError, EncodeError, Pool, Range
from pgpool_core.client import sqlstate
from pgpool_core.testing import PostgresServer
from tests.unit.test_rows_codecs import BY_NAME, VALUES


@pytest.fixture
async def pool(postgres: PostgresServer) -> AsyncIterator[Pool]:
    async with pgpool_core.open_pool(postgres.dsn("boss", "app"), max_size=2) as pool:
        yield pool


LITERALS = [
    "true", "null::bool", "1::int2", "(-2147483648)::int4", "9223372036854775807::int8", "1.5::float4", "'-inf'::float8",
    "0::numeric", "0.000::numeric", "12345678901234567890.0123456789::numeric", "-0.0001::numeric", "1e30::numeric",
    "100000000::numeric", "10000.0001::numeric", "''::text", "'äöü€𝄞'::text", "'ab '::char(5)", "'v'::varchar", "'n'::name",
    "'\\x00ff'::bytea", "'5e3b6c3e-2f4f-4a5e-9d5e-0d8f1c2b3a4d'::uuid",
    "'0001-01-01'::date", "'2024-02-29'::date", "'1999-12-31'::date", "'9999-12-31'::date",
    "'00:00'::time", "'23:59:59.999999'::time", "'12:30:00+05:30'::timetz", "'12:30:00-11'::timetz",
    "'1883-11-18 12:00:00.000001'::timestamp", "'2024-03-10 02:30'::timestamp", "'2000-01-01 00:00:00+00'::timestamptz",
    "'1999-12-31 23:59:59.5-08'::timestamptz", "'1 day'::interval", "'-1 day -00:00:00.000001'::interval",
    "'3 years 2 months 5 days 04:05:06.7'::interval", "'-14 months'::interval",
    "'{\"a\": [1, 2.5, null, \"x\"]}'::json", "'{\"b\": {\"c\": true}}'::jsonb",
    "'{1,NULL,3}'::int[]", "'{{1,2},{3,4}}'::int[]", "'{}'::text[]", "array['a,b', 'c\"d', NULL, '']::text[]",
    "'{1.5,2.25}'::numeric[]", "'10.1.2.3'::inet", "'10.1.2.3/8'::inet", "'::1'::inet", "'10.0.0.0/8'::cidr",
    "'2001:db8::/32'::cidr", "26::oid",
]  # fmt: skip


@pytest.mark.parametrize("literal", LITERALS)
async def test_a_value_is_read_as_psycopg_reads_it(literal: str, pool: Pool, postgres: PostgresServer) -> None:
    def theirs() -> Any:
        with psycopg.connect(postgres.dsn("boss", "app"), options="-c timezone=UTC") as connection:
            row = connection.cursor(binary="::time" not in literal).execute(f"select {literal}").fetchone()
            assert row is not None
            return row[0]

    expected = await trio.to_thread.run_sync(theirs)
    got = await pool.fetchval(f"select {literal}")
    assert got == expected
    assert type(got) is type(expected)


OTHERS = [
    "'a'::\"char\"",
    "int4range(1, 5)",
    "tstzrange('2000-01-01 00:00+00', null, '()')",
    "'empty'::int8range",
    "'{}'::int2[]",
]


@pytest.mark.parametrize("literal", OTHERS)
def test_a_value_is_read_as_asyncpg_reads_it(literal: str, postgres: PostgresServer) -> None:
    import asyncio

    async def theirs() -> Any:
        connection = await asyncpg.connect(postgres.dsn("boss", "app"))
        try:
            return await connection.fetchval(f"select {literal}")
        finally:
            await connection.close()

    async def ours() -> Any:
        async with pgpool_core.open_pool(postgres.dsn("boss", "app")) as pool:
            return await pool.fetchval(f"select {literal}")

    expected, got = asyncio.run(theirs()), trio.run(ours)
    if isinstance(expected, asyncpg.Range):
        expected = Range(
            expected.lower,
            expected.upper,
            lower_inc=expected.lower_inc,
            upper_inc=expected.upper_inc,
            empty=expected.isempty,
        )
    if isinstance(expected, bytes):
        expected = expected.decode()
    assert got == expected


SENT = {
    "int4": "int4", "int8": "int8", "float8": "float8", "numeric": "numeric", "text": "text", "bytea": "bytea", "uuid": "uuid",
    "date": "date", "time": "time", "timetz": "timetz", "timestamp": "timestamp", "timestamptz": "timestamptz", "interval": "interval",
    "jsonb": "jsonb", "inet": "inet", "cidr": "cidr", "int4[]": "int4[]", "text[]": "text[]", "int8range": "int8range",
}  # fmt: skip


@pytest.mark.parametrize("name", SENT)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_we_send_postgresql_understands(name: str, data: st.DataObject, postgres: PostgresServer) -> None:
    """The server turns it into text and back: what it then sends is the value."""
    values = [data.draw(VALUES[name]) for _ in range(10)]

    async def there_and_back() -> list[Any]:
        async with pgpool_core.open_pool(postgres.dsn("boss", "app")) as pool:
            sql = f"select ($1::{SENT[name]})::text::{SENT[name]}"
            return [await pool.fetchval(sql, value) for value in values]

    expected = values
    if name == "int8range":  # PostgreSQL writes ranges of whole numbers as [lower, upper)

        async def canonical() -> list[Any]:
            async with pgpool_core.open_pool(postgres.dsn("boss", "app")) as pool:
                return [await pool.fetchval("select $1::int8range", value) for value in values]

        expected = trio.run(canonical)
    assert trio.run(there_and_back) == expected


@pytest.fixture(scope="module")
def theirs(postgres: PostgresServer) -> Iterator[psycopg.Cursor[Any]]:
    """A cursor of psycopg that reads the binary form."""
    with psycopg.connect(postgres.dsn("boss", "app"), options="-c timezone=UTC", autocommit=True) as connection:
        yield connection.cursor(binary=True)


@pytest.mark.parametrize("name", [name for name in SENT if name not in ("timetz", "int8range")])
@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_psycopg_reads_the_same_values(
    name: str, data: st.DataObject, postgres: PostgresServer, theirs: psycopg.Cursor[Any]
) -> None:
    """What we send is a value of the server's, which psycopg and we read alike."""
    values = [data.draw(VALUES[name]) for _ in range(20)]

    async def there_and_back() -> list[tuple[str, Any]]:
        async with pgpool_core.open_pool(postgres.dsn("boss", "app")) as pool, pool.acquire() as connection:
            sql = f"select ($1::{SENT[name]})::text, $1::{SENT[name]}"
            rows = [await connection.fetchrow(sql, value) for value in values]
            return [(row[0], row[1]) for row in rows if row is not None]

    for value, (text, ours) in zip(values, trio.run(there_and_back), strict=True):
        (read,) = theirs.execute(f"select %s::{SENT[name]}", (text,)).fetchone() or (None,)
        assert (ours, type(ours)) == (read, type(read))
        assert ours == value


async def test_psycopg_reads_what_we_have_written(pool: Pool, postgres: PostgresServer) -> None:
    await pool.execute("create table pool_written (n numeric, r int4range, t timestamptz, i interval, a text[])")
    when = dt.datetime(2024, 5, 6, 7, 8, 9, 123456, tzinfo=dt.timezone(dt.timedelta(hours=-3)))
    row = (Decimal("-1.2300"), Range(1, 7), when, dt.timedelta(days=-2, microseconds=5), ["a", None, 'q"\\'])
    await pool.execute("insert into pool_written values ($1, $2, $3, $4, $5)", *row)

    def read() -> Any:
        with psycopg.connect(postgres.dsn("boss", "app")) as connection:
            written = connection.execute("select * from pool_written").fetchone()
            connection.execute("drop table pool_written")
            return written

    got = await trio.to_thread.run_sync(read)
    assert got == (row[0], PsycopgRange(1, 7), when, row[3], row[4])


async def test_enums_domains_composites_and_their_arrays_are_found_by_themselves(pool: Pool) -> None:
    await pool.execute(
        """
        drop type if exists pool_pair, pool_mood cascade; drop domain if exists pool_positive;
        create type pool_mood as enum ('sad', 'glad');
        create domain pool_positive as int check (value > 0);
        create type pool_pair as (mood pool_mood, count pool_positive);
        """
    )
    assert await pool.fetchval("select $1::pool_mood", "glad") == "glad"
    assert await pool.fetchval("select $1::pool_positive", 5) == 5
    assert await pool.fetchval("select $1::pool_mood[]", ["sad", None]) == ["sad", None]
    assert await pool.fetchval("select $1::pool_positive[]", [1, 2]) == [1, 2]
    pair = await pool.fetchval("select $1::pool_pair", ("sad", 3))
    assert (pair.mood, pair.count(3), pair["count"]) == ("sad", 1, 3)
    pairs = await pool.fetchval("select $1::pool_pair[]", [pair, {"mood": "glad"}, None])
    assert pairs == [("sad", 3), ("glad", None), None]
    with pytest.raises(sqlstate.IntegrityError):
        await pool.fetchval("select $1::pool_positive", -5)


async def test_hstore_and_ranges_of_our_own(pool: Pool) -> None:
    await pool.execute(
        "create extension if not exists hstore; drop type if exists pool_floats; create type pool_floats as range (subtype = float8)"
    )
    assert await pool.fetchval("select $1::hstore", {"a": "1", "b": None}) == {"a": "1", "b": None}
    assert await pool.fetchval("select $1::pool_floats", Range(0.5, 1.5)) == Range(0.5, 1.5)
    assert await pool.fetchval("select $1::int4multirange", [Range(1, 2), Range(4, 9)]) == [Range(1, 2), Range(4, 9)]


async def test_types_that_nobody_knows_are_text(pool: Pool) -> None:
    row = await pool.fetchrow(
        "select '(1,2)'::point as p, '101'::bit(3) as b, array['(1,2)'::point, null] as a, 'a b'::tsvector as v"
    )
    assert row == ("(1,2)", "101", ["(1,2)", None], "'a' 'b'")
    assert await pool.fetchval("select $1::point::text", "(3,4)") == "(3,4)"


@pytest.mark.parametrize("encoding", ["ISO-8859-1", "UTF-16", "no such", "utf8"])
async def test_the_encoding_that_an_xml_text_names_is_none_of_a_str(encoding: str, pool: Pool) -> None:
    try:
        await pool.fetchval("select xmlparse(content '')")
    except sqlstate.FeatureNotSupported:
        pytest.skip("this server was built without libxml")
    for head in (f'version="1.0" encoding="{encoding}"', f"version = '1.1'\n encoding='{encoding}' standalone='yes'"):
        text = f'<?xml {head}?><a b="é"><![CDATA[<?xml version="1.0" encoding="x"?>€]]></a>'
        row = await pool.fetchrow(
            "select $1::xml as one, $2::xml[] as many, xpath('//@b', $1)::text[] as b", text, [text]
        )
        assert row is not None
        assert row.b == ["é"]
        assert row.one.endswith(text.partition("?>")[2])
        assert row.many == [row.one]
    declared = '<?xml version="1.0"?><![CDATA[<?xml version="1.0" encoding="x"?>]]>'
    assert await pool.fetchval("select xmlserialize(content $1 as text)", declared) == declared


async def test_rows_without_a_type_are_tuples(pool: Pool) -> None:
    assert await pool.fetchval("select (1, 'a'::text, null, array[true])") == (1, "a", None, [True])
    assert await pool.fetchval("select pg_sleep(0)") is None


async def test_pseudo_types_stay_what_they_are_whatever_has_been_looked_up(pool: Pool) -> None:
    await pool.execute("drop type if exists pool_shade; create type pool_shade as enum ('dark')")
    ask = "select (1, 'x', 'dark'::pool_shade) as row, pg_sleep(0) as nothing, (2, (3, 4)) as deep"
    first = await pool.fetch(ask)
    assert first == [((1, "x", b"dark"), None, (2, (3, 4)))]
    await pool.fetch("select array[(1, 'x')], 'dark'::pool_shade")
    assert await pool.fetch(f"{ask}, 'after a look-up'") == [(*first[0], "after a look-up")]
    pool.set_codec("point", decode=str)
    assert await pool.fetch(ask) == first


async def test_vectors_of_the_catalogue_can_be_sent(pool: Pool) -> None:
    for _ in range(2):
        assert await pool.fetchrow("select $1::int2vector, $2::oidvector", [1, 2], [3]) == ([1, 2], [3])
        pool.set_codec("point", decode=str)


@pytest.mark.parametrize("wrong", [{"decode": 5}, {"encode": "str"}], ids=str)
async def test_a_codec_is_made_of_functions(pool: Pool, wrong: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="must be a function, not"):
        pool.set_codec("point", **wrong)


async def test_numbers_with_many_zeros(pool: Pool) -> None:
    for text in ("1E131071", "-1E-16383", "10000000100000000", "0.000000010000", "1E131068"):
        assert await pool.fetchval("select $1::numeric", Decimal(text)) == Decimal(text)


async def test_lists_of_empty_lists_are_an_empty_array(pool: Pool) -> None:
    for value in ([], [[]], [[], []], [[[]], []]):
        assert await pool.fetchval("select $1::int4[]", value) == []


async def test_a_codec_by_the_name_of_its_type(pool: Pool) -> None:
    def read(text: str) -> complex:
        x, y = text.strip("()").split(",")
        return complex(float(x), float(y))

    assert await pool.fetchval("select '(1,2)'::point") == "(1,2)"
    pool.set_codec("point", decode=read, encode=lambda value: f"({value.real},{value.imag})")
    assert await pool.fetchval("select '(1,2)'::point") == complex(1, 2), "statements prepared before are prepared anew"
    assert await pool.fetchval("select $1::point", complex(3, 4)) == complex(3, 4)
    assert await pool.fetchval("select array[$1::point]", complex(3, 4)) == [complex(3, 4)]


async def test_a_codec_for_a_built_in_type(pool: Pool) -> None:
    pool.set_codec("pg_catalog.int4", decode=lambda data: data.hex(), encode=bytes.fromhex, format="binary")
    assert await pool.fetchval("select 258") == "00000102"
    assert await pool.fetchval("select $1::int4 + 1", "00000001") == "00000002"
    assert await pool.fetchval("select '{1}'::int4[]") == ["00000001"]
    assert await pool.fetchval("select 5::int8") == 5


async def test_a_codec_may_be_taken_back(pool: Pool) -> None:
    pool.set_codec("numeric", decode=float)
    assert repr(await pool.fetchval("select 1.5")) == "1.5"
    with pytest.raises(EncodeError, match="no encoder"):
        await pool.fetchval("select $1::numeric", Decimal("1.5"))
    pool.set_codec("no_such_type", decode=float)
    pool.set_codec("no_such_type")
    pool.set_codec("numeric")
    assert repr(await pool.fetchval("select $1::numeric", Decimal("1.5"))) == "Decimal('1.5')"


async def test_a_codec_for_a_type_that_there_is_not_yet(pool: Pool) -> None:
    await pool.execute("drop type if exists pool_later")
    before = await pool.fetchval("select count(*) from pg_prepared_statements")
    pool.set_codec("pool_later", decode=str.upper)
    pool.set_codec("public.pool_later", decode=str.upper)
    for _ in range(3):
        with pytest.raises(ConfigError, match="set_codec: the database has no type 'pool_later'"):
            await pool.fetchval("select 1")
    await pool.execute("create type pool_later as enum ('a')")
    assert await pool.fetchval("select 'a'::pool_later") == "A"
    await pool.execute("drop type pool_later")
    assert await pool.fetchval("select 2") == 2, "what has been there once is not asked for again"
    assert await pool.fetchval("select count(*) from pg_prepared_statements") <= before + 3, (
        "nothing is left of what failed"
    )


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("integer", "it is called 'int4' there"),
        ("Double Precision", "it is called 'float8' there"),
        ("int4[]", "an array is called '_int4'"),
        ("nowhere.int4", "name or schema.name"),
        ("", "name or schema.name"),
    ],
)
async def test_a_codec_for_a_name_that_no_type_has(pool: Pool, name: str, cure: str) -> None:
    pool.set_codec(name, decode=str)
    with pytest.raises(ConfigError, match=cure):
        await pool.fetchval("select $1::int4", 1)


async def test_raw_values_are_the_bytes_of_their_text(pool: Pool) -> None:
    assert await pool.fetchrow("select 12, 'x', null, now()::date - now()::date, 1.50", raw=True) == (
        b"12",
        b"x",
        None,
        b"0",
        b"1.50",
    )


async def test_a_value_that_python_cannot_have_names_its_column_and_spoils_nothing(pool: Pool) -> None:
    async with pool.acquire() as connection:
        with pytest.raises(DecodeError, match='column "day" of type date'):
            await connection.fetch("select '4713-01-01 BC'::date as day, n from generate_series(1, 1000) n")
        assert await connection.fetchval("select 1") == 1


async def test_a_type_that_has_changed_is_looked_up_anew_when_asked_to(pool: Pool) -> None:
    await pool.execute("drop type if exists pool_changing cascade; create type pool_changing as (a int)")
    assert await pool.fetchval("select row(1)::pool_changing") == (1,)
    await pool.execute("alter type pool_changing add attribute b text")
    with pytest.raises(DecodeError, match="has changed"):
        await pool.fetchval("select row(1, 'x')::pool_changing")
    pool.forget_types()
    assert await pool.fetchval("select row(1, 'x')::pool_changing") == (1, "x")


def test_every_built_in_type_is_called_what_postgresql_calls_it(postgres: PostgresServer) -> None:
    said = postgres.sql("select oid || ' ' || typname from pg_type where oid < 10000", database="app")
    names = dict(line.split(" ", 1) for line in said.splitlines())
    for codec in BY_NAME.values():
        expected = names[str(codec.oid)]
        assert codec.name in (expected, f"{expected.removeprefix('_')}[]")
