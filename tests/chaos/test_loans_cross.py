"""Loans whose orders and news cross on the way between control and worker. The engine alone, control is the test."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any

import attrs
import pytest

from pgpool_core.config.model import Config, DatabaseConfig
from pgpool_core.control import routing
from pgpool_core.control.loans import startup_packet
from tests.bare_engine import bare_engine
from tests.watching import until

IDLE, IN_BLOCK = ord("I"), ord("T")
STARTUP = startup_packet([(b"user", b"app"), (b"database", b"app")])
UNTOUCHED: dict[str, Any] = {
    "broken": False,
    "busy": False,
    "dirty": False,
    "functions": False,
    "spent": False,
    "tx_status": IDLE,
    "received": 0,
    "sent": 0,
    "queries": b"",
    "xacts": b"",
    "parameters": b"",
}


class Control:
    """One pool with one server, whose other end is `theirs`."""

    def __init__(self, engine: Any, parameters: Sequence[tuple[bytes, bytes]]) -> None:
        self.engine = engine
        self.letters: list[tuple[Any, ...]] = []
        groups = {"database_group": engine.add_group(0), "user_group": engine.add_group(0)}
        self.pool: int = engine.add_pool(b"app", b"app", **groups)
        entry = DatabaseConfig()
        config = Config(databases={"app": entry}, default_pool_size=1, min_pool_size=1, pool_mode="transaction")
        settings = routing.pool_settings(config, routing.PoolKey("app", "app"), entry)
        engine.configure_pool(self.pool, **attrs.asdict(attrs.evolve(settings, prewarm=True)))
        engine.set_welcome(self.pool, parameters)
        [(server, *_)] = engine.plan(time.monotonic_ns() // 1000)
        ours, self.theirs = socket.socketpair()
        ours.setblocking(False)
        self.theirs.settimeout(10)
        engine.adopt_server(
            server,
            ours.detach(),
            backend_pid=4711,
            backend_key=b"key!",
            parameters=parameters,
            unread=b"",
            family_unix=True,
            host=b"/run",
            port=5432,
        )
        self.until(sv_idle=1)

    def row(self) -> dict[str, Any]:
        (row,) = self.engine.pools()
        found: dict[str, Any] = row
        return found

    def until(self, **numbers: int) -> None:
        until(lambda: all(self.row()[name] == number for name, number in numbers.items()))

    def letter(self, kind: str) -> tuple[Any, ...]:
        """The next letter of this kind; others are dropped."""

        def look() -> tuple[Any, ...] | None:
            self.letters += self.engine.take_mail()
            while self.letters:
                letter = self.letters.pop(0)
                if letter[0] == kind:
                    return letter
            return None

        found = until(look, what=kind)
        assert found is not None
        return found

    def borrow(self, worker: int = 0) -> int:
        token: int = self.engine.borrow(self.pool, worker, STARTUP)
        return token

    def lent(self) -> tuple[int, socket.socket]:
        """The next loan: token and our end of the server."""
        letter = self.letter("lent")
        return letter[1], socket.socket(fileno=letter[3])

    def give_back(self, token: int, **how: Any) -> None:
        self.engine.give_back(token, **{**UNTOUCHED, **how})

    def kick_the_only_client(self) -> None:
        self.engine.ask_clients()
        (client,) = [row for _ in range(self.engine.workers) for row in self.letter("clients")[3]]
        self.engine.disconnect(client["id"], b"E\0\0\0\x16SFATAL\0C57P01\0Mx\0\0")

    def answer(self, query: bytes, tag: bytes) -> None:
        """The server is asked this, and obeys."""
        whole = b"Q" + (len(query) + 5).to_bytes(4, "big") + query + b"\0"
        assert self.theirs.recv(4096) == whole
        self.theirs.sendall(b"C" + (len(tag) + 5).to_bytes(4, "big") + tag + b"\0" + b"Z\0\0\0\x05I")


@contextlib.contextmanager
def control_of(
    backend: str,
    workers: int,
    parameters: Sequence[tuple[bytes, bytes]] = ((b"server_version", b"15.4"), (b"TimeZone", b"UTC")),
) -> Iterator[Control]:
    engine = bare_engine(workers=workers, io_backend=backend, log_disconnections=True)
    engine.start()
    try:
        control = Control(engine, parameters)
        with control.theirs:
            yield control
            assert engine.invariants() == []
    finally:
        engine.stop()


@pytest.fixture(params=[("epoll", 1), ("epoll", 2), ("auto", 1)], ids=lambda param: f"{param[0]}-{param[1]}")
def control(request: pytest.FixtureRequest) -> Iterator[Control]:
    with control_of(*request.param) as control:
        yield control


def test_a_server_is_lent_with_all_that_is_needed_to_use_it(control: Control) -> None:
    token = control.borrow()
    kind, whose, server, fd, pid, key, host, port, is_unix, unread, forgotten, waited, tls = control.letter("lent")
    assert (kind, whose, pid, key, host, port, is_unix, unread, forgotten, waited, tls) == (
        ("lent", token, 4711, b"key!", b"/run", 5432, True, b"", 0, False, None)
    )
    with socket.socket(fileno=fd) as ours:
        ours.sendall(b"to the server")
        assert control.theirs.recv(100) == b"to the server"
        control.theirs.sendall(b"and back")
        ours.setblocking(True)
        ours.settimeout(10)
        assert ours.recv(100) == b"and back"
    (row,) = control.engine.servers()
    assert (row["id"], row["state"]) == (server, "active")
    assert control.row()["cl_active"] == 1
    control.give_back(
        token, received=13, sent=8, queries=(5).to_bytes(8, "little") * 2, xacts=(10).to_bytes(8, "little")
    )
    control.until(sv_idle=1, cl_active=0)
    counted = control.engine.counters()[control.pool]
    assert [counted[name] for name in ("received", "sent", "queries", "query_us", "xacts", "xact_us")] == [
        13,
        8,
        2,
        10,
        1,
        10,
    ]


def test_what_comes_back_is_made_clean_first(control: Control) -> None:
    for how, asked in (
        ({"dirty": True}, [(b"DISCARD ALL", b"DISCARD ALL")]),
        ({"tx_status": IN_BLOCK}, [(b"ROLLBACK", b"ROLLBACK")]),
        ({"tx_status": IN_BLOCK, "dirty": True}, [(b"ROLLBACK", b"ROLLBACK"), (b"DISCARD ALL", b"DISCARD ALL")]),
    ):
        token, ours = (control.borrow(), control.lent())[1]
        second = control.borrow()
        control.until(cl_waiting=1)
        ours.close()
        control.give_back(token, **how)
        for query, tag in asked:
            assert control.engine.take_mail() == []
            control.answer(query, tag)
        token, ours = control.lent()
        assert token == second
        ours.close()
        control.give_back(token)
        control.until(sv_idle=1)


def test_a_server_that_has_reported_no_settings_can_be_cleaned() -> None:
    with control_of("epoll", 1, [(b"server_version", b"15.4")]) as control:
        control.borrow()
        token, ours = control.lent()
        ours.close()
        control.give_back(token, dirty=True)
        control.answer(b"DISCARD ALL", b"DISCARD ALL")
        assert control.theirs.recv(100) == b"X\0\0\0\x04"  # nobody knows how it stands
        control.theirs.close()
        control.until(servers_total=0)


def test_what_is_broken_ends_and_counts_until_the_server_has_ended_it(control: Control) -> None:
    control.borrow()
    token, ours = control.lent()
    ours.close()
    control.give_back(token, broken=True, busy=True)
    assert control.letter("cancel")[3] == 4711
    assert control.theirs.recv(100) == b""
    assert (control.row()["servers_total"], control.row()["cl_active"]) == (1, 0)
    control.theirs.close()
    control.letter("server_closed")
    control.until(servers_total=0)


def test_who_stops_waiting_while_the_server_is_on_its_way_gets_nothing(control: Control) -> None:
    for _ in range(20):
        control.engine.stop_waiting(control.borrow())
    lent: list[tuple[Any, ...]] = []

    def settled() -> bool:
        """What has been lent to somebody who no longer waits goes back when the letter about it is read."""
        lent.extend(letter for letter in control.engine.take_mail() if letter[0] == "lent")
        row = control.row()
        return (row["sv_idle"], row["cl_active"], row["cl_waiting"]) == (1, 0, 0)

    until(settled)
    assert lent == []
    token = control.borrow()
    control.until(sv_active=1)  # it is lent, and nobody has read that
    control.engine.stop_waiting(token)
    until(lambda: [letter[0] for letter in control.engine.take_mail()] == [] and control.row()["sv_idle"] == 1)


def test_a_borrower_counts_among_the_most_clients_at_one_time(control: Control) -> None:
    token = control.borrow()
    _, ours = control.lent()
    with ours:
        assert control.row()["most_clients"] == 1
        control.give_back(token)
    control.until(cl_active=0, sv_idle=1)
    assert control.row()["most_clients"] == 1


def test_those_who_wait_come_in_order_and_some_leave(control: Control) -> None:
    control.borrow()
    first, ours = control.lent()
    workers = control.engine.workers
    tokens = []
    for number in range(6):
        tokens.append(control.borrow(number % workers))
        control.until(cl_waiting=number + 1)
    for token in tokens[1::2]:
        control.engine.stop_waiting(token)
    control.until(cl_waiting=3)
    served = []
    for _ in range(3):
        ours.close()
        control.give_back(first)
        first, ours = control.lent()
        served.append(first)
    ours.close()
    control.give_back(first)
    control.until(sv_idle=1)
    assert served == tokens[::2]


def test_a_server_that_is_taken_away_is_left_alone_until_control_has_let_go(control: Control) -> None:
    token = control.borrow()
    _, ours = control.lent()
    control.kick_the_only_client()
    kind, whose, error = control.letter("loan_ended")
    assert (kind, whose, error[-2:]) == ("loan_ended", token, b"\0\0")
    control.theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        control.theirs.recv(1)
    assert (control.row()["servers_total"], control.row()["sv_idle"]) == (1, 0)
    control.theirs.settimeout(10)
    ours.close()
    control.engine.forget_loan(token)
    assert control.theirs.recv(100) == b""
    control.theirs.close()
    control.until(servers_total=0, cl_active=0)


def test_what_is_given_back_after_it_was_taken_away_is_not_given_twice(control: Control) -> None:
    token = control.borrow()
    _, ours = control.lent()
    control.kick_the_only_client()
    control.until(sv_active=0)
    ours.close()
    control.give_back(token)  # before the letter is read
    assert [letter for letter in control.engine.take_mail() if letter[0].startswith("l")] == []
    assert control.theirs.recv(100) == b""
    control.theirs.close()
    control.until(servers_total=0, cl_active=0)


def test_a_borrower_who_may_not_come_in_hears_why(control: Control) -> None:
    token = control.engine.borrow(
        control.pool, 0, startup_packet([(b"user", b"app"), (b"database", b"app"), (b"work_mem", b"")])
    )
    assert control.theirs.recv(1000).startswith(b"Q")  # the setting is tried
    error = b"SERROR\0C22023\0Mno such value\0\0"
    control.theirs.sendall(b"E" + (len(error) + 4).to_bytes(4, "big") + error + b"Z\0\0\0\x05I")
    _, whose, message = control.letter("loan_ended")
    assert whose == token
    assert b"22023" in message
    assert b"no such value" in message
    control.engine.forget_loan(token)
    control.until(sv_idle=1)


def test_an_engine_may_stop_in_the_middle_of_everything(control: Control) -> None:
    control.borrow()
    _, ours = control.lent()
    control.borrow()
    control.until(cl_waiting=1)
    control.engine.stop()
    assert [letter[0] for letter in control.engine.take_mail() if letter[0] == "lent"] == []
    control.give_back(1)
    control.engine.stop_waiting(2)
    with contextlib.closing(ours), pytest.raises(RuntimeError):
        control.borrow()
