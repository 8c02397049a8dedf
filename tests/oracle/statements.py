"""Texts of SQL by what they do to their session. Their answers must not depend on who else is there.

Differences between a pooler and PostgreSQL that are known and accepted, and therefore not asked for here:

- once any client of a server has set a custom setting, its value where it is not set is '' and no longer null
  (PostgreSQL forgets the name with its connection only): `coalesce` hides that, and SHOW and RESET of one that this
  client has not set are not tried;
- `source` and `reset_val` in pg_settings: what a client began with is replayed, so PostgreSQL sees a SET;
- the name of the temporary schema, and whether there is one yet; settings of a library (`plpgsql`) that another client has had loaded;
- RESET of what a startup packet has given: the value comes back behind the transaction, and what PostgreSQL reports
  meanwhile is the server's default. Texts that `goes_back` finds are given to such clients only by `back`, in a
  transaction of their own.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import attrs

from tests.oracle.script import Beginning

__all__ = ["INVENTORY", "KINDS", "Text", "Who", "back", "beginning", "goes_back"]

# Everything that a session can have, as PostgreSQL's catalogues tell it.
INVENTORY = (
    "select 's', name, setting from pg_catalog.pg_settings where name not like 'plpgsql.%'"
    " union all select 'n', n, coalesce(current_setting(n, true), '')"
    " from unnest(array['role', 'session_authorization', 'app.a', 'app.b', 'deep.er.c']) n"
    " union all select 'p', name, statement from pg_catalog.pg_prepared_statements where from_sql"
    " union all select 'c', name, is_holdable::text from pg_catalog.pg_cursors where name not in ('', 'out')"
    " union all select 'l', c, '' from pg_catalog.pg_listening_channels() c"
    " union all select 't', relname, relkind::text from pg_catalog.pg_class"
    " where relnamespace = pg_catalog.pg_my_temp_schema() and relkind in ('r', 'v', 'S')"
    " union all select 'k', mode, count(*)::text from pg_catalog.pg_locks"
    " where locktype = 'advisory' and pid = pg_catalog.pg_backend_pid() group by mode"
    " order by 1, 2, 3"
)

SETTINGS = (
    ("work_mem", ("'5MB'", "'77MB'", "4096", "default")),
    (
        "search_path",
        ("s1", "s1, public", '"S 2", s1', '"$user", public', "''", "'s1, public'", "default", "pg_catalog, s1"),
    ),
    ("DateStyle", ("'German'", "'ISO, DMY'", "'SQL, MDY'", "iso", "default")),
    ("TimeZone", ("'Europe/Oslo'", "'UTC'", "-7", "default", "'Asia/Tokyo'")),
    ("IntervalStyle", ("iso_8601", "'postgres'", "default")),
    ("client_encoding", ("'LATIN1'", "'UTF8'", "sql_ascii", "default", "utf8")),
    ("application_name", ("'one'", "'it''s'", "''", "default")),
    ("standard_conforming_strings", ("on", "off", "default")),
    ("extra_float_digits", ("0", "3", "-5", "default")),
    ("bytea_output", ("escape", "hex", "default")),
    ("statement_timeout", ("'1h'", "'2h'", "0", "default")),
    ("lock_timeout", ("5000", "0", "default")),
    ("default_transaction_isolation", ("serializable", "'repeatable read'", "default")),
    ("default_transaction_read_only", ("on", "off", "default")),
    ("enable_seqscan", ("off", "on", "default")),
    ("temp_tablespaces", ("''", "default")),
    ("row_security", ("off", "on")),
    ("xmloption", ("document", "content")),
    ("constraint_exclusion", ("on", "default")),
    ("session_replication_role", ("replica", "default")),
    ("dynamic_library_path", ("'$libdir:/tmp'", "default")),
    ("log_min_messages", ("error", "default")),
    ("app.a", ("'1'", "''", "'it''s \\'", "two", "default", "'Łódź'", "'Bodø'")),
    ("app.b", ("'x, y'", "default")),
    ("deep.er.c", ("'c'", "12")),
    ("no_such_setting", ("1",)),
    ("work_mem", ("'nonsense'", "-5")),
)
NAMES = tuple(dict.fromkeys(name for name, _ in SETTINGS if "." not in name))


@attrs.frozen
class Who:
    """What is a client's own: a word for names, and the first of a hundred lock keys."""

    word: str
    key: int


