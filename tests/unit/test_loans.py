"""Loans without an engine: who hears what, what a text may do, what a lent link says of itself when it goes back."""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator
from typing import Any, cast

import attrs
import pytest
import trio
import trio.testing

from pgpool_core.client.catalogue import Catalogue
from pgpool_core.client.lent import NO_MATTER, Knowledge, LentLink
from pgpool_core.client.shared import error_of
from pgpool_core.control.loans import Lent, Loans, Returned, startup_packet
from pgpool_core.errors import (
    ConfigError,
    ConnectionLost,
    PoolClosed,
    PoolTimeout,
    ServerUnavailable,
    TooManyClients,
    error_response,
)
from pgpool_core.rows.statement import DOES_DATABASES, DOES_FUNCTIONS, DOES_LEAVE, DOES_LOAD, DOES_SEQUENCES, text_does
from pgpool_core.session.bodies import TEMPS
from pgpool_core.session.effects import effects_pack

IDLE, IN_BLOCK = ord("I"), ord("T")
RETURNED = Returned(
    broken=False,
    busy=False,
    dirty=False,
    spent=False,
    functions=False,
    tx_status=IDLE,
    received=0,
    sent=0,
    queries=b"",
    xacts=b"",
    parameters=b"",
)


def test_a_startup_packet_says_who_wants_what() -> None:
    packet = startup_packet([(b"user", b"app"), (b"work_mem", b"5MB")])
    assert packet == struct.pack("!II", 8 + 23, 196608) + b"user\0app\0work_mem\x005MB\0\0"
    for pairs in ([(b"", b"x")], [(b"a\0b", b"x")], [(b"a", b"x\0y")]):
        with pytest.raises(ConfigError, match="is empty, or has a zero byte"):
            startup_packet(pairs)


@pytest.mark.parametrize(
    ("text", "does"),
    [
        ("select 1", 0),
        ("set local work_mem = '5MB'", 0),
        ("set work_mem = '5MB'", DOES_LEAVE),
        ("select set_config('a.b', 'c', false)", DOES_LEAVE),
        ("create temp table t (a int)", DOES_LEAVE),
        ("listen here", DOES_LEAVE),
        ("create function f() returns int language sql as 'select 1'", DOES_FUNCTIONS),
        ("do $$begin end$$", DOES_LEAVE | DOES_FUNCTIONS),
        ("load 'auto_explain'", DOES_LEAVE | DOES_LOAD),
        ("select nextval('s')", DOES_SEQUENCES),
        ("drop database d", DOES_DATABASES),
        ("select makes_one()", 0),
    ],
)
def test_what_a_text_may_do(text: str, does: int) -> None:
    assert text_does(text.encode()) == does


def test_what_a_text_may_do_by_the_functions_that_it_calls() -> None:
    effects = effects_pack({b"makes_one": (TEMPS, 0)}, [], serial=1, generation=1)
    assert text_does(b"select makes_one()", effects) == DOES_LEAVE
    assert text_does(b"select makes_none()", effects) == 0
    with pytest.raises(ValueError, match="effects"):
        text_does(b"select 1", b"x" * 8)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (b"", PoolClosed),
        (error_response(PoolClosed("pooler is shutting down", sqlstate="57P01")), PoolClosed),
        (error_response(TooManyClients("no more")), TooManyClients),
        (error_response({"C": "53000", "M": "query_wait_timeout"}), PoolTimeout),
        (error_response(ServerUnavailable("nobody there")), ServerUnavailable),
    ],
)
def test_what_the_proxy_says_becomes_an_exception(error: bytes, kind: type[Exception]) -> None:
    assert type(error_of(error)) is kind


def test_what_a_server_has_said_keeps_its_fields() -> None:
    error = error_of(error_response({"C": "28P01", "M": "wrong", "D": "very"}))
    assert (error.sqlstate, error.message, error.detail) == ("28P01", "wrong", "very")


# -- who hears what ------------------------------------------------------------------------------------------------------------


@attrs.define
class Engine:
    """Remembers what it was told."""

    workers: int = 2
    told: list[tuple[Any, ...]] = attrs.field(factory=list)

    def borrow(self, pool: int, worker: int, startup: bytes) -> int:
        self.told.append(("borrow", pool, worker))
        return len(self.told)

    def stop_waiting(self, token: int) -> None:
        self.told.append(("stop_waiting", token))

    def give_back(self, token: int, **how: Any) -> None:
        self.told.append(("give_back", token, how["tx_status"]))

    def forget_loan(self, token: int) -> None:
        self.told.append(("forget", token))


@attrs.define
class Borrower:
    heard: list[Any] = attrs.field(factory=list)

    def lent(self, lent: Lent) -> None:
        self.heard.append(lent.token)

    def ended(self, error: bytes) -> None:
        self.heard.append(error)
        if error == b"raise":
            raise ValueError


def lent_of(token: int, fd: int, **more: Any) -> Lent:
    given: dict[str, Any] = {
        "server": 1,
        "backend_pid": 4711,
        "backend_key": b"key!",
        "host": "/run",
        "port": 5432,
        "is_unix": True,
        "unread": b"",
        "forgotten": 0,
        "waited": False,
        **more,
    }
    return Lent(token=token, fd=fd, **given)


