"""Clients that share servers read what they would read from a PostgreSQL of their own, names included."""

from __future__ import annotations

from random import Random
from typing import Any, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgpool_core_probes import statements_probe
from tests.unit.statements_model import (
    EXECUTE,
    FLUSH,
    SYNC,
    PooledClient,
    PooledServer,
    bind,
    close,
    close_portal,
    describe,
    message,
    parse,
    query,
)

# The last two are names that statements have at the server.
NAMES = [b"a", b"b", b"c", b"", statements_probe.name_of(1), statements_probe.name_of(2)]
QUERIES = [b"select 1", b"select 2", b"select 3", b"bad", b"fail", b"select '\xe9'"]
Step: TypeAlias = tuple[int, str, Any]  # client, action, what


def random_message(random: Random) -> bytes:
    name = random.choice([*NAMES[:3] * 3, *NAMES])
    match random.choices(range(8), (22, 20, 8, 8, 16, 16, 9, 1))[0]:
        case 0:
            return parse(name, random.choice([*QUERIES[:3] * 2, *QUERIES]))
        case 1:
            return bind(name, random.choice([b"", b"p" * 70]))
        case 2:
            return describe(name)
        case 3:
            return close(name)
        case 4:
            return SYNC
        case 5:
            return random.choice([EXECUTE, EXECUTE, FLUSH, close_portal()])
        case 6:
            return query(random.choice([b"select", b"BEGIN", b"ROLLBACK", b"fail", b"DEALLOCATE ALL"]))
        case _:
            return message(b"P", b"a\0select\0\0\1")


def random_step(random: Random) -> Step:
    """Who does what: a message, whose first bytes come alone; some work of its server, or all of it; leaving."""
    index = random.randrange(3)
    match random.choices(range(4), (750, 120, 115, 15))[0]:
        case 0:
            return index, "say", (random_message(random), random.randint(5, 60))
        case 1:
            return index, "work", random.randint(1, 8)
        case 2:
            return index, "pause", random.randint(0, 3)
        case _:
            return index, "leave", None


class Pooler:
    """Three clients over two servers."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.texts = statements_probe.Texts()
        self.servers = [PooledServer(self.texts), PooledServer(self.texts)]
        self.clients = [PooledClient(self.texts) for _ in range(3)]

    def link(self, client: PooledClient, which: int) -> bool:
        if client.server is None:
            free = [server for server in self.servers if server.client is None]
            if not free:
                return False
            client.server = free[which % len(free)]
            client.server.client = client
        return True

    def settle(self, client: PooledClient) -> None:
        """Let everything be answered; out of a transaction the server goes to whoever comes next."""
        server = client.server
        if server is None:
            return
        server.work()
        if server.open_group:
            return
        client.check()
        server.check()
        if server.status == b"I":
            client.server = server.client = None

    def leave(self, index: int) -> None:
        """In the middle: the server drains without the client, whose slot is taken by a new one."""
        client, server = self.clients[index], self.clients[index].server
        self.clients[index] = PooledClient(self.texts)
        if server is None:
            return
        server.known.orphan(client.names)
        client.server = server.client = None
        if server.open_group:
            server.send(SYNC)
        server.send(query(b"ROLLBACK"))
        server.work()
        server.check()

    def finish(self) -> None:
        for client in self.clients:
            if client.server is not None:
                client.say(SYNC, limit=self.limit)
                self.settle(client)
                client.server = None

    def used(self) -> set[bytes]:
        """Texts that a server or a client has."""
        used = {text for server in self.servers for text in server.known.by_age()}
        return used.union(*(client.names.stands().values() for client in self.clients))

    def step(self, index: int, action: str, what: Any) -> None:
        client = self.clients[index]
        if action == "leave":
            self.leave(index)
        elif action == "pause":
            self.settle(client)
        elif action == "work":
            if client.server is not None:
                client.server.work(what)
        elif self.link(client, what[1]):
            assert client.server is not None
            data, cut = what
            if data[:1] == b"Q" and client.server.open_group:
                client.say(SYNC, limit=self.limit)
            client.say(data, limit=self.limit, salt=1, cut=cut)


def session(random: Random) -> tuple[int, list[Step]]:
    return random.randint(1, 4), [random_step(random) for _ in range(random.randint(5, 150))]


def play(limit: int, steps: list[Step]) -> None:
    pooler = Pooler(limit)
    for step in steps:
        pooler.step(*step)
    pooler.finish()
    held = [text for text, _ in pooler.texts.all()]
    assert sorted(held) == sorted(pooler.used()), "a text that nobody uses is kept, or one is there twice"
    pooler.clients.clear()
    pooler.servers.clear()
    assert len(pooler.texts) == 0


def shrunk(limit: int, steps: list[Step]) -> list[Step]:
    """The steps of a failing session that it takes to fail."""
    at = len(steps)
    while at > 0:
        at -= 1
        fewer = steps[:at] + steps[at + 1 :]
        try:
            play(limit, fewer)
        except AssertionError:
            steps, at = fewer, len(fewer)
    return steps


@pytest.mark.parametrize("seed", range(4))
def test_every_client_reads_what_a_postgresql_of_its_own_would_say(seed: int) -> None:
    """Long histories are what goes wrong; 500 of them for each seed, and the few steps that matter when one does."""
    for number in range(500):
        limit, steps = session(Random(f"{seed}/{number}"))
        try:
            play(limit, steps)
        except AssertionError as error:
            for step in shrunk(limit, steps):
                print(step)
            raise AssertionError(f"session {seed}/{number} with a limit of {limit}; its steps are printed") from error


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 4), st.lists(st.randoms(use_true_random=False).map(random_step), max_size=25))
def test_short_sessions_that_a_machine_chooses(limit: int, steps: list[Step]) -> None:
    play(limit, steps)
