"""State that functions, triggers and views leave in a session: found without a word of it in the client's text."""

from __future__ import annotations

from collections.abc import Iterator

import attrs
import psycopg
import pytest

import pgpool_core
from pgpool_core.testing import Message, PostgresServer, ScriptedPeer, frontend
from tests.conftest import PASSWORDS, USERS
from tests.in_process import Place, config
from tests.peers import letters, logged_in, values
from tests.watching import until_async

MAKE = """
create function sets_state(n int, m int) returns int language sql as
  $$select length(set_config('work_mem', '77MB', false))$$;
create function calm(n int) returns int language sql as 'select n + 1';
create function sets_memory() returns text language sql as $$select set_config('work_mem', '77MB', false)$$;
create function sets_locally() returns text language sql as $$select set_config('work_mem', '77MB', true)$$;
create function sets_tenant(t text) returns void language plpgsql as
  $f$begin perform set_config('app.tenant', t, false); end$f$;
create function sets_any(n text, v text) returns text language sql as 'select set_config(n, v, false)';
create function sets_by_statement() returns void language plpgsql as $$begin if true then set work_mem = '77MB'; end if; end$$;
create function "Sets Indirectly"() returns text language sql as 'select public.sets_memory()';
create function sets_composed(v text) returns void language plpgsql as
  $$begin execute format('set work_mem = %L', v); end$$;
create function runs(t text) returns void language plpgsql as $$begin execute t; end$$;
create function sets_atomically() returns text begin atomic; select set_config('work_mem', '77MB', false); end;
create procedure sets_by_call() language plpgsql as $$begin perform sets_memory(); end$$;
create function calls_a_procedure() returns void language plpgsql as 'begin call sets_by_call(); end';
create aggregate sets_as_it_counts(int) (sfunc = sets_state, stype = int, initcond = 0);
create function sets_as_one_leaves(had int, leaves int) returns int strict language plpgsql as
  $$begin perform set_config('work_mem', '77MB', false); return had - leaves; end$$;
create aggregate sets_as_it_moves(int) (sfunc = int4pl, stype = int, initcond = 0,
  msfunc = int4pl, minvfunc = sets_as_one_leaves, mstype = int, minitcond = 0);
create view seen as select sets_memory() as set;
create table with_default (id int, set text default sets_memory());
create table watched (id int primary key);
create function sets_at_insert() returns trigger language plpgsql as
  $$begin perform set_config('work_mem', '77MB', false); return new; end$$;
create trigger t before insert on watched for each row execute function sets_at_insert();
create table parent (id int primary key);
create table child (id int references parent on delete cascade);
create function sets_at_delete() returns trigger language plpgsql as
  $$begin perform set_config('work_mem', '77MB', false); return old; end$$;
create trigger t before delete on child for each row execute function sets_at_delete();
insert into parent values (1); insert into child values (1);
create table whole (id int) partition by range (id);
create table part partition of whole default;
create trigger t before insert on part for each row execute function sets_at_insert();
create table alone (id int);
create trigger t before insert on alone for each row execute function sets_at_insert();
create table joining (id int);
create trigger t before insert on joining for each row execute function sets_at_insert();
create table ruled (id int);
create rule r as on insert to ruled do also select sets_memory();
create function inserts() returns void language sql as 'insert into watched values (2)';
create domain checked as int check (sets_memory() is not null);
create table guarded (id int); insert into guarded values (1); alter table guarded enable row level security;
alter table guarded force row level security; create policy p on guarded using (sets_memory() is not null);
create function locks() returns void language plpgsql as 'begin perform pg_advisory_lock(7); end';
create function unlocks() returns bool language sql as 'select pg_advisory_unlock(7)';
create function makes() returns void language plpgsql as 'begin create temp table made (a int); end';
create function listens() returns void language plpgsql as 'begin listen news; end';
create function holds() returns void language plpgsql as
  $$begin execute 'declare c cursor with hold for select 1'; end$$;
create function last_number() returns bigint language sql as 'select lastval()';
create table numbered (id serial);
create table with_plain_default (id int, set text default set_config('work_mem', '77MB', false));
create table with_check (id int check (set_config('work_mem', '77MB', false) is not null));
create table with_policy (id int); alter table with_policy enable row level security;
alter table with_policy force row level security;
create policy p on with_policy using (set_config('work_mem', '77MB', false) is not null); insert into with_policy values (1);
create table of_checked (id checked[]);
create type composed as (part checked);
create table of_composed (id composed);
create domain with_domain_default as text default sets_memory();
create table of_default (id int, set with_domain_default);
create function gives_checked() returns checked language sql as 'select 1';
create table ruled_where (id int);
create rule r as on insert to ruled_where where sets_memory() is not null do also select 1;
create function sets_at_once(n int) returns int language plpgsql immutable as
  $$begin perform set_config('work_mem', '77MB', false); return n; end$$;
create table indexed (id int); create index on indexed (sets_at_once(id));
create table indexed_partly (id int); create index on indexed_partly (id) where sets_at_once(id) > 0;
create table by_function (id int) partition by range (sets_at_once(id));
create table by_function_default partition of by_function default;
create table root (id int primary key);
create table branch (id int primary key references root); create table leaf (id int references branch);
create function sets_at_truncate() returns trigger language plpgsql as
  $$begin perform set_config('work_mem', '77MB', false); return null; end$$;
create trigger t after truncate on leaf execute function sets_at_truncate();
create materialized view stored as select pg_try_advisory_lock(7) with no data;
create function makes_unseen() returns void language plpgsql set search_path = pg_temp as
  $$begin create table made (a int); end$$;
create function makes_behind_none() returns void language plpgsql set search_path = nosuch, pg_temp as
  $$begin create table made (a int); end$$;
create function makes_behind_one() returns void language plpgsql set search_path = public, pg_temp as
  $$begin create table if not exists kept (a int); end$$;
create function sets_nested() returns void language plpgsql as
  $$begin /* a /* b */ don't */ set work_mem = '77MB'; end$$;
create function sets_constant(t text) returns void language plpgsql as
  $$declare k constant text := 'app.constant'; begin perform set_config(k, t, false); end$$;
create function sets_by_argument() returns trigger language plpgsql as
  $$begin perform set_config(tg_argv[0], '7', false); return new; end$$;
create function "ア"() returns text language sql as $$select set_config('app.kana', '7', false)$$;
create table with_argument (id int);
create trigger t before insert on with_argument for each row execute function sets_by_argument('app.argument');
"""
SETTINGS = {
    "a function": "select sets_memory()",
    "with its schema": 'select "public"."sets_memory"()',
    "in capitals": "SELECT SETS_MEMORY()",
    "through another": 'select "Sets Indirectly"()',
    "a statement in a function": "select sets_by_statement()",
    "composed": "select sets_composed('77MB')",
    "given as an argument": "select runs('set work_mem = ''77MB''')",
    "a body of SQL": "select sets_atomically()",
    "a procedure in a function": "select calls_a_procedure()",
    "an aggregate": "select sets_as_it_counts(1)",
    "an aggregate over a frame that moves": (
        "select sets_as_it_moves(n) over (order by n rows 1 preceding) from generate_series(1, 4) n"
    ),
    "a view": "select * from seen",
    "a default": "insert into with_default (id) values (1)",
    "a trigger": "insert into watched values (1) on conflict do nothing",
    "a trigger, by COPY of a query": "with a as (insert into watched values (3) on conflict do nothing) select 1",
    "a trigger behind a foreign key": "delete from parent",
    "a trigger of a partition": "insert into whole values (1)",
    "a rule": "insert into ruled values (1)",
    "a trigger behind a function": "select inserts()",
    "a domain": "select 1::checked",
    "a policy": "select * from guarded",
    "a default that calls PostgreSQL's own": "insert into with_plain_default (id) values (1)",
    "a check that does": "insert into with_check values (1)",
    "a policy that does": "select * from with_policy",
    "a column of a domain": "insert into of_checked values ('{1}')",
    "a column of a type with a domain in it": "insert into of_composed values ('(1)')",
    "a type with a domain in it": "select '(1)'::composed",
    "a default of a domain": "insert into of_default (id) values (1)",
    "a function that returns a domain": "select gives_checked()",
    "a condition of a rule": "insert into ruled_where values (1)",
    "an index": "insert into indexed values (1)",
    "a condition of an index": "insert into indexed_partly values (1)",
    "a partition key": "insert into by_function values (1)",
    "a trigger behind TRUNCATE CASCADE": "truncate root cascade",
    "comments in comments": "select sets_nested()",
    "a view written as XML": "select table_to_xml('seen', true, true, '')",
}


