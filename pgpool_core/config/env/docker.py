"""The variables of the image edoburu/pgbouncer, without a prefix.

What the image does wrong is done right here: CLIENT_ENCODING becomes a key of each entry (there it becomes a database of that name);
POOL_SIZE and TIMEZONE, which it writes where PgBouncer does not know them, become default_pool_size and a key of each entry;
SERVER_RESET_QUERY and SERVER_CHECK_QUERY may be empty; URLs are decoded; the password is kept as it is whatever AUTH_TYPE says, because
an md5 sum cannot log in to a server that asks for SCRAM. `user = postgres` is not written: who runs the process, the container says.
Source: the image's entrypoint and README (2026-06, PgBouncer 1.25.2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from pgpool_core.config.dsn import is_url, read_entry_url
from pgpool_core.config.env.generated import Entry, Environ, Generated, database_problem, one_line, problem, twice
from pgpool_core.config.expand import is_file, read_secret
from pgpool_core.config.model import DatabaseConfig
from pgpool_core.config.names import FALLBACK_DATABASE
from pgpool_core.config.settings import DATABASE_KEYS, SETTINGS
from pgpool_core.errors import ConfigError, ConfigProblem

FOLDER: Final = "/etc/pgbouncer"

ALWAYS: Final[Mapping[str, str]] = {
    "LISTEN_ADDR": "0.0.0.0",
    "LISTEN_PORT": "5432",
    "UNIX_SOCKET_DIR": "",
    "AUTH_TYPE": "md5",
    "IGNORE_STARTUP_PARAMETERS": "extra_float_digits",
    "ADMIN_USERS": "postgres",
}
"""Written with these values where the variable is not set; the setting has the variable's name in lower case."""

_WORDS: Final = """
    AUTH_HBA_FILE AUTH_USER AUTH_QUERY AUTH_DBNAME POOL_MODE MAX_CLIENT_CONN DEFAULT_POOL_SIZE MIN_POOL_SIZE RESERVE_POOL_SIZE
    RESERVE_POOL_TIMEOUT MAX_DB_CONNECTIONS MAX_USER_CONNECTIONS SERVER_ROUND_ROBIN DISABLE_PQEXEC APPLICATION_NAME_ADD_HOST
    MAX_PREPARED_STATEMENTS LOG_CONNECTIONS LOG_DISCONNECTIONS LOG_POOLER_ERRORS LOG_STATS STATS_PERIOD VERBOSE STATS_USERS LOGFILE
    SERVER_RESET_QUERY SERVER_RESET_QUERY_ALWAYS SERVER_CHECK_DELAY SERVER_CHECK_QUERY SERVER_LIFETIME SERVER_IDLE_TIMEOUT
    SERVER_CONNECT_TIMEOUT SERVER_LOGIN_RETRY CLIENT_LOGIN_TIMEOUT AUTODB_IDLE_TIMEOUT DNS_MAX_TTL DNS_NXDOMAIN_TTL
    CLIENT_TLS_SSLMODE CLIENT_TLS_KEY_FILE CLIENT_TLS_CERT_FILE CLIENT_TLS_CA_FILE CLIENT_TLS_PROTOCOLS CLIENT_TLS_CIPHERS
    CLIENT_TLS_ECDHCURVE CLIENT_TLS_DHEPARAMS SERVER_TLS_SSLMODE SERVER_TLS_CA_FILE SERVER_TLS_KEY_FILE SERVER_TLS_CERT_FILE
    SERVER_TLS_PROTOCOLS SERVER_TLS_CIPHERS QUERY_TIMEOUT QUERY_WAIT_TIMEOUT CLIENT_IDLE_TIMEOUT IDLE_TRANSACTION_TIMEOUT PKT_BUF
    MAX_PACKET_SIZE LISTEN_BACKLOG SBUF_LOOPCNT SUSPEND_TIMEOUT TCP_DEFER_ACCEPT TCP_KEEPALIVE TCP_KEEPCNT TCP_KEEPIDLE
    TCP_KEEPINTVL TCP_USER_TIMEOUT
"""
IF_SET: Final = tuple(_WORDS.split())
"""Written where the variable is set and not empty."""

BESIDE: Final = tuple(
    name.upper()
    for name in SETTINGS
    if name.upper() not in {*ALWAYS, *IF_SET, "AUTH_FILE", "USER", "CONFFILE"}  # USER is in every environment
)
"""Settings that the image has no variable for: written in the same way, so that none is out of reach in a container."""

MAY_BE_EMPTY: Final = frozenset({"SERVER_RESET_QUERY", "SERVER_CHECK_QUERY"})
"""Where an empty variable is a value of its own."""

