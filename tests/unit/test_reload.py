"""What a reload does to pools that exist, worked out without touching any."""

from __future__ import annotations

import attrs
import pytest

from pgpool_core.config.model import Config, DatabaseConfig, UserConfig
from pgpool_core.control import routing
from pgpool_core.control.connect import ServerTarget
from pgpool_core.control.hosts import HostOrder
from pgpool_core.control.names import Names
from pgpool_core.control.pools import PoolRegistry
from pgpool_core.control.reload import PoolsPlan, plan_pools
from pgpool_core.control.routing import PoolKey, ToPool
from pgpool_core.errors import ConfigError
from pgpool_core.policy.userlist import Userlist, parse_userlist
from tests.unit.fake_engine import FakeEngine

KEY = PoolKey("app", "alice")
USERS = parse_userlist(b'"alice" "old"\n')
OLD = Config(databases={"app": DatabaseConfig(host="10.0.0.1")})


def target(config: Config = OLD, key: PoolKey = KEY, users: Userlist = USERS) -> ServerTarget:
    entry = routing.entry_for(config, key.database)
    assert entry is not None
    return routing.server_target(config, key, entry, users.get, HostOrder(), Names())


def reload_to(entry: DatabaseConfig | None, users: Userlist = USERS) -> PoolsPlan:
    new = attrs.evolve(OLD, databases={"app": entry} if entry is not None else {})
    return plan_pools(OLD, new, users, {KEY: target()})


@pytest.mark.parametrize(
    "change",
    [
        {"host": "10.0.0.2"},
        {"port": 5433},
        {"dbname": "other"},
        {"connect_query": "select 1"},
        {"timezone": "UTC"},
        {"load_balance_hosts": "disable"},
    ],
)
def test_servers_of_another_place_or_kind_are_replaced(change: dict[str, object]) -> None:
    plan = reload_to(DatabaseConfig(**{"host": "10.0.0.1", **change}))  # type: ignore[arg-type]
    assert plan.pools[KEY].reconnect


def test_no_change_means_no_reconnect() -> None:
    change = reload_to(DatabaseConfig(host="10.0.0.1")).pools[KEY]
    assert not change.reconnect
    assert change.target == target()


def test_a_new_password_or_size_is_used_from_now_on_and_closes_nothing() -> None:
    users = parse_userlist(b'"alice" "new"\n')
    change = reload_to(DatabaseConfig(host="10.0.0.1", pool_size=3), users).pools[KEY]
    assert not change.reconnect
    assert change.settings.pool_size == 3
    assert change.target.secret is not None
    assert change.target.secret.plain == b"new"


def test_users_settings_reach_their_pools() -> None:
    new = attrs.evolve(OLD, users={"alice": UserConfig(pool_mode="transaction")})
    plan = plan_pools(OLD, new, USERS, {KEY: target()})
    assert plan.pools[KEY].settings.mode == 1


def test_a_pool_whose_entry_is_gone_goes_too() -> None:
    plan = reload_to(None)
    assert (plan.gone, plan.pools) == (frozenset({KEY}), {})


def test_a_pool_whose_entry_is_gone_moves_to_the_star_entry_where_there_is_one() -> None:
    new = attrs.evolve(OLD, databases={"*": DatabaseConfig(host="10.0.0.9")})
    plan = plan_pools(OLD, new, USERS, {KEY: target()})
    assert not plan.gone
    assert plan.pools[KEY].reconnect
    assert plan.pools[KEY].target.hosts == ("10.0.0.9",)


def test_settings_that_need_a_restart_stay_and_are_told() -> None:
    plan = plan_pools(OLD, attrs.evolve(OLD, listen_port=7000, default_pool_size=4), USERS, {KEY: target()})
    assert (plan.config.listen_port, plan.config.default_pool_size) == (6432, 4)
    assert len(plan.warnings) == 1
    assert "listen_port" in plan.warnings[0]


def test_whose_turn_it_is_among_hosts_survives_a_reload_that_does_not_touch_them() -> None:
    before = target()
    plan = plan_pools(OLD, attrs.evolve(OLD, default_pool_size=4), USERS, {KEY: before})
    assert plan.pools[KEY].target.host_order is before.host_order


def test_a_database_that_was_gone_begins_anew() -> None:
    entries = {"disable": DatabaseConfig(host="a,b", load_balance_hosts="disable"), "": DatabaseConfig(host="a,b")}
    configs = [attrs.evolve(OLD, databases={"app": entries[""]}), attrs.evolve(OLD, databases={})]
    configs.append(attrs.evolve(OLD, databases={"app": entries["disable"]}))
    pools = PoolRegistry(FakeEngine().typed(), configs[0], USERS)
    pools.pool_for(ToPool(KEY, entries[""], auto=False)).target.host_order.failed("a", ("a", "b"))
    for config in configs[1:]:
        pools.apply(plan_pools(pools.config, config, USERS, {record.key: record.target for record in pools}))
    order = pools.pool_for(ToPool(KEY, entries["disable"], auto=False)).target.host_order
    assert order.states == {}
    assert [order.hosts(("a", "b")) for _ in range(2)] == [["a", "b"]] * 2


def test_a_configuration_that_could_reach_no_server_is_refused_as_a_whole() -> None:
    old = attrs.evolve(OLD, unix_socket_dir="", listen_addr=("127.0.0.1",))
    new = attrs.evolve(old, databases={"app": DatabaseConfig(host="10.0.0.2"), "bare": DatabaseConfig()})
    with pytest.raises(ConfigError, match='database "bare" has no host'):
        plan_pools(old, new, USERS, {KEY: target(old)})
