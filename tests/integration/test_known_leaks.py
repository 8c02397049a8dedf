"""What other poolers are known to leak, miss or get wrong in transaction mode, one case for each; the same tests run on PostgreSQL itself.

Their issues are named by project and number.
"""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from pgpool_core.testing import ScriptedPeer, frontend
from tests.conftest import PoolerFactory, Target
from tests.integration.test_session_state import ONE_SERVER, SAME, TWO_SERVERS, codes, one_value
from tests.peers import letters, logged_in, values

LOCKS = "select count(*) from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()"

# What is sent, and how many locks its client has behind it.
ADVISORY = {
    "of the schema": (("select pg_catalog.pg_advisory_lock(1)", 1), ("select pg_catalog.pg_advisory_unlock(1)", 0)),
    "with a quoted name": (('select "pg_advisory_lock"(1)', 1), ('select "pg_advisory_unlock"(1)', 0)),
    "of a computed key": (
        ("select pg_advisory_lock(hashtext('job'))", 1),
        ("select pg_advisory_unlock(hashtext('job'))", 0),
    ),
    "of two integers": (
        ("select pg_advisory_lock(1, 2)", 1),
        ("select pg_advisory_lock(1, 3)", 2),
        ("select pg_advisory_unlock(1, 3)", 1),
        ("select pg_advisory_unlock(1, 2)", 0),
    ),
    "taken twice": (
        ("select pg_advisory_lock(1)", 1),
        ("select pg_advisory_lock(1)", 1),
        ("select pg_advisory_unlock(1)", 1),
        ("select pg_advisory_unlock(1)", 0),
    ),
    "one of two given back by a computed key": (
        ("select pg_advisory_lock(1), pg_advisory_lock(hashtext('job'))", 2),
        ("select pg_advisory_unlock(hashtext('job'))", 1),
        ("select pg_advisory_unlock(2 - 1)", 0),
    ),
    "shared": (
        ("select pg_advisory_lock_shared(1)", 1),
        ("select pg_advisory_unlock(1)", 1),
        ("select pg_advisory_unlock_shared(1)", 0),
    ),
    "shared and exclusive": (
        ("select pg_advisory_lock(1), pg_advisory_lock_shared(1)", 2),
        ("select pg_advisory_unlock_shared(1)", 1),
        ("select pg_advisory_unlock_all()", 0),
    ),
    "tried": (("select pg_try_advisory_lock(1)", 1), ("select pg_advisory_unlock(1)", 0)),
    "taken by a function": (("select keeps(1)", 1), ("select lets_go(1)", 0)),
    "taken by a trigger": (("insert into watched_over values (1)", 1), ("select lets_go(1)", 0)),
    "taken in a block of code": (
        ("do $$begin perform pg_advisory_lock(1); end$$", 1),
        ("do $$begin execute 'select pg_advisory_unlock(' || 1 || ')'; end$$", 0),
    ),
    "taken in a transaction that is rolled back": (
        ("begin; select pg_advisory_lock(1); select 1/0", 1),
        ("rollback", 1),
        ("reset all", 1),
        ("select pg_advisory_unlock(1)", 0),
    ),
}


@pytest.fixture
def lockers(target: Target) -> Iterator[None]:
    """Functions and a trigger that take locks and give them back.

    They are made through the target: a pooler that runs already hears of those that are made behind its back only at its next reading
    of the catalogue (`function_check_period`).
    """
    with psycopg.connect(target.url("app", "app"), autocommit=True) as link:
        link.execute(
            "create function keeps(k int) returns void language plpgsql as 'begin perform pg_advisory_lock(k); end'"
        )
        link.execute(
            "create function lets_go(k int) returns void language plpgsql as 'begin perform pg_advisory_unlock(k); end'"
        )
        link.execute(
            "create function at_insert() returns trigger language plpgsql as 'begin perform keeps(new.n); return new; end'"
        )
        link.execute("create table watched_over(n int)")
        link.execute("create trigger t before insert on watched_over for each row execute function at_insert()")
        yield
        link.execute("drop table watched_over; drop function at_insert(), keeps(int), lets_go(int)")