@pytest.fixture(scope="module")
def functional() -> Iterator[PostgresServer]:
    """A server whose database has functions that leave something behind."""
    with PostgresServer(
        users=USERS, databases=("app",), owner="app", settings={"max_prepared_transactions": "5"}
    ) as server:
        with psycopg.connect(server.dsn("app", "app"), autocommit=True) as connection:
            connection.execute(MAKE)
        yield server


async def one_value(client: ScriptedPeer, sql: str) -> bytes | None:
    return values(await client.query(sql))[0][0]


def codes(answer: object) -> list[str]:
    assert isinstance(answer, list)
    return [message.fields["C"] for message in answer if message.type == b"E"]


@pytest.mark.parametrize("text", SETTINGS.values(), ids=SETTINGS.keys())
async def test_a_setting_made_where_the_text_does_not_show_it_is_its_clients_own(
    functional: PostgresServer, text: str
) -> None:
    async with pgpool_core.open_proxy(config(functional)) as proxy:
        place = Place(proxy)
        async with logged_in(place) as one, logged_in(place) as two:
            assert not codes(await one.query(text))
            assert await one_value(two, "show work_mem") == b"4MB"
            assert await one_value(one, "show work_mem") == b"77MB"
            assert await one_value(two, "show work_mem") == b"4MB"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("select sets_tenant('7')", "app.tenant"),
        ("select sets_any('app.other', '7')", "app.other"),
        ("select sets_constant('7')", "app.constant"),
        ("insert into with_argument values (1)", "app.argument"),
    ],
)
async def test_so_is_one_of_the_applications_own(functional: PostgresServer, text: str, name: str) -> None:
    async with pgpool_core.open_proxy(config(functional)) as proxy:
        place = Place(proxy)
        async with logged_in(place) as one, logged_in(place) as two:
            await one.query(text)
            assert await one_value(two, f"select current_setting('{name}', true)") in (None, b"")
            assert await one_value(one, f"select current_setting('{name}', true)") == b"7"


