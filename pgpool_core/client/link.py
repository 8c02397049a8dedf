"""One server connection as a client has it: queries on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pgpool_core.client import sqlstate
from pgpool_core.client.catalogue import Catalogue
from pgpool_core.client.described import rows_of_tag
from pgpool_core.client.line import Line, OpenedServer
from pgpool_core.client.prepared import Prepared, encoded
from pgpool_core.client.values import CommandTag
from pgpool_core.errors import PgPoolError
from pgpool_core.rows.record import Record
from pgpool_core.rows.statement import Statement, leaves_something


class Link(Line):
    """A logged-in connection, and the statements that are prepared there."""

    def __init__(
        self,
        server: OpenedServer,
        catalogue: Catalogue,
        *,
        statement_cache_size: int,
        cancel_timeout_s: float,
        statement_prefix: bytes = b"s",
    ) -> None:
        super().__init__(server, cancel_timeout_s=cancel_timeout_s)
        self.statements = Prepared(catalogue, statement_cache_size, statement_prefix)
        self.used = 0.0  # when it was last given back; of whoever lends it
        self.dirty = False  # something may have been left in the session
        self.savepoints = self.portals = 0  # made so far, for their names

    async def prepare(self, text: str) -> Statement:
        """The statement of a text, kept or from the server; a checkpoint only in the latter case."""
        return await self.statements.prepare(self, text)

    def leaves(self, raw: bytes) -> bool:
        """Whether a text may leave something in the session."""
        return leaves_something(raw)

    async def rows(self, text: str, args: tuple[Any, ...], *, raw: bool = False) -> list[Record]:
        """All rows of a query."""
        statements = self.statements
        statement = statements.known.get(text)
        if statement is None or statements.version != statements.catalogue.version:
            statement = await self.prepare(text)
        try:
            return await self.rows_of(statement, args, raw=raw)
        except sqlstate.PostgresError as error:
            if not statements.is_stale(self, statement, error):
                raise
        return await self.rows_of(await self.prepare(text), args, raw=raw)

    async def rows_of(self, statement: Statement, args: tuple[Any, ...], *, raw: bool = False) -> list[Record]:
        """All rows of a prepared query."""
        self.ready()
        self.outbox.run(statement, args, raw)
        if statement.leaves:
            self.dirty = True
        rows: list[Record] = []
        self.inbox.expect(statement.shape, rows, raw=raw)
        await self.talk()
        return rows

    async def many(self, statement: Statement, batch: list[tuple[Any, ...]]) -> int:
        """Run a command for each row of arguments; how many rows it was about. What it returns is dropped."""
        self._ask_all((statement, args) for args in batch)
        self.inbox.expect(None, None)
        total = 0

        def count() -> None:
            nonlocal total
            total += rows_of_tag(self.tag)

        await self._talk_counting(count)
        return total

    async def all_of(self, asked: list[tuple[str, tuple[Any, ...]]]) -> list[tuple[list[Record], CommandTag]]:
        """Run queries together, as one transaction unless they stand in one; rows and tag of each."""
        with self.statements.held(self):
            return await self._all_of([(await self.prepare(text), args) for text, args in asked])

    async def _all_of(self, asked: list[tuple[Statement, tuple[Any, ...]]]) -> list[tuple[list[Record], CommandTag]]:
        self._ask_all(asked)
        self.dirty = self.dirty or any(statement.leaves for statement, _ in asked)
        results: list[tuple[list[Record], CommandTag]] = []
        failures: list[PgPoolError] = []
        rows: list[Record] = []
        self.inbox.expect(asked[0][0].shape, rows)

        def next_one() -> None:
            nonlocal rows
            results.append((rows, self.command_tag()))
            if self.inbox.failure is not None:
                failures.append(self.inbox.failure)
            rows = []
            self.inbox.expect(asked[len(results)][0].shape if len(results) < len(asked) else None, rows)

        await self._talk_counting(next_one)
        if failures:
            raise failures[0]
        return results

    def _ask_all(self, asked: Iterable[tuple[Statement, tuple[Any, ...]]]) -> None:
        """Have all of them ready to be sent, as one group; nothing where an argument does not fit."""
        self.ready()
        before = len(self.outbox)
        try:
            for statement, args in asked:
                self.outbox.bind(statement, args)
                self.outbox.execute()
        except BaseException:
            self.outbox.cut(before)
            raise
        self.outbox.sync()

    async def _talk_counting(self, on_complete: Callable[[], None]) -> None:
        self.on_complete = on_complete
        try:
            await self.talk()
        finally:
            self.on_complete = None

    async def script(self, text: str) -> CommandTag:
        """Run statements without arguments, separated by semicolons; the tag of the last."""
        raw = encoded(text)
        self.ready()
        self.outbox.query(raw)
        if self.leaves(raw):
            self.dirty = True
        self.inbox.expect(None, None)
        await self.talk(extended=False)
        return self.command_tag()

    def command_tag(self) -> CommandTag:
        """What the last command said."""
        return CommandTag(self.tag.rstrip(b"\0").decode(errors="replace"))
