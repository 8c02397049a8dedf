"""New inputs from old ones: bits, bytes, lengths, pieces that move, two inputs spliced, and pure noise."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from random import Random

MAX_LEN = 4096  # bytes; an input that grows beyond is cut
LENGTHS = (0, 1, 3, 4, 5, 8, 0x7F, 0xFF, 0xFFFF, 0x10000, 2**31 - 1, 2**31, 2**32 - 4, 2**32 - 1)


def _flip(data: bytearray, random: Random) -> None:
    data[random.randrange(len(data))] ^= 1 << random.randrange(8)


def _set(data: bytearray, random: Random) -> None:
    data[random.randrange(len(data))] = random.choice((0, 0xFF, 0x7F, 0x80, random.randrange(256)))


def _length(data: bytearray, random: Random) -> None:
    """A number that a length word may get wrong, most often where the first one stands."""
    at = random.choice((0, 1, random.randrange(len(data))))
    data[at : at + 4] = struct.pack("!I", random.choice(LENGTHS))


def _cut(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data))
    del data[at : at + random.randint(1, 16)]


def _repeat(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data))
    piece = data[at : at + random.randint(1, 32)]
    data[at:at] = piece * random.choice((1, 1, 2, 40))


def _insert(data: bytearray, random: Random) -> None:
    at = random.randrange(len(data) + 1)
    data[at:at] = random.randbytes(random.randint(1, 8))


def _end(data: bytearray, random: Random) -> None:
    del data[random.randrange(len(data)) :]


CHANGES = (_flip, _set, _length, _cut, _repeat, _insert, _end)


def mutate(seeds: Sequence[bytes], random: Random) -> bytes:
    """One input made of `seeds`, which may be empty; the same `random` gives the same one."""
    if not seeds or random.random() < 0.05:
        return random.randbytes(random.randint(0, 64))
    data = bytearray(random.choice(seeds))
    if random.random() < 0.3:
        other = random.choice(seeds)
        data = data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]
    for _ in range(random.choice((0, 1, 1, 2, 4, 8))):
        if not data:
            break
        random.choice(CHANGES)(data, random)
    return bytes(data[:MAX_LEN])