async def test_so_it_is_with_messages_of_the_extended_protocol(functional: PostgresServer) -> None:
    async with pgpool_core.open_proxy(config(functional)) as proxy:
        place = Place(proxy)
        async with logged_in(place) as one, logged_in(place) as two:
            await one.send(frontend.parse("select sets_tenant($1)", "s") + frontend.sync())
            assert letters(await one.until("Z")) == "1Z"
            for value in (b"7", b"8"):
                await one.send(frontend.bind("s", values=[value]) + frontend.execute() + frontend.sync())
                assert letters(await one.until("Z")) == "2DCZ"
                assert await one_value(two, "select current_setting('app.tenant', true)") in (None, b"")
                assert await one_value(one, "select current_setting('app.tenant', true)") == value


@pytest.mark.parametrize("by_name", [False, True])
async def test_a_name_with_letters_of_ascii_in_its_characters(functional: PostgresServer, by_name: bool) -> None:
    """A client that writes SJIS: of two bytes the second may be a letter, or end a dollar quote."""
    call = b'select "\x83\x41"()'
    async with pgpool_core.open_proxy(config(functional)) as proxy:
        place = Place(proxy)
        async with logged_in(place) as one, logged_in(place) as two:
            await one.query("set client_encoding = 'SJIS'")
            if by_name:
                parse = b"s\0" + call + b"\0\0\0"
                await one.send(bytes(Message(b"P", parse)) + frontend.bind("s") + frontend.execute() + frontend.sync())
            else:
                await one.send(bytes(Message(b"Q", call + b"\0")))
            assert not codes(await one.until("Z"))
            assert await one_value(two, "select current_setting('app.kana', true)") in (None, b"")
            assert await one_value(one, "select current_setting('app.kana', true)") == b"7"
            await one.send(bytes(Message(b"Q", b"select $\x83\x40$ ' $\x83\x40$; set work_mem = '77MB'; select ' '\0")))
            assert not codes(await one.until("Z"))
            assert await one_value(two, "show work_mem") == b"4MB"
            assert await one_value(one, "show work_mem") == b"77MB"
            asked = place.counted("probes")
            await one.query("select calm(1)")
            assert place.counted("probes") == asked


