"""The console's grammar: what is a command, what is refused, and with which text."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool_core.admin.grammar import Assignment, Command, EmptyQuery, Refused, parse


@pytest.mark.parametrize(
    ("query", "word", "argument"),
    [
        (b"SHOW POOLS", "SHOW", "POOLS"),
        (b"show pools;", "SHOW", "pools"),
        (b" \t\r\n show \n pools ; \n", "SHOW", "pools"),
        (b'"show" "pools"', "SHOW", "pools"),
        (b"SELECT stats", "SHOW", "stats"),
        (b"RELOAD", "RELOAD", None),
        (b"RELOAD\0", "RELOAD", None),
        (b'PAUSE "odd "" name; -- x"', "PAUSE", 'odd " name; -- x'),
        (b"PAUSE Db_1", "PAUSE", "Db_1"),
        (b"/* trace=1 */ SHOW /**/ POOLS -- all of them", "SHOW", "POOLS"),
        (b"SELECT 1", "SHOW", "1"),
        (b"BEGIN", "BEGIN", None),
        ('PAUSE "\u00e4"'.encode(), "PAUSE", "\u00e4"),
    ],
)
def test_a_command_is_a_word_and_perhaps_an_argument(query: bytes, word: str, argument: str | None) -> None:
    command = parse(query)
    assert isinstance(command, Command)
    assert (command.word, command.argument) == (word, argument)


@pytest.mark.parametrize(
    ("query", "key", "value"),
    [
        (b"SET verbose=1", "verbose", "1"),
        (b"set Verbose = 1;", "verbose", "1"),
        (b"SET timezone TO 'it''s'", "timezone", "it's"),
        (b'SET a TO "b""c"', "a", 'b"c'),
        (b"SET a to'x'", "a", "x"),
        (b"SET a TO to", "a", "to"),
        (b"SET a=''", "a", ""),
    ],
)
def test_set_takes_an_equals_sign_or_to(query: bytes, key: str, value: str) -> None:
    assignment = parse(query)
    assert isinstance(assignment, Assignment)
    assert (assignment.key, assignment.value) == (key, value)


@pytest.mark.parametrize("query", [b"", b"\0", b" ", b";", b" ; ", b";;", b"-- ping", b"/* nothing */", b"--\n;"])
def test_blanks_comments_and_semicolons_are_an_empty_query(query: bytes) -> None:
    assert parse(query) == EmptyQuery()


@pytest.mark.parametrize(
    "query",
    [
        b"SHOW POOLS; SHOW STATS",
        b"SHOW POOLS WHERE 1",
        b"SHOW pools, stats",
        b"SET a=",
        b"SET a TOb",
        b"SET a = 0.5",
        b"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        b'SHOW "pools',
        b"/* open SHOW POOLS",
        b"SHOWPOOLS()",
        b"'SHOW' POOLS",
        "\u017fhow pools".encode(),  # a long s must not count as a letter s
    ],
)
def test_anything_else_is_refused_with_the_text_that_came(query: bytes) -> None:
    assert parse(query) == Refused(f"invalid command '{query.decode()}', use SHOW HELP;")


def test_lengths_are_limited_in_bytes_where_pgbouncer_limits_them() -> None:
    assert isinstance(parse(b"a" * 15), Command)
    assert parse(b"a" * 16) == Refused("bad arguments")
    assert isinstance(parse(b"SHOW " + b"a" * 63), Command)
    assert parse(b"SHOW " + b"a" * 64) == Refused("bad arguments")
    assert parse(b'SHOW "' + "\u00e4".encode() * 32 + b'"') == Refused("bad arguments")
    assert isinstance(parse(b"SET k='" + b"v" * 255 + b"'"), Assignment)
    assert parse(b"SET k='" + b"v" * 256 + b"'") == Refused("bad arguments")
    assert parse(b"SET " + b"k" * 64 + b"=v") == Refused("bad arguments")


def test_a_long_refused_command_is_repeated_only_in_part() -> None:
    refused = parse(b"SHOW (" + b"x" * 100_000)
    assert isinstance(refused, Refused)
    assert len(refused.message) < 512


def test_bytes_that_are_not_utf8_keep_their_value() -> None:
    command = parse(b'PAUSE "\xff\xfe"')
    assert isinstance(command, Command)
    assert command.argument is not None
    assert command.argument.encode("utf-8", "surrogateescape") == b"\xff\xfe"


@pytest.mark.parametrize(
    "piece", [b'"', b'""', b"'", b"/*", b"/**/", b"--", b"--\n", b" ", b";", b"a ", b"set a=''", b"*/"]
)
def test_a_hostile_text_costs_time_in_proportion_to_its_length(piece: bytes) -> None:
    def cost(count: int) -> int:
        begin = time.thread_time_ns()
        parse(b"SHOW " + piece * count + b"!")
        parse(piece * count + b"!")
        return time.thread_time_ns() - begin

    small = min(cost(2_000) for _ in range(3))
    large = min(cost(32_000) for _ in range(3))
    assert large < 16 * 6 * max(small, 20_000)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_statement_or_refused(query: bytes) -> None:
    assert isinstance(parse(query), EmptyQuery | Command | Assignment | Refused)


@given(st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=15))
def test_every_short_name_can_be_quoted(name: str) -> None:
    command = parse(b'KILL "' + name.replace('"', '""').encode() + b'"')
    assert command == Command(text=f'KILL "{name.replace(chr(34), chr(34) * 2)}"', word="KILL", argument=name)