@attrs.frozen
class Text:
    """A text; `keeps` as in Talk, `alone` where it may not share a Query or a group with others, `then` is sent behind it."""

    sql: str
    keeps: bool = False
    alone: bool = False
    values: tuple[str, ...] = ()
    then: str = ""


Kind = Callable[[random.Random, Who], Text]


def _set(rng: random.Random, who: Who) -> Text:
    name, values = rng.choice(SETTINGS)
    how = rng.choice(("set", "set", "set", "set session", "set local", "SET\n"))
    return Text(f"{how} {name} {rng.choice(('=', 'to'))} {rng.choice(values)}")


def _reset(rng: random.Random, who: Who) -> Text:
    return Text(rng.choice((f"reset {rng.choice(NAMES)}", f"reset {rng.choice(NAMES)}", "reset all")))


def _set_config(rng: random.Random, who: Who) -> Text:
    name, values = rng.choice([(n, v) for n, v in SETTINGS if n != "search_path"])
    value = rng.choice([v for v in values if v != "default"] or ["''"])
    value = value if value.startswith("'") else f"'{value}'"
    local = rng.choice(("true", "false", "false"))
    if rng.random() < 0.4:
        return Text(f"select set_config($1, $2, {local})", values=(name, value[1:-1].replace("''", "'")))
    return Text(f"select set_config('{name}', {value}, {local})")


def _special(rng: random.Random, who: Who) -> Text:
    return Text(
        rng.choice(
            (
                "set role reader",
                "set role none",
                "reset role",
                "set local role reader",
                "set role app",
                "set session authorization app",
                "set session authorization reader",
                "set session authorization default",
                "reset session authorization",
                "set local session authorization app",
                "set session characteristics as transaction read only",
                "set session characteristics as transaction isolation level serializable, read write",
                "set session characteristics as transaction deferrable",
                "set time zone 'Europe/Oslo'",
                "set time zone local",
                "set time zone interval '2' hour",
                "reset time zone",
                "set names 'LATIN1'",
                "set names",
                "set schema 's1'",
                "set transaction isolation level repeatable read",
                "set transaction read only",
                "set constraints all deferred",
                "set xml option document",
                "set role no_such_role",
                "select set_config('role', 'reader', false)",
                "update pg_settings set setting = '7MB' where name = 'work_mem'",
            )
        )
    )


def _discard(rng: random.Random, who: Who) -> Text:
    text = rng.choice(
        (
            "discard all",
            "discard all",
            "discard plans",
            "discard temp",
            "discard sequences",
            "deallocate all",
            "close all",
            "begin; unlisten *; commit",
        )
    )
    return Text(text, alone=rng.random() < 0.9)


def _transaction(rng: random.Random, who: Who) -> Text:
    return Text(
        rng.choice(
            ("begin",) * 5
            + ("commit",) * 5
            + ("rollback",) * 3
            + (
                "start transaction read only",
                "begin isolation level serializable",
                "commit and chain",
                "rollback and chain",
                "end",
                "abort",
                "savepoint a",
                "savepoint a",
                "savepoint b",
                "rollback to a",
                "rollback to savepoint b",
                "release a",
                "release b",
                "prepare transaction 'x'",
            )
        )
    )


def _error(rng: random.Random, who: Who) -> Text:
    return Text(
        rng.choice(("select 1/0", "selec 1", "select * from no_such_table", "select 'a'::int", "table spot, ("))
    )


