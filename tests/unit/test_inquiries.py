"""What rules want to know of a login is asked for once, remembered, and nobody else waits for it."""

from __future__ import annotations

import ipaddress
import socket
import threading
from typing import Any, cast

import attrs
import pytest
import trio
import trio.lowlevel

from pgpool_core.config import Config
from pgpool_core.control.inquiries import Inquiries, confirmed_name
from pgpool_core.policy.facts import HOST, NOTHING
from pgpool_core.policy.hba import Address, Visitor

HERE = ipaddress.ip_address("192.0.2.7")
THERE = ipaddress.ip_address("2001:db8::7")


@pytest.mark.parametrize(
    ("reverse", "forward", "name"),
    [
        ("web.example.org", ["192.0.2.9", "192.0.2.7"], "web.example.org"),
        ("web.example.org", ["192.0.2.9"], ""),  # whoever owns the address may call it what they like
        ("web.example.org", ["2001:db8::7"], ""),
        ("web.example.org", None, ""),
        (None, ["192.0.2.7"], ""),
    ],
)
def test_a_name_counts_if_it_leads_back(
    monkeypatch: pytest.MonkeyPatch, reverse: str | None, forward: list[str] | None, name: str
) -> None:
    def named(*_: object) -> tuple[str, str]:
        if reverse is None:
            raise socket.gaierror(socket.EAI_NONAME, "no name")
        return reverse, "0"

    def found(*_: object) -> list[tuple[object, ...]]:
        if forward is None:
            raise socket.gaierror(socket.EAI_AGAIN, "later")
        return [(0, 0, 0, "", (address, 0)) for address in forward]

    monkeypatch.setattr(socket, "getnameinfo", named)
    monkeypatch.setattr(socket, "getaddrinfo", found)
    assert confirmed_name(HERE) == name


def test_a_scope_is_no_part_of_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getnameinfo", lambda *_: ("web.example.org", "0"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [(0, 0, 0, "", ("2001:db8::7%eth0", 0, 0, 2))])
    assert confirmed_name(THERE) == "web.example.org"


@attrs.frozen
class Pools:
    config: Config


async def test_a_resolver_that_does_not_answer_holds_up_those_alone_who_wait_for_it() -> None:
    answer = threading.Event()
    asked: list[Address] = []

    def name_of(address: Address) -> str:
        asked.append(address)
        if address == HERE:
            answer.wait(30)
        return str(address)

    inquiries = Inquiries(cast(Any, Pools(Config())), cast(Any, None), name_of=name_of)
    told: list[str | None] = []

    async def learn(address: Address) -> None:
        visitor = Visitor(database="app", user="ann", address=address)
        told.append((await inquiries.learn(NOTHING, HOST, visitor)).host)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(learn, HERE)
        nursery.start_soon(learn, HERE)
        await learn(THERE)
        assert told == [str(THERE)]
        row = inquiries.steps[HOST].row()
        assert (row.step, row.active, row.waiting, row.max_active) == ("host_names", 2, 0, 16)
        assert (row.total, row.queued, row.failed) == (3, 0, 0)
        answer.set()
    assert told == [str(THERE), str(HERE), str(HERE)]
    await learn(HERE)
    assert sorted(map(str, asked)) == [str(HERE), str(THERE)]
    inquiries.reloaded()
    await learn(HERE)
    assert asked.count(HERE) == 2
