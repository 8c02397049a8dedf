"""Which texts need a database without connections, and which databases they name."""

from __future__ import annotations

import pytest

from pgpool_core.control.databases import wanted_alone


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (b"DROP DATABASE app", {b"app"}),
        (b' drop database if exists "A ""b"', {b'A "b'}),
        (b"drop database App (force)", {b"app"}),
        (b"create database new template Old", {b"old"}),
        (b"create database new", {b"template1"}),
        (b"drop/* all */database -- so\n app", {b"app"}),
        (b"create database new template \"a -- b\" locale '/*'", {b"a -- b"}),
        (b"alter database app rename to new", {b"app"}),
        (b"alter database app set tablespace fast", {b"app"}),
    ],
)
def test_a_statement_names_its_databases(text: bytes, names: set[bytes]) -> None:
    assert names <= wanted_alone(text)


@pytest.mark.parametrize(
    "text", [b"alter database app set work_mem = '1MB'", b"alter database app owner to x", b"select 1"]
)
def test_others_need_nobody_to_leave(text: bytes) -> None:
    assert not wanted_alone(text)
