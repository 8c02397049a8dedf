"""One way to a proxy, host, port, login and database, as each driver or framework writes it.

Sources: PostgreSQL docs, "Connection Strings", "Environment Variables"; asyncpg docs, `connect`; SQLAlchemy docs, "Database URLs"; Django
docs, `DATABASES`; dj-database-url (sockets stand percent-encoded in the place of the host); node-postgres, pg-connection-string; pgJDBC
docs, "Connecting to the Database".
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Final, Literal, get_args
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import attrs

Form = Literal[
    "url",
    "libpq",
    "libpq-env",
    "psycopg",
    "psycopg2",
    "asyncpg",
    "sqlalchemy+psycopg",
    "sqlalchemy+psycopg2",
    "sqlalchemy+asyncpg",
    "django",
    "node-postgres",
    "jdbc",
]
"""The forms of `url_for`. "url" is what nearly everybody reads, "libpq" is `key=value` words, "libpq-env" lines of a shell, "django" is for
dj-database-url and django-environ (`django_database` needs no such package)."""


@attrs.frozen(kw_only=True)
class Way:
    """Where to connect and who as. The password is hidden in repr, and in nothing else that is made of it."""

    host: str  # an address, or the folder of a unix socket
    port: int
    user: str
    password: str | None = attrs.field(repr=False)
    database: str
    sslmode: str = "disable"  # or "require"

    @property
    def is_unix(self) -> bool:
        return self.host.startswith(("/", "@"))

    def written(self, form: Form) -> str:
        """This way in one of the forms.

        Raises:
            ValueError: there is no such form, or it cannot say this way (JDBC has no unix sockets).
        """
        write = _WRITERS.get(form)
        if write is None:
            raise ValueError(
                f"no form {form!r}: it is one of {', '.join(get_args(Form))}; a database goes in as database="
            )
        return write(self)

    def libpq(self) -> dict[str, str]:
        """libpq's environment variables."""
        variables = {
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGDATABASE": self.database,
            "PGSSLMODE": self.sslmode,
        }
        if self.password is not None:
            variables["PGPASSWORD"] = self.password
        return variables

    def login(self) -> str:
        """`user:password` as it stands in a URL."""
        return _quoted(self.user) + ("" if self.password is None else f":{_quoted(self.password)}")

    def place(self) -> str:
        """`host:port` as it stands in a URL; nothing for a unix socket."""
        if self.is_unix:
            return ""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def url(self, scheme: str = "postgresql", *, sslmode: bool = True) -> str:
        """The URL that libpq reads; a unix socket stands among the parameters. Without `sslmode`: as asyncpg alone understands it."""
        parameters = [f"host={_quoted(self.host)}", f"port={self.port}"] if self.is_unix else []
        if sslmode:
            parameters.append(f"sslmode={self.sslmode}")
        elif self.sslmode != "disable":
            parameters.append(f"ssl={self.sslmode}")
        query = f"?{'&'.join(parameters)}" if parameters else ""
        return f"{scheme}://{self.login()}@{self.place()}/{_quoted(self.database)}{query}"


def _quoted(text: str) -> str:
    return quote(text, safe="")


def _words(way: Way) -> str:
    words = {"host": way.host, "port": str(way.port), "dbname": way.database, "user": way.user}
    if way.password is not None:
        words["password"] = way.password
    escaped = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in words.items()}
    return " ".join(f"{name}='{value}'" for name, value in escaped.items()) + f" sslmode={way.sslmode}"


def _environment(way: Way) -> str:
    return "\n".join(f"{name}={shlex.quote(value)}" for name, value in way.libpq().items())


def _for_django(way: Way) -> str:
    place = f"{_quoted(way.host)}:{way.port}" if way.is_unix else way.place()
    return f"postgresql://{way.login()}@{place}/{_quoted(way.database)}?sslmode={way.sslmode}"


def _for_node(way: Way) -> str:
    """There `require` means that the certificate is looked at, for which it would need to know whom to trust."""
    return attrs.evolve(way, sslmode="no-verify").url() if way.sslmode == "require" else way.url()


def _for_jdbc(way: Way) -> str:
    if way.is_unix:
        raise ValueError("JDBC has no unix sockets: listen on a port")
    parameters = {
        "user": way.user,
        **({} if way.password is None else {"password": way.password}),
        "sslmode": way.sslmode,
    }
    return f"jdbc:postgresql://{way.place()}/{_quoted(way.database)}?{urlencode(parameters, quote_via=quote)}"


_WRITERS: Final[dict[Form, Callable[[Way], str]]] = {
    "url": Way.url,
    "libpq": _words,
    "libpq-env": _environment,
    "psycopg": Way.url,
    "psycopg2": Way.url,
    "asyncpg": Way.url,
    "sqlalchemy+psycopg": lambda way: way.url("postgresql+psycopg"),
    "sqlalchemy+psycopg2": lambda way: way.url("postgresql+psycopg2"),
    "sqlalchemy+asyncpg": lambda way: way.url("postgresql+asyncpg", sslmode=False),
    "django": _for_django,
    "node-postgres": _for_node,
    "jdbc": _for_jdbc,
}


def django_entry(url: str) -> dict[str, object]:
    """What a PostgreSQL URL says, as an entry of Django's DATABASES; its parameters become OPTIONS.

    Raises:
        ValueError: it is no such URL; the text does not repeat it.
    """
    parts = urlsplit(url)
    if not parts.scheme.startswith("postgres"):
        raise ValueError("not a URL that begins with postgresql://")
    options: dict[str, object] = dict(parse_qsl(parts.query))
    place = parts.netloc.rpartition("@")[2]
    host, _, port = place.rpartition(":") if not place.endswith("]") else (place, "", "")
    if not host and not port.isdecimal():
        host, port = place, ""
    return {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": options.pop("host", unquote(host.strip("[]"))),
        "PORT": options.pop("port", port),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "NAME": unquote(parts.path.removeprefix("/")),
        "OPTIONS": options,
    }