def _temp(rng: random.Random, who: Who) -> Text:
    name = rng.choice(("t1", "t2"))
    return Text(
        rng.choice(
            (
                f"create temp table {name} (a int)",
                f"create temp table {name} (a int) on commit drop",
                f"create temporary table if not exists {name} (a int) on commit delete rows",
                f"create temp table {name} on commit preserve rows as select 1 as a",
                f"create table pg_temp.{name} (a int)",
                f"select 1 as a into temp {name}",
                f"create temp view v_{name} as select 1 as a",
                f"create temp sequence q_{name}",
                f"insert into {name} values (3)",
                f"insert into {name} values (3)",
                f"select * from {name}",
                f"select * from pg_temp.{name}",
                f"drop table {name}",
                f"drop table if exists {name}",
                f"drop view v_{name}",
                f"alter table {name} rename to {name}_",
                f"drop table {name}_",
                f"truncate {name}",
                f"drop sequence q_{name}",
                f"do 'begin create temp table {name} (a int); end'",
                f"explain (analyze, costs off, timing off, summary off) create temp table {name} as select 1 as a",
                f"create temp table {name} (a int); drop table {name}",
                "create function pg_temp.f() returns int language sql return 1",
                "select proname from pg_proc where pronamespace = pg_my_temp_schema()",
                "create function pg_temp.f() returns int language sql return 1; drop function pg_temp.f()",
                "create type pg_temp.pair as (a int, b int)",
                "create domain pg_temp.few as int check (value < 3)",
            )
        ),
        keeps=True,
    )


def _cursor(rng: random.Random, who: Who) -> Text:
    name = rng.choice(("c1", "c2"))
    return Text(
        rng.choice(
            (
                f"declare {name} cursor with hold for select generate_series(1, 9)",
                f"declare {name} cursor with hold for select generate_series(1, 9)",
                f"begin; declare {name} cursor with hold for select generate_series(1, 9); commit",
                f"declare {name} scroll cursor for select generate_series(1, 9)",
                f"declare {name} cursor with hold for select 1 / (generate_series(1, 3) - 2)",
                f"fetch 2 from {name}",
                f"fetch 2 from {name}",
                f"move 1 from {name}",
                f"close {name}",
                f"close {name}",
            )
        ),
        keeps=True,
    )


def _prepare(rng: random.Random, who: Who) -> Text:
    name = rng.choice(("p1", "p2"))
    return Text(
        rng.choice(
            (
                f"prepare {name} as select here from spot",
                f"prepare {name} as select set_config('app.b', 'prepared', false)",
                f"prepare {name} (int) as select set_config('app.a', ($1 + 1)::text, false)",
                f"prepare {name} (int) as select $1 + 1",
                f"prepare {name} as set work_mem = '3MB'",
                f"execute {name}",
                f"execute {name}",
                f"execute {name} (4)",
                f"explain (costs off) execute {name}",
                f"deallocate {name}",
                f"deallocate prepare {name}",
                f"create temp table from_{name} as execute {name}",
            )
        ),
        keeps=True,
    )


def _lock(rng: random.Random, who: Who) -> Text:
    key = rng.choice((str(who.key + rng.randrange(3)), f"{who.key}, {rng.randrange(3)}"))
    return Text(
        rng.choice(
            (
                f"select pg_advisory_lock({key})",
                f"select pg_try_advisory_lock({key})",
                f"select pg_advisory_lock_shared({key})",
                f"select pg_try_advisory_lock_shared({key})",
                f"select pg_advisory_xact_lock({key})",
                f"select pg_try_advisory_xact_lock_shared({key})",
                f"select pg_advisory_unlock({key})",
                f"select pg_advisory_unlock({key})",
                f"select pg_advisory_unlock_shared({key})",
                "select pg_advisory_unlock_all()",
                f"do 'begin perform pg_advisory_lock({key}); end'",
                f"select pg_catalog.pg_advisory_lock({key}), pg_advisory_lock({key})",
                f"with l as (select pg_advisory_lock({key})) select count(*) from (select * from l) l",
            )
        ),
        keeps=True,
    )


def _listen(rng: random.Random, who: Who) -> Text:
    channel = f"ch_{who.word}_{rng.randrange(2)}"
    return Text(
        rng.choice(
            (
                f"begin; listen {channel}; commit",  # alone it is answered without a server, which the catalogues do not show
                f"begin; listen {channel}; commit",  # alone it is answered without a server, which the catalogues do not show
                f"begin; unlisten {channel}; commit",
                "begin; unlisten *; commit",
                f"notify {channel}",
                f"notify {channel}, 'payload'",
                f"select pg_notify('{channel}', 'p')",
            )
        ),
        keeps=True,
    )


