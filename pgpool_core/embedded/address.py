"""Where a proxy can be reached, in the forms that drivers and programs take."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NoReturn

import attrs

from pgpool_core.control.listeners import Listener
from pgpool_core.control.routing import as_bytes, as_name
from pgpool_core.embedded.forms import Form, Way, django_entry
from pgpool_core.errors import PoolError
from pgpool_core.policy.userlist import Userlist

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (listened on already; this is what to connect to)


@attrs.frozen(kw_only=True)
class ProxyAddress:
    """Host and port of a proxy, and who to log in as when nobody says otherwise. Passwords are hidden in repr."""

    host: str  # an address, or the folder of a unix socket
    port: int
    user: str
    database: str
    sslmode: str = "disable"  # "require" where the proxy takes nobody without TLS
    _userlist: Userlist = attrs.field(repr=False)

    @classmethod
    def of(cls, listener: Listener, *, user: str, database: str, userlist: Userlist, needs_tls: bool) -> ProxyAddress:
        """The address of a listener as this machine reaches it."""
        host = listener.host if listener.is_unix else _EVERYWHERE.get(listener.host, listener.host)
        sslmode = "require" if needs_tls and not listener.is_unix else "disable"
        return cls(host=host, port=listener.port, user=user, database=database, sslmode=sslmode, userlist=userlist)

    @property
    def is_unix(self) -> bool:
        """Whether `host` is the folder of a unix socket."""
        return self.host.startswith(("/", "@"))

    def way(self, database: str | None = None, user: str | None = None) -> Way:
        """The way in as `user`, with the password if it is known in plain."""
        login = user or self.user
        return Way(
            host=self.host,
            port=self.port,
            user=login,
            password=self.password_of(login),
            database=database or self.database,
            sslmode=self.sslmode,
        )

    def password_of(self, user: str) -> str | None:
        """The password of `user` where it is known in plain."""
        secret = self._userlist.get(as_bytes(user))
        return as_name(secret.plain) if secret is not None and secret.plain is not None else None


class Reachable(ABC):
    """What every kind of proxy has: where it is, as others write it."""

    @property
    @abstractmethod
    def address(self) -> ProxyAddress:
        """Host, port and default login; stays known after the end."""

    @property
    def url(self) -> str:
        """A connection string for the default user and database; a secret, as it holds the password."""
        return self.url_for()

    def url_for(self, form: Form = "url", *, database: str | None = None, user: str | None = None) -> str:
        """The way in as a driver or framework writes it; a secret, as it holds the password where that is known in plain.

        Args:
            form: `"url"`, `"psycopg"`, `"psycopg2"`, `"asyncpg"`, `"node-postgres"`: `postgresql://...`; `"sqlalchemy+psycopg"`,
                `"sqlalchemy+psycopg2"`, `"sqlalchemy+asyncpg"`; `"django"`, for dj-database-url; `"jdbc"`; `"libpq"`: `host='...' ...`;
                `"libpq-env"`: lines `PGHOST=...` for a shell or an env file.
            database: another one; `pgbouncer` is the console's.
            user: another one.
        Raises:
            ValueError: there is no such form, or it knows no unix sockets.
        """
        return self.address.way(database, user).written(form)

    def environ(self, form: Form = "url", *, database: str | None = None, user: str | None = None) -> dict[str, str]:
        """DATABASE_URL, written as `form` says, and libpq's PG* variables: for a child process."""
        way = self.address.way(database, user)
        return {"DATABASE_URL": way.written(form), **way.libpq()}

    @property
    def host(self) -> str:
        """The address to connect to, or the folder of the unix socket."""
        return self.address.host

    @property
    def port(self) -> int:
        """The port in use; for a unix socket part of its name."""
        return self.address.port


class Apart(Reachable):
    """A proxy that lives in another thread or process: no task of the program can borrow its servers."""

    if not TYPE_CHECKING:  # a type checker finds that it is not there

        def open_pool(self, *_: object, **__: object) -> NoReturn:
            """Not from here.

            Raises:
                PoolError: always; it says what there is instead.
            """
            raise PoolError(
                "only the proxy of open_proxy() or serve() lends its servers, to its own trio.run():"
                " use a driver with proxy.url here, or pgpool_core.open_pool(proxy.url)"
            )


def django_database(
    proxy: Reachable | str, *, database: str | None = None, user: str | None = None, **settings: object
) -> dict[str, object]:
    """An entry for Django's DATABASES that leads to a proxy: `DATABASES = {"default": django_database(proxy, CONN_MAX_AGE=60)}`.

    Cursors on the server stay switched on: they work in transaction mode.

    Args:
        proxy: a proxy, or a URL such as the DATABASE_URL that a program is given by `pgpool-core run` or `proxy.environ()`.
        database, user: others than the proxy's own; not with a URL.
        settings: keys of Django, which go before ours; those of OPTIONS are added to ours.
    Raises:
        ValueError: it is no PostgreSQL URL.
    """
    if isinstance(proxy, Reachable):
        proxy = proxy.url_for(database=database, user=user)
    elif database is not None or user is not None:
        raise ValueError("a URL names its own database and user")
    entry = {**django_entry(proxy), "DISABLE_SERVER_SIDE_CURSORS": False}
    options = {**_mapping(entry["OPTIONS"]), **_mapping(settings.get("OPTIONS"))}
    return {**entry, **settings, "OPTIONS": options}


def _mapping(value: object) -> dict[str, object]:
    return dict(value) if isinstance(value, dict) else {}
