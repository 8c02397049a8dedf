"""Connection strings of libpq, as URL or as `key=value` words, read into a DatabaseConfig.

What libpq would obey and this version cannot (`options`, ...) is refused rather than dropped. No error repeats the string or a
value out of it, because passwords live there.
Source: PostgreSQL docs, "Connection Strings" and "Parameter Key Words".
"""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from pgpool_core.config.model import DatabaseConfig
from pgpool_core.config.not_built import NOT_BUILT_DATABASE
from pgpool_core.config.settings import DATABASE_KEYS, KEY_ALIASES
from pgpool_core.errors import ConfigError, ConfigProblem

_SCHEMES: Final = ("postgres://", "postgresql://")
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_WORD: Final = re.compile(
    r"(?P<key>[^\s=]++)\s*+=\s*+(?:'(?P<quoted>(?:[^'\\]|\\.)*+)'|(?P<bare>(?:[^\s'\\]|\\.)*+))(?=\s|\Z)", re.DOTALL
)
_HOST: Final = re.compile(r"(?P<host>\[[^]]*\]|[^:]*)(?::(?P<port>.*))?", re.DOTALL)

_HARMLESS: Final = {
    "ssl": ("false",),
    "sslcertmode": ("allow",),
    "gssencmode": ("disable", "prefer"),
    "target_session_attrs": ("any",),
    "keepalives": ("1",),
    "sslcompression": ("0",),
}
"""Parameters of libpq that need nothing from us at these values."""
_ELSEWHERE: Final = {
    "password_command": "; write it as a key of an entry of [databases]",
    "connect_timeout": "; set server_connect_timeout (of open_pool: connect_timeout) instead",
    "keepalives_idle": "; set tcp_keepidle instead",
    "keepalives_interval": "; set tcp_keepintvl instead",
    "keepalives_count": "; set tcp_keepcnt instead",
}
_NOT_BUILT: Final = frozenset(
    {
        "hostaddr",
        "options",
        "passfile",
        "service",
        "servicefile",
        "replication",
        "tcp_user_timeout",
        "require_auth",
        "requirepeer",
        "gsslib",
        "krbsrvname",
        "gssdelegation",
        "sslpassword",
        "sslcertmode",
        "sslcrldir",
        "min_protocol_version",
        "max_protocol_version",
        "scram_client_key",
        "scram_server_key",
        "sslkeylogfile",
        "oauth_issuer",
        "oauth_client_id",
        "oauth_client_secret",
        "oauth_scope",
    }
)


def parse_dsn(text: str) -> DatabaseConfig:
    """Read `postgres://user:password@host:port/dbname?key=value` or `host=... dbname=...`.

    Keys of [databases], such as `pool_size`, may stand among the parameters. Without a host it is the unix socket in
    unix_socket_dir; without a dbname it is named as the user, as with libpq. Several hosts must share one port.

    Raises:
        ConfigError: it is malformed, or asks for something that this version does not do; carries every problem.
    """
    if not isinstance(text, str):
        raise ConfigError("a connection string must be text")
    try:
        pairs = _read_url(text) if is_url(text) else _read_words(text)
    except ValueError as error:
        raise ConfigError(str(error)) from None  # its context would show the string
    values = _values(pairs)
    if values.get("dbname") is None and values.get("user") is not None:
        values["dbname"] = values["user"]
    return DatabaseConfig(**values)


def is_url(text: str) -> bool:
    """Whether `text` is a connection URL."""
    return text.startswith(_SCHEMES)


def read_entry_url(text: str) -> DatabaseConfig:
    """Read the URL that stands for an entry of [databases]; without a database name it is the one that the client asked for.

    Raises:
        ConfigError: as parse_dsn.
    """
    try:
        return DatabaseConfig(**_values(_read_url(text)))
    except ValueError as error:
        raise ConfigError(str(error)) from None


