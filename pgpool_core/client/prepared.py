"""The statements that one link keeps prepared, by their text, and how a server is asked about a new one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from pgpool_core.client import sqlstate
from pgpool_core.client.catalogue import BUILT_IN, COLUMNS_QUERY, STRANGERS_QUERY, TYPES_QUERY, Catalogue
from pgpool_core.client.described import MOST_PARAMETERS, columns_of, parameter_oids
from pgpool_core.errors import EncodeError, PgPoolError, ServerProtocolError
from pgpool_core.rows import inbox as codes
from pgpool_core.rows.record import Record, Shape
from pgpool_core.rows.statement import Statement

if TYPE_CHECKING:
    from pgpool_core.client.link import Link

PLACEHOLDERS: Final = "arguments are written $1, $2, ... in the text of a query"
ADVICE: Final = {
    '"%"': PLACEHOLDERS,
    '":"': PLACEHOLDERS,
    "multiple commands": "execute() takes several commands, where there are no arguments; fetch() takes one",
}
"""What to say beside some syntax errors, by what stands in the server's message."""
CHANGED: Final = {
    ("0A000", "RevalidateCachedQuery"),
    ("XX000", "getTypeBinaryInputInfo"),
    ("XX000", "getTypeInputInfo"),
}
"""SQLSTATE and routine of what a server says where a statement does not fit any more: it gives other columns than it did, or the type
of a parameter has been dropped (and perhaps created anew). Nothing has been executed then.
"""


