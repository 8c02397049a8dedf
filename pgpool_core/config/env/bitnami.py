"""The variables of Bitnami's image and chart: POSTGRESQL_* for the server, PGBOUNCER_* for everything else.

`PGBOUNCER_DSN_0` and so on are whole lines of [databases]; any other `PGBOUNCER_NAME` is the setting of that name in lower case.
Source: discussions of that chart; the image itself is not at hand, so where they leave something open, PgBouncer's own rules hold.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pgpool_core.config.entry import split_pairs
from pgpool_core.config.env.generated import PREFIX, Entry, Environ, Generated, one_line, problem, unread
from pgpool_core.config.not_built import NOT_BUILT
from pgpool_core.config.settings import SETTINGS

FOLDER: Final = "/etc/pgbouncer"

_DSN: Final = re.compile(r"PGBOUNCER_DSN_([0-9]{1,6})")
_USER: Final = re.compile(r'"((?:[^"]|"")+)"[ \t]+"((?:[^"]|"")*)"')
_NAMED: Final = {"PGBOUNCER_PORT": "listen_port", "PGBOUNCER_LISTEN_ADDRESS": "listen_addr"}
"""Settings that are called otherwise than in the ini."""
_DEFAULTS: Final = {"listen_addr": "0.0.0.0", "listen_port": "6432", "auth_type": "scram-sha-256"}


def folder_of(environ: Environ) -> str:
    """Where the image has its files."""
    return FOLDER


def generate(environ: Environ, folder: str | None) -> Generated:
    """See `pgpool_core.config.env.generate`."""
    settings = {**_DEFAULTS, "auth_file": f"{folder or FOLDER}/userlist.txt"}
    for variable in sorted(environ):
        name = _NAMED.get(variable) or variable.removeprefix("PGBOUNCER_").lower()
        if variable.startswith("PGBOUNCER_") and (name in SETTINGS or name in NOT_BUILT) and environ[variable]:
            settings[name] = one_line(environ, variable)
    user = one_line(environ, "POSTGRESQL_USERNAME") or "postgres"
    settings.setdefault("admin_users", user)
    users: dict[str, str] = {}
    if password := _value_or_file(environ, "POSTGRESQL_PASSWORD"):
        users[user] = password
    users |= _userlist(environ)
    return Generated(
        folder=folder or FOLDER,
        settings=settings,
        databases=_entries(environ),
        users=users,
        warnings=unread(environ, _is_read),
    )


def _is_read(name: str) -> bool:
    """Whether `PGBOUNCER_name` means something."""
    if PREFIX + name in _NAMED or name in ("DATABASE", "USERLIST", "USERLIST_FILE") or _DSN.fullmatch(PREFIX + name):
        return True
    return name.lower() in SETTINGS or name.lower() in NOT_BUILT


def _entries(environ: Environ) -> tuple[Entry, ...]:
    numbered = sorted((int(found[1]), name) for name in environ if (found := _DSN.fullmatch(name)))
    entries = [_dsn(environ, name) for _, name in numbered]
    host = one_line(environ, "POSTGRESQL_HOST")
    if host:
        database = one_line(environ, "POSTGRESQL_DATABASE") or "postgres"
        pairs = {"host": host, "port": one_line(environ, "POSTGRESQL_PORT") or "5432", "dbname": database}
        entries.append(Entry(name=one_line(environ, "PGBOUNCER_DATABASE") or database, pairs=pairs))
    if not entries:
        raise problem("POSTGRESQL_HOST", "is not set, and no PGBOUNCER_DSN_0 either")
    return tuple(entries)


def _dsn(environ: Environ, variable: str) -> Entry:
    """`name=host=... port=...`: a line of [databases]."""
    name, equals, pairs = one_line(environ, variable).partition("=")
    try:
        if not equals or not name.strip():
            raise ValueError("it is not NAME=key=value ...")
        return Entry(name=name.strip(), pairs=dict(split_pairs(pairs)))
    except ValueError as error:
        raise problem(variable, f"cannot be used: {error}") from None


def _userlist(environ: Environ) -> dict[str, str]:
    users: dict[str, str] = {}
    for number, line in enumerate(_value_or_file(environ, "PGBOUNCER_USERLIST").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith(";"):
            continue
        found = _USER.match(line.strip())
        if found is None:
            raise problem("PGBOUNCER_USERLIST", f'has a line {number} that is not "user" "secret"')
        users[found[1].replace('""', '"')] = found[2].replace('""', '"')
    return users


def _value_or_file(environ: Environ, name: str) -> str:
    """The variable, or what the file that `NAME_FILE` names holds."""
    if path := environ.get(f"{name}_FILE"):
        try:
            return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or "not a text in UTF-8"
            raise problem(f"{name}_FILE", f"cannot be used: {path}: {reason}") from None
    return environ.get(name, "")
