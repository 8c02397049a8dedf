"""What a configuration may say and hardly means: settings that contradict each other, or that nothing comes of.

Each rule looks at values alone and yields sentences for an operator; nothing here refuses anything. A setting that this version does not
have is taken as switched off.
Sources: PgBouncer docs, "Configuration" (what each setting waits for); docs/config.md.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from typing import Final

import attrs

from pgpool_core.config.load import Loaded
from pgpool_core.config.model import Config, DatabaseConfig, UserConfig
from pgpool_core.config.problems import Place, quoted
from pgpool_core.errors import ConfigProblem

PKT_BUF: Final = 4096  # the default, which is no wish of anybody

Level = Config | DatabaseConfig | UserConfig


@attrs.frozen
class Order:
    """Two times of which the first must not be below the second, where both are switched on."""

    longer: str
    shorter: str
    why: str
    may_be_equal: bool = True
    only_written: bool = False
    """Whether the shorter one must have been written, because its default is no wish of anybody."""


ORDERS: Final = (
    Order("query_wait_timeout", "server_connect_timeout", "clients are sent away before a slow server has been opened"),
    Order("client_login_timeout", "server_connect_timeout", "logins end before a slow server has been opened"),
    Order("server_lifetime", "server_idle_timeout", "no server lives for so long without a client", only_written=True),
    Order("server_idle_timeout", "server_check_delay", "idle servers are closed before they would be tested"),
    Order("query_wait_timeout", "query_wait_notify", "the notice never comes", may_be_equal=False, only_written=True),
    Order("transaction_timeout", "query_timeout", "the transaction is ended first", may_be_equal=False),
    Order("transaction_timeout", "idle_transaction_timeout", "the transaction is ended first", may_be_equal=False),
)


UNSET_BY_ZERO: Final = (
    *("max_db_connections", "max_db_client_connections", "max_user_connections", "max_user_client_connections"),
    *("server_lifetime", "query_timeout", "transaction_timeout", "idle_transaction_timeout", "client_idle_timeout"),
)
"""Of an entry, PgBouncer takes 0 for nothing said."""


def doubts(loaded: Loaded) -> list[ConfigProblem]:
    """Everything that is doubtful about what was read, each with its place where it was written down."""
    view = _View(loaded)
    return [found for rule in _RULES for found in rule(view)]


def open_addresses(config: Config) -> list[str]:
    """Those of listen_addr that others than this machine may reach."""
    return [address for address in config.listen_addr if not _is_loopback(address)]


def without_effect(config: Config) -> list[str]:
    """What PgBouncer would do and nothing here needs; for the log, too."""
    if config.pkt_buf == PKT_BUF:
        return []
    text = "no connection has a buffer of its own, each worker receives into one of 64 KiB"
    return [f"pkt_buf = {config.pkt_buf} has no effect: {text}"]


@attrs.frozen
class _View:
    """Values as they come into force, and where they stand."""

    loaded: Loaded

    @property
    def config(self) -> Config:
        return self.loaded.config

    def levels(self) -> Iterator[tuple[str, str, Level]]:
        """The settings of all, then each entry: section, name, values."""
        yield "pgbouncer", "", self.config
        for name, database in self.config.databases.items():
            yield "databases", name, database
        for user_name, user in self.config.users.items():
            yield "users", user_name, user

    def value(self, level: Level, key: str) -> float:
        """A number in force at `level`; 0 where it is switched off or unknown."""
        own = getattr(level, key, None)
        if own is None:
            own = getattr(self.config, "default_pool_size" if key == "pool_size" else key, None)
        return own if isinstance(own, int | float) else 0

    def place(self, section: str, name: str, *keys: str) -> Place | None:
        """Where the first of `keys` that is written stands."""
        places = self.loaded.places
        for key in keys:
            if found := places.get((section, name, key)):
                return found
        return places.get((section, name, "")) if name else None

    def say(self, section: str, name: str, text: str, *keys: str) -> ConfigProblem:
        """A sentence about `keys`; of an entry, it begins with its name."""
        place = self.place(section, name, *keys) or self.place("pgbouncer", "", *keys) or Place(section=section)
        subject = f"{section[:-1]} {quoted(name)}: " if name else ""
        return place.problem(f"{subject}{text}", keys[0])


def _orders(view: _View) -> Iterator[ConfigProblem]:
    for section, name, level in view.levels():
        for order in ORDERS:
            keys = (order.longer, order.shorter)
            if name and all(getattr(level, key, None) is None for key in keys):
                continue
            own = getattr(level, order.shorter, None) is not None if name else False
            if order.only_written and not own and not view.place("pgbouncer", "", order.shorter):
                continue
            if order.shorter == "server_check_delay" and not view.config.server_check_query:
                continue
            longer, shorter = (view.value(level, key) for key in keys)
            if longer and shorter and (longer < shorter or (longer == shorter and not order.may_be_equal)):
                relation = "is as long as" if longer == shorter else "is shorter than"
                text = f"{order.longer} = {longer:g} s {relation} {order.shorter} = {shorter:g} s: {order.why}"
                yield view.say(section, name, text, *keys)


def _sizes(view: _View) -> Iterator[ConfigProblem]:
    for section, name, level in view.levels():
        size_key = "pool_size" if name else "default_pool_size"
        size = view.value(level, "pool_size")
        if not size:
            continue
        for key in ("max_db_connections", "max_user_connections", "max_client_conn"):
            limit = view.value(level, key)
            if _own(level, key, size_key) and limit and size > limit:
                text = f"{size_key} = {size} is more than {key} = {limit} allows: no pool is ever full"
                yield view.say(section, name, text, key, size_key)
        least = view.value(level, "min_pool_size")
        if _own(level, "min_pool_size", size_key) and least > size:
            text = f"min_pool_size = {least} is more than {size_key} = {size}, which is all that is opened"
            yield view.say(section, name, text, "min_pool_size", size_key)


def _own(level: Level, *keys: str) -> bool:
    """Whether one of `keys` is said at this level."""
    return any(getattr(level, key, None) is not None for key in keys)


def _client_limits(view: _View) -> Iterator[ConfigProblem]:
    for section, name, level in view.levels():
        for key in ("max_db_client_connections", "max_user_client_connections"):
            own = getattr(level, key, None)
            if own and own > view.config.max_client_conn:
                text = f"{key} = {own} is more than max_client_conn = {view.config.max_client_conn} lets in"
                yield view.say(section, name, text, key)


def _zeros(view: _View) -> Iterator[ConfigProblem]:
    for section, name, level in view.levels():
        for key in UNSET_BY_ZERO if name else ():
            among_all = view.value(view.config, key)
            if getattr(level, key, None) == 0 and among_all:
                text = f"{key} = 0 holds here; to PgBouncer it is as if unset, {among_all:g}"
                yield view.say(section, name, text, key)


def _reserve(view: _View) -> Iterator[ConfigProblem]:
    timeout = view.config.reserve_pool_timeout
    for section, name, level in view.levels():
        if not getattr(level, "reserve_pool_size", None):
            continue
        keys = ("reserve_pool_size", "reserve_pool_timeout")
        wait = view.value(level, "query_wait_timeout")
        if not timeout:
            yield view.say(section, name, "the reserve is never opened, because reserve_pool_timeout is 0", *keys)
        elif wait and wait <= timeout:
            text = f"clients are sent away (query_wait_timeout = {wait:g} s) before reserve_pool_timeout = {timeout:g} s opens the reserve"
            yield view.say(section, name, text, *keys)


def _reset_query(view: _View) -> Iterator[ConfigProblem]:
    config = view.config
    modes = {config.pool_mode}
    modes |= {level.pool_mode for _, name, level in view.levels() if name and level.pool_mode}
    written = view.place("pgbouncer", "", "server_reset_query")
    if config.server_reset_query_always and modes != {"session"}:
        text = (
            "server_reset_query runs after every transaction, for the price of a question to the server each time;"
            " what clients have set follows them without it (session_state)"
        )
        yield view.say("pgbouncer", "", text, "server_reset_query_always")
    elif written and config.server_reset_query and "session" not in modes:
        text = "server_reset_query is not run in transaction and statement mode, and no pool is in session mode"
        yield view.say("pgbouncer", "", text, "server_reset_query")


def _any_user(view: _View) -> Iterator[ConfigProblem]:
    if view.config.auth_type == "any":
        for name, entry in view.config.databases.items():
            if entry.user is None:
                text = "auth_type = any lets nobody in here, because the entry has no user="
                yield view.say("databases", name, text, "user")


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address.strip("[]")).is_loopback
    except ValueError:
        return address == "localhost"


def _nothing_to_do(view: _View) -> Iterator[ConfigProblem]:
    if not view.config.databases:
        yield view.say("pgbouncer", "", "[databases] is empty: nobody can be served", "databases")
    if place := view.loaded.repeated:
        text = "a second [pgbouncer] line: PgBouncer would forget the settings above it, pgpool_core goes on with them"
        yield place.problem(text)


def _without_effect(view: _View) -> Iterator[ConfigProblem]:
    for text in without_effect(view.config):
        yield view.say("pgbouncer", "", text, "pkt_buf")


_RULES: Final[tuple[Callable[[_View], Iterator[ConfigProblem]], ...]] = (
    _nothing_to_do,
    _any_user,
    _sizes,
    _client_limits,
    _zeros,
    _reserve,
    _orders,
    _reset_query,
    _without_effect,
)
