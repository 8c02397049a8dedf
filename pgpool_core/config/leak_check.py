"""The values of `leak_check`: how often a server that comes back is asked what is left on it."""

from __future__ import annotations

import re
from typing import Final

import attrs

MAX_SAMPLE: Final = 1_000_000
_SAMPLE: Final = re.compile(r"sample:([1-9][0-9]{0,6})")


@attrs.frozen
class LeakCheck:
    """A kind of setting. The value is a number: 0 = off, 1 = always, N = at every N-th return of a server."""

    accepts: str = f"off, always, or sample:N with N from 1 to {MAX_SAMPLE}"
    unit: str = ""

    def parse(self, text: str) -> int:
        word = text.lower()
        if word in ("off", "always"):
            return int(word == "always")
        match = _SAMPLE.fullmatch(word)
        if match is None:
            raise ValueError(text)
        return self.check(int(match[1]))

    def check(self, value: object) -> int:
        if isinstance(value, str):
            return self.parse(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SAMPLE:
            return int(value)
        raise ValueError(value)

    def show(self, value: object) -> str:
        return "off" if value == 0 else "always" if value == 1 else f"sample:{value}"
