"""What clients do, each thing with an answer that tells whether it is the right one.

An act leaves its connection between two transactions. It raises `Wrong` where what has come is not what had to come.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Awaitable, Callable

import trio

from pgpool_core.testing import frontend
from tests.oracle.load.line import Line
from tests.oracle.load.matter import Wrong, compare, matter, row, rows_sql, size

__all__ = ["ACTS", "CHANNEL", "QUIET", "STREAMS", "Act", "announce"]

Act = Callable[[Line, random.Random], Awaitable[None]]

LARGEST = 3_000_000
NOTICE_MOST = 30_000
CHANNEL = "news"


async def stream(line: Line, rng: random.Random) -> None:
    """A very long answer, the same bytes as PostgreSQL's own."""
    sql, wanted = rng.choice([*line.gate.answers.items()])
    await line.send(frontend.query(sql))
    compare(sql, wanted, await line.stretch(len(wanted)))


async def rows(line: Line, rng: random.Random) -> None:
    """A long result."""
    count, seed, longest = _result(rng)
    await line.send(frontend.query(rows_sql(count, seed, longest)))
    await line.expect(b"T")
    await _rows(line, range(1, count + 1), seed, longest)
    await line.expect(b"CZ")


async def echo(line: Line, rng: random.Random) -> None:
    """What a Query holds comes back."""
    text = matter(rng, size(rng, LARGEST))
    compare("echo", text, await line.value(f"select '{text.decode()}'"))


