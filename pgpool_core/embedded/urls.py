"""Database URLs as applications have them, taken apart into what the pooler needs and what stays with the application.

An application's URL names a driver (`postgresql+asyncpg://`) and carries parameters of that driver. Those about the way to the server
(`sslmode`, `host`, ...) are the pooler's from now on; the others go into the new URL as they are.
Source: PostgreSQL docs, "Connection URIs"; SQLAlchemy docs, "Database URLs"; dj-database-url's schemes.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

import attrs

from pgpool_core.config.dsn import parse_dsn
from pgpool_core.config.model import DatabaseConfig
from pgpool_core.embedded.address import ProxyAddress
from pgpool_core.errors import ConfigError

_URL: Final = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>[^?#]*)(?:\?(?P<query>[^#]*))?(?P<tail>#.*)?", re.DOTALL
)
_SCHEME: Final = re.compile(
    r"(?:postgres|postgresql|pgsql|postgis|django-postgresql|timescale|cockroachdb?)(?:\+(?P<driver>\w+))?\Z"
)
_OF_THE_WAY: Final = frozenset(
    {
        *("host", "hostaddr", "port", "user", "password", "dbname", "load_balance_hosts", "target_session_attrs"),
        *("ssl", "sslmode", "sslrootcert", "sslcert", "sslkey", "sslpassword", "sslcrl", "sslcrldir", "sslsni"),
        *("sslnegotiation", "sslcertmode", "sslcompression", "channel_binding", "gssencmode", "require_auth"),
        *("ssl_min_protocol_version", "ssl_max_protocol_version", "krbsrvname", "requirepeer", "passfile"),
    }
)
"""Parameters about the connection to the server, which the application does not make any more."""
_SSL_WORDS: Final = {
    "ssl=true": "sslmode=require",
    "ssl=false": "sslmode=disable",
    **{
        f"ssl={word}": f"sslmode={word}"
        for word in ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
    },
}
"""What asyncpg and JDBC say in libpq's words."""
_OWN_SSL_WORDS: Final = frozenset({"asyncpg", "pg8000", "aiopg"})
"""Drivers that would refuse `sslmode`."""


@attrs.frozen
class ApplicationUrl:
    """One URL of an application."""

    scheme: str
    driver: str
    """Behind the `+` of the scheme; "" where the application chooses."""
    server: DatabaseConfig = attrs.field(repr=False)
    kept: tuple[str, ...] = attrs.field(repr=False)
    """Parameters that stay with the application, as they are written."""

    @classmethod
    def parse(cls, text: str) -> ApplicationUrl:
        """Read a URL.

        Raises:
            ConfigError: it is no URL of a PostgreSQL database, or asks the pooler for something that it cannot do; never repeats the text.
        """
        match = _URL.fullmatch(text.strip())
        scheme = _SCHEME.match(match["scheme"]) if match is not None else None
        if match is None or scheme is None:
            raise ConfigError("not a URL that begins with postgres:// or postgresql:// (postgresql+driver:// is fine)")
        parameters = [each for each in (match["query"] or "").split("&") if each]
        ours = [each for each in parameters if each.partition("=")[0] in _OF_THE_WAY]
        asked = [_SSL_WORDS.get(each, each) for each in ours]
        server = parse_dsn(f"postgresql://{match['rest']}" + (f"?{'&'.join(asked)}" if asked else ""))
        kept = tuple(each for each in parameters if each not in ours)
        return cls(match["scheme"], scheme["driver"] or "", server, kept)

    def through(self, proxy: ProxyAddress, *, database: str, user: str) -> str:
        """The URL that leads to `proxy`, for the same driver and with its parameters; a secret, as it holds the password."""
        way = proxy.way(database, user)
        parameters = list(self.kept)
        if way.is_unix:
            parameters += [f"host={quote(way.host, safe='')}", f"port={way.port}"]
        elif self.driver not in _OWN_SSL_WORDS:
            parameters.append("sslmode=disable")
        query = f"?{'&'.join(parameters)}" if parameters else ""
        return f"{self.scheme}://{way.login()}@{way.place()}/{quote(database, safe='')}{query}"
