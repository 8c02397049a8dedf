"""Kinds of setting: how a value is written in an ini file, what Python value it becomes, and how it is shown.

Each kind has three doors. `parse` reads the text of a file, `check` takes a value that a program gave, `show` writes the value as
a file would have it. The first two raise ValueError when the value is not acceptable, or NotBuilt when PgBouncer knows it and this
version does not. `accepts` completes the sentence "expected ...".
Sources: PgBouncer docs, "Configuration"; numbers of [pgbouncer] are read as by strtol with base 0 (decimal, 0x hexadecimal, 0 octal), in
entries a leading 0 says nothing. Units are those of PostgreSQL ("Parameter Names and Values"), which PgBouncer does not have.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Final, Protocol

import attrs

MAX_INT: Final = 2**31 - 1
MAX_NETWORKS: Final = 64
MAPPED_BITS: Final = 96  # of an IPv6 address, in front of the IPv4 address in it
UNIX: Final = "unix"
MAX_SECONDS: Final = float(MAX_INT)  # 68 years; as microseconds it fits 64 bits with room for sums

_BLANKS: Final = " \t\r\f\v"
_INTEGER: Final = re.compile(r"[+]?(0[xX][0-9a-fA-F]{1,16}|0[0-7]{0,20}|[1-9][0-9]{0,18})")
_PADDED: Final = re.compile(r"[+]?0+[1-9][0-9]*")
_SECONDS: Final = re.compile(r"[+]?([0-9]{1,18}(\.[0-9]{0,18})?|\.[0-9]{1,18})([eE][+-]?[0-9]{1,2})?")
_WITH_UNIT: Final = re.compile(r"[+]?([0-9]{1,18}(?:\.[0-9]{0,18})?|\.[0-9]{1,18})[ \t]*([A-Za-z]{1,3})")
_HOST_PORT: Final = re.compile(r"(\*|\[[0-9a-fA-F:.%\w]+\]|[^][\s:/@,*]+):[0-9]{1,5}")
_WORD_END: Final = r"[ \t\r\f\v\n,]"
_TRUE: Final = frozenset({"1", "on", "yes", "true"})
_FALSE: Final = frozenset({"0", "off", "no", "false"})


_TIMES: Final = {unit: Fraction(us, 1_000_000) for unit, us in (("us", 1), ("ms", 1000), ("s", 10**6))} | {
    "min": Fraction(60),
    "h": Fraction(3600),
    "d": Fraction(86400),
}
_SIZES: Final = {unit: Fraction(1024**power) for power, unit in enumerate(("B", "kB", "MB", "GB", "TB"))}
_UNITS: Final[Mapping[str, Mapping[str, Fraction]]] = {
    "s": _TIMES,
    "ms": {unit: seconds * 1000 for unit, seconds in _TIMES.items()},
    "bytes": _SIZES,
}
"""What may stand behind a number, as PostgreSQL writes it in postgresql.conf, and how many of the setting's own unit it is."""


class NotBuilt(ValueError):
    """A value that PgBouncer knows and this version of pgpool_core does not."""


class Kind(Protocol):
    """What every kind of setting offers."""

    @property
    def accepts(self) -> str: ...
    @property
    def unit(self) -> str: ...
    def parse(self, text: str) -> object: ...
    def check(self, value: object) -> object: ...
    def show(self, value: object) -> str: ...


@attrs.frozen
class Flag:
    """A boolean: 0 or 1, and the words that people try.

    PgBouncer takes any number for 1, and its documentation has `tcp_defer_accept = 45`.
    """

    accepts: str = "0 or 1 (also on, off, yes, no, true, false)"
    unit: str = "0/1"

    def parse(self, text: str) -> bool:
        word = text.lower()
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
        return self.check(_parse_int(text))

    def check(self, value: object) -> bool:
        if isinstance(value, int) and 0 <= value <= MAX_INT:
            return bool(value)
        raise ValueError(value)

    def show(self, value: object) -> str:
        return "1" if value else "0"