DEFAULT_USER: Final = "postgres"


def folder_of(environ: Environ) -> str:
    """Where the image has its files."""
    return FOLDER


def generate(environ: Environ, folder: str | None) -> Generated:
    """See `pgpool_core.config.env.generate`."""
    settings = {name.lower(): one_line(environ, name) or default for name, default in ALWAYS.items()}
    settings["auth_file"] = one_line(environ, "AUTH_FILE") or f"{folder or FOLDER}/userlist.txt"
    for name in (*IF_SET, *BESIDE):
        value = one_line(environ, name)
        if value or (name in MAY_BE_EMPTY and name in environ):
            settings[name.lower()] = value
    warnings: list[str] = []
    if size := one_line(environ, "POOL_SIZE"):
        settings.setdefault("default_pool_size", size)
        warnings.append("POOL_SIZE is read as DEFAULT_POOL_SIZE, because [pgbouncer] has no pool_size")
    extra: dict[str, str] = {
        key: value for key in ("client_encoding", "timezone") if (value := one_line(environ, key.upper()))
    }
    if "timezone" in extra:
        warnings.append("TIMEZONE is written into each database entry, because [pgbouncer] has no timezone")
    users: dict[str, str] = {}
    entries: list[Entry] = []
    for database in _databases(environ):
        user = database.user or DEFAULT_USER
        pairs = _pairs(database) | extra
        password = database.written_password
        if password and users.setdefault(user, password) != password:
            pairs |= {"user": user, "password": password}  # the userlist has room for one password of a user
        if "auth_user" in DATABASE_KEYS:
            pairs["auth_user"] = user
        entries.append(Entry(name=database.dbname or FALLBACK_DATABASE, pairs=pairs))
    if doubled := twice([entry.name for entry in entries]):
        raise problem("DATABASE_URLS", f"names database {doubled} twice")
    return Generated(
        folder=folder or FOLDER, settings=settings, databases=tuple(entries), users=users, warnings=tuple(warnings)
    )


def names_server(environ: Environ) -> bool:
    """Whether the variables say where a database is."""
    return any(environ.get(name) for name in ("DB_HOST", "DATABASE_URL", "DATABASE_URLS"))


def _databases(environ: Environ) -> Iterator[DatabaseConfig]:
    """Each database, its name as dbname."""
    single, several = one_line(environ, "DATABASE_URL"), one_line(environ, "DATABASE_URLS")
    if single or several:
        variable = "DATABASE_URL" if single else "DATABASE_URLS"
        for url in [single] if single else filter(None, (part.strip() for part in several.split(","))):
            if not is_url(url):
                raise problem(variable, "is no URL that begins with postgres:// or postgresql://")
            try:
                database = read_entry_url(url)
            except ConfigError as error:
                raise database_problem(variable, error) from None
            if database.host is None:
                raise problem(variable, "names no host")
            yield database
        return
    values: dict[str, object] = {"host": one_line(environ, "DB_HOST"), "user": one_line(environ, "DB_USER")}
    if not values["host"]:
        text = "no server is named: set DB_HOST, DATABASE_URL or DATABASE_URLS"
        raise ConfigError([ConfigProblem(text, key="DB_HOST")])
    values["port"] = one_line(environ, "DB_PORT") or "5432"
    name = one_line(environ, "DB_NAME")
    values["dbname"] = "" if name == FALLBACK_DATABASE else name
    values["password"] = _secret(environ, "DB_PASSWORD")
    made: dict[str, object] = {}
    for key, value in values.items():
        try:
            if value:
                made[key] = DATABASE_KEYS[key].kind.parse(str(value))
        except ValueError:
            raise problem(f"DB_{key.upper()}", f"cannot be used: expected {DATABASE_KEYS[key].kind.accepts}") from None
    yield DatabaseConfig(**made)  # type: ignore[arg-type]


def _secret(environ: Environ, name: str) -> str:
    value = environ.get(name, "")
    if not is_file(value):
        return value
    try:
        return read_secret(value)
    except ValueError as error:
        raise problem(name, f"cannot be used: {error}") from None


def _pairs(database: DatabaseConfig) -> dict[str, str]:
    """What an entry says besides its name: host and port always, and what a URL has asked for."""
    pairs: dict[str, str] = {}
    for key, setting in DATABASE_KEYS.items():
        value = getattr(database, key)
        if key in ("dbname", "user", "password") or (value == setting.default and key not in ("host", "port")):
            continue
        pairs[key] = setting.show(value) or ""
    return pairs
