"""The values of `client_tls_protocols` and its like: which versions of TLS are spoken."""

from __future__ import annotations

from typing import Final

import attrs

SSLMODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
VERSIONS: Final = ("tlsv1.0", "tlsv1.1", "tlsv1.2", "tlsv1.3")
SECURE: Final = ("tlsv1.2", "tlsv1.3")
DHPARAMS: Final = ("none", "auto", "legacy")

_GROUPS: Final = {"all": VERSIONS, "secure": SECURE, "default": SECURE, "legacy": VERSIONS, "tlsv1": VERSIONS}


def protocols_of(text: str) -> tuple[str, ...]:
    """The versions that a text names, oldest first.

    A list with commas or colons between; `!` in front takes one away, from all of them where it stands first.
    Source: PgBouncer docs, client_tls_protocols; libtls's tls_config_parse_protocols(3), which reads them there.

    Raises:
        ValueError: a name is not one of a version, or none is left.
    """
    chosen: set[str] = set()
    for number, word in enumerate(text.lower().replace(":", ",").split(",")):
        name = word.strip()
        if name.startswith("!"):
            if number == 0:
                chosen |= set(VERSIONS)
            chosen -= set(_named(name[1:]))
        else:
            chosen |= set(_named(name))
    if not chosen:
        raise ValueError(text)
    return tuple(version for version in VERSIONS if version in chosen)


def _named(word: str) -> tuple[str, ...]:
    if word in VERSIONS:
        return (word,)
    if word not in _GROUPS:
        raise ValueError(word)
    return _GROUPS[word]


@attrs.frozen
class Protocols:
    """A kind of setting. The value is the text as it was written; `protocols_of` reads it."""

    accepts: str = "tlsv1.0 to tlsv1.3, all, secure, default, with commas between; !NAME takes one away"
    unit: str = ""

    def parse(self, text: str) -> str:
        return self.check(text)

    def check(self, value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(value)
        protocols_of(value)
        return value

    def show(self, value: object) -> str:
        return str(value)
