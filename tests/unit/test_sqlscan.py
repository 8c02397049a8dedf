"""What a text of SQL may do to its session: nothing is missed, and everybody's queries are not suspected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool_core_probes import sqlscan_probe
from pgpool_core_probes.sqlscan_probe import BACKSLASHES, STANDARD, TRAILING, UNKNOWN, call_hash, fold, scan

# Texts and all that they may do, calls left out.
TEXTS: list[tuple[str, str]] = [
    ("", ""),
    ("SELECT 1", ""),
    ("SET x = 1", "sets"),
    ("set\fx\v= 1", "sets"),
    ("/* a /* b */ c */ -- d\r SET x = 1", "sets"),
    ("--\nRESET ALL", "sets"),
    ("SET SESSION x = 1", "sets"),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "sets"),
    ("SET LOCAL x = 1", "sets local_set"),
    ("SET TRANSACTION READ ONLY; SET CONSTRAINTS ALL DEFERRED", "sets local_set"),
    ("SET LOCAL x = 1; SET y = 1", "sets"),
    ("SET local.x = 1", "sets"),
    ("SET transaction . x = 1", "sets"),
    ("SET constraints TO 1", "sets"),
    ("SELECT set_config('a', 'b', false)", "sets"),
    ("SELECT SET_CONFIG ('a', $1::text, TRUE)", "sets local_set"),
    ("SELECT pg_catalog.set_config('a', f(1, 2), true)", "sets local_set"),
    ("SELECT mine.set_config('a', 'b', true)", "sets"),
    ("SELECT set_config('a', 'b', true OR false)", "sets"),
    ("SELECT set_config('a', 'b', true), set_config('a', 'b', false)", "sets"),
    ("SELECT set_config('a', set_config('b', 'c', false), true)", "sets"),
    ("SELECT \"set_config\"('a', 'b', false)", "sets"),
    ('SELECT pg_catalog /* . */ . "set_config" (1)', "sets"),
    ("SELECT 1 FROM t WHERE set_config('a', 'b', false) = ''", "sets"),
    ("UPDATE pg_settings SET setting = 1 WHERE name = 'x'", "sets"),
    ("SELECT * FROM pg_settings", ""),
    ("SET ROLE x", "sets"),
    ("SELECT 'SET x = 1; set_config(1)'", ""),
    ("SELECT $$; SET x = 1$$, $a$; LISTEN $b$ $a$", ""),
    ("SELECT $a$; $$ $a$; LISTEN x", "listens"),
    ("SELECT a$b$; LISTEN x; SELECT $b$", "listens"),
    ("SELECT $1;LISTEN x", "listens"),
    ("SELECT ''';'; LISTEN x", "listens"),
    ("SELECT '\\'; LISTEN x --'", "listens"),
    ("SELECT E'\\'; LISTEN x --'", ""),
    ("SELECT E'a'\n'\\'; LISTEN x --'", ""),
    ("SELECT 'a'\n'\\'; LISTEN x --'", "listens"),
    ("SELECT B'1', X'f', N'\\', U&'\\'; LISTEN x", "listens"),
    ('SELECT "a""; SET x = 1; b"', ""),
    ("SELECT 1-- SET\n;LISTEN x", "listens"),
    ("SELECT 1 -/* ; SET x = 1 */- 2", ""),
    ("SELECT a -> 'b' -> c ? 'd' /2/ 3", ""),
    ("SELECT é, 1; LISTEN é", "listens"),
    ("SELECT 1\0; LISTEN x", "listens"),
    ("UNLISTEN *", "unlistens"),
    ("NOTIFY x, 'y'", "notifies"),
    ("SELECT pg_notify('a', 'b')", "notifies"),
    ("CREATE RULE r AS ON INSERT TO t DO ALSO NOTIFY x", "notifies function_ddl"),
    ("CREATE RULE r AS ON INSERT TO t DO (NOTIFY a; NOTIFY b)", "notifies function_ddl"),
    ("PREPARE p AS SELECT 1", "prepares"),
    ("PREPARE transaction AS SELECT 1", "prepares"),
    ("PREPARE TRANSACTION 'p'", ""),
    ("EXECUTE p", "executes"),
    ("EXPLAIN ANALYZE EXECUTE p(1)", "executes"),
    ("EXPLAIN (ANALYZE) EXECUTE p(1)", "executes"),
    ("CREATE TABLE t AS EXECUTE p", "executes"),
    ("SELECT t.execute FROM t", ""),
    ("DEALLOCATE p", "deallocates"),
    ("CREATE TEMP TABLE t (a int)", "temps"),
    ("CREATE OR REPLACE TEMPORARY VIEW v AS SELECT 1", "temps"),
    ("CREATE LOCAL TEMP SEQUENCE s", "temps"),
    ("WITH x AS (SELECT 1) SELECT * INTO TEMPORARY t FROM x", "temps"),
    ("SELECT 1e5INTO TEMP t", "temps"),
    ("SELECT 1INTO TEMP t", "temps"),
    ("SELECT 1 AS insert INTO TEMP t", "temps"),
    ("SELECT 1 AS insert INTO/**/temporary TABLE t", "temps"),
    ("INSERT INTO temp AS t (a) SELECT 1", ""),
    ("CREATE TABLE pg_temp.t (a int)", "temps"),
    ('CREATE TABLE "pg_temp_3".t (a int)', "temps"),
    ("SET search_path = 'pg_temp'", "sets temps"),
    ("INSERT INTO temp VALUES (1)", ""),
    ("DROP TABLE temp", ""),
    ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "holds"),
    ("DECLARE c CURSOR WITHOUT HOLD FOR SELECT 1", ""),
    ("CLOSE c", "closes"),
    ("SELECT close FROM prices", ""),
    ("SELECT pg_advisory_lock(1)", "advisory"),
    ("SELECT pg_try_advisory_lock_shared(1)", "advisory"),
    ("SELECT pg_advisory_xact_lock(1), pg_try_advisory_xact_lock_shared(1)", ""),
    ("SELECT pg_advisory_unlock_all()", "unlocks"),
    ("LOAD 'x'", "loads"),
    ("DISCARD ALL", "discards"),
    ("DO $$ BEGIN PERFORM 1; END $$", "opaque"),
    ("DO $$ BEGIN EXECUTE 'LISTEN x'; END $$", "opaque executes listens"),
    ("CALL p()", "opaque"),
    ("SELECT query_to_xml('SELECT 1', true, true, '')", "opaque"),
    ("SELECT schema_to_xml('s', true, true, '')", "opaque"),
    ("SELECT pg_create_logical_replication_slot('s', 'test_decoding', true)", "loads opaque"),
    ("SELECT pg_backup_start('x')", "loads opaque"),
    ("CREATE VIEW v AS SELECT * FROM pg_settings", "function_ddl"),
    ("SELECT nextval('s'), currval('s')", "sequences"),
    ("DROP DATABASE x", "database_ddl"),
    ("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "function_ddl"),
    (
        "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $a$ BEGIN x := $b$listen$b$; END $a$",
        "function_ddl listens",
    ),
    ("CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT 2; END", "function_ddl"),
    ("DROP EXTENSION x", "function_ddl"),
    ("UPDATE t SET a = 1", ""),
    ("INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2", ""),
    ("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING", ""),
    ("MERGE INTO t USING s ON true WHEN MATCHED THEN UPDATE SET a = 1 WHEN NOT MATCHED THEN DO NOTHING", ""),
    ("ALTER TABLE t SET (fillfactor = 70)", ""),
    ("ALTER TABLE t ALTER a SET DEFAULT 1", ""),
    ("SELECT 1 FROM t FOR UPDATE", ""),
    ("CREATE TABLE t (a int REFERENCES s ON DELETE SET NULL)", ""),
    ("SELECT a FROM t GROUP BY GROUPING SETS ((a), ())", ""),
    ("COPY t FROM STDIN", ""),
    ("BEGIN; UPDATE t SET a = 1; COMMIT", ""),
]


def flags(text: str | bytes, reading: int = STANDARD) -> set[str]:
    raw = text if isinstance(text, bytes) else text.encode()
    return set(scan(raw, reading)["flags"]) - {"calls"}


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_a_text_is_flagged_with_what_it_may_do(text: str, expected: str) -> None:
    assert flags(text) == set(expected.split())


@pytest.mark.parametrize("text", ['SELECT U&"set_config"(1)', "SELECT U&\"d!0061t\" UESCAPE '!'"])
def test_a_coded_name_may_be_that_of_any_function(text: str) -> None:
    assert {"sets", "opaque", "notifies", "advisory", "sequences", "temps"} <= flags(text)
    assert scan(text.encode())["calls_overflow"]


def test_a_backslash_is_read_both_ways_where_it_may_be_either() -> None:
    either = rb"SELECT '\'; LISTEN x; SELECT '; NOTIFY x --'"
    assert flags(either) == {"listens"}
    assert flags(either, BACKSLASHES) == {"notifies"}
    assert flags(either, UNKNOWN) == {"listens", "notifies"}


def test_one_reading_that_sets_for_the_session_is_enough() -> None:
    text = rb"SELECT '\'; SET LOCAL x = 1; SELECT '; SET y = 1 --'"
    assert flags(text) >= {"local_set"}
    assert "local_set" not in flags(text, UNKNOWN)


def test_a_backslash_that_may_end_a_character_lets_all_words_count() -> None:
    text = b"SELECT E'\x83\\'; LISTEN x --'"
    assert flags(text) == set()
    assert flags(text, TRAILING) >= {"listens"}
    assert scan(b"SET x = E'\x83\\'", TRAILING)["proved"] is None


@pytest.mark.parametrize(
    ("text", "statements", "verb"),
    [
        ("", 0, "none"),
        (" ; -- x\n ;/**/", 0, "none"),
        ("SELECT 1", 1, "select"),
        (";;(SELECT 1);;", 1, "select"),
        ("VALUES (1); SELECT ';'", 2, "select"),
        ("CREATE RULE r AS ON INSERT TO t DO (SELECT 1; SELECT 2); SHOW x", 2, "create"),
        ("WITH x AS (SELECT 1) DELETE FROM t", 1, "with"),
        ("START TRANSACTION", 1, "begin"),
        ("END; SELECT 1", 2, "commit"),
        ("1; SELECT", 2, "other"),
        ("'x", 1, "other"),
        ("vacuum t", 1, "other"),
    ],
)
def test_statements_are_counted_and_the_first_is_named(text: str, statements: int, verb: str) -> None:
    found = scan(text.encode())
    assert (found["statements"], found["verb"]) == (statements, verb)


PROOFS: list[tuple[str, str, str, str, str | None]] = [
    ("SET x = 1", "set", "x", "1", "number"),
    ("/**/ set /**/ X.y TO -1.5e3 ; -- z", "set", "X.y", "-1.5e3", "number"),
    ("SET SESSION x TO 'a''b'", "set", "x", "'a''b'", "string"),
    ("SET session.x TO on", "set", "session.x", "on", "word"),
    ('SET "X" = "y"', "set", '"X"', '"y"', "name"),
    ("SET search_path TO a, \"b\" , 'c'", "set", "search_path", "a, \"b\" , 'c'", "list"),
    ("SET x TO DEFAULT", "set", "x", "DEFAULT", "default"),
    ("SET x TO E'\\n'", "set", "x", "E'\\n'", "escaped"),
    ("SET role = r", "set", "role", "r", "word"),
    ("SET ROLE NONE", "set role", "", "NONE", "word"),
    ("SET TIME ZONE 'UTC'", "set time zone", "", "'UTC'", "string"),
    ("SET TIME ZONE LOCAL", "set time zone", "", "LOCAL", "default"),
    ("SET TIME ZONE INTERVAL '1' HOUR", "set time zone", "", "INTERVAL '1' HOUR", "other"),
    ("SET NAMES 'utf8'", "set names", "", "'utf8'", "string"),
    ("SET SCHEMA 'a'", "set schema", "", "'a'", "string"),
    ("SET SESSION AUTHORIZATION a", "set authorization", "", "a", "word"),
    ("RESET x.y", "reset", "x.y", "", None),
    ("RESET TIME ZONE", "reset time zone", "", "", None),
    ("RESET ROLE", "reset", "ROLE", "", None),
    ("RESET SESSION AUTHORIZATION", "reset authorization", "", "", None),
    ("RESET ALL", "reset all", "", "", None),
    ("DEALLOCATE PREPARE p", "deallocate", "p", "", None),
    ("DEALLOCATE prepare;", "deallocate", "prepare", "", None),
    ('DEALLOCATE "all"', "deallocate", '"all"', "", None),
    ("DEALLOCATE PREPARE ALL", "deallocate all", "", "", None),
    ("DISCARD ALL", "discard all", "", "", None),
    ("DISCARD TEMPORARY", "discard temp", "", "", None),
    ("DISCARD PLANS", "discard plans", "", "", None),
    ("DISCARD SEQUENCES", "discard sequences", "", "", None),
    ('LISTEN "A"', "listen", '"A"', "", None),
    ("UNLISTEN a", "unlisten", "a", "", None),
    ("UNLISTEN *", "unlisten all", "", "", None),
    ("NOTIFY a", "notify", "a", "", None),
    ("NOTIFY a, 'b'", "notify", "a", "'b'", "string"),
    ("PREPARE p(int) AS SELECT 1", "prepare", "p", "(int) AS SELECT 1", "other"),
    ("EXECUTE p", "execute", "p", "", None),
    ("CLOSE c", "close", "c", "", None),
    ("CLOSE ALL", "close all", "", "", None),
    ("BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY", "begin", "", "", None),
    ("COMMIT WORK", "commit", "", "", None),
    ("ROLLBACK AND NO CHAIN", "rollback", "", "", None),
]


@pytest.mark.parametrize(("text", "proved", "name", "value", "kind"), PROOFS)
def test_one_simple_statement_is_proved(text: str, proved: str, name: str, value: str, kind: str | None) -> None:
    found = scan(text.encode())
    assert (found["proved"], found["name"].decode(), found["value"].decode()) == (proved, name, value)
    assert found["value_kind"] == kind
    assert found["name_quoted"] == name.startswith('"')
    assert not found["local"]
    twice = scan((text.split("--")[0] + ";" + text).encode())
    assert (twice["proved"], twice["name"], twice["value"], twice["value_kind"]) == (None, b"", b"", None)


@pytest.mark.parametrize(
    "text",
    [
        "SET x",
        "SET x = 1 2",
        "SET x = 'a' 'b'",
        "SET x = 'a",
        "SET x = 'a''",
        "SET x = U&'a'",
        "SET x = $1",
        "SET x = DEFAULT, 1",
        "SET x FROM CURRENT",
        "SET x . y = 1",
        'SET "a"."b" = 1',
        "SET TRANSACTION READ ONLY",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        "RESET TRANSACTION ISOLATION LEVEL",
        "COMMIT AND CHAIN",
        "COMMIT PREPARED 'x'",
        "ROLLBACK TO s",
        "PREPARE TRANSACTION 'x'",
        "NOTIFY a, b",
        'LISTEN U&"a"',
        "LISTEN",
        "SELECT 1",
    ],
)
def test_what_is_not_wholly_understood_is_not_proved(text: str) -> None:
    assert scan(text.encode())["proved"] is None


def test_set_local_says_so() -> None:
    found = scan(b"SET LOCAL x = 1")
    assert (found["proved"], found["local"], found["name"]) == ("set", True, b"x")


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"AbC_1$", b"abc_1$"),
        (b'"AbC"', b"AbC"),
        (b'"a""B"', b'a"B'),
        (b"A" * 70, b"a" * 63),
        (b'"' + b'""' * 70 + b'"', b'"' * 63),
        ("É".encode(), None),
        ('"É"'.encode(), "É".encode()),
        (b'"' + b"\xc3\xa9" * 32 + b'"', None),
        (b"", None),
        (b'""', None),
        (b'"a', None),
        (b'"', None),
    ],
)
def test_a_name_is_folded_as_postgresql_does(raw: bytes, name: bytes | None) -> None:
    assert fold(raw) == name


def test_calls_are_told_by_the_hash_of_their_name() -> None:
    found = scan(b'SELECT f(1), S.G (2), "H"(3), count(*), pg_catalog.count(*), s.count(*), f(4) FROM t WHERE a IN (1)')
    assert found["calls"] == [call_hash(name) for name in (b"f", b"g", b"h", b"count")]
    assert not found["calls_overflow"]
    assert scan(b"INSERT INTO s.t (a) VALUES (now())")["calls"] == []
    many = scan(b"SELECT " + b", ".join(b"f%d()" % i for i in range(9)))
    assert (len(many["calls"]), many["calls_overflow"]) == (8, True)


# A statement as tokens, and what it may do.
STATEMENTS: list[tuple[list[str], set[str]]] = [
    (["SET", "x", "=", "1"], {"sets"}),
    (["SET", "LOCAL", "x", "TO", "on"], {"local"}),
    (["RESET", "ALL"], {"sets"}),
    (["SELECT", "pg_catalog", ".", '"set_config"', "(", "'a'", ",", "'b'", ",", "false", ")"], {"sets"}),
    (["SELECT", "set_config", "(", "'a'", ",", "'b'", ",", "true", ")"], {"local"}),
    (["LISTEN", '"a;b"'], {"listens"}),
    (["UNLISTEN", "*"], {"unlistens"}),
    (["NOTIFY", "a", ",", "'SET x'"], {"notifies"}),
    (["PREPARE", "p", "AS", "SELECT", "1"], {"prepares"}),
    (["PREPARE", "TRANSACTION", "'p'"], set()),
    (["EXPLAIN", "(", "ANALYZE", ")", "EXECUTE", "p"], {"executes"}),
    (["CREATE", "OR", "REPLACE", "TEMP", "VIEW", "v", "AS", "SELECT", "1"], {"temps"}),
    (["SELECT", "*", "INTO", "TEMP", "t", "FROM", "s"], {"temps"}),
    (["INSERT", "INTO", "temp", "(", "a", ")", "VALUES", "(", "1", ")"], set()),
    (["DECLARE", "c", "CURSOR", "WITH", "HOLD", "FOR", "SELECT", "1"], {"holds"}),
    (["SELECT", "pg_advisory_lock", "(", "1", ")"], {"advisory"}),
    (["DO", "$x$ ; LISTEN y $x$"], {"opaque", "listens"}),
    (["SELECT", "$x$ ; LISTEN y $x$", ",", "E'\\'; SET y'", ",", "'--'", ",", "U&'/*'"], set()),
    (["UPDATE", "t", "SET", "a", "=", "$1", "WHERE", "b", "->", "'c'", "?", "'d'"], set()),
    (["CREATE", "DATABASE", "d"], {"database_ddl"}),
    (["DROP", "FUNCTION", "f", "(", "int", ")"], {"function_ddl"}),
]
SPACES = st.sampled_from([" ", "\n", "\t\f\v\r", " -- SET ' x\n", '/* ; $$ " */', "/*/* LISTEN */*/", " --\r"])


@st.composite
def texts(draw: st.DrawFn) -> tuple[list[str], set[str], int]:
    """Pieces of statements with anything between them that means nothing, what they may do, how many they are."""
    pieces: list[str] = []
    expected: set[str] = set()
    chosen = draw(st.lists(st.sampled_from(STATEMENTS), max_size=5))
    for tokens, effect in chosen:
        for token in tokens:
            quoted = token[0] in "'\"$" or token[:2] in ("E'", "U&")
            pieces += [token if quoted else draw(st.sampled_from([token, token.lower(), token.swapcase()]))]
            pieces += draw(st.lists(SPACES, min_size=1, max_size=2))
        pieces += [";"] * draw(st.integers(1, 2))
        expected |= effect
    if "local" in expected:
        expected |= {"sets"} if "sets" in expected else {"sets", "local_set"}
    return pieces, expected - {"local"}, len(chosen)


@given(texts(), st.sampled_from([STANDARD, UNKNOWN, TRAILING | UNKNOWN]))
def test_space_comments_and_case_change_nothing(made: tuple[list[str], set[str], int], reading: int) -> None:
    pieces, expected, statements = made
    text = "".join(pieces)
    if "sets" in expected and "\\" in text:
        expected |= {"temps"}  # search_path may have been set to pg_temp by an escape
    found = scan(text.encode(), reading)
    assert set(found["flags"]) - {"calls"} == expected
    assert found["statements"] == statements


@given(texts(), st.integers(0, 400))
def test_fewer_statements_do_no_more(made: tuple[list[str], set[str], int], cut: int) -> None:
    pieces, expected, _ = made
    ends = [i + 1 for i, piece in enumerate(pieces) if piece == ";"]
    for end in ends:
        some = flags("".join(pieces[:end])) - {"local_set"}
        assert some <= expected | ({"temps"} if "sets" in some else set())
    scan("".join(pieces).encode()[:cut], UNKNOWN)


@given(st.binary(max_size=60), st.integers(0, 7))
def test_any_bytes_are_read_to_their_end(raw: bytes, reading: int) -> None:
    found = scan(raw, reading)
    assert found["verb"] != "none" or found["statements"] == 0
    tokens = sqlscan_probe.tokens(raw, reading)
    assert all(token for _, token, _ in tokens)
    assert sum(len(token) for _, token, _ in tokens) <= len(raw)


def test_a_flood_of_setting_calls_is_read_in_time_that_grows_with_it() -> None:
    text = b"SELECT " + b"set_config('a'," * 20000
    assert scan(text)["flags"] >= {"sets"}