async def test_what_leaves_nothing_is_not_asked_about(functional: PostgresServer) -> None:
    async with pgpool_core.open_proxy(config(functional)) as proxy:
        place = Place(proxy)
        async with logged_in(place) as one:
            for text in (
                "select calm(1), sets_locally()",
                "select count(*) from watched",
                "select * from numbered for update",
                "insert into numbered default values",
                "select makes_behind_one()",
            ):
                assert not codes(await one.query(text))
            assert place.counted("probes") == 0


PINS = {
    "advisory lock": ("select locks()", "select unlocks()"),
    "temporary object": ("select makes()", "drop table made"),
    "advisory lock at a refresh": ("refresh materialized view stored", "select unlocks()"),
    "temporary object by a search_path": ("select makes_unseen()", "drop table pg_temp.made"),
    "temporary object by one that begins with no schema": ("select makes_behind_none()", "drop table pg_temp.made"),
    "listen": ("select listens()", "unlisten *"),
    "cursor with hold": ("select holds()", "close c"),
}


@pytest.mark.parametrize(("text", "end"), PINS.values(), ids=PINS.keys())
async def test_other_state_keeps_its_client_where_it_is_until_it_ends(
    functional: PostgresServer, text: str, end: str
) -> None:
    async with pgpool_core.open_proxy(config(functional, default_pool_size=2)) as proxy:
        place = Place(proxy)
        async with logged_in(place) as one, logged_in(place) as two, logged_in(place) as three:
            assert not codes(await one.query(text))
            pid = await one_value(one, "select pg_backend_pid()")
            for other in (two, three):
                assert await one_value(other, "select pg_backend_pid()") != pid
            assert await one_value(one, "select pg_backend_pid()") == pid
            assert not codes(await one.query(end))
            await one.query("select 1")
            await two.query("begin")
            await three.query("begin")
            pids = [await one_value(other, "select pg_backend_pid()") for other in (two, three)]
            assert pid in pids


@pytest.mark.parametrize(
    "text", ["select 1 as x into gone", "create table gone (id int)", "refresh materialized view emptied"]
)
async def test_an_event_trigger_is_known_by_the_texts_that_fire_it(functional: PostgresServer, text: str) -> None:
    with psycopg.connect(functional.dsn("boss", "app"), autocommit=True) as boss:
        boss.execute(
            "create function sets_at_ddl() returns event_trigger language plpgsql as"
            " $$begin perform set_config('work_mem', '77MB', false); end$$"
        )
        boss.execute("create materialized view emptied as select 1; alter materialized view emptied owner to app")
        boss.execute("create event trigger t on ddl_command_end execute function sets_at_ddl()")
        try:
            async with pgpool_core.open_proxy(config(functional)) as proxy:
                place = Place(proxy)
                async with logged_in(place) as one, logged_in(place) as two:
                    assert not codes(await one.query(text))
                    assert await one_value(two, "show work_mem") == b"4MB"
                    assert await one_value(one, "show work_mem") == b"77MB"
                    asked = -1
                    while asked != place.counted("probes"):  # what is known is the latest again, and this fires nothing
                        asked = place.counted("probes")
                        assert not codes(await one.query("insert into numbered default values"))
        finally:
            boss.execute(
                "drop function sets_at_ddl() cascade; drop table if exists gone; drop materialized view emptied"
            )


async def test_lastval_in_a_function_never_tells_another_clients_value(functional: PostgresServer) -> None:
    async with pgpool_core.open_proxy(config(functional)) as proxy:
        place = Place(proxy)
        async with logged_in(place) as one, logged_in(place) as two:
            await one.query("insert into numbered default values")
            assert codes(await two.query("select last_number()")) == ["55000"]