def test_each_borrower_hears_of_its_own_loan_until_it_has_left() -> None:
    engine = Engine()
    loans = Loans(cast("Any", engine), cast("Any", None), cast("Any", None))
    borrowers = [Borrower() for _ in range(4)]
    tokens = [loans.ask(7, loans.next_worker(), b"", borrower) for borrower in borrowers]
    assert engine.told == [("borrow", 7, 1), ("borrow", 7, 0), ("borrow", 7, 1), ("borrow", 7, 0)]
    loans.deliver_lent(lent_of(tokens[0], -1))
    loans.stop_waiting(tokens[1])
    one, other = socket.socketpair()
    with other:
        loans.deliver_lent(lent_of(tokens[1], one.detach()))
        assert other.recv(1) == b"", "nobody wanted it: it is closed"
    loans.give_back(tokens[0], RETURNED)
    loans.give_back(tokens[0], RETURNED)
    with pytest.raises(ValueError):
        loans.deliver_ended(tokens[2], b"raise")
    loans.stop()
    assert [borrower.heard for borrower in borrowers] == [[tokens[0]], [], [b"raise"], [b""]]
    assert engine.told[4:] == [("stop_waiting", tokens[1]), ("give_back", tokens[0], IDLE), ("forget", tokens[2])]
    for call in (
        lambda: loans.ask(7, 0, b"", borrowers[0]),
        lambda: loans.pool_of("app", "app"),
        lambda: loans.retire(7),
    ):
        with pytest.raises(PoolClosed, match="stopped"):
            call()
    assert loans.row(7) == {}


# -- the link ------------------------------------------------------------------------------------------------------------------


class Lending:
    """A lent link, and the server's end of it."""

    def __init__(self) -> None:
        self.forgotten = 0
        self.knows = NO_MATTER
        self.link = LentLink(
            self.next(),
            [],
            Catalogue(),
            statement_cache_size=10,
            cancel_timeout_s=1,
            on_sequences=lambda: None,
            on_databases=lambda text: None,
        )
        self.link.lend(self.lent, self.knows)

    def next(self, **more: Any) -> Lent:
        ours, self.theirs = socket.socketpair()
        ours.setblocking(False)
        self.lent = lent_of(1, ours.detach(), forgotten=self.forgotten, **more)
        return self.lent

    def again(self, **more: Any) -> None:
        self.theirs.close()
        self.link.lend(self.next(**more), self.knows)


@pytest.fixture
async def lending() -> AsyncIterator[Lending]:
    lending = Lending()
    yield lending
    if not lending.link.closed:
        lending.link.socket.close()
    lending.theirs.close()


def message(code: str, body: bytes) -> bytes:
    return code.encode() + struct.pack("!I", len(body) + 4) + body


READY = message("Z", b"I")


async def test_an_account_of_what_was_done(lending: Lending) -> None:
    link = lending.link
    lending.theirs.sendall(message("C", b"BEGIN\0") + message("Z", b"T"))
    await link.script("begin")
    lending.theirs.sendall(message("S", b"TimeZone\0UTC\0") + message("C", b"COMMIT\0") + READY)
    await link.script("set timezone = 'UTC'; commit")
    returned = link.returned(0)
    assert len(returned.queries) == 2 * 8
    assert len(returned.xacts) == 8
    assert (returned.broken, returned.dirty, returned.tx_status) == (False, True, IDLE)
    assert returned.parameters == b"TimeZone\0UTC\0"
    assert returned.received == len(lending.theirs.recv(1000))
    assert returned.sent > 30
    assert link.closed
    lending.again()
    again = link.returned(0)
    assert (again.queries, again.sent, again.parameters, again.dirty) == (b"", 0, b"", False)


async def test_what_has_come_between_is_read_when_it_goes_back(lending: Lending) -> None:
    notice = message("N", b"SNOTICE\0C00000\0Mhello\0\0")
    for unread, broken in ((b"", False), (notice, False), (notice[:9], True), (message("E", b"C57P01\0\0"), True)):
        lending.again(unread=unread)
        assert lending.link.returned(0).broken is broken
        if broken:
            lending.theirs.close()
            lending.__init__()  # type: ignore[misc]


async def test_what_was_being_asked_may_be_at_work_still(lending: Lending) -> None:
    link = lending.link
    with trio.move_on_after(0), pytest.raises(trio.Cancelled):
        link.cancel_timeout_s = 0
        await link.script("select pg_sleep(60)")
    returned = link.returned(0)
    assert (returned.broken, returned.busy) == (True, True)


async def test_who_uses_a_link_that_was_taken_away_is_told_why(lending: Lending) -> None:
    link = lending.link

    async def ask() -> None:
        with pytest.raises(ConnectionLost, match="because"):
            await link.script("select 1")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        link.take_away("because")
    with pytest.raises(ConnectionLost, match="because"):
        await link.script("select 1")


async def test_a_link_knows_what_is_prepared_until_the_server_forgets(lending: Lending) -> None:
    link = lending.link
    lending.theirs.sendall(message("1", b"") + message("t", b"\0\0") + message("n", b"") + READY)
    await link.prepare("truncate a")
    (name,) = link.statement_names()
    assert name.startswith(b"pgpool_lent_")
    link.returned(0)
    lending.again()
    assert link.statement_names() == [name]
    link.returned(0)
    lending.forgotten = 1
    lending.again()
    assert link.statement_names() == []


async def test_statements_are_judged_anew_when_functions_have_changed(lending: Lending) -> None:
    link = lending.link
    harmless = effects_pack({b"other": (TEMPS, 0)}, [], serial=1, generation=1)
    harmful = effects_pack({b"makes_one": (TEMPS, 0)}, [], serial=2, generation=2)
    link.returned(0)
    for knows, dirty in ((Knowledge(1, harmless), False), (Knowledge(2, harmful), True), (Knowledge(3, None), True)):
        lending.knows = knows
        lending.again()
        assert link.statement_names() == []
        lending.theirs.sendall(message("1", b"") + message("t", b"\0\0") + message("n", b"") + READY)
        assert (await link.prepare("select makes_one()")).leaves is dirty
        link.returned(knows.changes)
    lending.knows = Knowledge(1, harmless)
    lending.again()
    assert link.returned(2).dirty, "they have changed while it was lent"