def _read_url(text: str) -> dict[str, str]:
    rest = text.partition("://")[2]
    pairs: dict[str, str] = {}
    before, at, after = rest.partition("@")
    if at and not re.search(r"[/?]", before):
        user, colon, password = before.partition(":")
        pairs["user"] = _decode(user, "user name")
        if colon:
            pairs["password"] = _decode(password, "password")
        rest = after
    rest, _, query = rest.partition("?")
    hosts, _, path = rest.partition("/")
    pairs |= _read_hosts(hosts)
    pairs["dbname"] = _decode(path, "database name")
    for number, parameter in enumerate(query.split("&") if query else (), start=1):
        key, equals, value = parameter.partition("=")
        if not equals or "=" in value or not key:
            raise ValueError(f"invalid connection URL: parameter {number} after ? is not key=value")
        pairs[_decode(key, "parameter name")] = _decode(value, f"value of parameter {number}")
    return pairs


def _read_hosts(text: str) -> dict[str, str]:
    """Read `host:port,host:port`; a part that stands nowhere is left out."""
    names: list[str] = []
    ports: set[str] = set()
    for part in text.split(","):
        match = _HOST.fullmatch(part)
        if match is None or "@" in part or (part.startswith("[") != match["host"].endswith("]")):
            raise ValueError(
                "invalid connection URL: a host is not name, name:port or [IPv6]:port (write @ : / as %40 %3A %2F)"
            )
        host = match["host"][1:-1] if part.startswith("[") else match["host"]
        names.append(_decode(host, "host"))
        ports.add(match["port"] or "")
    if len(ports) > 1:
        raise ValueError("invalid connection URL: several hosts must share one port")
    pairs = {"port": ports.pop()}
    if any(names):
        pairs["host"] = ",".join(names)
    return pairs


def _read_words(text: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    rest = text.strip()
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", rest):
        driver = ", without a driver's name" if re.match(r"postgres(ql)?\+", rest) else ""
        raise ValueError(f"invalid connection URL: it must begin with postgres:// or postgresql://{driver}")
    if rest and "=" not in rest:
        raise ValueError("invalid connection string: neither postgres://... nor key=value words")
    position = 0
    while rest:
        position += 1
        word = _WORD.match(rest)
        if word is None:
            raise ValueError(
                f"invalid connection string: word {position} is not key=value (quote a value that has blanks: '...')"
            )
        value = word["quoted"] if word["quoted"] is not None else word["bare"]
        pairs[word["key"]] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        rest = rest[word.end() :].strip()
    return pairs


def _decode(text: str, what: str) -> str:
    if _BAD_PERCENT.search(text):
        raise ValueError(
            f"invalid connection URL: % in the {what} is not followed by two hexadecimal digits (write % as %25)"
        )
    try:
        decoded = unquote_to_bytes(text).decode()
    except UnicodeError:
        raise ValueError(f"invalid connection URL: the {what} is not UTF-8") from None
    if "\0" in decoded:
        raise ValueError(f"invalid connection URL: a zero byte in the {what}")
    return decoded


def _values(pairs: dict[str, str]) -> dict[str, Any]:
    problems: list[ConfigProblem] = []
    values: dict[str, Any] = {}
    for written, value in pairs.items():
        key = KEY_ALIASES.get(written, written)
        if (key, value) == ("ssl", "true"):  # of JDBC, which libpq understands
            key, value = "sslmode", "require"
        if not value:  # libpq: as if it were not there
            continue
        if key in DATABASE_KEYS and key != "password_command":  # a connection string runs nothing
            kind = DATABASE_KEYS[key].kind
            try:
                values[key] = kind.parse(value)
            except ValueError:
                problems.append(
                    ConfigProblem(f"invalid value for connection parameter {written}: expected {kind.accepts}", key=key)
                )
        elif key == "fallback_application_name":
            if not pairs.get("application_name"):
                values["application_name"] = value
        elif value not in _HARMLESS.get(key, ()):
            problems.append(_refusal(written))
    if problems:
        raise ConfigError(problems)
    return values


def _refusal(key: str) -> ConfigProblem:
    if key in _HARMLESS:
        return ConfigProblem(
            f"this value of connection parameter {key} is not supported by this version of pgpool_core", key=key
        )
    if key in _NOT_BUILT or key in _ELSEWHERE or key in NOT_BUILT_DATABASE:
        advice = _ELSEWHERE.get(key, "")
        return ConfigProblem(
            f"connection parameter {key} is not supported by this version of pgpool_core{advice}", key=key
        )
    shown = f" {key}" if re.fullmatch(r"[A-Za-z0-9_]{1,63}", key) else ""
    return ConfigProblem(f"unknown connection parameter{shown}", key=key if shown else None)
