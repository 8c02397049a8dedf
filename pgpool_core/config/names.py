"""What databases, users and peers can be called, and how many of what there can be."""

from __future__ import annotations

from typing import Final

from pgpool_core.config.problems import quoted
from pgpool_core.config.units import is_clean

FALLBACK_DATABASE: Final = "*"
CONSOLE_DATABASE: Final = "pgbouncer"
MAX_DATABASE_LEN: Final = 63  # bytes, as PostgreSQL's NAMEDATALEN - 1
MAX_PEER_ID: Final = 16383
MAX_USER_LEN: Final = 127  # bytes
MAX_PASSWORD_LEN: Final = 65530  # bytes
MAX_WORKERS: Final = 64  # the engine has room for no more


def database_name_problem(name: object) -> str | None:
    """Why no entry of [databases] can be called `name`; None when it can."""
    if name == CONSOLE_DATABASE:
        return f'database name "{CONSOLE_DATABASE}" is reserved for the console'
    return _name_problem("database", name, MAX_DATABASE_LEN)


def user_name_problem(name: object) -> str | None:
    """Why no entry of [users] can be called `name`; None when it can."""
    return _name_problem("user", name, MAX_USER_LEN)


def peer_name_problem(name: str) -> str | None:
    """Why no entry of [peers] can be called `name`; None when it can."""
    if name.isascii() and name.isdigit() and 1 <= int(name) <= MAX_PEER_ID:
        return None
    return f"invalid peer {quoted(name)}: expected a number from 1 to {MAX_PEER_ID}"


def _name_problem(what: str, name: object, limit: int) -> str | None:
    if not isinstance(name, str) or not name or not is_clean(name):
        return f"a {what} name must be a non-empty text without zero bytes"
    if len(name.encode()) > limit:
        return f"{what} name {quoted(name)} is too long: at most {limit} bytes"
    return None
