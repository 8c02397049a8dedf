"""Where a proxy can be reached, in the forms that drivers and programs take."""

from __future__ import annotations

from urllib.parse import quote

import attrs

from pgpool_core.control.listeners import Listener
from pgpool_core.control.routing import as_bytes, as_name
from pgpool_core.policy.userlist import Userlist

_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 (listened on already; this is what to connect to)


@attrs.frozen(kw_only=True)
class ProxyAddress:
    """Host and port of a proxy, and who to log in as when nobody says otherwise. Passwords are hidden in repr."""

    host: str  # an address, or the folder of a unix socket
    port: int
    user: str
    database: str
    _userlist: Userlist = attrs.field(repr=False)

    @classmethod
    def of(cls, listener: Listener, *, user: str, database: str, userlist: Userlist) -> ProxyAddress:
        """The address of a listener as this machine reaches it."""
        host = listener.host if listener.is_unix else _EVERYWHERE.get(listener.host, listener.host)
        return cls(host=host, port=listener.port, user=user, database=database, userlist=userlist)

    @property
    def is_unix(self) -> bool:
        return self.host.startswith(("/", "@"))

    def url_for(self, database: str | None = None, user: str | None = None) -> str:
        """`postgresql://user:password@host:port/database?sslmode=disable`, for libpq, psycopg, asyncpg, SQLAlchemy and others.

        The password is there if it is known in plain; treat the URL as a secret then.
        """
        name, login = database or self.database, user or self.user
        who = quote(login, safe="")
        if (password := self.password_of(login)) is not None:
            who += ":" + quote(password, safe="")
        target = quote(name, safe="")
        if self.is_unix:
            return f"postgresql://{who}@/{target}?host={quote(self.host, safe='')}&port={self.port}&sslmode=disable"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"postgresql://{who}@{host}:{self.port}/{target}?sslmode=disable"

    def environ(self, database: str | None = None, user: str | None = None) -> dict[str, str]:
        """DATABASE_URL and libpq's PG* variables, to be given to a child process."""
        login = user or self.user
        variables = {
            "DATABASE_URL": self.url_for(database, user),
            "PGHOST": self.host,
            "PGPORT": str(self.port),
            "PGUSER": login,
            "PGDATABASE": database or self.database,
            "PGSSLMODE": "disable",
        }
        if (password := self.password_of(login)) is not None:
            variables["PGPASSWORD"] = password
        return variables

    def password_of(self, user: str) -> str | None:
        """The password of `user` where it is known in plain."""
        secret = self._userlist.get(as_bytes(user))
        return as_name(secret.plain) if secret is not None and secret.plain is not None else None
