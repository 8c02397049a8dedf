"""Finds out what rules want to know of a login: the roles of its user, at a server; the name of its address, from the system's resolver.

Only the logins that need it wait. Answers are remembered: roles for auth_query_ttl, names for dns_max_ttl, their absence for dns_nxdomain_ttl.
Source: PostgreSQL docs, "The pg_hba.conf File": membership does not count for being a superuser; a name counts if it leads back.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import attrs
import trio

from pgpool_core import logs
from pgpool_core.config.names import CONSOLE_DATABASE
from pgpool_core.control import routing
from pgpool_core.control.auth_query import CONFIG_ERROR, AuthQuery, LookupFailed
from pgpool_core.control.login_steps import Asking, LoginStep
from pgpool_core.control.remembered import Remembered
from pgpool_core.control.routing import Lookup
from pgpool_core.policy.facts import HOST, ROLES, Facts
from pgpool_core.policy.hba import Address, Visitor

if TYPE_CHECKING:
    from pgpool_core.control.pools import PoolRegistry

ROLES_QUERY: Final = """WITH RECURSIVE found(id) AS (
  SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) $1
  UNION SELECT m.roleid FROM pg_catalog.pg_auth_members m, found WHERE m.member OPERATOR(pg_catalog.=) found.id)
SELECT $1, r.rolname FROM found, pg_catalog.pg_roles r WHERE r.oid OPERATOR(pg_catalog.=) found.id"""
MOST_ROLES: Final = 10_000  # of one user
NAMES_AT_ONCE: Final = 16  # threads in which the resolver is asked; further logins wait for one


def confirmed_name(address: Address) -> str:
    """The name of an address, where that name has this address too; empty where it has none, or cannot be looked up now."""
    try:
        name = socket.getnameinfo((str(address), 0), socket.NI_NAMEREQD)[0]
        found = {str(sockaddr[0]).partition("%")[0] for *_, sockaddr in socket.getaddrinfo(name, None)}
    except (OSError, UnicodeError):
        return ""
    return name if any(ipaddress.ip_address(each) == address for each in found) else ""


class Inquiries:
    """Asks, and remembers. All of it belongs to the control loop."""

    def __init__(
        self,
        pools: PoolRegistry,
        auth_query: AuthQuery,
        *,
        name_of: Callable[[Address], str] = confirmed_name,
    ) -> None:
        """`name_of` runs in a thread; a test's may be given."""
        self._pools = pools
        self._auth_query = auth_query
        self._name_of = name_of
        self._threads = trio.CapacityLimiter(NAMES_AT_ONCE)
        self.steps = {ROLES: LoginStep("roles"), HOST: LoginStep("host_names", self._threads)}
        self._roles = Remembered(self._ask_roles, lambda _: pools.config.auth_query_ttl)
        self._names = Remembered(
            self._ask_name, lambda name: pools.config.dns_max_ttl if name else pools.config.dns_nxdomain_ttl
        )

    async def learn(self, facts: Facts, kind: str, visitor: Visitor, asking: Asking | None = None) -> Facts:
        """`facts` with the one of this kind.

        Raises:
            LookupFailed: it cannot be had.
            NobodyAsks: `asking` has gone before it was its turn.
        """
        with self.steps[kind].taken():
            if kind == ROLES:
                return attrs.evolve(facts, roles=await self._roles_of(visitor, asking))
            assert kind == HOST and visitor.address is not None
            return attrs.evolve(facts, host=await self._names.get(visitor.address))

    def reloaded(self) -> None:
        """After a reload: begin anew."""
        self._roles.forget()
        self._names.forget()

    async def _roles_of(self, visitor: Visitor, asking: Asking | None) -> frozenset[str]:
        config = self._pools.config
        lookup = routing.lookup_for(config, visitor.database)
        if lookup is not None:
            return await self._roles.get((attrs.evolve(lookup, query=ROLES_QUERY), visitor.user), asking=asking)
        if visitor.database != CONSOLE_DATABASE and routing.entry_for(config, visitor.database) is None:
            return (
                frozenset()
            )  # there is no such database: the login fails, as any other to it, when it has been proved
        key = "auth_dbname" if config.auth_user else "auth_user"
        text = f"auth_hba_file asks for membership in a role, and there is no {key} to look that up with ({key})"
        logs.LOGGER.error("%s", logs.line(f"{visitor.database}/{visitor.user}", text))
        raise LookupFailed(CONFIG_ERROR, sqlstate="F0000")

    async def _ask_roles(self, key: tuple[Lookup, str]) -> frozenset[str]:
        lookup, user = key
        rows = await self._auth_query.rows(
            lookup, routing.as_bytes(user), most=MOST_ROLES + 1, wanted=lambda: self._roles.is_wanted(key)
        )
        if len(rows) > MOST_ROLES:
            logs.LOGGER.error("%s", logs.line(str(lookup), f"a user has more than {MOST_ROLES} roles", {"user": user}))
            raise LookupFailed(CONFIG_ERROR, sqlstate="F0000")
        return frozenset(routing.as_name(role) for _, role in rows if role is not None)

    async def _ask_name(self, address: Address) -> str:
        return await trio.to_thread.run_sync(self._name_of, address, limiter=self._threads, abandon_on_cancel=True)