def _hidden(rng: random.Random, who: Who) -> Text:
    return Text(
        rng.choice(
            (
                "do $$begin set work_mem = '9MB'; end$$",
                "do $$begin perform set_config('app.b', 'done', false); end$$",
                "do language plpgsql 'begin execute ''set ''||''lock_timeout = 777''; end'",
                "do $$begin execute 'listen ch_' || 'hidden'; end$$",
                "do $$begin prepare p3 as select 1; end$$",
                "do $$begin perform 1/0; exception when others then set work_mem = '2MB'; end$$",
                "select public.quietly()",
                "select q from public.pane",
                "insert into public.trap values (1)",
                "with t as (insert into public.trap values (2) returning n) select n from t",
                "select public.act('set lock_timeout = 778')",
            )
        ),
        keeps=True,
    )


def _look(rng: random.Random, who: Who) -> Text:
    return Text(
        rng.choice(
            (
                INVENTORY,
                f"show {rng.choice(NAMES)}",
                f"show {rng.choice(NAMES)}",
                "select current_user, session_user, current_schemas(false)",
                "select here from spot",
                "select here from spot",
                "select '2020-02-03 04:05:06+00'::timestamptz, '1 day 2 hours'::interval, 0.1::float8, '\\x41'::bytea",
                "select coalesce(current_setting('app.a', true), ''), coalesce(current_setting('app.b', true), '')",
                "select 'a\\\\b', length('a\\\\b')",
                "show transaction_isolation",
                "show transaction_read_only",
                "show is_superuser",
            )
        )
    )


def _timeout(rng: random.Random, who: Who) -> Text:
    """A statement that the server ends. How far it has come by then must not show: one without RowDescription does it.

    The setting never outlives the transaction: every later text would be a race with it.
    """
    return Text(
        rng.choice(
            (
                "begin; set local statement_timeout = 15",
                "begin; set work_mem = '6MB'; set local statement_timeout = 15",
                "begin; savepoint a; set statement_timeout = 15",
            )
        ),
        alone=True,
        then="delete from public.spot where pg_sleep(60) is null",
    )


KINDS: dict[str, tuple[int, Kind]] = {
    "set": (10, _set),
    "reset": (4, _reset),
    "set_config": (5, _set_config),
    "special": (5, _special),
    "discard": (2, _discard),
    "transaction": (12, _transaction),
    "error": (2, _error),
    "temp": (5, _temp),
    "cursor": (4, _cursor),
    "prepare": (4, _prepare),
    "lock": (4, _lock),
    "listen": (3, _listen),
    "hidden": (2, _hidden),
    "look": (16, _look),
    "timeout": (1, _timeout),
}

_BEGINNINGS = (
    ("application_name", ("me", "someone else")),
    ("DateStyle", ("German", "ISO, DMY")),
    ("TimeZone", ("Asia/Tokyo", "Europe/Oslo")),
    ("client_encoding", ("LATIN1", "UTF8", "utf-8")),
    ("search_path", ("s1", '"S 2", s1')),
    ("work_mem", ("7MB", "8192")),
    ("app.a", ("from the start",)),
    ("extra_float_digits", ("3",)),
    ("options", ("-c lock_timeout=123", "-c search_path=s1,public --work_mem=6MB", "-c app.b=from\\ options")),
)


def beginning(rng: random.Random) -> tuple[str, dict[str, str]]:
    """A user and startup parameters."""
    user = rng.choice(("app", "app", "app", "boss"))
    chosen = rng.sample(_BEGINNINGS, rng.choice((0, 0, 1, 2, 3)))
    return user, {name: rng.choice(values) for name, values in chosen}


def back(rng: random.Random, begins: Beginning) -> str:
    """A text that gives up what the session has set; custom settings by their names only where it began with them."""
    own = [name for name in begins.parameters if name != "options"]
    name = rng.choice([*own, *own, *NAMES])
    return rng.choice((f"reset {name}", f"set {name} to default", "reset all", "reset all", "discard all"))


def goes_back(sql: str) -> bool:
    """Whether a setting may get the value that its session began with."""
    return any(word in sql.lower() for word in ("reset", "default", "discard all", "zone local", "set names"))
