"""Which texts need a database without connections, and which databases they name."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pgpool_core.control.databases import HOLD_S, Databases, wanted_alone


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


class Orders:
    """Writes down what it is told: the engine, the listening connections, auth_query."""

    def __init__(self) -> None:
        self.given: list[tuple[Any, ...]] = []

    def hold_pool(self, pool: int, until_us: int) -> None:
        self.given.append(("hold", pool, until_us))

    def retire_servers(self, pool: int, *, dedicated: bool) -> None:
        self.given.append(("retire", pool, dedicated))

    def let_go(self, what: object, seconds: float = 0.0) -> None:
        self.given.append(("let go", what))

    def let_come(self, pool: int) -> None:
        self.given.append(("let come", pool))


@pytest.fixture
def orders() -> Orders:
    return Orders()


@pytest.fixture
def databases(orders: Orders) -> Databases:
    names = enumerate((b"app", b"spare"))
    pools: Any = [SimpleNamespace(id=number, target=SimpleNamespace(dbname=name)) for number, name in names]
    engine: Any = orders
    return Databases(engine, pools, engine, engine, now_us=lambda: 1_000_000)


def test_a_database_is_held_until_the_last_statement_is_over(orders: Orders, databases: Databases) -> None:
    until_us = 1_000_000 + int(HOLD_S * 1e6)
    databases.asked(b"drop database app")
    words = frozenset({b"drop", b"database", b"app"})
    assert orders.given == [("hold", 0, until_us), ("let go", 0), ("retire", 0, False), ("let go", words)]
    databases.asked(b"drop database spare", lent=True)
    orders.given.clear()
    databases.done()
    assert (orders.given, databases.holds(b"app"), databases.holds(b"spare")) == ([], True, True)
    databases.done(lent=1)
    assert orders.given == [("hold", 0, 0), ("let come", 0), ("hold", 1, 0), ("let come", 1)]
    assert not databases.holds(b"app")
    assert not databases.holds(b"spare")


def test_what_a_borrower_has_asked_does_not_end_with_a_clients_statement(databases: Databases) -> None:
    databases.asked(b"drop database app")
    databases.asked(b"drop database app", lent=True)
    databases.done(lent=1)
    assert databases.holds(b"app")
    databases.done()
    assert not databases.holds(b"app")
