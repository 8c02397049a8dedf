"""The types of a database: codecs by oid. Built-in types are known; others are looked up once for the whole pool.

Source: PostgreSQL's pg_type.dat (oids of built-in types never change); docs, "pg_type", "pg_range", "pg_attribute".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final, Literal

import attrs

from pgpool_core.client.values import Range
from pgpool_core.errors import ConfigError
from pgpool_core.rows import codec, nested, network, numeric, plain, times
from pgpool_core.rows.codec import Codec
from pgpool_core.rows.record import Shape

VECTORS: Final = ("int2vector", "oidvector")  # arrays whose first element is number 0
TEXT: Final = 0
BINARY: Final = 1

TYPES_QUERY: Final = """
with recursive wanted(oid) as (
    select unnest($1::oid[])
    union
    select each.oid
    from wanted
    join pg_catalog.pg_type t on t.oid = wanted.oid
    left join pg_catalog.pg_range r on r.rngtypid = t.oid
    left join pg_catalog.pg_range m on t.typtype = 'm' and to_jsonb(m) ->> 'rngmultitypid' = t.oid::text
    left join pg_catalog.pg_attribute a on t.typtype = 'c' and a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
    cross join lateral (values (t.typelem), (t.typbasetype), (r.rngsubtype), (m.rngtypid), (a.atttypid)) as each(oid)
    where each.oid <> 0
)
select t.oid, t.typname::text as name, n.nspname::text as schema, t.typtype::text as kind, t.typbasetype as base,
    case when t.typcategory = 'A' and t.typlen = -1 then t.typelem else 0 end as element,
    coalesce(e.typdelim, ',')::text as delimiter,
    coalesce(r.rngsubtype, m.rngtypid, 0) as subtype,
    array(select a.attname::text from pg_catalog.pg_attribute a where t.typtype = 'c' and a.attrelid = t.typrelid
        and a.attnum > 0 and not a.attisdropped order by a.attnum) as names,
    array(select a.atttypid from pg_catalog.pg_attribute a where t.typtype = 'c' and a.attrelid = t.typrelid
        and a.attnum > 0 and not a.attisdropped order by a.attnum) as types
from wanted
join pg_catalog.pg_type t on t.oid = wanted.oid
join pg_catalog.pg_namespace n on n.oid = t.typnamespace
left join pg_catalog.pg_type e on e.oid = t.typelem
left join pg_catalog.pg_range r on r.rngtypid = t.oid
left join pg_catalog.pg_range m on t.typtype = 'm' and to_jsonb(m) ->> 'rngmultitypid' = t.oid::text
"""
"""What has to be known of types and of those that they are made of. Its own types are all built in."""

STRANGERS_QUERY: Final = """
select each.name
from unnest($1::text[]) as each(name)
where not exists (
    select from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace
    where t.typname::text = each.name or n.nspname || '.' || t.typname = each.name
)
order by each.name
"""
"""Which of these names no type has."""

COLUMNS_QUERY: Final = """
select a.attname::text as name
from pg_catalog.pg_attribute a
where a.attrelid = ($1::text[])[1]::regclass and a.attnum > 0 and not a.attisdropped
    and coalesce(to_jsonb(a) ->> 'attgenerated', '') = ''