async def test_a_function_made_through_the_pooler_is_known_at_once(functional: PostgresServer) -> None:
    made = "create or replace function made_now() returns text language {} as $$select set_config({}, false)$$"
    async with pgpool_core.open_proxy(config(functional)) as proxy:
        place = Place(proxy)
        async with logged_in(place) as one, logged_in(place) as two:
            assert not codes(await one.query(made.format("sql", "'work_mem', '66MB'")))
            await two.query("select made_now()")
            assert await one_value(one, "show work_mem") == b"4MB"
            assert await one_value(two, "show work_mem") == b"66MB"
            await one.query("drop function made_now()")


# How something comes to lead to something, what then does, and how it goes away.
NEWS = {
    "a view in a block": (
        "begin; create view fresh as select sets_memory(); commit",
        "select * from fresh",
        "drop view fresh",
    ),
    "another name for a table": (
        "alter table alone rename to fresh",
        "insert into fresh values (1)",
        "alter table fresh rename to alone",
    ),
    "a partition that is attached": (
        "begin; create table fresh (id int) partition by range (id); alter table fresh attach partition joining default; commit",
        "insert into fresh values (1)",
        "alter table fresh detach partition joining; drop table fresh",
    ),
    "a table like another": (
        "create table fresh (like with_default including all)",
        "insert into fresh (id) values (1)",
        "drop table fresh",
    ),
    "a function, by one that runs a text": (
        "select runs($q$create function fresh() returns text language sql as 'select sets_memory()'$q$)",
        "select fresh()",
        "drop function fresh()",
    ),
    "a view that calls PostgreSQL's own": (
        "create view fresh as select set_config('work_mem', '77MB', false)",
        "select * from fresh",
        "drop view fresh",
    ),
    "a default that does": (
        "create table fresh (id int, set text default set_config('work_mem', '77MB', false))",
        "insert into fresh (id) values (1)",
        "drop table fresh",
    ),
    "a view of pg_settings": (
        "create view fresh as select * from pg_settings",
        "update fresh set setting = '78848' where name = 'work_mem'",
        "drop view fresh",
    ),
}


@pytest.mark.parametrize(("news", "text", "end"), NEWS.values(), ids=NEWS.keys())
async def test_what_comes_to_lead_to_something_through_the_pooler_is_known_at_once(
    functional: PostgresServer, news: str, text: str, end: str
) -> None:
    async with pgpool_core.open_proxy(config(functional)) as proxy:
        place = Place(proxy)
        async with logged_in(place) as one, logged_in(place) as two:
            assert not codes(await one.query(news))
            try:
                assert not codes(await two.query(text))
                assert await one_value(one, "show work_mem") == b"4MB"
                assert await one_value(two, "show work_mem") == b"77MB"
            finally:
                await one.query(end)


async def until_nobody_is_asked(place: Place, client: ScriptedPeer) -> None:
    """What is known is the latest again."""
    asked = -1
    while asked != place.counted("probes"):
        asked = place.counted("probes")
        await client.query("select calm(1)")


async def test_a_transaction_that_is_prepared_changes_functions_when_it_is_committed(
    functional: PostgresServer,
) -> None:
    async with pgpool_core.open_proxy(config(functional)) as proxy:
        place = Place(proxy)
        async with logged_in(place) as one, logged_in(place) as two:
            await one.query("begin")
            await one.query("create function fresh() returns text language sql as 'select sets_memory()'")
            await one.query("prepare transaction 'later'")
            await until_nobody_is_asked(place, one)
            assert not codes(await two.query("commit prepared 'later'"))
            await two.query("select fresh()")
            assert await one_value(one, "show work_mem") == b"4MB"
            assert await one_value(two, "show work_mem") == b"77MB"
            await one.query("drop function fresh()")