@attrs.frozen
class Integer:
    """A whole number from `low` to `high`; what it counts stands in `unit`. A leading 0 makes it octal, unless `octal` is False."""

    low: int = 0
    high: int = MAX_INT
    unit: str = ""
    octal: bool = True

    @property
    def accepts(self) -> str:
        units = f" ({self.unit}; also with {_listed(_UNITS[self.unit])})" if self.unit in _UNITS else ""
        return f"a whole number from {self.low} to {self.high}{units}"

    def parse(self, text: str) -> int:
        if self.unit in _UNITS and (scaled := _with_unit(text, self.unit)) is not None:
            if scaled.denominator != 1:
                raise ValueError(text)
            return self.check(int(scaled))
        if not self.octal and _PADDED.fullmatch(text):
            text = text.lstrip("+0")
        return self.check(_parse_int(text))

    def check(self, value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high:
            return int(value)
        raise ValueError(value)

    def show(self, value: object) -> str:
        return str(value)


@attrs.frozen
class FileMode:
    """Permission bits, in octal. A number without a leading zero is refused: PgBouncer reads `777` as decimal, that is 01411."""

    accepts: str = "an octal number with a leading 0, from 00 to 0777"
    unit: str = "octal"

    def parse(self, text: str) -> int:
        if not text.startswith("0"):
            raise ValueError(text)
        return self.check(_parse_int(text))

    def check(self, value: object) -> int:
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0o777:
            return int(value)
        raise ValueError(value)

    def show(self, value: object) -> str:
        return f"{value:04o}"


@attrs.frozen
class Seconds:
    """A time in seconds, or in the unit that stands behind it; fractions count down to microseconds. With `optional`, -1 is unset."""

    positive: bool = False
    optional: bool = False
    unit: str = "s"

    @property
    def accepts(self) -> str:
        least = "more than 0" if self.positive else "0 or more"
        unset = "; or -1" if self.optional else ""
        return f"seconds, or a number with {_listed(_TIMES)}; {least}, fractions allowed, at most {MAX_INT} s{unset}"

    def parse(self, text: str) -> float | None:
        if self.optional and text == "-1":
            return None
        if (scaled := _with_unit(text, "s")) is not None:
            return self.check(float(scaled))
        if text[:2].lower() == "0x":
            return self.check(float(_parse_int(text)))
        if not _SECONDS.fullmatch(text):
            raise ValueError(text)
        return self.check(float(text))

    def check(self, value: object) -> float | None:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(value)
        if self.optional and value == -1:
            return None
        if not 0 <= value <= MAX_SECONDS:  # also false for NaN
            raise ValueError(value)
        if self.positive and value < 1e-6:
            raise ValueError(value)
        return float(value)

    def show(self, value: object) -> str:
        assert isinstance(value, int | float)
        if math.floor(value) == value:
            return str(int(value))
        return f"{value:.6f}".rstrip("0").rstrip(".")


@attrs.frozen
class Text:
    """Any text without zero bytes.

    Attributes:
        max_len: longest text, in bytes of UTF-8; 0 = any.
        optional: whether unset (None) is a value; an empty text in a file then means unset.
        filled: whether an empty text is refused.
        secret: whether the value must never be repeated in an error.
    """

    max_len: int = 0
    optional: bool = False
    filled: bool = False
    secret: bool = False
    unit: str = ""

    @property
    def accepts(self) -> str:
        amount = f" of at most {self.max_len} bytes" if self.max_len else ""
        return f"a {'non-empty ' if self.filled else ''}text{amount} without zero bytes"

    def parse(self, text: str) -> str | None:
        if self.optional and not text:
            return None
        return self.check(text)

    def check(self, value: object) -> str | None:
        if value is None and self.optional:
            return None
        if isinstance(value, os.PathLike):
            value = os.fspath(value)
        if not isinstance(value, str) or not is_clean(value):
            raise ValueError(value)
        if (self.filled and not value) or (self.max_len and len(value.encode()) > self.max_len):
            raise ValueError(value)
        return value

    def show(self, value: object) -> str:
        return str(value)


@attrs.frozen
class Names:
    """A list of names, separated by commas; between `words`, blanks separate too, as PgBouncer reads lists of names."""

    words: bool = True
    unit: str = "list"

    @property
    def accepts(self) -> str:
        return "names separated by commas, none with blanks inside"

    def parse(self, text: str) -> tuple[str, ...]:
        separator = _WORD_END if self.words else ","
        return self.check([item for part in re.split(separator, text) if (item := part.strip(_BLANKS))])

    def check(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError(value)
        for item in value:
            if not isinstance(item, str) or not item or not is_clean(item) or re.search(_WORD_END, item):
                raise ValueError(value)
        return tuple(value)

    def show(self, value: object) -> str:
        assert isinstance(value, tuple)
        return ", ".join(value)


@attrs.frozen
class Networks:
    """A list of networks, `ADDRESS/BITS` or an address alone, and `unix` for the unix socket."""

    accepts: str = "at most 64 networks as ADDRESS/BITS, or unix, separated by commas"
    unit: str = "list"

    def parse(self, text: str) -> tuple[str, ...]:
        return self.check([item for part in re.split(_WORD_END, text) if (item := part.strip(_BLANKS))])

    def check(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple) or len(value) > MAX_NETWORKS:
            raise ValueError(value)
        return tuple(item if item == UNIX else str(ipaddress.ip_network(item)) for item in value)

    def show(self, value: object) -> str:
        assert isinstance(value, tuple)
        return ", ".join(value)


@attrs.frozen
class Hosts:
    """Where a server is: one host or several with commas between them, kept as written.

    Each is a name, an IPv4 or bare IPv6 address, the folder of a unix socket (`/dir`), or an abstract socket (`@name`).
    """

    accepts: str = "a host name, an address without brackets, /dir, @abstract, or several with commas between them"
    unit: str = ""

    def parse(self, text: str) -> str:
        return self.check(text)

    def check(self, value: object) -> str:
        if not isinstance(value, str) or not is_clean(value):
            raise ValueError(value)
        for host in value.split(","):
            name = host.strip(_BLANKS)
            if not name or (name[0] not in "/@" and re.search(r"[][/\s]", name)):
                raise ValueError(value)
        return value

    def show(self, value: object) -> str:
        return str(value)


@attrs.frozen
class ListenAt:
    """One `host:port` to listen on, IPv6 in brackets, `*` = all addresses; empty = none."""

    accepts: str = "host:port, [v6]:port, *:port, or nothing"
    unit: str = ""

    def parse(self, text: str) -> str:
        return self.check(text)

    def check(self, value: object) -> str:
        if not isinstance(value, str) or not is_clean(value):
            raise ValueError(value)
        if value and not (_HOST_PORT.fullmatch(value) and int(value.rpartition(":")[2]) <= 65535):
            raise ValueError(value)
        return value

    def show(self, value: object) -> str:
        return str(value)


@attrs.frozen
class Choice:
    """One word out of `words`, in any case; `not_built` are words that PgBouncer knows and this version refuses by name."""

    words: tuple[str, ...]
    not_built: tuple[str, ...] = ()
    unit: str = ""

    @property
    def accepts(self) -> str:
        return "one of " + ", ".join(self.words)

    def parse(self, text: str) -> str:
        word = text.lower()
        if word in self.not_built:
            raise NotBuilt(text)
        if word not in self.words:
            raise ValueError(text)
        return word

    def check(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(value)
        return self.parse(value)

    def show(self, value: object) -> str:
        return str(value)


def decimal(low: int = 0, high: int = MAX_INT) -> Integer:
    """A number in an entry, or in a URL: where PgBouncer and libpq read `port=05432` as 5432."""
    return Integer(low, high, octal=False)


def is_clean(text: str) -> bool:
    """Whether `text` can go to PostgreSQL: no zero byte, and nothing that UTF-8 cannot say (lone surrogates)."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def network_parts(network: str) -> tuple[int, int, bytes]:
    """A network that Networks has accepted, as the engine has it: 4, 6 or 1 for the unix socket; bits; address."""
    if network == UNIX:
        return 1, 0, b""
    parsed = ipaddress.ip_network(network)
    first = parsed.network_address
    if isinstance(first, ipaddress.IPv6Address) and first.ipv4_mapped is not None and parsed.prefixlen >= MAPPED_BITS:
        return 4, parsed.prefixlen - MAPPED_BITS, first.ipv4_mapped.packed  # as peers' addresses are written, too
    return parsed.version, parsed.prefixlen, parsed.network_address.packed


def _with_unit(text: str, unit: str) -> Fraction | None:
    """`text` counted in `unit`; None where it is not a number with a unit behind it."""
    found = _WITH_UNIT.fullmatch(text)
    if found is None or found[2] not in _UNITS[unit]:
        return None
    return Fraction("0" + found[1]) * _UNITS[unit][found[2]]


def _listed(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} or {last}"


def _parse_int(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise ValueError(text)
    digits = text.lstrip("+").lower()
    if digits.startswith("0x"):
        return int(digits, 16)
    return int(digits, 8) if digits.startswith("0") else int(digits)
