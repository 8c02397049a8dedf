"""Several queries in one go: all are sent together, and answered together.

Source: PostgreSQL docs, "Message Flow", Pipelining.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from pgpool_core.client.values import CommandTag
from pgpool_core.embedded.block import async_block
from pgpool_core.errors import PoolError
from pgpool_core.rows.record import Record

if TYPE_CHECKING:
    from pgpool_core.client.connection import Connection

T = TypeVar("T")


class Answer(Generic[T]):
    """What a query of a pipeline will have given, once its block has ended."""

    def __init__(self) -> None:
        self._value: list[T] = []

    def result(self) -> T:
        """The result.

        Raises:
            PoolError: the block has not ended, or ended with an error.
        """
        if not self._value:
            raise PoolError(
                "there is no result before the pipeline's block has ended well: ask for it behind the block"
            )
        return self._value[0]

    if not TYPE_CHECKING:  # a type checker finds this mistake by itself

        def __await__(self) -> NoReturn:
            raise TypeError("a query of a pipeline is not awaited: its result() is there behind the pipeline's block")

    def set(self, value: T) -> None:
        """It is there."""
        self._value.append(value)


class Pipeline:
    """Collects queries; nothing is sent before its block ends. They are one transaction: where one fails, none has happened."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[Any, ...], Callable[[list[Record], CommandTag], None]]] = []

    def fetch(self, sql: str, /, *args: Any) -> Answer[list[Record]]:
        """All rows."""
        answer = Answer[list[Record]]()
        self.asked.append((sql, args, lambda rows, tag: answer.set(rows)))
        return answer

    def fetchrow(self, sql: str, /, *args: Any) -> Answer[Record | None]:
        """The first row, or None."""
        answer = Answer[Record | None]()
        self.asked.append((sql, args, lambda rows, tag: answer.set(rows[0] if rows else None)))
        return answer

    def fetchval(self, sql: str, /, *args: Any, column: int | str = 0) -> Answer[Any]:
        """One value of the first row, or None."""
        answer = Answer[Any]()
        self.asked.append((sql, args, lambda rows, tag: answer.set(rows[0][column] if rows else None)))
        return answer

    def execute(self, sql: str, /, *args: Any) -> Answer[CommandTag]:
        """What the command says; one command, also without arguments."""
        answer = Answer[CommandTag]()
        self.asked.append((sql, args, lambda rows, tag: answer.set(tag)))
        return answer


@async_block("pipeline()", "pipeline")
async def open_pipeline(connection: Connection) -> AsyncIterator[Pipeline]:
    """A pipeline that runs when its block ends without an error."""
    _ = connection.link  # where it has been given back, that is told now
    pipeline = Pipeline()
    yield pipeline
    if pipeline.asked:
        results = await connection.link.all_of([(sql, args) for sql, args, _ in pipeline.asked])
        for (_, _, done), (rows, tag) in zip(pipeline.asked, results, strict=True):
            done(rows, tag)