@pytest.mark.parametrize("ends", [True, False])
async def test_what_is_being_dropped_while_it_is_looked_at_hides_nothing_else(
    functional: PostgresServer, caplog: pytest.LogCaptureFixture, ends: bool
) -> None:
    """The text of a view is read under a lock. Where the view has gone by then, an internal error, XX000, ends the whole question."""
    made = "create function made_beside() returns text language sql as $$select set_config('work_mem', '66MB', false)$$"
    blocked = "select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like 'SET LOCAL search_path%'"
    with (
        psycopg.connect(functional.dsn("app", "app"), autocommit=True) as watcher,
        psycopg.connect(functional.dsn("app", "app")) as dropper,
    ):
        watcher.execute("create or replace view doomed as select 1")
        watcher.execute("drop function if exists made_beside()")
        async with pgpool_core.open_proxy(config(functional)) as proxy:
            place = Place(proxy)
            async with logged_in(place) as one, logged_in(place) as two:
                await until_nobody_is_asked(place, one)
                dropper.execute("drop view doomed")
                assert not codes(await one.query(made))
                if ends:
                    await until_async(lambda: watcher.execute(blocked).fetchone())
                    dropper.commit()
                    await until_nobody_is_asked(place, one)
                else:
                    await until_async(lambda: "cannot be read" in caplog.text)
                    for _ in range(20):  # what is told of it now has reached the workers by then
                        await one.query("select calm(1)")
                await two.query("select made_beside()")
                assert await one_value(one, "show work_mem") == b"4MB"
                assert await one_value(two, "show work_mem") == b"66MB"
                dropper.rollback()
                await one.query("drop function made_beside()")


async def test_a_function_whose_definition_is_a_value_is_known(functional: PostgresServer) -> None:
    made = "create function fresh() returns text language sql as 'select sets_memory()'"
    async with pgpool_core.open_proxy(config(functional)) as proxy:
        place = Place(proxy)
        async with logged_in(place) as one, logged_in(place) as two:
            for name in ("", "s"):
                await one.send(frontend.parse("select runs($1)", name) + frontend.sync())
                await one.until("Z")
                await one.send(
                    (frontend.parse("select runs($1)") if not name else b"")
                    + frontend.bind(name, values=[made.encode()])
                    + frontend.execute()
                    + frontend.sync()
                )
                assert not codes(await one.until("Z"))
                await two.query("select fresh()")
                assert await one_value(one, "show work_mem") == b"4MB"
                assert await one_value(two, "show work_mem") == b"77MB"
                await two.query("reset work_mem")
                await one.query("drop function fresh()")
                await until_nobody_is_asked(place, one)


@pytest.mark.parametrize("way", ["one text", "texts", "a statement prepared before"])
async def test_within_a_transaction_that_changes_what_is_called_every_text_counts(
    functional: PostgresServer, way: str
) -> None:
    with psycopg.connect(functional.dsn("app", "app"), autocommit=True) as own:
        own.execute("create table sleeping (id int)")
        own.execute("create trigger t before insert on sleeping for each row execute function sets_at_insert()")
        own.execute("alter table sleeping disable trigger t")
    enable, insert = "alter table sleeping enable trigger t", "insert into sleeping values (1)"
    try:
        async with pgpool_core.open_proxy(config(functional)) as proxy:
            place = Place(proxy)
            async with logged_in(place) as one, logged_in(place) as two:
                await one.send(frontend.parse(insert, "s") + frontend.sync())
                await one.until("Z")
                for _ in range(3):
                    assert not codes(await one.query(insert))  # so that its text is known
                texts = ["begin", enable, insert, "commit"]
                if way == "one text":
                    texts = ["; ".join(texts)]
                for text in texts:
                    if text == insert and way == "a statement prepared before":
                        await one.send(frontend.bind("s") + frontend.execute() + frontend.sync())
                        assert letters(await one.until("Z")) == "2CZ"
                    else:
                        assert not codes(await one.query(text))
                assert await one_value(two, "show work_mem") == b"4MB"
                assert await one_value(one, "show work_mem") == b"77MB"
    finally:
        with psycopg.connect(functional.dsn("app", "app"), autocommit=True) as own:
            own.execute("drop table sleeping")


