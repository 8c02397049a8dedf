"""What drivers and tools say without being asked: transactions, SET of a session's settings, `SELECT 1`, `SELECT version()`.

The console has no transactions and no session settings. It answers as PostgreSQL would where that keeps a driver going and tells
nobody anything wrong. Ours; PgBouncer reports an error for most of these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import attrs

from pgpool_core.admin.reply import INT4, PGBOUNCER_VERSION, TEXT, Cell, Column, notice_response
from pgpool_core.admin.sqlwords import Token, tokens

SESSION_SETTINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "application_name": "",
        "bytea_output": "hex",
        "client_encoding": "UTF-8",
        "client_min_messages": "notice",
        "datestyle": "ISO",
        "default_transaction_isolation": "read committed",
        "default_transaction_read_only": "off",
        "extra_float_digits": "1",
        "idle_in_transaction_session_timeout": "0",
        "in_hot_standby": "off",
        "integer_datetimes": "on",
        "intervalstyle": "postgres",
        "is_superuser": "on",
        "jit": "off",
        "lock_timeout": "0",
        "max_identifier_length": "63",
        "search_path": "",
        "server_encoding": "UTF8",
        "server_version": f"{PGBOUNCER_VERSION}/bouncer",
        "standard_conforming_strings": "on",
        "statement_timeout": "0",
        "timezone": "GMT",
        "transaction_isolation": "read committed",
        "transaction_read_only": "off",
    }
)
"""Settings of a PostgreSQL session that drivers ask for or set after login: SHOW answers these, SET is ignored."""

READ_ONLY: Final = frozenset(
    (
        "in_hot_standby",
        "integer_datetimes",
        "is_superuser",
        "max_identifier_length",
        "server_encoding",
        "server_version",
    )
)
SET_IGNORED: Final = notice_response("SET ignored")


@attrs.frozen
class Said:
    """The answer to chatter: a row, or none where `columns` is None."""

    tag: str
    columns: tuple[Column, ...] | None = None
    row: tuple[Cell, ...] = ()
    notice: bytes = b""
    transaction: str = ""
    """What becomes of the transaction: "begins", "ends", or nothing."""
    forgets: str | None = None
    """A prepared statement that is to be forgotten; "*" for all."""


_TRANSACTION: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "BEGIN": ("BEGIN", "begins"),
        "START TRANSACTION": ("START TRANSACTION", "begins"),
        "COMMIT": ("COMMIT", "ends"),
        "END": ("COMMIT", "ends"),
        "ROLLBACK": ("ROLLBACK", "ends"),
        "ABORT": ("ROLLBACK", "ends"),
    }
)
_MODES: Final = re.compile(
    r"(?: (?:WORK|TRANSACTION))?"
    r"(?:,? (?:ISOLATION LEVEL (?:SERIALIZABLE|REPEATABLE READ|READ (?:UN)?COMMITTED)|READ (?:ONLY|WRITE)|(?:NOT )?DEFERRABLE))*"
    r"(?: AND (?:NO )?CHAIN)?"
)
_TIDY: Final = re.compile(r"(DISCARD|RESET|CLOSE) ALL|UNLISTEN \*|RESET [A-Z_]+")
_SAVEPOINT: Final = re.compile(
    r"(SAVEPOINT|RELEASE(?: SAVEPOINT)?|ROLLBACK(?: WORK| TRANSACTION)? TO(?: SAVEPOINT)?) \S+"
)
_SET_SPECIAL: Final = re.compile(
    r"SET (?:SESSION |LOCAL )?(?:TIME ZONE|NAMES) .+"
    r"|SET (?:SESSION CHARACTERISTICS AS )?TRANSACTION .+"
)
_SHOW_SPECIAL: Final = {"TRANSACTION ISOLATION LEVEL": "transaction_isolation", "TIME ZONE": "timezone"}
_FUNCTIONS: Final[Mapping[str, str | None]] = MappingProxyType(
    {
        "version": f"PgBouncer {PGBOUNCER_VERSION}",
        "current_database": "pgbouncer",
        "current_schema": None,
        "pg_advisory_unlock_all": "",
    }
)


def chatter(text: str) -> Said | None:
    """The answer to `text`, one statement, if it is chatter."""
    words = [token for token in tokens(text) if token.text != ";"]
    said = " ".join(word.upper or word.text for word in words).replace(" , ", ", ")
    for begin, (tag, effect) in _TRANSACTION.items():
        if said.startswith(begin) and _MODES.fullmatch(said, len(begin)):
            return Said(tag, transaction=effect)
    if found := _SAVEPOINT.fullmatch(said):
        return Said(found[1].split()[0])
    if _TIDY.fullmatch(said):
        all_too = said == "DISCARD ALL"
        return Said(said if all_too else said.split()[0], forgets="*" if all_too else None)
    match [word.upper or word.text for word in words]:
        case ["DEALLOCATE", *rest] if 1 <= len(rest) <= 2 and (len(rest) == 1 or rest[0] == "PREPARE"):
            everything = rest[-1] == "ALL"
            return Said(
                "DEALLOCATE ALL" if everything else "DEALLOCATE", forgets="*" if everything else _name(words[-1])
            )
        case ["SET", *_]:
            return _set(said, words)
        case ["SHOW", *_] if said[5:] in _SHOW_SPECIAL:
            return _shown(_SHOW_SPECIAL[said[5:]])
        case ["SHOW", name] if name.lower() in SESSION_SETTINGS:
            return _shown(name.lower())
        case ["SELECT", *rest]:
            return _selected(words[1:], rest)
    return None


def _name(word: Token) -> str:
    return word.value.lower() if word.kind == "word" else word.value


def _set(said: str, words: list[Token]) -> Said | None:
    rest = words[1:]
    if _SET_SPECIAL.fullmatch(said):
        return Said("SET", notice=SET_IGNORED)
    if rest and rest[0].upper in ("SESSION", "LOCAL"):
        rest = rest[1:]
    if len(rest) >= 3 and (rest[1].text == "=" or rest[1].upper == "TO"):
        name = _name(rest[0])
        if name in SESSION_SETTINGS and name not in READ_ONLY and all(word.kind != "other" for word in rest):
            return Said("SET", notice=SET_IGNORED)
    return None


def _shown(name: str) -> Said:
    return Said("SHOW", (Column(name, TEXT),), (SESSION_SETTINGS[name],))


def _selected(words: list[Token], said: list[str]) -> Said | None:
    """`SELECT 1`, `SELECT 'x'`, `SELECT version()`, each with a name behind or without."""
    name = ""
    if len(words) >= 2 and words[-1].kind in ("word", "name") and (len(words) < 3 or words[-2].text != "."):
        name, words, said = _name(words[-1]), words[:-1], said[:-1]
        if said[-1] == "AS":
            words, said = words[:-1], said[:-1]
    if said[:2] == ["PG_CATALOG", "."]:
        words, said = words[2:], said[2:]
    if len(words) == 1:
        word = words[0]
        if word.kind == "number" and re.fullmatch(r"-?[0-9]{1,9}", word.text):
            return Said("SELECT 1", (Column(name or "?column?", INT4),), (int(word.text),))
        if word.kind == "string":
            return Said("SELECT 1", (Column(name or "?column?", TEXT),), (word.value,))
    if said[1:] == ["(", ")"] and (function := said[0].lower()) in _FUNCTIONS:
        return Said("SELECT 1", (Column(name or function, TEXT),), (_FUNCTIONS[function],))
    return None