order by a.attnum
"""
"""What COPY FROM takes where it names no columns. PostgreSQL 11 generates none."""

_CATALOGUED_AS: Final = {
    "bigint": "int8", "boolean": "bool", "char": "bpchar", "character": "bpchar", "character varying": "varchar", "decimal": "numeric",
    "double precision": "float8", "int": "int4", "integer": "int4", "real": "float4", "smallint": "int2",
    "time with time zone": "timetz", "time without time zone": "time", "timestamp with time zone": "timestamptz",
    "timestamp without time zone": "timestamp",
}  # fmt: skip
"""What a type that SQL calls so is called in pg_type."""


def _built_in() -> dict[int, Codec]:
    text = {25: "text", 19: "name", 1042: "bpchar", 1043: "varchar", 705: "unknown", 2275: "cstring"}
    known: list[Codec] = [codec.Text(oid, name) for oid, name in text.items()]
    known += [
        codec.Void(2278, "void"),
        plain.Bool(16, "bool"),
        plain.Bytea(17, "bytea"),
        plain.Char(18, "char"),
        plain.Int8(20, "int8"),
        plain.Int2(21, "int2"),
        plain.Int4(23, "int4"),
        plain.Oid(26, "oid"),
        plain.Oid(28, "xid"),
        plain.Oid(29, "cid"),
        plain.Float4(700, "float4"),
        plain.Float8(701, "float8"),
        plain.Uuid(2950, "uuid"),
        plain.Json(114, "json", versioned=False),
        plain.Json(3802, "jsonb", versioned=True),
        plain.Xml(142, "xml"),
        numeric.Numeric(1700, "numeric"),
        times.Date(1082, "date"),
        times.Time(1083, "time"),
        times.TimeTz(1266, "timetz"),
        times.Timestamp(1114, "timestamp"),
        times.TimestampTz(1184, "timestamptz"),
        times.Interval(1186, "interval"),
        network.Inet(869, "inet", network=False),
        network.Inet(650, "cidr", network=True),
    ]
    by_oid = {each.oid: each for each in known}
    arrays = {
        1000: 16, 1001: 17, 1002: 18, 1003: 19, 1016: 20, 1005: 21, 1007: 23, 1009: 25, 1028: 26, 199: 114, 1021: 700,
        1022: 701, 1014: 1042, 1015: 1043, 1182: 1082, 1183: 1083, 1115: 1114, 1185: 1184, 1187: 1186, 1270: 1266,
        1231: 1700, 2951: 2950, 3807: 3802, 1041: 869, 651: 650, 143: 142,
    }  # fmt: skip
    for oid, element in arrays.items():
        by_oid[oid] = nested.Array(oid, f"{by_oid[element].name}[]", element=by_oid[element])
    by_oid[22] = nested.Array(22, "int2vector", element=by_oid[21], lower=0)
    by_oid[30] = nested.Array(30, "oidvector", element=by_oid[26], lower=0)
    ranges = {3904: ("int4", 23), 3906: ("num", 1700), 3908: ("ts", 1114), 3910: ("tstz", 1184), 3912: ("date", 1082), 3926: ("int8", 20)}  # fmt: skip
    for oid, (name, element) in ranges.items():
        by_oid[oid] = nested.Range(oid, f"{name}range", element=by_oid[element], factory=Range)
    by_oid[2249] = nested.Anonymous(2249, "record", known=by_oid)
    return by_oid


BUILT_IN: Final = _built_in()


@attrs.frozen(kw_only=True)
class CustomCodec:
    """What a user has said of a type."""

    decode: Callable[[Any], Any] | None
    encode: Callable[[Any], Any] | None
    format: Literal["text", "binary"]


class Catalogue:
    """Codecs of one database, as its users have changed them."""

    def __init__(self) -> None:
        self._known = dict(BUILT_IN)
        self._looked_up: set[int] = set()
        self._custom: dict[str, CustomCodec] = {}
        self.unproved: set[str] = set()
        """Names of custom codecs of which it is not known yet that a type has them."""
        self.version = 0
        """Changes with every codec that is set: statements prepared before know the old ones."""

    def set_custom(self, name: str, custom: CustomCodec | None) -> None:
        """From now on values of the type `name` (or `schema.name`) are read and written so; None: as if nobody had said anything."""
        if custom is None:
            self._custom.pop(name, None)
            self.unproved.discard(name)
        else:
            self._custom[name] = custom
            self.unproved.add(name)
        self.forget()

    def prove(self, asked: Iterable[str], rows: Iterable[Any]) -> None:
        """Take in what STRANGERS_QUERY has said of the names that were `asked` about.

        Raises:
            ConfigError: there is no type of such a name.
        """
        strangers = [row.name for row in rows]
        self.unproved.difference_update(set(asked).difference(strangers))
        if strangers:
            name = strangers[0]
            text = f"set_codec: the database has no type {name!r}"
            if name.endswith("[]"):
                text += f": an array is called {'_' + name[:-2]!r}"
            elif (known := _CATALOGUED_AS.get(name.lower())) is not None:
                text += f": it is called {known!r} there"
            else:
                text += " (name or schema.name as pg_type has them): create it before a query has values"
            raise ConfigError(text)

    def forget(self) -> None:
        """Look up everything anew, because types have been changed."""
        self._looked_up.clear()
        self._known.clear()
        self._known.update(BUILT_IN)
        self.version += 1

    def missing(self, oids: Iterable[int]) -> list[int]:
        """Those that have to be looked up. A custom codec is found by name, so with one even built-in types are looked up."""
        known = self._looked_up if self._custom else self._known
        return sorted({oid for oid in oids if oid not in known})

    def codecs(self, oids: Iterable[int]) -> list[Codec]:
        """The codec of each."""
        return [self._known[oid] for oid in oids]

    def learn(self, asked: Iterable[int], rows: Iterable[Any]) -> None:
        """Take in what TYPES_QUERY has said; a type that it does not know is text."""
        found = {row.oid: row for row in rows}
        self._looked_up.update(asked)
        for oid in self._looked_up:
            if oid not in found and oid not in self._known:
                self._known[oid] = codec.Text(oid, f"type {oid}", format=TEXT)
        done: set[int] = set()
        for oid in found:
            self._make(oid, found, done)

    def _make(self, oid: int, found: dict[int, Any], done: set[int]) -> Codec:
        """The codec of a type whose parts may be unknown still; a type that contains itself is text there."""
        row = found.get(oid)
        if row is None or oid in done:
            return self._known.get(oid) or codec.Text(oid, f"type {oid}", format=TEXT)
        done.add(oid)
        made = self._custom_for(row) or self._made_of(row, found, done)
        self._known[oid] = made
        self._looked_up.add(oid)
        return made

    def _custom_for(self, row: Any) -> Codec | None:
        custom = self._custom.get(f"{row.schema}.{row.name}") or self._custom.get(row.name)
        if custom is None:
            return None
        return codec.Custom(
            row.oid,
            row.name,
            format=TEXT if custom.format == "text" else BINARY,
            loader=custom.decode,
            dumper=custom.encode,
        )

    def _made_of(self, row: Any, found: dict[int, Any], done: set[int]) -> Codec:
        oid, name = row.oid, row.name
        unknown = codec.Text(oid, name, format=TEXT)
        if row.element:
            element = self._make(row.element, found, done)
            if element.format == BINARY:
                lower = 0 if name in VECTORS else 1
                return nested.Array(oid, f"{element.name}[]", element=element, element_oid=row.element, lower=lower)
            return nested.TextArray(oid, f"{element.name}[]", element=element, delimiter=row.delimiter)
        if oid in BUILT_IN and row.kind in ("b", "p"):  # base types and pseudo-types
            return BUILT_IN[oid]
        if row.kind == "e":
            return codec.Text(oid, name)
        if row.kind == "d":
            return self._make(row.base, found, done)
        if row.kind == "c":
            parts = [self._make(each, found, done) for each in row.types]
            if all(part.format == BINARY for part in parts):
                return nested.Composite(oid, name, shape=Shape(row.names, parts), oids=row.types)
            return unknown
        if row.kind in ("r", "m"):
            part = self._make(row.subtype, found, done)
            if part.format != BINARY:
                return unknown
            if row.kind == "r":
                return nested.Range(oid, name, element=part, factory=Range)
            return nested.Multirange(oid, name, element=part)
        if name == "hstore" and row.kind == "b":
            return nested.Hstore(oid, name)
        return unknown