async def echo_parameters(line: Line, rng: random.Random) -> None:
    """What Bind holds comes back, with a named statement or the unnamed one."""
    texts = [matter(rng, size(rng, LARGEST // 3)) for _ in range(rng.randint(1, 3))]
    sql = "select " + ", ".join(f"${i + 1}::text" for i in range(len(texts)))
    name, messages = _statement(line, rng, sql)
    await line.send(
        *messages, frontend.bind(name, "", texts), frontend.describe("", b"P"), frontend.execute(), frontend.sync()
    )
    if messages:
        await line.expect(b"1")
    await line.expect(b"2T")
    _compare_all("parameters", texts, (await line.expect(b"D")).values)
    await line.expect(b"CZ")


async def batch(line: Line, rng: random.Random) -> None:
    """Many statements in one go, with a Sync behind each group. Some fail: where names would be lost with them, there are none."""
    names = rng.random() < 0.6
    groups, parts = [], list[bytes]()
    for _ in range(rng.randint(1, 6)):
        group = []
        for _ in range(rng.randint(1, 5)):
            fails = not names and rng.random() < 0.1
            text = b"0" if fails else matter(rng, size(rng, 70_000))
            name, messages = _statement(line, rng, "select 1 / $1::int" if fails else "select $1::text", names=names)
            parts += [*messages, frontend.bind(name, "", [text]), frontend.execute()]
            group.append((bool(messages), fails, text))
        parts.append(frontend.sync())
        groups.append(group)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.send, *parts)  # the answers may be more than the buffers on the way hold
        for group in groups:
            for parses, fails, text in group:
                if parses:
                    await line.expect(b"1")
                if fails:
                    await _fails(line, "22012", b"2")
                    break
                await line.expect(b"2")
                _compare_all("batch", [text], (await line.expect(b"D")).values)
                await line.expect(b"C")
            await line.expect(b"Z")


async def queries(line: Line, rng: random.Random) -> None:
    """Several simple queries sent without waiting; one may fail."""
    texts = [matter(rng, size(rng, 70_000)) for _ in range(rng.randint(2, 6))]
    bad = rng.randrange(12)
    parts = [
        frontend.query("select 1 / 0" if at == bad else f"select '{text.decode()}'") for at, text in enumerate(texts)
    ]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(line.send, *parts)
        for at, text in enumerate(texts):
            if at == bad:
                await _fails(line, "22012")
            else:
                await line.expect(b"T")
                _compare_all("queries", [text], (await line.expect(b"D")).values)
                await line.expect(b"C")
            await line.expect(b"Z")


async def copy_out(line: Line, rng: random.Random) -> None:
    """COPY TO STDOUT, by the sum of its bytes."""
    count, seed, longest = _result(rng)
    await line.send(frontend.query(f"copy ({rows_sql(count, seed, longest)}) to stdout"))
    await line.expect(b"H")
    for number in range(1, count + 1):
        compare("copy out", b"%d\t%s\n" % (number, row(number, seed, longest)), (await line.expect(b"d")).body)
    await line.expect(b"cCZ")


async def copy_in(line: Line, rng: random.Random) -> None:
    """COPY FROM STDIN into a table of the transaction, in pieces that end anywhere; PostgreSQL says what it has got."""
    lines = [matter(rng, size(rng, 100_000)) for _ in range(rng.randint(1, 8))]
    data = b"".join(b"%d\t%s\n" % pair for pair in enumerate(lines))
    await line.done("begin")
    await line.done("create temp table sink (n int, t text) on commit drop")
    await line.send(frontend.query("copy sink from stdin"))
    await line.expect(b"G")
    at = 0
    while at < len(data):
        n = max(size(rng, 200_000), 1)
        await line.send(frontend.copy_data(data[at : at + n]))
        at += n
    if rng.random() < 0.2:
        await line.send(frontend.copy_fail("enough"))
        await _fails(line, "57014")
        await line.expect(b"Z")
    else:
        await line.send(frontend.copy_done())
        await line.expect(b"CZ")
        wanted = hashlib.md5(b"".join(lines)).hexdigest().encode()
        compare("copy in", wanted, await line.value("select md5(string_agg(t, '' order by n)) from sink"))
    await line.done(rng.choice(("commit", "rollback")))


async def portal(line: Line, rng: random.Random) -> None:
    """A result in portions."""
    count, seed, longest = rng.randint(1, 200), rng.randint(1, 10_000), size(rng, 20_000)
    step = rng.randint(1, 60)
    parse, bind = frontend.parse(rows_sql(count, seed, longest)), frontend.bind("", "p")
    await line.send(parse, bind, frontend.execute("p", step), frontend.flush())
    await line.expect(b"12")
    at = 1
    while at + step - 1 <= count:  # also behind the last row, where the portion is full
        await _rows(line, range(at, at + step), seed, longest)
        await line.expect(b"s")
        at += step
        await line.send(frontend.execute("p", step), frontend.flush())
    await _rows(line, range(at, count + 1), seed, longest)
    await line.expect(b"C")
    await line.send(frontend.close("p", b"P"), frontend.sync())
    await line.expect(b"3Z")


async def notices(line: Line, rng: random.Random) -> None:
    """Notices of many lengths, in order."""
    lengths = [min(size(rng, NOTICE_MOST), NOTICE_MOST) for _ in range(rng.randint(1, 8))]
    line.notices.clear()
    body = " ".join(f"raise notice '%', repeat('{at}', {n});" for at, n in enumerate(lengths))
    await line.done(f"do $$ begin {body} end $$")
    came = [notice.fields.get("M", "") for notice in line.notices if notice.fields["S"] == "NOTICE"]
    came = [text for text in came if not text.startswith("No server connection available")]
    if came != [str(at) * n for at, n in enumerate(lengths)]:
        raise Wrong(f"notices: {[text[:20] for text in came]} of {[len(text) for text in came]} for {lengths}")


async def cancelled(line: Line, rng: random.Random) -> None:
    """A long result that is cancelled somewhere: what has come until then is right."""
    count, seed, longest = rng.randint(500, 5000), rng.randint(1, 10_000), 4000
    after = rng.randint(0, count)
    await line.send(frontend.query(rows_sql(count, seed, longest)))
    await line.expect(b"T")
    async with trio.open_nursery() as nursery:
        for number in range(1, count + 2):
            if number == after:
                nursery.start_soon(
                    line.cancel
                )  # meanwhile it reads on: while the pooler is suspended, nobody new comes in
            came = await line.message()
            if came.type == b"E" and after and came.fields["C"] == "57014":
                break
            if came.type == b"C" and number == count + 1:
                break
            if came.type != b"D" or number > count:
                raise Wrong(f"a cancelled result: {came.type!r} {came.body[:200]!r} as row {number}")
            _compare_row(came.values, number, seed, longest)
        await line.expect(b"Z")


async def setting(line: Line, rng: random.Random) -> None:
    """A setting of the session is what it was made, whichever server answers; and so is one of the transaction."""
    name, value = f"app.s{rng.randint(1, 3)}", matter(rng, rng.randint(1, 200))
    await line.done(f"set {name} to '{value.decode()}'")
    compare("a setting", value, await line.value(f"select current_setting('{name}')"))
    await line.done("begin")
    await line.done(f"set local {name} to 'now'")
    compare("a local setting", b"now", await line.value(f"select current_setting('{name}')"))
    await line.done("rollback")
    compare("a setting again", value, await line.value(f"select current_setting('{name}')"))
    if rng.random() < 0.3:
        await line.done("discard all")
        line.names.clear()


async def transaction(line: Line, rng: random.Random) -> None:
    """Several acts in one transaction."""
    await line.done("begin")
    for act in rng.sample((rows, echo, echo_parameters, portal), 2):
        await act(line, rng)
    await line.done("commit")


async def announce(line: Line, rng: random.Random, sender: int, number: int) -> None:
    """A notification, which every listener is to get behind the one before it."""
    await line.done(f"notify {CHANNEL}, '{sender}:{number}:{'x' * min(size(rng, 7000), 7000)}'")


def _result(rng: random.Random) -> tuple[int, int, int]:
    """Rows, and how they come: many short ones or some long ones."""
    if rng.random() < 0.2:
        return rng.randint(1, 40), rng.randint(1, 10_000), rng.choice((70_000, 300_000))
    return rng.randint(0, 3000), rng.randint(1, 10_000), rng.choice((3, 50, 500, 1500, 4000))


def _statement(line: Line, rng: random.Random, sql: str, *, names: bool = True) -> tuple[str, list[bytes]]:
    """The name of a statement, and the Parse where it has none yet or is the unnamed one."""
    if not names or rng.random() < 0.5:
        return "", [frontend.parse(sql)]
    if (name := line.names.get(sql)) is not None:
        return name, []
    name = line.names[sql] = f"s{len(line.names)}{rng.randint(1, 10**9)}"
    return name, [frontend.parse(sql, name)]


async def _rows(line: Line, numbers: range, seed: int, longest: int) -> None:
    for number in numbers:
        _compare_row((await line.expect(b"D")).values, number, seed, longest)


def _compare_row(values: list[bytes | None], number: int, seed: int, longest: int) -> None:
    _compare_all(f"row {number}", [b"%d" % number, row(number, seed, longest)], values)


def _compare_all(what: str, wanted: list[bytes], values: list[bytes | None]) -> None:
    if len(values) != len(wanted):
        raise Wrong(f"{what}: {len(values)} values for {len(wanted)}")
    for one, other in zip(wanted, values, strict=True):
        compare(what, one, other or b"")


async def _fails(line: Line, sqlstate: str, before: bytes = b"") -> None:
    """An error; in front of it, perhaps, what had succeeded."""
    came = await line.message()
    if before and came.type == before:
        came = await line.message()
    if came.type != b"E" or came.fields["C"] != sqlstate:
        raise Wrong(f"{came.type!r} {came.body[:200]!r} for the error {sqlstate}")


ACTS: tuple[Act, ...] = (
    *(
        stream,
        rows,
        echo,
        echo_parameters,
        batch,
        queries,
        copy_out,
        copy_in,
        portal,
        notices,
        cancelled,
        setting,
        transaction,
    ),
)
QUIET: tuple[Act, ...] = (
    rows,
    echo,
    echo_parameters,
    batch,
    queries,
)  # for who listens: notifications may come between messages
STREAMS: tuple[Act, ...] = (stream, stream, stream, stream, echo, batch)
