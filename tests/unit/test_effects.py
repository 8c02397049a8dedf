"""What definitions of functions and the rest may do to a session: worked out, looked up in texts, read off the wire."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import pytest

from pgpool_core.control.catalog import CatalogAnswer, question
from pgpool_core.control.effects import Effects, Thing, effects_of, read_body
from pgpool_core.errors import ServerProtocolError
from pgpool_core.session.bodies import MATTERS, OPAQUE
from pgpool_core.session.effects import effects_pack
from pgpool_core_probes import sqlscan_probe
from pgpool_core_probes.sqlscan_probe import scan

FLAGS = {name: bit for name, bit in sqlscan_probe.FLAGS.items() if bit & (MATTERS | sqlscan_probe.FLAGS["sequences"])}


def names(flags: int) -> set[str]:
    return {name for name, bit in FLAGS.items() if flags & bit}


def function(name: str, body: str, language: bytes = b"plpgsql") -> Thing:
    return Thing("function", name.encode(), language, body.encode())


def packed(effects: Effects) -> bytes:
    return effects_pack(effects.names, sorted(effects.settings), serial=1, generation=1)


BODIES = [
    ("begin return 1; end", ""),
    ("begin update t set a = 1 where b = 2; return new; end", ""),
    ("begin perform set_config('work_mem', '1MB', false); end", "sets"),
    ("begin perform set_config('work_mem', '1MB', true); set local lock_timeout = 1; end", ""),
    ("begin if a then set work_mem = '1MB'; end if; end", "sets"),
    ("declare a int; begin set work_mem = '1MB'; end", "sets"),
    ("begin -- set work_mem = 1\n /* ; listen x */ return 'set x; listen y'; end", ""),
    ("begin create temp table t (a int) on commit drop; end", "temps"),
    ("begin perform pg_advisory_lock(1); end", "advisory"),
    ("begin perform pg_advisory_xact_lock(1); end", ""),
    ("begin perform pg_advisory_unlock(1); end", "unlocks"),
    ("begin listen x; end", "listens"),
    ("begin for r in select * from t loop listen x; end loop; end", "listens"),
    ("begin call p(); end", ""),
    ("begin execute 'select 1'; end", ""),
    ("begin execute format('insert into %I values ($1)', t) using 1; end", ""),
    ("begin execute format('create table %I partition of t for values in (1)', t); end", ""),
    ("begin execute format('create temp table %I (a int)', t); end", "temps"),
    ("begin execute 'set work_mem = ' || v; end", "sets"),
    ("begin execute $q$select set_config('a.b', 'c', false)$q$; end", "sets"),
    ("begin execute 'prepare p as select 1'; end", "prepares"),
    (r"begin execute E'select 1;\nset work_mem = \'9MB\''; end", "sets"),
    (r"begin execute E'select\nset_config(\'a.b\', \'c\', false)'; end", "sets"),
    (r"begin execute E'select \x73et_config(''a.b'', ''c'', false)'; end", "sets"),
    (r"begin execute E'\154isten\u0020x'; end", "listens"),
    (r"begin execute E'select \U7FFFFFFF 1'; end", ""),
    ("begin execute t; end", "opaque"),
    ("begin execute 'S' || 'ET x = 1'; end", "opaque"),
    ("begin return query execute t using a; end", "opaque"),
    ("begin execute format(t, a); end", "opaque"),
    ("begin drop table if exists t; end", "temps"),
    ("begin return currval('s'); end", "sequences"),
    ("begin return nextval('s'); end", ""),
    ("begin /* a /* b */ don't */ set work_mem = '9MB'; end", "sets"),
    ("begin -- don't\r set work_mem = '9MB'; end", "sets"),
    ("begin /* a /* b */ set work_mem = '9MB'; end", ""),
]


@pytest.mark.parametrize(("body", "flags"), BODIES, ids=[body for body, _ in BODIES])
def test_a_body_is_read_for_statements_that_matter(body: str, flags: str) -> None:
    assert names(read_body(b"plpgsql", body.encode()).flags) == set(flags.split())


def test_in_other_languages_every_word_counts() -> None:
    assert "listens" in names(read_body(b"plpython3u", b"plpy.execute('LISTEN x')").flags)


@pytest.mark.parametrize(
    ("body", "settings"),
    [
        ("perform set_config('App.Tenant', x, false)", {b"app.tenant"}),
        ("execute 'select set_config(''a.b'', ''c'', false)'", {b"a.b"}),
        ('set session "a" . b to 1; set c.d = 2', {b"a.b", b"c.d"}),
        ("perform set_config('work_mem', t.a, false)", set()),
        ("update t set a = 1 where t.b = 2", set()),
    ],
)
def test_names_of_custom_settings_are_found(body: str, settings: set[bytes]) -> None:
    assert read_body(b"plpgsql", f"begin {body}; end".encode()).settings == settings


@pytest.mark.parametrize(
    "body",
    [
        "declare k constant text := 'app.x'; begin perform set_config(k, 'secret', false); end",
        "begin perform set_config(setting_name => 'app.x', new_value => 's', is_local => false); end",
        "begin perform set_config($$app.x$$, 's', false); end",
        "declare k text[] := '{app.x,app.y}'; begin execute 'select set_config($1, $2, false)' using k[1], 's'; end",
    ],
)
def test_a_setting_that_no_literal_names_may_be_any_that_its_strings_have(body: str) -> None:
    assert b"app.x" in effects_of([function("f", body)]).settings


def test_who_gives_the_name_of_a_setting_may_be_a_caller() -> None:
    sets_any = function("sets_any", "select set_config($1, $2, false)", b"sql")
    caller = function("caller", "begin perform sets_any('app.x', 'y'); end")
    trigger = Thing("written", b"t", text=b"sets_any sets_any('app.y')")
    bystander = function("other", "begin insert into t values ('a.b'); end")
    assert effects_of([bystander, trigger, caller, sets_any]).settings == {b"app.x", b"app.y"}


def test_a_long_word_is_read_in_no_time() -> None:
    assert effects_of([function("f", f"begin perform set_config(k, '{'a' * 200_000}', false); end")]).settings == set()


THINGS = (
    function("sets", "begin perform set_config('app.a', 'x', false); end"),
    function("Calls", "select public.SETS()", b"sql"),
    function("calls_twice", 'select "Calls"()', b"sql"),
    function("calm", "select 1", b"sql"),
    function("at_insert", "begin perform sets(); return new; end"),
    Thing("written", b"watched", text=b"at_insert"),
    Thing("written", b"whole", text=b"watched"),
    Thing("read", b"seen", text=b"select sets()"),
    Thing("read", b"copied", text=b"select * from watched"),
    function("inserts", "insert into watched values (1)", b"sql"),
    function("reads", "select * from watched", b"sql"),
    Thing("written", b"stored", text=b"select sets()"),
    Thing("read", b"create", text=b"sets"),
    function("round_and", "select round_about()", b"sql"),
    function("round_about", "select round_and(), pg_advisory_lock(1)", b"sql"),
)
FOUND = [
    ("select sets()", "sets"),
    ("select x.Sets('a')", "sets"),
    ('select "Calls"()', "sets"),
    ("select calls_twice()", "sets"),
    ("select t.sets from t", "sets"),
    ("select calm()", ""),
    ("select 'sets' -- sets\n /* sets */", ""),
    ("select resets(), sets_", ""),
    ("insert into watched values (1)", "sets"),
    ("insert into a.whole values (1)", "sets"),
    ('with a as (update "watched" set a = 1) select 1', "sets"),
    ("copy watched from stdin", "sets"),
    ("truncate watched", "sets"),
    ("select * from watched", ""),
    ("select * from seen", "sets"),
    ("insert into copied values (1)", "sets"),
    ("select * from copied", ""),
    ("select * from stored", ""),
    ("refresh materialized view stored", "sets"),
    ("select 1 as x into fresh", "sets"),
    ("insert into fresh values (1)", ""),
    ("select inserts()", "sets"),
    ("select reads()", ""),
    ("select round_and()", "advisory"),
    ("select round_about()", "advisory"),
    (f"select {'f' * 64}()", "opaque"),
    ("do $$begin perform sets(); insert into watched values (1); end$$", "sets"),
    ("create function f() returns void language sql as 'select sets()'", "sets"),
]


@pytest.mark.parametrize(("text", "flags"), FOUND, ids=[text for text, _ in FOUND])
def test_a_name_in_a_text_stands_for_what_it_leads_to(text: str, flags: str) -> None:
    assert scan(text.encode(), effects=packed(effects_of(THINGS)))["hidden"] == set(flags.split())


def test_the_order_of_definitions_does_not_matter() -> None:
    assert effects_of(THINGS) == effects_of(reversed(THINGS))
    assert effects_of(THINGS).settings == {b"app.a"}


def test_settings_of_functions_with_one_name_are_all_known() -> None:
    pair = [function("f", f"begin perform set_config('a.{name}', 'x', false); end") for name in "bc"]
    assert effects_of(pair).settings == {b"a.b", b"a.c"}


def test_a_long_chain_of_calls_is_followed_to_its_end() -> None:
    chain = [function(f"f{i}", f"select f{i + 1}()", b"sql") for i in range(3000)]
    effects = effects_of([*chain, function("f3000", "select pg_advisory_lock(1)", b"sql")])
    assert len(effects.names) == 3001


def test_names_beyond_ascii_are_the_same_in_every_encoding() -> None:
    effects = packed(Effects({"größe".encode(): (OPAQUE, 0)}))
    for encoding in ("utf-8", "latin-1", "cp1252"):
        assert scan("select GRößE()".encode(encoding), effects=effects)["hidden"] == {"opaque"}


def test_without_a_table_nothing_is_hidden() -> None:
    assert scan(b"select sets()")["hidden"] == set()
    assert scan(f"select {'f' * 64}()".encode(), effects=packed(Effects()))["hidden"] == set()


def test_thousands_of_names_are_told_apart() -> None:
    effects = packed(Effects({f"f{i}".encode(): (OPAQUE, 0) for i in range(0, 20000, 2)}))
    assert all(bool(scan(f"f{i}".encode(), effects=effects)["hidden"]) == (i % 2 == 0) for i in range(0, 20000, 37))


def message(code: bytes, body: bytes = b"") -> bytes:
    return code + struct.pack("!I", len(body) + 4) + body


def row(*fields: bytes | None) -> bytes:
    columns = b"".join(b"\xff\xff\xff\xff" if f is None else struct.pack("!I", len(f)) + f for f in fields)
    return message(b"D", struct.pack("!H", len(fields)) + columns)


def test_an_answer_is_the_same_whole_or_byte_by_byte() -> None:
    data = message(b"T", b"\0\0") + row(b"f", b"a", b"sql", b"select 1") + row(b"w", b"b", b"sql", None)
    data += message(b"C", b"SELECT 2\0") + message(b"Z", b"I") + b"more"
    whole, pieces = CatalogAnswer(data), CatalogAnswer()
    for i in range(len(data)):
        pieces.receive(data[i : i + 1])
    for answer in (whole, pieces):
        assert answer.done and answer.error is None and answer.unread == b"more"
        assert [(t.kind, t.name, t.text) for t in answer.things] == [
            ("function", b"a", b"select 1"),
            ("written", b"b", b""),
        ]


def test_expressions_are_chosen_by_the_functions_that_the_scan_knows() -> None:
    asked = question(b"15.4")
    assert b"'set_config'" in asked and b"'pg_advisory_lock'" in asked and b"'lastval'" in asked
    assert b"'nextval'" not in asked, "every table has one"
    assert b"jit" in asked and b"jit" not in question(b"10.23")


def test_an_error_is_kept() -> None:
    answer = CatalogAnswer(message(b"E", b"SERROR\0C42501\0Mpermission denied\0\0") + message(b"Z", b"I"))
    assert answer.done and answer.error is not None and answer.error.sqlstate == "42501"


BROKEN: Iterable[bytes] = (
    message(b"Z", b"T"),
    message(b"1"),
    row(b"f", b"a", b"sql"),
    row(b"x", b"a", b"sql", b""),
    message(b"D", b"\0\4\x7f\xff\xff\xff"),
    b"D\0\0\0\3",
    b"D\x7f\xff\xff\xff",
)


@pytest.mark.parametrize("data", BROKEN)
def test_anything_else_breaks_the_protocol(data: bytes) -> None:
    with pytest.raises(ServerProtocolError):
        CatalogAnswer(data)


def test_the_question_suits_the_server() -> None:
    assert b"pg_get_function_sqlbody" in question(b"15.4 (Debian 15.4-1)")
    assert b"pg_get_function_sqlbody" not in question(b"13.11")
    assert b"pg_get_function_sqlbody" in question(b"18devel".replace(b"devel", b".0"))
