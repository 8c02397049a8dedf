"""Values that stand elsewhere: `${NAME}` in the environment, `file:/path` in a file.

A value is taken apart first and filled in after that, so whatever a variable holds stays one value: it cannot add a pair, a line or
another variable. Nothing here repeats what a variable or a file holds; errors name the variable or the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import quote

from pgpool_core.config.units import is_clean

FILE: Final = "file:"
MAX_SECRET_LEN: Final = 1024 * 1024  # bytes of a file: more than any secret, less than a device that never ends

_VARIABLE: Final = re.compile(r"\$\$\{|\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*+)(?::-(?P<default>[^}]*+))?\}|\$\{")


def expand(text: str, environ: Mapping[str, str]) -> str:
    """`text` with each `${NAME}` replaced by that variable, `${NAME:-default}` where it may be unset or empty; `$${` stays as `${`.

    Raises:
        ValueError: a variable is not set, or a `${` begins nothing; says which.
    """
    return _filled(text, environ, lambda value: value)


def expand_url(text: str, environ: Mapping[str, str]) -> str:
    """The same inside a URL: each variable is one part of it, whatever characters it has.

    Raises:
        ValueError: as expand.
    """
    return _filled(text, environ, lambda value: quote(value, safe=""))


def is_one_variable(text: str) -> bool:
    """Whether all of `text` is a single `${NAME}` or `${NAME:-default}`."""
    found = _VARIABLE.fullmatch(text)
    return found is not None and found["name"] is not None


def is_file(text: str) -> bool:
    """Whether `text` says that the value stands in a file."""
    return text.startswith((FILE + "/", FILE + "${"))


def read_secret(text: str) -> str:
    """What the file in `file:/path` holds, without the end of its last line.

    Raises:
        ValueError: it cannot be read, or is no UTF-8 text; names the file.
    """
    path = text.removeprefix(FILE)
    try:
        with Path(path).open("rb") as stream:
            raw = stream.read(MAX_SECRET_LEN + 1)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or error
        raise ValueError(f"cannot read {path}: {reason}") from None
    if len(raw) > MAX_SECRET_LEN:
        raise ValueError(f"{path} is longer than {MAX_SECRET_LEN} bytes")
    value = raw.decode("utf-8", "surrogateescape").removesuffix("\n").removesuffix("\r")
    if not is_clean(value):
        raise ValueError(f"{path} is not a text in UTF-8")
    return value


def _filled(text: str, environ: Mapping[str, str], shaped: Callable[[str], str]) -> str:
    def value(found: re.Match[str]) -> str:
        if found[0] == "$${":
            return "${"
        name = found["name"]
        if name is None:
            raise ValueError(
                "${ is not followed by NAME} or NAME:-default} (write $${ for a ${ that is meant as it stands)"
            )
        held = environ.get(name)
        if found["default"] is not None:
            held = held or found["default"]
        if held is None:
            raise ValueError(f"the environment variable {name} is not set (${{{name}:-...}} gives a default)")
        if not is_clean(held):
            raise ValueError(f"the environment variable {name} is not a text in UTF-8")
        return shaped(held)

    return _VARIABLE.sub(value, text) if "${" in text else text