@pytest.mark.parametrize("way", ["apart", "localhost", "off"])
async def test_what_is_made_through_another_entry_is_known(functional: PostgresServer, way: str) -> None:
    """One in session mode, one that names the host differently, one whose session state is left alone."""
    entry = {
        "host": functional.host,
        "port": functional.port,
        "dbname": "app",
        "user": "app",
        "password": PASSWORDS["app"],
    }
    entries = {
        "app": entry,
        "apart": {**entry, "pool_mode": "session"},
        "localhost": {**entry, "host": "localhost"},
        "off": {**entry, "session_state": "off"},
    }
    several = attrs.evolve(config(functional), databases=pgpool_core.Config.of(databases=entries).databases)
    async with pgpool_core.open_proxy(several) as proxy:
        place = Place(proxy)
        async with logged_in(place) as one, logged_in(place) as two, logged_in(place, database=way) as other:
            await one.query("select calm(1)")
            await other.query("select 1")
            made = "create function fresh() returns text language sql as 'select sets_memory()'"
            assert not codes(await other.query(made))
            for _ in range(1000 if way == "localhost" else 0):  # until control has heard of it, and passed it on
                await two.query("select calm(1)")
                if place.counted("probes"):
                    break
            await one.query("select fresh()")
            assert await one_value(two, "show work_mem") == b"4MB"
            assert await one_value(one, "show work_mem") == b"77MB"
            await other.query("drop function fresh()")


async def test_a_prepared_statement_that_makes_a_view_is_looked_at_when_it_is_used(functional: PostgresServer) -> None:
    async with pgpool_core.open_proxy(config(functional)) as proxy:
        place = Place(proxy)
        async with logged_in(place) as one, logged_in(place) as two:
            await one.send(frontend.parse("create view fresh as select sets_memory()", "s") + frontend.sync())
            assert letters(await one.until("Z")) == "1Z"
            await until_nobody_is_asked(place, one)
            await one.send(frontend.bind("s") + frontend.execute() + frontend.sync())
            assert letters(await one.until("Z")) == "2CZ"
            await two.query("select * from fresh")
            assert await one_value(one, "show work_mem") == b"4MB"
            assert await one_value(two, "show work_mem") == b"77MB"
            await one.query("drop view fresh")


async def test_a_statement_prepared_before_its_function_changed_is_looked_at_again(functional: PostgresServer) -> None:
    made = "create or replace function changes() returns text language sql as $$select {}$$"
    async with pgpool_core.open_proxy(config(functional)) as proxy:
        place = Place(proxy)
        async with logged_in(place) as one, logged_in(place) as two:
            await one.query(made.format("'nothing'::text"))
            await one.send(frontend.parse("select changes()", "s") + frontend.sync())
            assert letters(await one.until("Z")) == "1Z"
            await two.query(made.format("set_config('work_mem', '66MB', false)"))
            await one.send(frontend.bind("s") + frontend.execute() + frontend.sync())
            assert letters(await one.until("Z")) == "2DCZ"
            assert await one_value(two, "show work_mem") == b"4MB"
            assert await one_value(one, "show work_mem") == b"66MB"
            await one.query("drop function changes()")


async def test_a_function_that_is_not_committed_yet_is_found_by_the_text_that_made_it(
    functional: PostgresServer,
) -> None:
    async with pgpool_core.open_proxy(config(functional)) as proxy:
        place = Place(proxy)
        async with logged_in(place) as one, logged_in(place) as two:
            await one.query("begin")
            await one.query("create function mine() returns text language sql as 'select sets_memory()'")
            await one.query("select mine()")
            await one.query("commit")
            assert await one_value(two, "show work_mem") == b"4MB"
            assert await one_value(one, "show work_mem") == b"77MB"
            await one.query("drop function mine()")


async def test_where_a_limit_leaves_no_room_the_next_server_is_asked(functional: PostgresServer) -> None:
    made = "create function made_later() returns text language sql as $$select set_config('work_mem', '66MB', false)$$"
    async with pgpool_core.open_proxy(config(functional, max_db_connections=1)) as proxy:
        place = Place(proxy)
        async with logged_in(place) as one, logged_in(place) as two:
            assert not codes(await one.query(made))
            await two.query("select made_later()")
            assert await one_value(one, "show work_mem") == b"4MB"
            assert await one_value(two, "show work_mem") == b"66MB"
            await one.query("drop function made_later()")


async def test_without_function_check_period_nobody_is_asked(functional: PostgresServer) -> None:
    async with pgpool_core.open_proxy(config(functional, function_check_period=0)) as proxy:
        place = Place(proxy)
        async with logged_in(place) as one, logged_in(place) as two:
            await one.query("select sets_memory()")
            assert await one_value(two, "show work_mem") == b"77MB"
            assert place.counted("probes") == 0