@SAME
@TWO_SERVERS
@pytest.mark.parametrize("steps", ADVISORY.values(), ids=ADVISORY.keys())
async def test_a_lock_stays_with_its_client_until_postgresql_says_that_it_is_gone(
    target: Target, lockers: None, steps: tuple[tuple[str, int], ...]
) -> None:
    async with logged_in(target) as one, logged_in(target) as two, logged_in(target) as three:
        for text, locks in steps:
            await one.query(text)
            for other in (two, three):
                assert await one_value(other, LOCKS) == b"0"
            if not text.startswith("begin"):  # it has failed there
                assert await one_value(one, LOCKS) == b"%d" % locks
        await two.query("begin")
        await three.query("begin")  # both servers are there for them


@SAME
@TWO_SERVERS
async def test_a_lock_that_was_not_had_keeps_nobody(target: Target) -> None:
    async with logged_in(target) as holder, logged_in(target) as one, logged_in(target) as two:
        await holder.query("select pg_advisory_lock(1)")
        assert await one_value(one, "select pg_try_advisory_lock(1)") == b"f"
        await two.query("begin")  # on the other server
        await two.query("commit")
        assert await one_value(one, "select pg_try_advisory_lock(1)") == b"f"


@SAME
@ONE_SERVER
async def test_the_lock_of_a_client_that_was_cut_off_is_free(target: Target) -> None:
    """pgdog 1407."""
    async with logged_in(target) as one:
        await one.query("select pg_advisory_lock(1)")
        await one.cut()
    async with logged_in(target) as two:
        assert await one_value(two, "select pg_advisory_lock(1)") == b""


@SAME
@ONE_SERVER
async def test_a_set_that_is_not_valid_fails_itself_and_nothing_behind_it(target: Target) -> None:
    """pgdog 887: answered by the pooler, it failed with the next query."""
    async with logged_in(target) as one:
        assert codes(await one.query("set work_mem = 'much'")) == ["22023"]
        assert codes(await one.query("set no_such_setting = 1")) == ["42704"]
        assert await one_value(one, "select 1") == b"1"
        assert await one_value(one, "show work_mem") == b"4MB"


@SAME
@ONE_SERVER
async def test_reset_all_leaves_the_role_and_the_next_client_has_none(target: Target) -> None:
    """pgdog 1341."""
    async with logged_in(target, "boss") as one, logged_in(target, "boss") as two:
        await one.query("set role app")
        await one.query("reset all")
        assert await one_value(two, "select current_user") == b"boss"
        assert await one_value(one, "select current_user") == b"app"
        await one.query("reset role")
        assert await one_value(one, "select current_user") == b"boss"


SETTINGS = {
    "in a block, pgcat 186": ("begin; set work_mem = '9MB'; commit", "show work_mem", b"9MB"),
    "computed": ("select set_config('work_mem', 3 * 3 || 'MB', false)", "show work_mem", b"9MB"),
    "nested": (
        "select n from (select length(set_config('work_mem', '9MB', false)) as n) as s",
        "show work_mem",
        b"9MB",
    ),
    "read only, supavisor": ("set default_transaction_read_only = on", "show transaction_read_only", b"on"),
    "characteristics": (
        "set session characteristics as transaction read only",
        "show transaction_read_only",
        b"on",
    ),
    "quoted names, odyssey 809": (
        """set search_path = "$user", "a ""b", 'c''d'""",
        "show search_path",
        b"""\"$user\", "a ""b", "c'd\"""",
    ),
    "SQL in a value, odyssey 948": (
        """set search_path = 'x''; set work_mem to "1MB"; --'""",
        "show search_path",
        b"""\"x'; set work_mem to ""1MB""; --\"""",
    ),
    "a long text, RDS Proxy": (f"set work_mem /* {'x' * 17000} */ = '9MB'", "show work_mem", b"9MB"),
}


