"""Random sequences of messages: simple and extended, COPY both ways, errors, Flush and Sync, portals that pause, cut anywhere.

A burst is a run of messages behind which the client waits; all but the last end the same way: CopyFail (for a COPY that
is still open), Sync (for a group that is), and an empty Query, whose EmptyQueryResponse tells that everything before it
has been answered.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import attrs

from pgpool_core.testing import frontend

__all__ = ["TAIL", "Burst", "Part", "WireScript", "copy_script_of", "wire_script_of"]

TAIL = frontend.copy_fail("the end") + frontend.sync() + frontend.query("")

_QUERIES = (
    "select 1",
    "select generate_series(1, 3) as n",
    "select 1/0",
    "selec",
    "select 1; select 2",
    "select 1; select 1/0; select 3",
    "begin",
    "begin",
    "commit",
    "rollback",
    "savepoint a",
    "rollback to a",
    "begin; select 1/0",
    "begin; insert into load values (9, 'nine'); rollback",
    "set work_mem = '5MB'",
    "set application_name = 'wire'",
    "show work_mem",
    "copy load from stdin",
    "copy load from stdin",
    "begin; copy load from stdin",
    "copy load from stdin; select 7",
    "copy (select generate_series(1, 3)) to stdout",
    "copy (select 1 / (generate_series(1, 3) - 2)) to stdout",
    "copy no_such_table from stdin",
    "do $$begin raise notice 'note'; end$$",
    "declare c cursor with hold for select generate_series(1, 5)",
    "fetch 2 from c",
    "close c",
    "prepare q as select 5",
    "execute q",
    "deallocate all",
    "discard all",
    "select count(*) from load",
)
_PARSED = (
    "select 1",
    "select generate_series(1, 5) as n",
    "select $1::int + 1",
    "select $1::int / 0",
    "selec",
    "",
    "begin",
    "commit",
    "rollback",
    "copy load from stdin",
    "copy (select generate_series(1, 2)) to stdout",
    "insert into load values ($1::int, 'x') on conflict do nothing",
    "set work_mem = '6MB'",
    "fetch 1 from c",
    "select n, t from load order by n",
)
_VALUES: tuple[tuple[str | None, ...], ...] = ((), (), ("7",), ("7",), ("seven",), (None,), ("1", "2"))


@attrs.frozen
class Part:
    """One message."""

    data: bytes
    text: str


@attrs.frozen
class Burst:
    """Messages, and where their bytes are cut into sends."""

    parts: Sequence[Part]
    cuts: Sequence[int] = ()

    def sends(self) -> list[bytes]:
        data = b"".join(part.data for part in self.parts) + TAIL
        at = [0, *sorted({cut % len(data) for cut in self.cuts}), len(data)]
        return [data[begin:end] for begin, end in itertools.pairwise(at) if end > begin]


@attrs.frozen
class WireScript:
    """Bursts of one client."""

    seed: int
    bursts: Sequence[Burst]

    def __str__(self) -> str:
        lines = [f"seed {self.seed}"]
        for burst in self.bursts:
            lines += [f"  {part.text}" for part in burst.parts] + [f"  -- cut at {sorted(burst.cuts)}"]
        return "\n".join(lines)


def wire_script_of(seed: int) -> WireScript:
    """The same sequence for the same seed."""
    rng = random.Random(seed)
    return WireScript(seed, [_burst(rng) for _ in range(rng.choice((1, 2, 3)))])


def copy_script_of(seed: int) -> WireScript:
    """The same for COPYs with Syncs where no driver sends them: in front of rows, between them, behind bad ones."""
    rng = random.Random(seed)
    parts: list[Part] = []
    for _ in range(rng.choice((1, 2, 3))):
        parts += rng.choice((_simple, _group, _any))(rng) if rng.random() < 0.3 else []
        parts += _strange_copy(rng)
        parts += rng.choice((_simple, _group, _any))(rng) if rng.random() < 0.5 else []
    cuts = [rng.randrange(1 << 20) for _ in range(rng.choice((0, 0, 1, 3, 20)))]
    return WireScript(seed, [Burst(_without_old_portals(parts), cuts), _burst(rng)])


def _strange_copy(rng: random.Random) -> list[Part]:
    if rng.random() < 0.3:
        parts = [_query(rng.choice(("copy load from stdin", "begin; copy load from stdin", "copy watched from stdin")))]
    else:
        sql = rng.choice(("copy load from stdin", "copy load from stdin", "copy watched from stdin"))
        name = _statement(rng)
        parts = [Part(frontend.parse(sql, name), f"Parse {name!r} {sql!r}")]
        parts += [Part(frontend.bind(name), f"Bind '' {name!r}"), Part(frontend.execute(), "Execute '' 0")]
    for _ in range(rng.choice((1, 2, 4, 7))):
        parts.append(rng.choice((_row, _row, _sync, _flush))(rng))
    end = rng.choice(("done", "done", "fail", "", ""))
    if end == "done":
        parts.append(Part(frontend.copy_done(), "CopyDone"))
    elif end == "fail":
        parts.append(Part(frontend.copy_fail("no more"), "CopyFail"))
    if rng.random() < 0.6:
        parts.append(_sync(rng))
    return parts


def _row(rng: random.Random) -> Part:
    rows = rng.choice((b"", b"101\tx\n", b"102\tx\n", b"bad\n", b"bad\n", b"103\t", b"y\n"))
    return Part(frontend.copy_data(rows), f"CopyData {rows!r}")


def _burst(rng: random.Random) -> Burst:
    parts: list[Part] = []
    for _ in range(rng.choice((2, 4, 8, 14))):
        parts += rng.choice((_simple, _simple, _group, _group, _group, _copy, _any))(rng)
    cuts = [rng.randrange(1 << 20) for _ in range(rng.choice((0, 0, 1, 3, 20)))]
    return Burst(_without_old_portals(parts), cuts)


def _without_old_portals(parts: Sequence[Part]) -> list[Part]:
    """Leave out what uses a portal that was bound before the last Sync or Query: where its transaction has failed since,
    PostgreSQL 15 reads freed memory and may crash.
    """
    kept, bound = [], False
    for part in parts:
        if part.text == "Sync" or part.text.startswith("Query"):
            bound = False
        elif part.text.startswith("Bind"):
            bound = True
        if bound or not part.text.startswith(("Execute", "Describe P")):
            kept.append(part)
    return kept


def _query(text: str) -> Part:
    return Part(frontend.query(text), f"Query {text!r}")


def _simple(rng: random.Random) -> list[Part]:
    return [_query(rng.choice(_QUERIES))]


def _statement(rng: random.Random) -> str:
    return rng.choice(("", "", "", "s1", "s2"))


def _portal(rng: random.Random) -> str:
    return rng.choice(("", "", "", "", "p1"))


def _parse(rng: random.Random) -> Part:
    name, sql = _statement(rng), rng.choice(_PARSED)
    return Part(frontend.parse(sql, name), f"Parse {name!r} {sql!r}")


def _bind(rng: random.Random) -> Part:
    name, portal, values = _statement(rng), _portal(rng), rng.choice(_VALUES)
    return Part(frontend.bind(name, portal, values), f"Bind {portal!r} {name!r} {list(values)}")


def _describe(rng: random.Random) -> Part:
    kind, name = rng.choice(((b"S", _statement(rng)), (b"P", _portal(rng))))
    return Part(frontend.describe(name, kind), f"Describe {kind.decode()} {name!r}")


def _execute(rng: random.Random) -> Part:
    portal, rows = _portal(rng), rng.choice((0, 0, 1, 2))
    return Part(frontend.execute(portal, rows), f"Execute {portal!r} {rows}")


def _close(rng: random.Random) -> Part:
    kind, name = rng.choice(((b"S", _statement(rng)), (b"P", _portal(rng))))
    return Part(frontend.close(name, kind), f"Close {kind.decode()} {name!r}")


def _sync(rng: random.Random) -> Part:
    return Part(frontend.sync(), "Sync")


def _flush(rng: random.Random) -> Part:
    return Part(frontend.flush(), "Flush")


def _group(rng: random.Random) -> list[Part]:
    """Mostly what drivers send."""
    name, portal, sql = _statement(rng), _portal(rng), rng.choice(_PARSED)
    values = ("7",) if "$1" in sql else ()
    if rng.random() < 0.1:
        values = ("seven",)
    parts = [Part(frontend.parse(sql, name), f"Parse {name!r} {sql!r}")]
    if rng.random() < 0.3:
        parts.append(Part(frontend.describe(name), f"Describe S {name!r}"))
    parts.append(Part(frontend.bind(name, portal, values), f"Bind {portal!r} {name!r} {list(values)}"))
    if rng.random() < 0.4:
        parts.append(Part(frontend.describe(portal, b"P"), f"Describe P {portal!r}"))
    for _ in range(rng.choice((1, 1, 1, 2))):
        rows = rng.choice((0, 0, 2))
        parts.append(Part(frontend.execute(portal, rows), f"Execute {portal!r} {rows}"))
    if "from stdin" in sql and rng.random() < 0.7:
        parts += _copy(rng)
    if rng.random() < 0.15:
        parts.append(_close(rng))
    if rng.random() < 0.15:
        parts.append(_flush(rng))
    if rng.random() < 0.75:
        parts.append(_sync(rng))
    return parts


def _copy(rng: random.Random) -> list[Part]:
    """What follows a COPY that has begun; or comes when none has."""
    rows = rng.choice((b"", b"101\tx\n", b"101\tx\n102\ty\n", b"bad\n", b"101\tx", b"\\.\n"))
    parts = [Part(frontend.copy_data(rows), f"CopyData {rows!r}") for _ in range(rng.choice((0, 1, 1, 2)))]
    end = rng.choice(("done", "done", "done", "fail", ""))
    if end == "done":
        parts.append(Part(frontend.copy_done(), "CopyDone"))
    elif end == "fail":
        parts.append(Part(frontend.copy_fail("no more"), "CopyFail"))
    return parts


def _any(rng: random.Random) -> list[Part]:
    return [rng.choice((_parse, _bind, _describe, _execute, _close, _sync, _flush))(rng)]
