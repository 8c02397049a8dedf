"""Bytes that check themselves: sizes around those at which the pooler does something else, and contents that tell where they belong."""

from __future__ import annotations

import random
from collections.abc import Iterator

__all__ = ["Wrong", "compare", "cuts", "matter", "row", "rows_sql", "size"]

# buf.pxd, sends.pxd and records.pxd: BUF_NEXT, HOLD_MAX, HEADROOM, SEND_MAX, RECV_SIZE = STASH_MAX = SCRATCH_SIZE, SECRET_SIZE,
# CIPHER_SIZE; a buffer of io_uring's ring; the largest TLS record.
EDGES = (0, 64, 512, 4096, 8192, 16384, 32768, 65536, 65536 + 8192, 65536 + 8192 + 2048, 131072)
# What stands around a value: nothing, a header, DataRow's count and length, a Query's zero, a short Bind.
AROUND = (0, 5, 6, 7, 11, 15, 26)
LARGE = (200_000, 1_000_000, 3_000_000)


class Wrong(Exception):
    """Something else came than had to come; the text says what, where and in place of what."""


def size(rng: random.Random, most: int) -> int:
    """A length for a value: mostly one near an edge, sometimes any, sometimes a long one."""
    choice = rng.random()
    if choice < 0.6:
        wanted = rng.choice(EDGES) - rng.choice(AROUND) + rng.randint(-1, 1)
    elif choice < 0.95:
        wanted = int(2 ** rng.uniform(0, 17))
    else:
        wanted = rng.choice(LARGE)
    return min(max(wanted, 0), most)


def matter(rng: random.Random, n: int) -> bytes:
    """Text of `n` bytes in which no two places look the same."""
    return rng.randbytes(n // 2 + 1).hex().encode()[:n]


def row(number: int, seed: int, longest: int) -> bytes:
    """The value of row `number` of `rows_sql`: its number, again and again."""
    n = number * seed % (longest + 1)
    mark = b"%d-" % number
    return (mark * (n // len(mark) + 1))[:n]


def rows_sql(count: int, seed: int, longest: int) -> str:
    """A query for `count` rows: number, value."""
    length = f"(g::bigint * {seed} % {longest + 1})::int"
    return f"select g, rpad('', {length}, g || '-') from generate_series(1, {count}) g"


def cuts(rng: random.Random, data: bytes) -> Iterator[bytes]:
    """`data` in the pieces in which it is sent: mostly in one, else cut at a few places, near a message's beginning or anywhere."""
    if rng.random() < 0.6 or len(data) < 2:
        yield data
        return
    places = {
        rng.randrange(1, min(len(data), rng.choice((8, 5000, 70_000, 1 << 30)))) for _ in range(rng.randint(1, 3))
    }
    at = 0
    for place in sorted(places):
        yield data[at:place]
        at = place
    yield data[at:]


def compare(what: str, wanted: bytes, got: bytes | memoryview) -> None:
    """Raises Wrong, with the first place that differs."""
    if got == wanted:
        return
    got = bytes(got)
    at = next(
        (i for i, (one, other) in enumerate(zip(wanted, got, strict=False)) if one != other), min(len(wanted), len(got))
    )
    near = slice(max(0, at - 20), at + 40)
    raise Wrong(f"{what}: {len(got)} bytes for {len(wanted)}, differs at {at}: {got[near]!r} for {wanted[near]!r}")
