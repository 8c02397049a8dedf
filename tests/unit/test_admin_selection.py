"""Rows chosen on the console: conditions, order, limits, and the words that mean nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool_core.admin.reply import INT4, TEXT, Column
from pgpool_core.admin.selection import chosen_columns, like, parse_selection, select
from pgpool_core.admin.sqlwords import split, tokens
from pgpool_core.errors import CommandRefused

TABLE = (Column("name", TEXT), Column("n", INT4), Column("host", TEXT))
ROWS = [["app", 5, "db1"], ["zoo", 20, None], ["App2", 0, "db1"]]


def chosen(query: str, *parameters: str | None) -> list[list[object]]:
    selection = parse_selection(query)
    assert selection is not None
    chosen_columns(selection, TABLE)
    return [list(row) for row in select(selection, TABLE, ROWS, parameters)]


@pytest.mark.parametrize(
    ("clauses", "names"),
    [
        ("WHERE name = 'app'", ["app"]),
        ("where NAME='app';", ["app"]),
        ("WHERE n > 4", ["app", "zoo"]),
        ("WHERE n >= 5 AND n <= 5.0", ["app"]),
        ("WHERE n <> 5 AND host IS NOT NULL", ["App2"]),
        ("WHERE host IS NULL", ["zoo"]),
        ("WHERE host != 'db1'", []),
        ("WHERE n < -1", []),
        ("WHERE name LIKE 'a%'", ["app"]),
        ("WHERE name ILIKE 'APP%'", ["app", "App2"]),
        ("WHERE name NOT LIKE '%p%'", ["zoo"]),
        ("ORDER BY n", ["App2", "app", "zoo"]),
        ("ORDER BY n DESC LIMIT 2", ["zoo", "app"]),
        ("ORDER BY host, n DESC", ["app", "App2", "zoo"]),
        ("LIMIT 1 OFFSET 1", ["zoo"]),
        ("OFFSET 2", ["App2"]),
        ("LIMIT 0", []),
        ("WHERE \"name\" = 'zoo' -- all\n", ["zoo"]),
    ],
)
def test_clauses_choose_and_order_rows(clauses: str, names: list[str]) -> None:
    assert [row[0] for row in chosen(f"SHOW databases {clauses}")] == names
    assert [row[0] for row in chosen(f"SELECT * FROM databases {clauses}")] == names


def test_columns_are_chosen_by_name() -> None:
    assert chosen("SELECT n, name FROM databases WHERE n = 20") == [[20, "zoo"]]


def test_parameters_stand_for_values() -> None:
    assert chosen("SHOW x WHERE name = $2 AND n = $1", "5", "app") == [ROWS[0]]
    assert chosen("SHOW x WHERE name = $1", None) == []
    assert chosen("SHOW x LIMIT $1", "1") == [ROWS[0]]
    assert chosen("SHOW x LIMIT $1", None) == ROWS


@pytest.mark.parametrize("query", ["SHOW POOLS", "SHOW x y", "SELECT pools", "SELECT 1", "PAUSE", "", "SET where = 1"])
def test_other_commands_are_left_to_others(query: str) -> None:
    assert parse_selection(query) is None


@pytest.mark.parametrize(
    ("query", "sqlstate"),
    [
        ("SHOW x WHERE", "42601"),
        ("SHOW x WHERE n", "42601"),
        ("SHOW x WHERE n =", "42601"),
        ("SHOW x WHERE n = 1 OR n = 2", "42601"),
        ("SHOW x WHERE n = name", "42601"),
        ("SHOW x ORDER n", "42601"),
        ("SHOW x LIMIT 1 LIMIT 1", "42601"),
        ("SHOW x WHERE n = $0", "42601"),
        ("SHOW x WHERE n = 1 )", "42601"),
        ("SELECT FROM x", "42601"),
        ("SELECT a b FROM x", "42601"),
        ("SHOW x WHERE nothing = 1", "42703"),
        ("SELECT nothing FROM x", "42703"),
        ("SHOW x ORDER BY nothing", "42703"),
        ("SHOW x WHERE n = 'many'", "22P02"),
        ("SHOW x WHERE n = 'NaN'", "22P02"),
        ("SHOW x LIMIT 'x'", "22P02"),
        ("SHOW x LIMIT -1", "2201W"),
        ("SHOW x OFFSET -1", "2201X"),
    ],
)
def test_what_means_nothing_is_refused_with_postgresqls_code(query: str, sqlstate: str) -> None:
    with pytest.raises(CommandRefused) as refused:
        chosen(query)
    assert refused.value.sqlstate == sqlstate


@pytest.mark.parametrize(
    ("text", "pattern", "matches"),
    [
        *[("", "", True), ("", "%", True), ("a", "", False), ("abc", "a_c", True), ("abc", "%b%", True)],
        *[("abc", "a%d", False), ("a%c", r"a\%c", True), ("abc", r"a\%c", False), ("aXbXc", "a%X%c", True)],
    ],
)
def test_like_is_sqls(text: str, pattern: str, matches: bool) -> None:
    assert like(text, pattern) == matches


def test_a_hostile_pattern_ends() -> None:
    assert not like("a" * 5_000, "%a" * 20 + "b")  # with backtracking it would outlive us all


def test_statements_are_cut_at_semicolons_outside_quotes_and_comments() -> None:
    assert split('SHOW a; \'x;y\' ; "q;""r" -- ;\n /* ; */ ;;') == ["SHOW a", " 'x;y' ", ' "q;""r" -- ;\n /* ; */ ']
    assert split(" ; -- nothing\n /* ; */") == []


@given(st.text(max_size=200))
def test_no_character_is_lost_between_words(text: str) -> None:
    found = list(tokens(text))
    assert [token.at for token in found] == sorted({token.at for token in found})
    assert all(text[token.at : token.at + len(token.text)] == token.text for token in found)
    assert "".join(split(text)).count(";") <= text.count(";")