class Prepared:
    """What is prepared on the server of a link; the link is given to what makes bytes travel, and is not kept."""

    def __init__(self, catalogue: Catalogue, size: int, prefix: bytes) -> None:
        self.catalogue = catalogue
        self.version = catalogue.version  # with which all that is known was made
        self.known: dict[str, Statement] = {}
        self.size = size
        self._prefix = prefix
        self._named = 0
        self._holding = 0  # none is forgotten, however many there are

    async def shape(self, link: Link, text: str) -> Shape | None:
        """What a query gives, as the server sees it now; nothing is kept."""
        return (await self._describe(link, encoded(text), keep=False))[0]

    async def columns(self, link: Link, table: str) -> list[str]:
        """The columns of a table (as SQL names it) that can be given values: those that are not generated."""
        return [row.name for row in await self._built_in_rows(link, COLUMNS_QUERY, [table])]

    async def prepare(self, link: Link, text: str) -> Statement:
        """The statement of a text, from the cache or from the server; a checkpoint only in the latter case."""
        if self.version != self.catalogue.version:
            self.forget(link)
        known = self.known.pop(text, None)
        if known is not None:
            self.known[text] = known
            return known
        raw = encoded(text)
        try:
            shape, parameters, name = await self._describe(link, raw)
        except sqlstate.SyntaxOrAccessError as error:
            if error.sqlstate == "42601":
                for mark, advice in ADVICE.items():
                    if mark in error.message:
                        error.add_note(advice)
            raise
        made = Statement(name=name, text=text, parameters=parameters, shape=shape, leaves=link.leaves(raw))
        if name:
            self.known[text] = made
            self._evict(link)
        return made

    def _evict(self, link: Link) -> None:
        """Forget the statements that were used least recently, where there are too many."""
        while len(self.known) > self.size and not self._holding:
            oldest = self.known.pop(next(iter(self.known)))
            link.outbox.close(oldest.name)

    async def _describe(
        self, link: Link, raw: bytes, *, built_in: bool = False, keep: bool = True
    ) -> tuple[Shape | None, list[Any], bytes]:
        name = b""
        if (self.size or self._holding) and keep and not built_in:
            self._named += 1
            name = b"%s%d" % (self._prefix, self._named)
        link.ready()
        link.outbox.parse(name, raw)
        link.outbox.sync()
        link.inbox.expect(None, None)
        link.described.clear()
        try:
            await link.talk()
        except sqlstate.PostgresError:  # there is no such statement
            raise
        except BaseException:  # there may be one that nobody will use
            if name and not link.closed:
                link.outbox.close(name)
            raise
        with _understood(link):
            oids = parameter_oids(link.described.get(codes.PARAMETER_DESCRIPTION, b"\0\0"))
            columns = columns_of(link.described.get(codes.ROW_DESCRIPTION))
            has_rows = codes.ROW_DESCRIPTION in link.described
            wanted = oids + [oid for _, oid in columns]
            if len(oids) > MOST_PARAMETERS:
                if name:
                    link.outbox.close(name)
                cure = "a list is one: = any($1)"
                raise EncodeError(
                    f"the query has {len(oids)} parameters, and at most {MOST_PARAMETERS} can be sent ({cure})"
                )
            found: list[Any] = [BUILT_IN[oid] for oid in wanted] if built_in else []
        if not built_in:
            anew = False
            while missing := self.catalogue.missing(wanted):  # again where types were forgotten meanwhile
                try:
                    await self._look_up(link, missing)
                except BaseException:
                    if name:
                        link.outbox.close(name)
                    raise
                anew = not name
            found = list(self.catalogue.codecs(wanted))
            if anew:  # the unnamed statement is another one now
                link.outbox.parse(name, raw)
                link.outbox.sync()
                await link.talk()
        shape = Shape([column for column, _ in columns], found[len(oids) :]) if has_rows else None
        return shape, found[: len(oids)], name

    async def _look_up(self, link: Link, oids: list[int]) -> None:
        if self.catalogue.unproved:
            names = sorted(self.catalogue.unproved)
            strangers = await self._built_in_rows(link, STRANGERS_QUERY, names)
            with _understood(link):
                self.catalogue.prove(names, strangers)
        found = await self._built_in_rows(link, TYPES_QUERY, oids)
        with _understood(link):
            self.catalogue.learn(oids, found)

    async def _built_in_rows(self, link: Link, text: str, argument: list[Any]) -> list[Record]:
        """The rows of a query whose types are all built in."""
        shape, parameters, name = await self._describe(link, text.encode(), built_in=True)
        statement = Statement(name=name, text=text, parameters=parameters, shape=shape, leaves=False)
        return await link.rows_of(statement, (argument,))

    def forget(self, link: Link) -> None:
        """Prepare everything anew from now on."""
        for statement in self.known.values():
            link.outbox.close(statement.name)
        self.known.clear()
        self.version = self.catalogue.version

    def forget_closed(self) -> None:
        """As `forget`, where the server has forgotten them by itself."""
        self.known.clear()

    def is_stale(self, link: Link, statement: Statement, error: sqlstate.PostgresError) -> bool:
        """Whether the same query, prepared again, may do better; then the old statement is forgotten."""
        if error.sqlstate == "26000":  # it is gone, and may not be the only one
            self.forget(link)
            return True
        changed = (error.sqlstate, error.fields.get("R")) in CHANGED
        if changed and self.known.pop(statement.text, None) is not None:
            link.outbox.close(statement.name)
        return changed

    @contextmanager
    def held(self, link: Link) -> Iterator[None]:
        """None is forgotten in this block."""
        self._holding += 1
        try:
            yield
        finally:
            self._holding -= 1
            self._evict(link)


@contextmanager
def _understood(link: Link) -> Iterator[None]:
    """What the server has said of statements and types is taken in here; a link on which that makes no sense is closed.

    Raises:
        ServerProtocolError: it makes none.
    """
    try:
        yield
    except ServerProtocolError:
        link.lost()
        raise
    except PgPoolError:
        raise
    except Exception as error:
        link.lost()
        raise ServerProtocolError(f"the server's answer about types makes no sense: {type(error).__name__}") from error


def encoded(text: object) -> bytes:
    """A query as it is sent.

    Raises:
        TypeError: it is no text.
    """
    if not isinstance(text, str):
        raise TypeError(f"a query is a str, not {type(text).__name__}")
    return text.encode()
