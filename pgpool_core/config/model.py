"""The configuration as values: frozen and checked. What is said once, in [pgbouncer], is declared in `subjects`.

An attribute is called as in pgbouncer.ini. Times are seconds (float), sizes bytes or counts (int), booleans bool, lists tuples of
text; what a database or user does not say is None. Passwords and SQL never show in a repr.
Sources: PgBouncer docs, "Configuration" (names, defaults, meanings); settings that only pgpool_core has say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from pgpool_core.config.database import DatabaseConfig
from pgpool_core.config.declare import checked
from pgpool_core.config.names import database_name_problem, peer_name_problem, user_name_problem
from pgpool_core.config.peer import PeerConfig
from pgpool_core.config.problems import Place, bad_name, quoted
from pgpool_core.config.subjects.encryption import Encryption
from pgpool_core.config.subjects.listening import Listening
from pgpool_core.config.subjects.logins import Logins
from pgpool_core.config.subjects.patience import Patience
from pgpool_core.config.subjects.pooling import Pooling
from pgpool_core.config.subjects.process import Process
from pgpool_core.config.subjects.servers import Servers
from pgpool_core.config.subjects.sessions import Sessions
from pgpool_core.config.subjects.transport import Transport
from pgpool_core.config.user import UserConfig
from pgpool_core.errors import ConfigError

__all__ = ["Config", "DatabaseConfig", "PeerConfig", "UserConfig"]


def _own_databases(given: Mapping[str, DatabaseConfig]) -> Mapping[str, DatabaseConfig]:
    return dict(given)  # a copy, so that nobody changes it behind our back


def _own_users(given: Mapping[str, UserConfig]) -> Mapping[str, UserConfig]:
    return dict(given)


def _own_peers(given: Mapping[int, PeerConfig]) -> Mapping[int, PeerConfig]:
    return dict(given)


@attrs.frozen(kw_only=True)
class Config(
    Transport, Patience, Servers, Sessions, Pooling, Encryption, Logins, Process, Listening
):  # last first in a repr
    """Everything the pooler can be told. `Config(databases={"app": DatabaseConfig(host="db1")})` is PgBouncer's default otherwise.

    Raises:
        ConfigError: a value or a name is not acceptable; carries every one.
    """

    databases: Mapping[str, DatabaseConfig] = attrs.field(factory=dict, converter=_own_databases)
    """By the name that clients ask for; `*` answers for names that are not here."""
    users: Mapping[str, UserConfig] = attrs.field(factory=dict, converter=_own_users)
    peers: Mapping[int, PeerConfig] = attrs.field(factory=dict, converter=_own_peers)
    """By their peer_id."""

    def __attrs_post_init__(self) -> None:
        problems = list(checked(self, Place()))
        databases: Mapping[str, object] = self.databases  # a program may have put anything there
        for name, database in databases.items():
            if text := database_name_problem(name):
                problems.append(bad_name(Place(section="databases"), text))
            if not isinstance(database, DatabaseConfig):
                problems.append(
                    bad_name(Place(section="databases"), f"database {quoted(name)} is not a DatabaseConfig")
                )
        users: Mapping[str, object] = self.users
        for name, user in users.items():
            if text := user_name_problem(name):
                problems.append(bad_name(Place(section="users"), text))
            if not isinstance(user, UserConfig):
                problems.append(bad_name(Place(section="users"), f"user {quoted(name)} is not a UserConfig"))
        peers: Mapping[Any, object] = self.peers
        for number, peer in peers.items():
            if text := peer_name_problem(str(number)):
                problems.append(bad_name(Place(section="peers"), text))
            if not isinstance(peer, PeerConfig):
                problems.append(bad_name(Place(section="peers"), f"peer {number} is not a PeerConfig"))
            elif peer.host is None:
                problems.append(Place(section="peers").problem(f"peer {number} has no host", str(number), ": host=..."))
        if problems:
            raise ConfigError(problems)

    @classmethod
    def of(
        cls,
        *,
        databases: Mapping[str, DatabaseConfig | Mapping[str, object] | str] | None = None,
        users: Mapping[str, UserConfig | Mapping[str, object]] | None = None,
        peers: Mapping[int, PeerConfig | Mapping[str, object]] | None = None,
        **settings: object,
    ) -> Config:
        """Make a Config from plain Python values.

        Args:
            databases: each a DatabaseConfig, a mapping of its keys, or a `postgres://` URL or `key=value` connection string.
            users: each a UserConfig or a mapping of its keys.
            peers: by peer_id; each a PeerConfig or a mapping of its keys.
            settings: by their ini names; what a file could hold as text may also be given as that text.

        Raises:
            ConfigError: carries every problem found.
        """
        from pgpool_core.config.build import build_config

        return build_config(databases or {}, users or {}, peers or {}, settings)
