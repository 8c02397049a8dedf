"""The variables of heroku/heroku-buildpack-pgbouncer: a pooler beside each application process, on loopback.

What the buildpack does wrong is done right here: what follows `?` in a URL stays with the application instead of becoming part of the
database's name, and two URLs with one user and two passwords both work.
Source: the buildpack's bin/gen-pgbouncer-conf.sh and README (2025-12, PgBouncer 1.24.1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from pgpool_core.config.env.generated import Entry, Environ, Generated, one_line, problem, unread
from pgpool_core.config.units import is_clean

FOLDER: Final = "/app/vendor/pgbouncer"
LISTEN_PORT: Final = "6000"

VARIABLES: Final[Mapping[str, str]] = {
    "AUTH_TYPE": "scram-sha-256",
    "SERVER_TLS_SSLMODE": "require",
    "POOL_MODE": "transaction",
    "SERVER_RESET_QUERY": "",
    "MAX_PREPARED_STATEMENTS": "0",
    "MAX_CLIENT_CONN": "100",
    "DEFAULT_POOL_SIZE": "1",
    "MIN_POOL_SIZE": "0",
    "RESERVE_POOL_SIZE": "1",
    "RESERVE_POOL_TIMEOUT": "5.0",
    "SERVER_LIFETIME": "3600",
    "SERVER_IDLE_TIMEOUT": "600",
    "LOG_CONNECTIONS": "1",
    "LOG_DISCONNECTIONS": "1",
    "LOG_POOLER_ERRORS": "1",
    "STATS_PERIOD": "60",
    "IGNORE_STARTUP_PARAMETERS": "",
    "QUERY_WAIT_TIMEOUT": "120",
}
"""Behind `PGBOUNCER_`, with their defaults; the setting has the name in lower case."""

_OTHERS: Final = frozenset({"URLS", "ENABLED", "PREPARED_STATEMENTS", "CONFIG_DIR", "LISTEN_PORT"})

FIXED: Final[Mapping[str, str]] = {
    "listen_addr": "127.0.0.1",
    "server_tls_protocols": "secure",
    "server_tls_ciphers": "HIGH:!ADH:!AECDH:!LOW:!EXP:!MD5:!3DES:!SRP:!PSK:@STRENGTH",
}

_URL: Final = re.compile(
    r"postgres(?:ql)?://(?P<user>[^:@/?]+):(?P<password>[^@/?]+)@(?P<host>[^:@/?]+|\[[^]]+\]):(?P<port>[0-9]{1,5})/(?P<dbname>[^?]+)"
    r"(?:\?(?P<query>.*))?"
)
_SERVERS_OWN: Final = frozenset(
    {"sslmode", "sslrootcert", "sslcert", "sslkey", "sslcrl", "channel_binding", "sslnegotiation"}
)
"""Parameters that are about the connection to PostgreSQL, which the application does not make any more."""


def is_enabled(environ: Environ) -> bool:
    """Whether PGBOUNCER_ENABLED asks for a pooler; it does where it is not set."""
    return (environ.get("PGBOUNCER_ENABLED") or "1").lower() in ("1", "true", "yes", "on")


def is_variable(name: str) -> bool:
    """Whether the buildpack, or we in its place, read a variable that has this name behind `PGBOUNCER_`."""
    return name in VARIABLES or name in _OTHERS


def folder_of(environ: Environ) -> str:
    """Where the buildpack has its files."""
    return one_line(environ, "PGBOUNCER_CONFIG_DIR") or FOLDER


def generate(environ: Environ, folder: str | None) -> Generated:
    """See `pgpool_core.config.env.generate`."""
    folder = folder or folder_of(environ)
    port = one_line(environ, "PGBOUNCER_LISTEN_PORT") or LISTEN_PORT  # ours: two of them on one machine
    settings = {**FIXED, "listen_port": port, "auth_file": f"{folder}/users.txt"}
    for name, default in VARIABLES.items():
        settings[name.lower()] = one_line(environ, f"PGBOUNCER_{name}") or default
    if settings["server_tls_sslmode"] == "disable":
        del settings["server_tls_protocols"], settings["server_tls_ciphers"]
    if settings["pool_mode"] == "session" and not settings["server_reset_query"]:
        settings["server_reset_query"] = "DISCARD ALL;"
    names = re.split(r"[\s,]+", one_line(environ, "PGBOUNCER_URLS")) if environ.get("PGBOUNCER_URLS") else []
    prepared = one_line(environ, "PGBOUNCER_PREPARED_STATEMENTS").lower() != "false"
    users: dict[str, str] = {}
    entries: list[Entry] = []
    exports: dict[str, str] = {}
    for number, name in enumerate([name for name in names if name] or ["DATABASE_URL"], start=1):
        parts = _parts(environ, name)
        user, password = parts["user"], parts["password"]
        known = users.setdefault(user, password)
        pairs = {key: parts[key] for key in ("host", "dbname", "port")}
        if known != password:
            pairs |= {"user": user, "password": password}
        entries.append(Entry(name=f"db{number}", pairs=pairs))
        exports[name] = exports[f"{name}_PGBOUNCER"] = _client_url(
            f"{port}/db{number}", user, known, parts["query"], prepared
        )
    return Generated(
        folder=folder,
        settings=settings,
        databases=tuple(entries),
        users=users,
        exports=exports,
        warnings=unread(environ, is_variable),
    )


def _parts(environ: Environ, name: str) -> dict[str, str]:
    """The parts of the URL in the variable `name`, decoded."""
    url = one_line(environ, name)
    if not url:
        raise problem(name, "is not set or empty (PGBOUNCER_URLS)")
    found = _URL.fullmatch(url)
    if found is None:
        raise problem(name, "is not postgres://user:password@host:port/dbname, all parts given")
    parts = {key: found[key] or "" for key in ("host", "port", "query")}
    for key in ("user", "password", "dbname"):
        decoded = unquote_to_bytes(found[key]).decode("utf-8", "surrogateescape")
        if not is_clean(decoded) or "\n" in decoded:
            raise problem(name, f"has a {key} that is no line of text in UTF-8")
        parts[key] = decoded
    parts["host"] = parts["host"].strip("[]")
    return parts


def _client_url(place: str, user: str, password: str, query: str, prepared: bool) -> str:
    """What the application is to use in place of its own URL."""
    kept = [part for part in query.split("&") if part and part.partition("=")[0] not in _SERVERS_OWN]
    if not prepared:
        kept = ["prepared_statements=false", *(part for part in kept if not part.startswith("prepared_statements="))]
    login = f"{quote(user, safe='')}:{quote(password, safe='')}"
    return f"postgres://{login}@127.0.0.1:{place}" + ("?" + "&".join(kept) if kept else "")
