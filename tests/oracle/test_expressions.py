"""Regular expressions of auth_hba_file and auth_ident_file: whom one fits, it fits in PostgreSQL; what PostgreSQL refuses is refused."""

from __future__ import annotations

import random

import psycopg
import pytest

from pgpool_core.policy.regex import compile_pattern
from pgpool_core.testing import PostgresServer

ATOMS = (
    *("a", "b", "n", ".", "A", "_", "-", " ", "#", "{", "}", "]", ")", "^", "$", "|", "é"),
    *(rf"\{each}" for each in "wdsSWDymMYAZbBaefntvrzQgNp0189.-_/\\é"),
    *(
        r"\x61",
        r"\u0061",
        r"\12",
        r"\cA",
        "\\",
        "[ab]",
        "[^a]",
        r"[\w]",
        r"[^\d]",
        r"[\b]",
        r"[\B]",
        "[a-c]",
        "[c-a]",
        r"[a\-z]",
    ),
    *(
        "[]a]",
        "[^]a]",
        "[a-]",
        "[-a]",
        "[a-c-e]",
        "[+--]",
        "[a-b-]",
        r"[\n-\r]",
        "[a^]",
        "[^^a]",
        r"[\]]",
        "[--a]",
        "[a-cx-z]",
    ),
    *("[a[]", "[[]", "[a&&b]", "[a||b]", r"[\D]", r"[a-\d]", "[a b]", "[:alpha:]", "[[.a.]]", "[[=a=]]", "[[:<:]]"),
    *(f"[[:{each}:]]" for each in ("alpha", "^alpha", "space", "punct", "word", "cntrl")),
    *(
        "(a)",
        "(a|b)",
        "()",
        "(?:ab)",
        "(?=a)",
        "(?!b)",
        "(?<=a)",
        "(?<!a)",
        "(?#x)",
        "(?i)",
        "(?P<x>a)",
        "(?>a)",
        "(?i:a)",
        "(?<x>a)",
    ),
)
REPEATS = (
    "",
    "",
    "",
    "",
    "",
    "*",
    "+",
    "?",
    "{2}",
    "{1,2}",
    "{,2}",
    "{2,}",
    "{0}",
    "*?",
    "+?",
    "??",
    "*+",
    "?+",
    "{256}",
    "{2,1}",
    "{ 1}",
)
BEGINNINGS = ("", "", "", "^", "^", "(?i)", "(?is)", "(?x)", "***=")
NAMES = (
    *(
        "a",
        "b",
        "ab",
        "ba",
        "ann",
        "A",
        "Z",
        "aa",
        "bb",
        "n",
        "_",
        "-",
        " ",
        "1",
        "a b",
        "\\",
        "\\nn",
        "\b",
        "\ba",
        "\a",
        "\n",
        "a\n",
        "\na",
    ),
    *(
        "é",
        "aé",
        "éa",
        "a.b",
        "a#b",
        "[",
        "]",
        "{",
        "}",
        "{,2}",
        "a{,2}",
        "{ 1}",
        "^",
        "$",
        "a|b",
        "\x1b",
        "\t",
        "aab",
        "abab",
        "a]",
        "-]",
        "&",
    ),
)


@pytest.fixture(scope="module")
def bytes_address(oracle_postgres: PostgresServer) -> str:
    """A database without an encoding: PostgreSQL has none where it reads its files."""
    oracle_postgres.sql("create database bytes_ encoding 'SQL_ASCII' template template0")
    return f"{oracle_postgres.dsn('postgres', 'bytes_', unix=True)}?client_encoding=SQL_ASCII"


@pytest.mark.parametrize("seed", range(4))
def test_an_expression_fits_whom_it_fits_in_postgresql(bytes_address: str, seed: int) -> None:
    chance = random.Random(seed)
    taken = 0
    with psycopg.connect(bytes_address, autocommit=True) as connection:
        for _ in range(3000):
            middle = (chance.choice(ATOMS) + chance.choice(REPEATS) for _ in range(chance.choice((1, 1, 2, 2, 3))))
            expression = chance.choice(BEGINNINGS) + "".join(middle) + chance.choice(("", "$"))
            try:
                ours = compile_pattern(expression)
            except ValueError:
                continue
            question = 'select array_agg(name ~ %b::text collate "C" order by at) from unnest(%b::text[]) with ordinality as u (name, at)'
            row = connection.execute(
                question, (expression, list(NAMES))
            ).fetchone()  # fails where PostgreSQL takes none
            assert row is not None
            assert [ours.fits(name) for name in NAMES] == row[0], expression
            taken += 1
    assert taken > 300
