"""Session state in transaction mode: each client has its own, on whatever server; the same tests run on PostgreSQL itself.

With a pool of one server, two clients take turns on it: what leaks is seen by the other at once.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from pgpool_core.testing import Message, ScriptedPeer, frontend
from tests.conftest import PoolerFactory, Target
from tests.peers import letters, logged_in, values

SAME = pytest.mark.parametrize("target", ["direct", "pgpool_core"], indirect=True)
ONE_SERVER = pytest.mark.pooler(default_pool_size=1)
TWO_SERVERS = pytest.mark.pooler(default_pool_size=2)

SETTING_TEXTS = {
    "a number": ("set work_mem = '77MB'", "show work_mem", b"77MB"),
    "a list": ('set search_path = "$user", pg_catalog, "a b"', "show search_path", b'"$user", pg_catalog, "a b"'),
    "an empty list": ("set search_path = ''", "show search_path", b'""'),
    "of our own": ("set app.tenant = 'it''s \\'", "select current_setting('app.tenant')", b"it's \\"),
    "beyond ASCII": ("set app.city = 'Łódź'", "select current_setting('app.city')", "Łódź".encode()),
    "with room around the dot": (
        """set "app" /* . */ . -- x
        room = 'r'""",
        "select current_setting('app.room')",
        b"r",
    ),
    "with room in a block": (
        "do $$begin execute 'set app . deep = 1'; end$$",
        "select current_setting('app.deep')",
        b"1",
    ),
    "by a function": ("select set_config('app.f', 'x', false)", "select current_setting('app.f')", b"x"),
    "between dollars": (
        "select set_config($$app.dollars$$, 'x', false)",
        "select current_setting('app.dollars')",
        b"x",
    ),
    "between tags": (
        "do 'begin perform set_config($n$app.tags$n$, $v$x$v$, false); end'",
        "select current_setting('app.tags')",
        b"x",
    ),
    "in a block": (
        "do $$begin perform set_config('app.d', 'y', false); end$$",
        "select current_setting('app.d')",
        b"y",
    ),
    "characteristics": (
        "set session characteristics as transaction isolation level serializable",
        "show transaction_isolation",
        b"serializable",
    ),
    "between comments": ("/* a /* b */ c */ SeT -- x\n statement_timeout\tTO 9000", "show statement_timeout", b"9s"),
    "several": ("set work_mem = '1MB'; set lock_timeout = 5; select 1", "show lock_timeout", b"5ms"),
    "long": (f"set app.long = '{'l' * 20000}'", "select nullif(length(current_setting('app.long')), 0)", b"20000"),
}


def codes(messages: Sequence[Message]) -> list[str]:
    """The SQLSTATE of every ErrorResponse."""
    return [message.fields["C"] for message in messages if message.type == b"E"]


async def one_value(client: ScriptedPeer, sql: str) -> bytes | None:
    return values(await client.query(sql))[0][0]


# As long as makes its length, which stands in front of it, a letter.
NUMBERED = "app.by_number_" + "_" * 57


def function_call(oid: int, *arguments: bytes) -> bytes:
    """All in text format."""
    given = b"".join(struct.pack("!i", len(one)) + one for one in arguments)
    body = struct.pack("!IhH", oid, 0, len(arguments)) + given + struct.pack("!h", 0)
    return b"F" + struct.pack("!I", 4 + len(body)) + body


@SAME
@ONE_SERVER
@pytest.mark.parametrize(("text", "ask", "value"), SETTING_TEXTS.values(), ids=SETTING_TEXTS.keys())
async def test_a_setting_is_its_clients_own(target: Target, text: str, ask: str, value: bytes) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        before = await two.query(ask)
        assert not codes(await one.query(text))
        for _ in range(2):
            assert await one_value(one, ask) == value
            after = await two.query(ask)
            assert values(after) in (values(before), [[b""]], [[None]])


@SAME
@ONE_SERVER
async def test_what_is_rolled_back_is_not_kept_and_what_was_there_is(target: Target) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        await one.query("set work_mem = '10MB'")
        await one.query("begin")
        await one.query("set work_mem = '11MB'")
        await one.query("savepoint s")
        await one.query("set work_mem = '12MB'")
        await one.query("rollback to s")
        assert await one_value(one, "show work_mem") == b"11MB"
        await one.query("rollback")
        assert await one_value(two, "show work_mem") == b"4MB"
        assert await one_value(one, "show work_mem") == b"10MB"
        assert codes(await one.query("set work_mem = '13MB'; select 1/0")) == ["22012"]
        assert await one_value(two, "show work_mem") == b"4MB"
        assert await one_value(one, "show work_mem") == b"10MB"


@ONE_SERVER
@pytest.mark.parametrize("target", ["pgpool_core"], indirect=True)
async def test_a_query_does_not_run_where_its_settings_have_been_refused(target: Target) -> None:
    """They have been taken before, and go in front of the query; meanwhile somebody has dropped what they name."""
    async with logged_in(target) as one, logged_in(target) as two:
        await two.query(
            "create table written (by_whom text); create text search configuration gone_soon (copy = simple)"
        )
        await one.query("set app.tenant = 'one'; set default_text_search_config = 'gone_soon'")
        await two.query("set app.tenant = 'two'")
        assert await one_value(one, "select current_setting('app.tenant')") == b"one"
        await two.query("drop text search configuration gone_soon")
        await one.send(frontend.query("insert into written values (current_setting('app.tenant'))"))
        refusal = await one.receive()
        assert refusal is not None and codes([refusal]) == ["22023"]
        assert values(await two.query("select by_whom from written")) == []
        assert await one_value(two, "select current_setting('app.tenant')") == b"two"
        await two.query("drop table written")


@SAME
@ONE_SERVER
async def test_a_statement_prepared_before_may_name_a_setting_in_its_text(target: Target) -> None:
    ask = "select nullif(current_setting('app.by_text', true), '')"
    async with logged_in(target) as one, logged_in(target) as two:
        await one.send(frontend.parse("select set_config('app.by_text', $1, false)", "s"), frontend.sync())
        assert letters(await one.until("Z")) == "1Z"
        for value in ("x", "y"):
            await one.send(frontend.bind("s", "", (value,)), frontend.execute(), frontend.sync())
            assert values(await one.until("Z")) == [[value.encode()]]
            assert await one_value(two, ask) is None
            assert await one_value(one, ask) == value.encode()


@SAME
@ONE_SERVER
async def test_a_statement_of_sqls_prepare_may_name_a_setting_in_its_text(target: Target) -> None:
    ask = "select nullif(current_setting('app.by_sql', true), '')"
    async with logged_in(target) as one, logged_in(target) as two:
        await one.query("prepare s as select set_config('app.by_sql', $1, false)")
        await one.query("select 1")
        await one.query("execute s ('x')")
        await one.query("deallocate s")
        assert await one_value(two, ask) is None
        assert await one_value(one, ask) == b"x"


@SAME
@ONE_SERVER
@pytest.mark.parametrize(
    "name", ["app." + "n" * 70, f'"app.{"n" * 70}"', "n" * 70 + "." + "m" * 70], ids=["behind", "quoted", "both"]
)
async def test_a_name_that_is_too_long_for_an_identifier(target: Target, name: str) -> None:
    """PostgreSQL cuts it where it stands in a SET, and not in a string."""
    ask = f"select nullif(current_setting('{name}', true), '')" if '"' not in name else f"show {name}"
    said = "select set_config('{}', '{}', false)" if '"' not in name else "set {} = '{}'"
    async with logged_in(target) as one, logged_in(target) as two:
        await one.query(said.format(name, "whole"))
        await one.query(f"set {name} = 'cut'")
        seen = await one.query(f"show {name}")
        assert values(seen) == [[b"cut"]]
        before = await one.query(ask)
        assert [b"whole"] in values(before) or '"' in name
        answer = await two.query(f"show {name}")
        assert not values(answer) or values(answer) == [[b""]]
        answer = await two.query(ask)
        assert not values(answer) or values(answer)[0][0] in (b"", None)
        assert values(await one.query(ask)) == values(before)
        assert values(await one.query(f"show {name}")) == [[b"cut"]]


@SAME
@ONE_SERVER
async def test_a_function_called_by_its_number(target: Target) -> None:
    """FunctionCall, of set_config (oid 2078) and pg_advisory_lock (2880)."""
    ask = f"select nullif(current_setting('{NUMBERED}', true), '')"
    locks = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
    async with logged_in(target) as one, logged_in(target) as two:
        await one.send(function_call(2078, NUMBERED.encode(), b"x", b"f"))
        assert letters(await one.until("Z")) == "VZ"
        assert await one_value(two, ask) is None
        assert await one_value(one, ask) == b"x"
    async with logged_in(target) as one:
        await one.send(function_call(2880, b"77"))
        assert letters(await one.until("Z")) == "VZ"
        assert await one_value(one, locks) == b"1"
    async with logged_in(target) as two:
        assert await one_value(two, locks) == b"0"


@SAME
@ONE_SERVER
async def test_a_setting_named_where_a_very_long_text_begins(target: Target) -> None:
    ask = "select nullif(current_setting('app.by_long', true), '')"
    async with logged_in(target) as one, logged_in(target) as two:
        await one.query(f"set app.by_long = 'x'; select length('{'1.e ' * 50_000}')")
        assert await one_value(two, ask) is None
        assert await one_value(one, ask) == b"x"


@SAME
@ONE_SERVER
@pytest.mark.parametrize("text", ["reset app.own", "set app.own to default", "begin; reset all; commit", "discard all"])
async def test_a_setting_of_ones_own_goes_back_to_what_the_client_began_with(target: Target, text: str) -> None:
    ask = "select current_setting('app.own', true)"
    async with logged_in(target, options="-c app.own=began") as one, logged_in(target) as two:
        for _ in range(3):
            await one.query("set app.own = 'other'")
            assert await one_value(two, ask) in (b"", None)
            await one.query(text)
            assert await one_value(one, ask) == b"began"
            await one.query("set app.own = ''")
            assert await one_value(two, ask) in (b"", None)
            assert await one_value(one, ask) == b""


@SAME
@ONE_SERVER
async def test_set_local_ends_with_its_transaction(target: Target) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        await one.query("begin; set local work_mem = '10MB'")
        assert await one_value(one, "show work_mem") == b"10MB"
        await one.query("commit")
        assert await one_value(two, "show work_mem") == b"4MB"
        assert await one_value(one, "show work_mem") == b"4MB"


@SAME
@ONE_SERVER
@pytest.mark.parametrize("text", ["reset work_mem", "set work_mem to default", "reset all", "discard all"])
async def test_reset_goes_back_to_what_the_client_began_with(target: Target, text: str) -> None:
    began = {"work_mem": "7MB", "TimeZone": "Asia/Tokyo", "options": "-c lock_timeout=123"}
    async with logged_in(target, parameters=began) as one, logged_in(target) as two:
        assert await one_value(one, "show work_mem") == b"7MB"
        assert await one_value(one, "show lock_timeout") == b"123ms"
        await one.query("set work_mem = '8MB'")
        await one.query("set TimeZone = 'UTC'")
        assert await one_value(two, "show work_mem") == b"4MB"
        assert await one_value(one, "show work_mem") == b"8MB"
        await one.query(text)
        assert await one_value(two, "show work_mem") == b"4MB"
        assert await one_value(one, "show work_mem") == b"7MB"
        expected = b"Asia/Tokyo" if "all" in text else b"UTC"
        assert await one_value(one, "show TimeZone") == expected
        assert await one_value(one, "show lock_timeout") == b"123ms"
        assert await one_value(two, "show lock_timeout") == b"0"


@SAME
@ONE_SERVER
@pytest.mark.parametrize("what", ["role", "session authorization"])
async def test_a_role_never_reaches_another_client(target: Target, what: str) -> None:
    async with logged_in(target, "boss") as one, logged_in(target, "boss") as two:
        assert not codes(await one.query(f"set {what} app"))
        for _ in range(2):
            assert await one_value(one, "select current_user") == b"app"
            assert await one_value(two, "select current_user") == b"boss"
        await one.query(f"reset {what}")
        assert await one_value(one, "select current_user") == b"boss"


@SAME
@ONE_SERVER
async def test_settings_in_the_extended_protocol(target: Target) -> None:
    set_it = (
        frontend.parse("select set_config($1, $2, false)")
        + frontend.bind(values=[b"app.name", b"value"])
        + frontend.execute()
        + frontend.sync()
    )
    async with logged_in(target) as one, logged_in(target) as two:
        await one.send(set_it)
        assert letters(await one.until("Z")) == "12DCZ"
        assert values(await two.query("select current_setting('app.name', true)")) in ([[None]], [[b""]])
        assert await one_value(one, "select current_setting('app.name', true)") == b"value"


PINS = {
    "temporary table": ("create temp table mine (a int)", "insert into mine values (1)", "drop table mine"),
    "temporary view": ("create temporary view mine as select 1", "select * from mine", "drop view mine"),
    "made by search_path": (
        "set search_path = pg_temp, public",
        "create table if not exists mine (a int)",
        "drop table mine; reset search_path",
    ),
    "made by search_path, spelled otherwise": (
        """select set_config('search_path', ' "$user" ,"pg_temp",public', false)""",
        "create table if not exists mine (a int)",
        "drop table mine; reset search_path",
    ),
    "made by search_path in capitals": (
        "select set_config('search_path', ' PG_TEMP, public', false)",
        "create table if not exists mine (a int)",
        "drop table mine; reset search_path",
    ),
    "temporary collation": (
        'create collation pg_temp.mine from "C"',
        "select 'a' collate pg_temp.mine",
        "drop collation pg_temp.mine",
    ),
    "temporary operator": (
        "create operator pg_temp.### (function = int4pl, leftarg = int, rightarg = int)",
        "select 1 operator(pg_temp.###) 2",
        "drop operator pg_temp.### (int, int)",
    ),
    "made by select into": ("select 1 as a into temp mine", "insert into mine values (1)", "drop table mine"),
    "prepared statement": ("prepare p as select 1", "execute p", "deallocate p"),
    "lock": ("select pg_advisory_lock(7)", "select 1", "select pg_advisory_unlock(7)"),
    "lock in a block": (
        "do 'begin perform pg_advisory_lock_shared(7); end'",
        "select 1",
        "select pg_advisory_unlock_all()",
    ),
    "listen": ("begin; listen news; commit", "select 1", "unlisten *"),
}


@SAME
@TWO_SERVERS
@pytest.mark.parametrize(("text", "use", "end"), PINS.values(), ids=PINS.keys())
async def test_a_client_keeps_its_server_until_the_state_is_gone(target: Target, text: str, use: str, end: str) -> None:
    async with logged_in(target) as one, logged_in(target) as two, logged_in(target) as three:
        assert not codes(await one.query(text))
        pid = await one_value(one, "select pg_backend_pid()")
        for _ in range(3):
            for other in (two, three):
                assert await one_value(other, "select pg_backend_pid()") != pid
            assert not codes(await one.query(use))
            assert await one_value(one, "select pg_backend_pid()") == pid
        assert not codes(await one.query(end))
        if not target.is_direct:
            await one.query("select 1")
            await two.query("begin")
            await three.query("begin")
            assert pid in (
                await one_value(two, "select pg_backend_pid()"),
                await one_value(three, "select pg_backend_pid()"),
            )


ENDS = {what: (text, end) for what, (text, _, end) in PINS.items() if ";" not in end}


@ONE_SERVER
@pytest.mark.parametrize("target", ["pgpool_core"], indirect=True)
@pytest.mark.parametrize(("text", "end"), ENDS.values(), ids=ENDS.keys())
async def test_what_ends_it_may_have_been_prepared_before(target: Target, text: str, end: str) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        await one.send(frontend.parse(end, "end") + frontend.sync())
        assert not codes(await one.until("Z"))
        for _ in range(2):
            assert not codes(await one.query(text))
            await one.send(frontend.bind("end") + frontend.execute() + frontend.sync())
            assert not codes(await one.until("Z"))
            assert await one_value(one, "select 1") == b"1"
            assert await one_value(two, "select 1") == b"1"


@SAME
@TWO_SERVERS
async def test_a_cursor_with_hold_keeps_its_client_where_it_is(target: Target) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        await one.query("begin")
        await one.query("declare c cursor with hold for select generate_series(1, 9)")
        await one.query("commit")
        assert values(await one.query("fetch 2 from c")) == [[b"1"], [b"2"]]
        assert codes(await two.query("fetch 2 from c")) == ["34000"]
        assert values(await one.query("fetch 2 from c")) == [[b"3"], [b"4"]]
        await one.query("close c")
        assert codes(await one.query("fetch 2 from c")) == ["34000"]


@SAME
@ONE_SERVER
@pytest.mark.parametrize("text", [text for text, *_ in PINS.values()], ids=PINS.keys())
async def test_who_leaves_leaves_nothing_behind(target: Target, text: str) -> None:
    async with logged_in(target) as one:
        assert not codes(await one.query(text))
        await one.query("set work_mem = '99MB'")
    async with logged_in(target) as two:
        assert await one_value(two, "show work_mem") == b"4MB"
        assert await one_value(two, "select count(*) from pg_prepared_statements") == b"0"
        assert await one_value(two, "select count(*) from pg_listening_channels()") == b"0"
        held = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"
        assert await one_value(two, held) == b"0"
        assert codes(await two.query("select * from mine")) == ["42P01"]


@SAME
@ONE_SERVER
async def test_a_temporary_table_that_ends_with_its_transaction_keeps_nobody(target: Target) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        await one.query("begin; create temp table mine on commit drop as select 1 as a; commit")
        assert await one_value(two, "select 1") == b"1"


async def test_as_many_as_may_be_pinned_and_no_more(pooler: PoolerFactory) -> None:
    one_left = pooler(default_pool_size=2, max_pinned_connections=1)
    async with logged_in(one_left) as one, logged_in(one_left) as two, logged_in(one_left) as three:
        assert not codes(await one.query("create temp table a (b int)"))
        await two.send(frontend.query("create temp table a (b int)"))
        await two.expect("C")
        await two.expect("Z")
        await two.expect_error("53400")
        await two.expect_end()
        assert await one_value(three, "select 1") == b"1"
        assert await one_value(one, "select 1") == b"1"


async def test_pins_are_shown(pooler: PoolerFactory) -> None:
    target = pooler(default_pool_size=3, admin_users="app")
    async with logged_in(target, application_name="pinned") as one, logged_in(target, database="pgbouncer") as console:
        assert values(await console.query("show pins")) == []
        await one.query("create temp table mine (a int); listen news")
        pid = await one_value(one, "select pg_backend_pid()")
        ((database, user, _, _, name, reasons, fingerprint, _, server_pid, _, _),) = values(
            await console.query("show pins")
        )
        assert (database, user, name, server_pid) == (b"app", b"app", b"pinned", pid)
        assert reasons == b"listen, temporary object"
        assert fingerprint is not None and len(fingerprint) == 16
        await one.query("drop table mine")
        await one.query("unlisten news")
        await one.query("select 1")
        assert values(await console.query("show pins")) == []


async def test_off_is_pgbouncers_way(pooler: PoolerFactory) -> None:
    off = pooler(default_pool_size=1, session_state="off")
    async with logged_in(off) as one, logged_in(off) as two:
        await one.query("set work_mem = '77MB'")
        assert await one_value(two, "show work_mem") == b"77MB"


async def test_refuse_says_so_inside_the_transaction(pooler: PoolerFactory) -> None:
    strict = pooler(default_pool_size=1, session_state="refuse")
    async with logged_in(strict) as one:
        assert codes(await one.query("set work_mem = '77MB'")) == ["0A000"]
        await one.query("begin")
        assert codes(await one.query("create temp table mine (a int)")) == ["0A000"]
        assert codes(await one.query("select 1")) == ["25P02"]
        await one.query("rollback")
        assert not codes(await one.query("begin; set local work_mem = '77MB'; commit"))
        await one.send(frontend.parse("listen news") + frontend.bind() + frontend.execute() + frontend.sync())
        answer = await one.until("Z")
        assert (letters(answer), codes(answer)) == ("12EZ", ["0A000"])
        assert await one_value(one, "select 1") == b"1"


async def test_refuse_lets_go_on_who_has_called_what_cannot_be_read(pooler: PoolerFactory) -> None:
    """What stands behind a DO block, and what a client does with a temporary table that a DO block has made, makes none."""
    strict = pooler(default_pool_size=1, session_state="refuse")
    texts = ("with x as (select 1) select 1 from x", "show work_mem", "explain select 1", "rollback")
    async with logged_in(strict) as one:
        for text in texts:
            await one.query("do 'begin end'")
            assert not codes(await one.query(text)), text
        await one.query("do 'begin create temp table made (a int); end'")
        await one.query("select 1")
        for text in (*texts, "copy made to stdout"):
            assert not codes(await one.query(text)), text
        assert codes(await one.query("create temp table other (a int)")) == ["0A000"]
        assert not codes(await one.query("drop table made"))


async def test_a_backslash_in_what_is_set_locally_is_nothing_temporary(pooler: PoolerFactory) -> None:
    strict = pooler(default_pool_size=1, session_state="refuse")
    async with logged_in(strict) as one:
        for text in (r"set local app.who = 'OFFICE\anna'", r"select set_config('app.who', 'OFFICE\anna', true)"):
            assert not codes(await one.query(f"begin; {text}; commit")), text
        assert codes(await one.query(r"begin; set local app.who = 'a\b'; create temp table t (a int); commit"))
    lenient = pooler(default_pool_size=1, session_state="warn")
    async with logged_in(lenient) as one:
        answer = await one.query(r"begin; set local app.who = 'OFFICE\anna'; commit")
        assert "N" not in letters(answer)


async def test_pin_keeps_the_client_where_it_is(pooler: PoolerFactory) -> None:
    simple = pooler(default_pool_size=2, session_state="pin")
    async with logged_in(simple) as one, logged_in(simple) as two:
        await one.query("set work_mem = '77MB'")
        pid = await one_value(one, "select pg_backend_pid()")
        for _ in range(3):
            assert await one_value(two, "select pg_backend_pid()") != pid
            assert await one_value(two, "show work_mem") == b"4MB"
        assert await one_value(one, "show work_mem") == b"77MB"
    async with logged_in(simple) as three, logged_in(simple) as four:
        await three.query("begin")
        await four.query("begin")
        assert [await one_value(who, "show work_mem") for who in (three, four)] == [b"4MB", b"4MB"]


async def test_a_sequence_never_tells_another_clients_value(pooler: PoolerFactory) -> None:
    """Within a transaction currval is one's own; across transactions it is refused rather than somebody else's."""
    place = pooler(default_pool_size=1)
    async with logged_in(place) as one, logged_in(place) as two:
        await one.query("drop table if exists numbered; create table numbered (id serial, who text)")
        try:
            await one.query("insert into numbered (who) values ('one')")
            for ask in ("select currval('numbered_id_seq')", "select LastVal()"):
                assert codes(await two.query(ask)) == ["55000"]
            await one.query("begin")
            await one.query("insert into numbered (who) values ('one')")
            assert await one_value(one, "select lastval()") == b"2"
            assert await one_value(one, "select currval('numbered_id_seq')") == b"2"
            await one.query("commit")
            assert codes(await two.query("select lastval()")) == ["55000"]
            assert await one_value(two, "select nextval('numbered_id_seq')") == b"3"
            await one.query("insert into numbered (who) values ('one')")
            assert codes(await two.query("begin; select lastval(); commit")) == ["55000"]
        finally:
            await two.query("rollback; drop table numbered")


SEQUENCE_READERS = {
    "an escaped name": frontend.query("select U&\"currv\\0061l\"('numbered_id_seq')"),
    "a text too long to be read": frontend.query(f"select '{'x' * 1_100_000}', lastval()"),
    "a function called by its number": function_call(2559),
}


@pytest.mark.parametrize("ask", SEQUENCE_READERS.values(), ids=SEQUENCE_READERS.keys())
async def test_nor_where_the_word_cannot_be_read(pooler: PoolerFactory, ask: bytes) -> None:
    place = pooler(default_pool_size=1)
    async with logged_in(place) as one, logged_in(place) as two:
        await one.query("drop table if exists numbered; create table numbered (id serial, who text)")
        try:
            await one.query("insert into numbered (who) values ('one')")
            await two.send(ask)
            assert codes(await two.until("Z")) == ["55000"]
        finally:
            await one.query("drop table numbered")


async def test_whoever_is_sent_away_for_too_many_pins_leaves_a_server_that_others_can_use(
    pooler: PoolerFactory,
) -> None:
    for mode in ("auto", "pin"):
        place = pooler(default_pool_size=2, max_pinned_connections=1, session_state=mode)
        async with logged_in(place) as one, logged_in(place) as two, logged_in(place) as three:
            assert not codes(await one.query("create temp table a (b int)"))
            await two.send(frontend.query("create temp table a (b int)"))
            while (message := await two.receive()) is not None:
                assert message.type != b"E" or message.fields["C"] == "53400"
            assert await one_value(three, "select 1") == b"1"
            assert await one_value(one, "select 1") == b"1"


async def test_notifications_come_through_while_the_pooler_asks(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=2)
    async with logged_in(place) as one, logged_in(place) as two:
        await one.query("begin; listen news; commit")
        heard = 0
        for number in range(60):
            await two.query(f"notify news, '{number}'")
            heard += letters(await one.query(f"select set_config('app.n', '{number}', false), pg_backend_pid()")).count(
                "A"
            )
        while heard < 60:
            heard += letters(await one.query("select 1")).count("A")
        assert heard == 60


@pytest.mark.parametrize("size", [100_000, 1_100_000])
async def test_in_pin_mode_a_text_too_long_to_be_looked_at_pins_too(pooler: PoolerFactory, size: int) -> None:
    place = pooler(default_pool_size=1, session_state="pin")
    async with logged_in(place) as one:
        await one.query("/*" + " " * size + "*/ set work_mem = '77MB'")
    async with logged_in(place) as two:
        assert await one_value(two, "show work_mem") == b"4MB"


async def test_an_unnamed_statement_parsed_ahead_is_no_lasting_pin(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=2, admin_users="app")
    async with logged_in(place) as one, logged_in(place) as two, logged_in(place, database="pgbouncer") as console:
        for client in (one, two):
            await client.send(frontend.parse("select 'mine'"), frontend.sync())
            assert letters(await client.until("Z")) == "1Z"
        assert {row[5] for row in values(await console.query("show pins"))} == {b"unnamed statement"}
        for client in (one, two):
            await client.send(frontend.bind(), frontend.execute(), frontend.sync())
            assert values(await client.until("Z")) == [[b"mine"]]
        assert values(await console.query("show pins")) == []


@SAME
@ONE_SERVER
async def test_a_query_right_behind_a_reset_sees_what_the_client_began_with(target: Target) -> None:
    async with logged_in(target, parameters={"work_mem": "7MB"}) as one, logged_in(target):
        for text in ("reset work_mem", "reset all", "discard all"):
            await one.query("set work_mem = '8MB'")
            await one.query(text)
            assert await one_value(one, "show work_mem") == b"7MB", text


async def test_refuse_lets_functions_be_made(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=1, session_state="refuse")
    async with logged_in(place) as one:
        made = await one.query(
            "begin; create function f() returns void language plpgsql as $$begin update t set x = 1; end$$; rollback"
        )
        assert not codes(made)


@pytest.mark.parametrize("size", range(1_048_300, 1_048_430, 20))
async def test_what_postgresql_reports_fits_beside_settings_of_nearly_1_mib(pooler: PoolerFactory, size: int) -> None:
    place = pooler(default_pool_size=1)
    name = "n" * 63
    async with logged_in(place) as one, logged_in(place) as two:
        await one.query(f"select set_config('app.big', repeat('x', {size}), false)")
        assert letters(await one.query(f"set application_name = '{name}'")) == "CSZ"
        for _ in range(2):
            assert await one_value(two, "show application_name") == b""
            assert await one_value(one, "show application_name") == name.encode()
            assert await one_value(one, "select length(current_setting('app.big'))") == str(size).encode()
