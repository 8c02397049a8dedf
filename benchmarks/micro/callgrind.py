"""What callgrind has written down, function by function.

Source: Valgrind's manual, "Callgrind Format Specification".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, Self

import attrs

NAME: Final = re.compile(r"(c?fn)=\((\d+)\)(?: (.*))?")
CALLS: Final = re.compile(r"calls=(\d+)")
COST: Final = re.compile(r"[\d+*-]\S* (\d+)")
CYTHON: Final = re.compile(r"__pyx_\w*?f_11pgpool_core_")


@attrs.frozen
class Profile:
    """Instructions that each function has run itself, and how often each has called which. One thread, one stretch of time."""

    instructions: Counter[str]
    calls: Counter[tuple[str, str]]

    @classmethod
    def read(cls, path: Path) -> Self:
        with path.open(errors="replace") as lines:
            return cls.of(lines)

    @classmethod
    def of(cls, lines: Iterable[str]) -> Self:
        """Read a file of callgrind's with instructions as its only event."""
        instructions: Counter[str] = Counter()
        calls: Counter[tuple[str, str]] = Counter()
        names: dict[str, str] = {}
        here = there = ""
        of_a_call = False
        for line in lines:
            if named := NAME.match(line):
                kind, number, text = named.groups()
                if text is not None:
                    names[number] = plain_name(text)
                if kind == "fn":
                    here = names[number]
                else:
                    there = names[number]
            elif called := CALLS.match(line):
                calls[here, there] += int(called[1])
                of_a_call = True  # the next line tells what the callee has cost
            elif cost := COST.match(line):
                if not of_a_call:
                    instructions[here] += int(cost[1])
                of_a_call = False
        return cls(instructions, calls)

    def less(self, other: Profile) -> Profile:
        """What this has beyond `other`."""
        left, calls = Counter(self.instructions), Counter(self.calls)
        left.subtract(other.instructions)
        calls.subtract(other.calls)
        return Profile(left, calls)

    def called(self, *names: str) -> Counter[str]:
        """Who has called one of these functions, and how often."""
        found: Counter[str] = Counter()
        for (caller, callee), n in self.calls.items():
            if callee in names:
                found[caller] += n
        return found


def plain_name(symbol: str) -> str:
    """`engine.client.forward` for what Cython makes of it, and for the C library's names the part in front of any `@`."""
    symbol = re.sub(r"('\d+|@@?[\w.]+)+$", "", symbol)
    if mangled := CYTHON.match(symbol):
        return ".".join(_parts(symbol[mangled.end() :]))
    return symbol


def _parts(mangled: str) -> Iterator[str]:
    """`6engine_6client_forward`: each module behind its length, the function bare."""
    while sized := re.match(r"(\d+)", mangled):
        end = sized.end() + int(sized[1])
        yield mangled[sized.end() : end]
        mangled = mangled[end + 1 :]
    yield mangled
