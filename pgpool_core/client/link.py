"""One server connection as a client has it: queries on it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from pgpool_core.client import sqlstate
from pgpool_core.client.catalogue import Catalogue
from pgpool_core.client.described import rows_of_tag
from pgpool_core.client.line import IDLE, Line, OpenedServer
from pgpool_core.client.prepared import Prepared, encoded
from pgpool_core.client.values import CommandTag
from pgpool_core.errors import EncodeError, PgPoolError
from pgpool_core.rows.record import Record
from pgpool_core.rows.statement import Statement, leaves_something

ENDS_TRANSACTION: Final = frozenset({"COMMIT", "PREPARE TRANSACTION"})
FORGETS_STATEMENTS: Final = frozenset({b"DEALLOCATE ALL\0", b"DISCARD ALL\0"})  # tags, as they are sent


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
        known = statements.known
        statement = known.get(text)
        if statement is None or statements.version != statements.catalogue.version:
            statement = await self.prepare(text)
        elif len(known) >= statements.size:
            known[text] = known.pop(text)  # the last to be forgotten
        try:
            return await self.rows_of(statement, args, raw=raw)
        except sqlstate.PostgresError as error:
            if not statements.is_stale(self, statement, error) or self.status != IDLE or self.closed:
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

    async def many(self, statement: Statement, batch: list[tuple[Any, ...]], before: int) -> int:
        """Run a command for each row of arguments, `before` of which have gone before; how many rows it was about. What it returns is dropped."""
        self._ask_all(((statement, args) for args in batch), "row", before)
        self.inbox.expect(None, None)
        total, done = 0, before

        def count() -> None:
            nonlocal total, done
            total += rows_of_tag(self.tag)
            done += 1

        try:
            await self._talk_counting(count)
        except sqlstate.PostgresError as error:
            error.add_note(f"row {done + 1}")
            raise
        return total

    async def all_of(self, asked: list[tuple[str, tuple[Any, ...]]]) -> list[tuple[list[Record], CommandTag]]:
        """Run queries together, as one transaction unless they stand in one; rows and tag of each."""
        again = self.status == IDLE
        while True:
            prepared: list[tuple[Statement, tuple[Any, ...]]] = []
            results: list[tuple[list[Record], CommandTag]] = []
            try:
                with self.statements.held(self):
                    for text, args in asked:
                        prepared.append((await self.prepare(text), args))
                    await self._all_of(prepared, results)
                return results
            except sqlstate.PostgresError as error:
                done = len(results) if len(prepared) == len(asked) else len(prepared)
                stale = done < len(prepared) and self.statements.is_stale(self, prepared[done][0], error)
                begun_anew = any(tag.command in ENDS_TRANSACTION for _, tag in results)
                if not stale or not again or begun_anew or self.status != IDLE or self.closed:
                    if done < len(asked):
                        error.add_note(f"query {done + 1} of the pipeline")
                    raise
                again = False

    async def _all_of(
        self, asked: list[tuple[Statement, tuple[Any, ...]]], results: list[tuple[list[Record], CommandTag]]
    ) -> None:
        """Run them together; `results` has those that are done."""
        self._ask_all(asked, "query", 0)
        self.dirty = self.dirty or any(statement.leaves for statement, _ in asked)
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

    def _ask_all(self, asked: Iterable[tuple[Statement, tuple[Any, ...]]], what: str, before: int) -> None:
        """Have all of them ready to be sent, as one group; nothing where an argument does not fit.

        Args:
            what: one of them is called, in errors. before: so many have gone before.
        """
        self.ready()
        start = len(self.outbox)
        number = before
        try:
            for statement, args in asked:
                number += 1
                self.outbox.bind(statement, args)
                self.outbox.execute()
        except BaseException as error:
            self.outbox.cut(start)
            if isinstance(error, EncodeError):
                error.add_note(f"{what} {number}")
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

    def take_tag(self) -> None:
        """As for any line; statements that it has had the server forget are forgotten, though nobody may wait for it any more."""
        super().take_tag()
        if self.tag in FORGETS_STATEMENTS:
            self.statements.forget_closed()

    def command_tag(self) -> CommandTag:
        """What the last command said."""
        return CommandTag(self.tag.rstrip(b"\0").decode(errors="replace"))