@SAME
@ONE_SERVER
@pytest.mark.parametrize(("text", "ask", "value"), SETTINGS.values(), ids=SETTINGS.keys())
async def test_a_setting_is_its_clients_on_every_server_and_nobody_elses(
    target: Target, text: str, ask: str, value: bytes
) -> None:
    async with logged_in(target) as one, logged_in(target) as two:
        before = await one_value(two, ask)
        assert not codes(await one.query(text))
        for _ in range(3):  # the value is written and read again each time
            assert await one_value(one, ask) == value
            assert await one_value(two, ask) == before


@SAME
@ONE_SERVER
async def test_options_of_the_startup_packet_are_taken(target: Target) -> None:
    """RDS Proxy refuses them."""
    async with logged_in(target, options="-c work_mem=9MB") as one, logged_in(target) as two:
        assert await one_value(one, "show work_mem") == b"9MB"
        assert await one_value(two, "show work_mem") == b"4MB"


@SAME
@ONE_SERVER
async def test_a_cursor_with_hold_does_not_outlive_its_client(target: Target) -> None:
    """pgcat 903."""
    async with logged_in(target) as one:
        await one.query("begin; declare c cursor with hold for select 1; commit")
    async with logged_in(target) as two:
        assert codes(await two.query("fetch 1 from c")) == ["34000"]
        assert await one_value(two, "select count(*) from pg_cursors where name = 'c'") == b"0"


@SAME
@ONE_SERVER
async def test_discard_all_in_a_block_is_refused_and_the_session_goes_on(target: Target) -> None:
    """pgcat 64."""
    async with logged_in(target) as one:
        await one.query("begin")
        assert codes(await one.query("discard all")) == ["25001"]
        await one.query("rollback")
        assert not codes(await one.query("discard all"))


@SAME
@ONE_SERVER
async def test_a_listen_in_a_pipeline_is_answered_in_its_place(target: Target) -> None:
    """pgdog 1512: its ReadyForQuery came early."""
    group = frontend.bind() + frontend.execute() + frontend.sync()
    pipeline = b"".join(frontend.parse(sql) + group for sql in ("select 1", "listen news", "select 2"))
    async with logged_in(target) as one:
        await one.send(pipeline)
        answers = [letters(await one.until("Z")) for _ in range(3)]
        assert answers == ["12DCZ", "12CZ", "12DCZ"]


@SAME
@ONE_SERVER
async def test_a_transaction_left_open_in_a_pipeline_is_nobody_elses(target: Target) -> None:
    """supavisor 1172."""
    async with logged_in(target) as one:
        await one.send(frontend.query("begin") + frontend.query("create temp table left_open (n int)"))
    async with logged_in(target) as two:
        assert (await two.query("select 1"))[-1].body == b"I"
        assert codes(await two.query("select * from left_open")) == ["42P01"]


async def test_each_pin_ends_with_its_state_and_says_what_it_is(pooler: PoolerFactory) -> None:
    """RDS Proxy keeps clients until they leave, and they cannot work out why."""
    place = pooler(default_pool_size=1, admin_users="app")
    states = {
        "advisory lock": ("select pg_advisory_lock(1)", "select pg_advisory_unlock(1)"),
        "temporary object": ("create temp table t (n int)", "drop table t"),
        "cursor with hold": ("begin; declare c cursor with hold for select 1; commit", "close c"),
        "prepared statement": ("prepare p as select 1", "deallocate p"),
    }

    async def reasons(console: ScriptedPeer) -> list[bytes | None]:
        return [row[5] for row in values(await console.query("show pins"))]

    async with logged_in(place) as one, logged_in(place, database="pgbouncer") as console:
        for reason, (begin, end) in states.items():
            await one.query(begin)
            await one.query("select 1")  # behind the question
            assert await reasons(console) == [reason.encode()]
            await one.query(end)
            await one.query("select 1")
            assert await reasons(console) == []
        await one.query("set work_mem = '9MB'")  # which no driver's first SET is a reason for
        await one.query("select 1")
        assert await reasons(console) == []
