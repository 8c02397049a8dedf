"""The variables of Bitnami's image bitnami/pgbouncer, and of its chart: POSTGRESQL_* for the server, PGBOUNCER_* for everything else.

`PGBOUNCER_DSN_0` and so on are whole lines of [databases]; any other `PGBOUNCER_NAME` is the setting of that name in lower case. The
value of each may be in a file, which `NAME_FILE` names.

What the image does wrong is done right here: a port that Kubernetes has made an address of (`PGBOUNCER_PORT=tcp://...`) is the default one;
quotes in PGBOUNCER_CONNECT_QUERY may be single; there are as many PGBOUNCER_DSN_n as are set, whatever their numbers; and POSTGRESQL_HOST is needed,
but where PGBOUNCER_DSN_0 is set.
Source: the image's env and setup scripts and its README.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pgpool_core.config.entry import split_pairs
from pgpool_core.config.env.generated import PREFIX, Entry, Environ, Generated, one_line, problem, unread
from pgpool_core.config.names import FALLBACK_DATABASE
from pgpool_core.config.not_built import NOT_BUILT
from pgpool_core.config.settings import SETTINGS

FOLDER: Final = "/etc/pgbouncer"

_DSN: Final = re.compile(r"PGBOUNCER_DSN_([0-9]{1,6})")
_USER: Final = re.compile(r'"((?:[^"]|"")+)"[ \t]+"((?:[^"]|"")*)"')
_NAMED: Final = {
    "BIND_ADDRESS": "listen_addr",  # as its README has it; the other one goes before it
    "LISTEN_ADDRESS": "listen_addr",
    "PORT": "listen_port",
    "LOG_FILE": "logfile",
    "SOCKET_DIR": "unix_socket_dir",
    "SOCKET_MODE": "unix_socket_mode",
    "SOCKET_GROUP": "unix_socket_group",
}
"""Settings that are called otherwise than in the ini."""
_DEFAULTS: Final = {
    "listen_addr": "0.0.0.0",
    "listen_port": "6432",
    "auth_type": "scram-sha-256",
    "ignore_startup_parameters": "extra_float_digits",
}
_OF_THE_ENTRY: Final = ("DATABASE", "AUTH_USER", "CONNECT_QUERY", "SET_DATABASE_USER", "SET_DATABASE_PASSWORD")
_OF_THE_IMAGE: Final = (
    "INIT_SLEEP_TIME",
    "INIT_MAX_RETRIES",
    "DAEMON_USER",
    "DAEMON_GROUP",
    "FAIL_ON_INVALID_DSN_FILE",
)
"""What needs nothing done here: the pooler starts before the server does, as whom it was started; a file that cannot be read is an error."""
_OF_THE_SERVER: Final = ("HOST", "PORT", "DATABASE", "USERNAME", "PASSWORD")


def folder_of(environ: Environ) -> str:
    """Where the image has its files."""
    return FOLDER


def generate(environ: Environ, folder: str | None) -> Generated:
    """See `pgpool_core.config.env.generate`."""
    environ = _with_files(environ)
    if environ.get("PGBOUNCER_PORT", "").startswith("tcp://"):  # Kubernetes, beside a service of that name
        environ = {name: value for name, value in environ.items() if name != "PGBOUNCER_PORT"}
    settings = {**_DEFAULTS, "auth_file": f"{folder or FOLDER}/userlist.txt"}
    for variable in sorted(environ):
        name = variable.removeprefix(PREFIX)
        if variable.startswith(PREFIX) and _is_setting(name) and environ[variable]:
            settings[_NAMED.get(name) or name.lower()] = one_line(environ, variable)
    user = one_line(environ, "POSTGRESQL_USERNAME") or "postgres"
    settings.setdefault("admin_users", user)
    users: dict[str, str] = {}
    if password := environ.get("POSTGRESQL_PASSWORD", ""):
        users[user] = password
    users |= _userlist(environ)
    return Generated(
        folder=folder or FOLDER,
        settings=settings,
        databases=_entries(environ, user, password),
        users=users,
        warnings=unread(environ, _is_read),
    )


def _is_setting(name: str) -> bool:
    """Whether `PGBOUNCER_name` is a line of [pgbouncer]."""
    return name in _NAMED or (name not in _OF_THE_ENTRY and (name.lower() in SETTINGS or name.lower() in NOT_BUILT))


def _is_read(name: str) -> bool:
    """Whether `PGBOUNCER_name` means something."""
    named = name in _OF_THE_ENTRY or name in _OF_THE_IMAGE or name == "USERLIST"
    return named or _is_setting(name) or _DSN.fullmatch(PREFIX + name) is not None


def _with_files(environ: Environ) -> Environ:
    """The variables, with what is in the files that some name: `NAME_FILE` goes before `NAME`."""
    found = dict(environ)
    for variable, path in environ.items():
        name = variable.removesuffix("_FILE")
        ours, theirs = name.removeprefix(PREFIX), name.removeprefix("POSTGRESQL_")
        if name == variable or not path:
            continue
        if (ours != name and _is_read(ours) and not _is_read(f"{ours}_FILE")) or (
            theirs != name and theirs in _OF_THE_SERVER
        ):
            try:
                found[name] = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, ValueError) as error:
                reason = (error.strerror if isinstance(error, OSError) else None) or "not a text in UTF-8"
                raise problem(variable, f"cannot be used: {path}: {reason}") from None
            del found[variable]
    return found


def _entries(environ: Environ, user: str, password: str) -> tuple[Entry, ...]:
    numbered = sorted((int(found[1]), name) for name in environ if (found := _DSN.fullmatch(name)) and environ[name])
    entries = [_dsn(environ, name) for _, name in numbered]
    host = one_line(environ, "POSTGRESQL_HOST")
    if host:
        name = one_line(environ, "PGBOUNCER_DATABASE") or "postgres"
        pairs = {"host": host, "port": one_line(environ, "POSTGRESQL_PORT") or "5432"}
        if _is_yes(environ, "PGBOUNCER_SET_DATABASE_USER"):
            pairs["user"] = user
        if password and _is_yes(environ, "PGBOUNCER_SET_DATABASE_PASSWORD"):
            pairs["password"] = password
        if name != FALLBACK_DATABASE:
            pairs["dbname"] = one_line(environ, "POSTGRESQL_DATABASE") or name
        if asker := one_line(environ, "PGBOUNCER_AUTH_USER"):
            pairs["auth_user"] = asker
        if query := one_line(environ, "PGBOUNCER_CONNECT_QUERY"):
            pairs["connect_query"] = _unquoted(query)
        entries.append(Entry(name=name, pairs=pairs))
    if not entries:
        raise problem("POSTGRESQL_HOST", "is not set, and no PGBOUNCER_DSN_0 either")
    return tuple(entries)


def _is_yes(environ: Environ, variable: str) -> bool:
    return one_line(environ, variable).lower() in ("1", "yes", "true")


def _unquoted(query: str) -> str:
    """The query: the image puts it between quotes as it is, so those inside may have been doubled."""
    try:
        pairs = list(split_pairs(f"q='{query}'"))
    except ValueError:
        return query
    return pairs[0][1] if len(pairs) == 1 else query


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
    for number, line in enumerate(environ.get("PGBOUNCER_USERLIST", "").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith(";"):
            continue
        found = _USER.match(line.strip())
        if found is None:
            raise problem("PGBOUNCER_USERLIST", f'has a line {number} that is not "user" "secret"')
        users[found[1].replace('""', '"')] = found[2].replace('""', '"')
    return users
