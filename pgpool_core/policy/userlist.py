"""PgBouncer's auth_file: one line per user, `"name" "secret"`.

`""` inside the quotes is one quote, lines that begin with `;` are comments, whatever follows the secret is ignored.
Names and secrets are bytes as PostgreSQL has them; no encoding is assumed. A broken line refuses the whole file, so
that half a file never replaces a good one.
Source: PgBouncer docs, "Authentication file format".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import attrs

from pgpool_core.errors import ConfigError, ConfigProblem
from pgpool_core.policy.secrets import Secret

MAX_USER_LEN: Final = 127  # bytes; PgBouncer's limit for a user name

_QUOTED: Final = re.compile(rb'"((?:[^"]|"")*+)"')  # possessive: an odd quote never ends the text early
_BLANKS: Final = b" \t\r\f\v"


def _read_only(users: Mapping[bytes, Secret]) -> Mapping[bytes, Secret]:
    return MappingProxyType(dict(users))


@attrs.frozen(repr=False)
class Userlist:
    """Users of one auth_file and their secrets, as the file was when it was read."""

    secrets: Mapping[bytes, Secret] = attrs.field(converter=_read_only)

    def get(self, user: bytes) -> Secret | None:
        """The secret of `user`; None for a user who is not in the file."""
        return self.secrets.get(user)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.secrets)

    def __len__(self) -> int:
        return len(self.secrets)

    def __contains__(self, user: object) -> bool:
        return user in self.secrets

    def __reduce__(self) -> tuple[object, ...]:
        return Userlist, (dict(self.secrets),)  # a read-only view cannot be pickled

    def __repr__(self) -> str:
        return f"Userlist({len(self.secrets)} users)"


def load_userlist(path: str | Path) -> Userlist:
    """Read an auth_file.

    Raises:
        ConfigError: it cannot be read, or a line is broken; names file and every broken line, repeats no secret.
    """
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise _error(path, [(None, f"cannot be read: {error.strerror or error}")]) from error
    return parse_userlist(text, path)


def load_users(auth_file: str | None) -> Userlist:
    """The users of auth_file; none where it is not set.

    Raises:
        ConfigError: as load_userlist.
    """
    return load_userlist(auth_file) if auth_file else Userlist({})


def parse_userlist(text: bytes, path: str | Path = "<auth_file>") -> Userlist:
    """Read the text of an auth_file; `path` is for errors. A name that comes twice keeps its last secret.

    Raises:
        ConfigError: as load_userlist.
    """
    users: dict[bytes, Secret] = {}
    problems: list[tuple[int | None, str]] = []
    for number, line in enumerate(text.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        body = line.strip(_BLANKS)
        if not body or body.startswith(b";"):
            continue
        try:
            user, secret = _parse_line(body)
        except ValueError as problem:
            problems.append((number, f"broken auth file line: {problem}"))
        else:
            users[user] = secret
    if problems:
        raise _error(path, problems)
    return Userlist(users)


def _parse_line(line: bytes) -> tuple[bytes, Secret]:
    name = _QUOTED.match(line)
    if name is None:
        raise ValueError('a line is "user" "secret", each in double quotes')
    rest = line[name.end() :]
    secret = _QUOTED.match(rest.lstrip(_BLANKS))
    if secret is None or rest[:1] not in (b" ", b"\t"):
        raise ValueError('no "secret" in double quotes after the user name')
    user = name[1].replace(b'""', b'"')
    if not user or b"\0" in user:
        raise ValueError("a user name must not be empty or contain a zero byte")
    if len(user) > MAX_USER_LEN:
        raise ValueError(f"a user name has at most {MAX_USER_LEN} bytes")
    return user, Secret.parse(secret[1].replace(b'""', b'"'))


def _error(path: str | Path, problems: list[tuple[int | None, str]]) -> ConfigError:
    """One ConfigError for all problems of one file, given as (line, text)."""
    name = str(path)
    return ConfigError(
        ConfigProblem(
            text=f"auth_file {name}{'' if line is None else f':{line}'}: {text} (auth_file)",
            file=name,
            line=line,
            key="auth_file",
        )
        for line, text in problems
    )
