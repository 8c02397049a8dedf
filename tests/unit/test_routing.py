"""Where logins go and with which settings pools run: a table of cases, no sockets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool_core.config.model import Config, DatabaseConfig, UserConfig
from pgpool_core.control import routing
from pgpool_core.control.hosts import HostOrder
from pgpool_core.control.messages import ErrorFields
from pgpool_core.control.names import Names
from pgpool_core.control.routing import PoolKey, Refusal, ToConsole, ToPool, Verdict
from pgpool_core.errors import ConfigError
from pgpool_core.policy.secrets import Secret

KNOWN = Secret.parse(b"secret")
HOST = DatabaseConfig(host="10.0.0.1")


def config(**settings: object) -> Config:
    databases = {"app": HOST, "forced": DatabaseConfig(host="10.0.0.1", user="owner")}
    return Config.of(**{"databases": databases, **settings})  # type: ignore[arg-type]


def test_a_pool_is_named_by_the_entry_and_the_login_user() -> None:
    assert routing.route(config(), b"app", b"alice", secret=KNOWN) == ToPool(PoolKey("app", "alice"), HOST, auto=False)


def test_a_forced_user_takes_the_place_of_the_login_user() -> None:
    to = routing.route(config(), b"forced", b"alice", secret=KNOWN)
    assert isinstance(to, ToPool)
    assert to.key == PoolKey("forced", "owner")


def test_the_star_entry_answers_for_every_other_name() -> None:
    stars = config(databases={"app": HOST, "*": DatabaseConfig(host="10.0.0.2")})
    to = routing.route(stars, b"anything", b"alice", secret=KNOWN)
    assert isinstance(to, ToPool)
    assert (to.key, to.auto, to.entry.host) == (PoolKey("anything", "alice"), True, "10.0.0.2")


@pytest.mark.parametrize("name", [b"x" * 64, b"", "ü".encode() * 32])
def test_a_name_no_database_can_have_is_not_for_the_star_entry(name: bytes) -> None:
    refusal = routing.route(config(databases={"*": HOST}), name, b"alice", secret=KNOWN)
    assert isinstance(refusal, Refusal)
    assert refusal.sqlstate == "3D000"


def test_a_star_as_a_name_is_answered_by_the_fallback_like_any_other() -> None:
    to = routing.route(config(databases={"*": HOST}), b"*", b"alice", secret=KNOWN)
    assert isinstance(to, ToPool)
    assert to.auto


def test_an_unknown_database_is_refused_late_and_by_name() -> None:
    refusal = routing.route(config(), b"nope", b"alice", secret=KNOWN)
    assert refusal == Refusal("3D000", "no such database: nope", late=True)


def test_a_name_that_is_not_utf8_is_refused_with_a_text_that_can_be_sent() -> None:
    refusal = routing.route(config(), b"n\xffpe", b"alice", secret=KNOWN)
    assert isinstance(refusal, Refusal)
    raw = refusal.error_response()
    assert ErrorFields.parse(raw[0], raw[5:]).message == "no such database: n\ufffdpe"


@pytest.mark.parametrize("database", [b"app", b"nope"])
def test_an_unknown_user_learns_nothing_about_databases(database: bytes) -> None:
    refusal = routing.route(config(), database, b"mallory", secret=None)
    assert refusal == Refusal("28P01", "password authentication failed", late=True)


def test_a_user_without_a_password_is_like_an_unknown_one_except_with_trust() -> None:
    empty = Secret.parse(b"")
    assert isinstance(routing.route(config(), b"app", b"alice", secret=empty), Refusal)
    assert isinstance(routing.route(config(auth_type="trust"), b"app", b"alice", secret=empty), ToPool)


def test_trust_still_wants_a_known_user() -> None:
    refusal = routing.route(config(auth_type="trust"), b"app", b"mallory", secret=None)
    assert refusal == Refusal("28000", '"trust" authentication failed')


def test_any_needs_no_user_but_a_forced_one() -> None:
    anybody = config(auth_type="any")
    to = routing.route(anybody, b"forced", b"mallory", secret=None)
    assert isinstance(to, ToPool)
    assert to.key.user == "owner"
    refusal = routing.route(anybody, b"app", b"mallory", secret=None)
    assert isinstance(refusal, Refusal)
    assert (refusal.text, refusal.late) == ("bouncer config error", False)


CONSOLE = {"admin_users": ("root",), "stats_users": ("monitor",)}


@pytest.mark.parametrize(("user", "verdict"), [(b"root", Verdict.CONSOLE_ADMIN), (b"monitor", Verdict.CONSOLE_STATS)])
def test_listed_users_reach_the_console_with_their_rights(user: bytes, verdict: Verdict) -> None:
    assert routing.route(config(**CONSOLE), b"pgbouncer", user, secret=KNOWN) == ToConsole(verdict)


def test_nobody_else_reaches_the_console_not_even_through_the_star_entry() -> None:
    stars = config(databases={"*": HOST}, **CONSOLE)
    refusal = routing.route(stars, b"pgbouncer", b"alice", secret=KNOWN)
    assert isinstance(refusal, Refusal)
    assert (refusal.sqlstate, refusal.text) == ("28000", "not allowed")


@pytest.mark.parametrize(("auth_type", "late"), [("md5", True), ("trust", False)])
def test_a_listed_admin_who_is_not_in_auth_file_cannot_log_in(auth_type: str, late: bool) -> None:
    refusal = routing.route(config(auth_type=auth_type, **CONSOLE), b"pgbouncer", b"root", secret=None)
    assert isinstance(refusal, Refusal)
    assert refusal.late is late


def test_with_any_everybody_is_admin_of_the_console() -> None:
    to = routing.route(config(auth_type="any"), b"pgbouncer", b"whoever", secret=None)
    assert to == ToConsole(Verdict.CONSOLE_ADMIN)


@pytest.mark.parametrize(
    ("user", "is_unix", "peer_uid", "trusted"),
    [
        (b"pgbouncer", True, 1000, True),
        (b"pgbouncer", True, 1001, False),
        (b"pgbouncer", True, None, False),
        (b"pgbouncer", False, 1000, False),
        (b"alice", True, 1000, False),
    ],
)
def test_only_our_own_uid_on_the_unix_socket_is_trusted(
    user: bytes, is_unix: bool, peer_uid: int | None, trusted: bool
) -> None:
    to = routing.route(config(), b"pgbouncer", user, secret=None, is_unix=is_unix, peer_uid=peer_uid, own_uid=1000)
    assert (to == ToConsole(Verdict.CONSOLE_TRUSTED)) is trusted


def settings_of(user: str = "alice", **settings: object) -> routing.PoolSettings:
    made = config(**settings)
    return routing.pool_settings(made, PoolKey("app", user), made.databases["app"])


def test_user_goes_before_database_goes_before_global() -> None:
    app = DatabaseConfig(host="h", pool_mode="statement", pool_size=7, reserve_pool_size=2, query_wait_timeout=3)
    alice = UserConfig(pool_mode="transaction", pool_size=9, query_wait_timeout=0)
    both = settings_of(databases={"app": app}, users={"alice": alice}, default_pool_size=5)
    assert (both.mode, both.pool_size, both.reserve_pool_size, both.patience.query_wait_us) == (1, 9, 2, 0)
    database = settings_of(user="bob", databases={"app": app}, users={"alice": alice}, default_pool_size=5)
    assert (database.mode, database.pool_size, database.patience.query_wait_us) == (2, 7, 3_000_000)
    plain = settings_of(default_pool_size=5)
    assert (plain.mode, plain.pool_size, plain.patience.query_wait_us) == (0, 5, 120_000_000)


def test_spare_servers_and_their_age_may_be_a_users_matter() -> None:
    app = DatabaseConfig(host="h", min_pool_size=1, server_lifetime=10)
    alice = UserConfig(min_pool_size=3, server_lifetime=5)
    both = settings_of(databases={"app": app}, users={"alice": alice}, min_pool_size=2, server_lifetime=20)
    assert (both.min_pool_size, both.server_lifetime_us) == (3, 5_000_000)
    database = settings_of(databases={"app": app}, min_pool_size=2, server_lifetime=20)
    assert (database.min_pool_size, database.server_lifetime_us) == (1, 10_000_000)


def test_min_pool_size_never_exceeds_the_pool() -> None:
    assert settings_of(default_pool_size=3, min_pool_size=10).min_pool_size == 3
    assert settings_of(default_pool_size=0, min_pool_size=10).min_pool_size == 10


def test_only_a_forced_user_is_known_before_the_first_login() -> None:
    made = config(min_pool_size=2)
    forced = made.databases["forced"]
    assert routing.pool_settings(made, PoolKey("forced", "owner"), forced).prewarm
    assert not settings_of(min_pool_size=2).prewarm
    left_over = routing.pool_settings(made, PoolKey("forced", "former"), forced)
    assert (left_over.min_pool_size, left_over.prewarm) == (0, False)


@pytest.mark.parametrize(("text", "sent"), [("<empty>", b";"), ("", b""), ("select 1", b"select 1")])
def test_the_check_query_may_be_an_empty_query_or_none(text: str, sent: bytes) -> None:
    assert settings_of(server_check_query=text).check_query == sent


def test_limits_are_those_of_the_entry_or_the_global_ones() -> None:
    made = config(
        databases={"app": DatabaseConfig(host="h", max_db_connections=3), "*": HOST},
        users={"alice": UserConfig(max_user_connections=0)},
        max_db_connections=8,
        max_user_connections=9,
    )
    assert [routing.database_limit(made, name) for name in ("app", "auto")] == [3, 8]
    assert [routing.user_limit(made, name) for name in ("alice", "bob")] == [0, 9]


def test_the_server_gets_the_entrys_password_or_that_of_auth_file() -> None:
    made = config(databases={"app": DatabaseConfig(host="a, b", password="own", timezone="UTC"), "bare": HOST})
    stored = {b"alice": KNOWN}
    order = HostOrder()
    app = routing.server_target(made, PoolKey("app", "alice"), made.databases["app"], stored.get, order, Names())
    assert app.secret is not None
    assert (app.secret.plain, app.hosts, app.parameters) == (b"own", ("a", "b"), ((b"timezone", b"UTC"),))
    bare = routing.server_target(made, PoolKey("bare", "alice"), made.databases["bare"], stored.get, order, Names())
    assert (bare.secret, bare.dbname) == (KNOWN, b"bare")
    assert "own" not in repr(app)


def test_an_entry_that_can_reach_no_server_is_refused() -> None:
    with pytest.raises(ConfigError, match='database "app" has no host'):
        routing.check_entries(Config(databases={"app": DatabaseConfig()}, unix_socket_dir="", listen_addr=("*",)))


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_any_names_give_an_answer_that_can_be_sent(database: bytes, user: bytes) -> None:
    answer = routing.route(config(databases={"*": HOST}), database, user, secret=None)
    if isinstance(answer, Refusal):
        assert answer.error_response()[:1] == b"E"
    assert routing.as_bytes(routing.as_name(database)) == database
