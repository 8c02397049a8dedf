"""Clients that share servers read what they would read from a PostgreSQL of their own, names included."""

from __future__ import annotations

from typing import Any

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
SOME_NAME = st.sampled_from([*NAMES[:3] * 3, *NAMES])
SOME_QUERY = st.sampled_from([*QUERIES[:3] * 2, *QUERIES])

MESSAGES = st.one_of(
    st.builds(parse, SOME_NAME, SOME_QUERY),
    st.builds(bind, SOME_NAME, st.sampled_from([b"", b"p" * 70])),
    st.builds(describe, SOME_NAME),
    st.builds(close, SOME_NAME),
    st.sampled_from([EXECUTE, EXECUTE, FLUSH, close_portal(), SYNC, SYNC, SYNC]),
    st.builds(query, st.sampled_from([b"select", b"BEGIN", b"ROLLBACK", b"fail", b"DEALLOCATE ALL"])),
    st.just(message(b"P", b"a\0select\0\0\1")),
)
# Who does what: a message whose first bytes come alone; some work of its server; going away in the middle.
STEP = st.tuples(
    st.integers(0, 2),
    st.one_of(
        *[st.tuples(st.just("say"), st.builds(lambda data, cut: (data, cut), MESSAGES, st.integers(5, 60)))] * 5,
        st.tuples(st.just("work"), st.integers(1, 8)),
        st.tuples(st.just("pause"), st.integers(0, 3)),
        st.tuples(st.just("leave"), st.none()),
    ),
)


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
        server.in_block = server.status != b"I"
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
        server.in_block = False

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
            client.say(data, limit=self.limit, encoding=1, cut=cut)


@settings(max_examples=400, deadline=None)
@given(st.integers(1, 4), st.lists(STEP, max_size=80))
def test_every_client_reads_what_a_postgresql_of_its_own_would_say(limit: int, steps: list[tuple[int, Any]]) -> None:
    pooler = Pooler(limit)
    for index, (action, what) in steps:
        pooler.step(index, action, what)
    pooler.finish()
    held = [text for text, _ in pooler.texts.all()]
    assert sorted(held) == sorted(pooler.used()), "a text that nobody uses is kept, or one is there twice"
    pooler.clients.clear()
    pooler.servers.clear()
    assert len(pooler.texts) == 0
