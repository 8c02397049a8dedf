"""Every setting of PgBouncer 1.25: known by name, with its default, or refused by name; nothing is read and ignored.

The tables below are PgBouncer's. Whether a setting is built, and how its values are written, the code says; that it has an effect, the
tests of its subject. Source: PgBouncer docs, "Configuration", and its source, 1.25.2 and what was merged after it.
"""

from __future__ import annotations

import pytest

from pgpool_core.config import (
    SETTINGS,
    Config,
    ConfigError,
    DatabaseConfig,
    UserConfig,
    describe,
    not_built,
    parse_config,
)
from pgpool_core.config.not_built import NOT_BUILT, NotBuiltSetting
from pgpool_core.config.settings import DATABASE_KEYS, KEY_ALIASES, PEER_KEYS, USER_KEYS, Setting
from pgpool_core.config.units import NotBuilt

AUTH_QUERY = (
    "SELECT rolname, CASE WHEN rolvaliduntil OPERATOR(pg_catalog.<) pg_catalog.now() THEN NULL ELSE rolpassword END"
    " FROM pg_catalog.pg_authid WHERE rolname OPERATOR(pg_catalog.=) $1 AND rolcanlogin"
)

RELOADED = {
    "logfile": "",
    "syslog": "0",
    "syslog_ident": "pgbouncer",
    "syslog_facility": "daemon",
    "log_connections": "1",
    "log_disconnections": "1",
    "log_pooler_errors": "1",
    "log_stats": "1",
    "stats_period": "60",
    "verbose": "0",
    "conffile": "",
    "peer_id": "0",
    "tcp_defer_accept": "1",
    "tcp_keepalive": "1",
    "tcp_keepcnt": "0",
    "tcp_keepidle": "0",
    "tcp_keepintvl": "0",
    "tcp_user_timeout": "0",
    "tcp_socket_buffer": "0",
    "max_packet_size": "2147483647",
    "sbuf_loopcnt": "5",
    "suspend_timeout": "10",
    "application_name_add_host": "0",
    "login_notify_message": "",
    "pool_mode": "session",
    "max_client_conn": "100",
    "default_pool_size": "20",
    "min_pool_size": "0",
    "reserve_pool_size": "0",
    "reserve_pool_timeout": "5",
    "max_db_connections": "0",
    "max_user_connections": "0",
    "max_db_client_connections": "0",
    "max_user_client_connections": "0",
    "server_round_robin": "0",
    "max_prepared_statements": "200",
    "ignore_startup_parameters": "",
    "pool_idle_timeout": "0",
    "autodb_idle_timeout": "3600",
    "server_reset_query": "DISCARD ALL",
    "server_reset_query_always": "0",
    "server_check_query": "<empty>",
    "server_check_delay": "30",
    "server_fast_close": "0",
    "server_lifetime": "3600",
    "server_idle_timeout": "600",
    "server_connect_timeout": "15",
    "server_login_retry": "15",
    "dns_max_ttl": "15",
    "dns_nxdomain_ttl": "15",
    "dns_zone_check_period": "0",
    "query_wait_timeout": "120",
    "query_wait_notify": "5",
    "cancel_wait_timeout": "10",
    "client_login_timeout": "60",
    "client_idle_timeout": "0",
    "idle_transaction_timeout": "0",
    "transaction_timeout": "0",
    "query_timeout": "0",
    "auth_type": "md5",
    "auth_file": "",
    "auth_hba_file": "",
    "auth_ident_file": "",
    "auth_user": "",
    "auth_query": AUTH_QUERY,
    "auth_dbname": "",
    "auth_ldap_options": "",
    "scram_iterations": "4096",
    "admin_users": "",
    "stats_users": "",
    "client_tls_sslmode": "disable",
    "client_tls_key_file": "",
    "client_tls_cert_file": "",
    "client_tls_ca_file": "",
    "client_tls_protocols": "secure",
    "client_tls_ciphers": "default",
    "client_tls13_ciphers": "",
    "client_tls_ecdhcurve": "auto",
    "client_tls_dheparams": "auto",
    "server_tls_sslmode": "prefer",
    "server_tls_ca_file": "",
    "server_tls_key_file": "",
    "server_tls_cert_file": "",
    "server_tls_protocols": "secure",
    "server_tls_ciphers": "default",
    "server_tls13_ciphers": "",
}
"""Settings that RELOAD applies, with their defaults; unset is empty."""

AT_START = {
    "listen_addr": "",
    "listen_port": "6432",
    "unix_socket_dir": "/tmp",
    "unix_socket_mode": "0777",
    "unix_socket_group": "",
    "user": "",
    "pidfile": "",
    "job_name": "pgbouncer",
    "service_name": "pgbouncer",
    "so_reuseport": "0",
    "listen_backlog": "128",
    "pkt_buf": "4096",
    "resolv_conf": "",
    "disable_pqexec": "0",
    "track_extra_parameters": "",
}
"""Settings that PgBouncer reads once."""

PGBOUNCERS = RELOADED | AT_START
DATABASE = """dbname host port user password auth_user auth_query auth_dbname pool_size min_pool_size reserve_pool_size reserve_pool pool_mode
    connect_query load_balance_hosts max_db_connections max_db_client_connections server_lifetime query_wait_timeout client_encoding
    datestyle timezone application_name"""
USER = """pool_mode pool_size reserve_pool_size max_user_connections max_user_client_connections query_timeout query_wait_timeout
    idle_transaction_timeout transaction_timeout client_idle_timeout"""
NOT_BUILT_KEYS = {  # by section; a table goes when its last key is built
    "databases": getattr(not_built, "NOT_BUILT_DATABASE", {}),
    "users": getattr(not_built, "NOT_BUILT_USER", {}),
}
NONSENSE = "no such value"
BUILT = [name for name in PGBOUNCERS if name in SETTINGS]
MISSING = [name for name in PGBOUNCERS if name not in SETTINGS]


def problem(section: str, line: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(f"[{section}]\n{line}\n", file="f.ini")
    assert len(caught.value.problems) == 1
    return str(caught.value)


def takes(setting: Setting | NotBuiltSetting, text: str) -> bool:
    try:
        setting.kind.parse(text)
    except NotBuilt:
        return True
    except ValueError:
        return False
    return True


@pytest.mark.parametrize("name", PGBOUNCERS)
def test_a_setting_is_built_or_refused_by_name_and_not_both(name: str) -> None:
    assert (name in SETTINGS) != (name in NOT_BUILT)


@pytest.mark.parametrize("name", [*SETTINGS, *NOT_BUILT])
def test_a_setting_that_pgbouncer_does_not_have_says_so(name: str) -> None:
    if name not in PGBOUNCERS:
        assert name in SETTINGS
        assert SETTINGS[name].meaning.startswith("ours")


@pytest.mark.parametrize("name", BUILT)
def test_the_default_is_pgbouncers_or_the_setting_tells_the_difference(name: str) -> None:
    setting = SETTINGS[name]
    default = PGBOUNCERS[name]
    shown = setting.show(setting.default) or ""
    assert shown == default or f"PgBouncer has {default or 'none'}" in setting.meaning
    (row,) = (row for row in describe(Config()) if row.key == name)
    assert (row.value or "", row.default or "") == (shown, shown)


@pytest.mark.parametrize("name", BUILT)
def test_what_pgbouncer_takes_over_at_a_reload_we_take_over_too(name: str) -> None:
    assert SETTINGS[name].reloadable or name in AT_START


@pytest.mark.parametrize("name", BUILT)
def test_pgbouncers_default_may_be_written_down(name: str) -> None:
    setting = SETTINGS[name]
    config = parse_config(f"[pgbouncer]\n{name} = {PGBOUNCERS[name]}\n")
    assert (setting.show(getattr(config, name)) or "") == PGBOUNCERS[name]


@pytest.mark.parametrize("name", [name for name in BUILT if not takes(SETTINGS[name], NONSENSE)])
def test_a_bad_value_is_refused_by_the_name_of_its_setting(name: str) -> None:
    said = problem("pgbouncer", f"{name} = {NONSENSE}")
    assert said.startswith(f'invalid value "{NONSENSE}" for parameter {name} in configuration (f.ini:2): expected ')


@pytest.mark.parametrize("name", MISSING)
def test_what_is_not_built_is_accepted_at_pgbouncers_default_and_else_refused_by_name(name: str) -> None:
    known = NOT_BUILT[name]
    assert parse_config(f"[pgbouncer]\n{name} = {PGBOUNCERS[name]}\n") == Config()
    if known.does_nothing:
        return
    other = next(
        text
        for text in ("7", "0", "1", "verify-full", "else")
        if takes(known, text) and not known.asks_for_nothing(text)
    )
    assert problem("pgbouncer", f"{name} = {other}").startswith(
        f"setting {name} is not supported by this version of pgpool_core (f.ini:2)"
    )
    if not takes(known, NONSENSE):
        assert problem("pgbouncer", f"{name} = {NONSENSE}").startswith(
            f'invalid value "{NONSENSE}" for parameter {name} '
        )


ENTRIES = [("databases", key) for key in DATABASE.split()] + [("users", key) for key in USER.split()]


@pytest.mark.parametrize(("section", "key"), ENTRIES)
def test_a_key_of_an_entry_is_built_or_refused_by_name(section: str, key: str) -> None:
    table = DATABASE_KEYS if section == "databases" else USER_KEYS
    missing = NOT_BUILT_KEYS[section]
    setting = table.get(KEY_ALIASES.get(key, key) if section == "databases" else key)
    assert (setting is not None) != (key in missing)
    if setting is None:
        other = next(text for text in ("7", "else") if takes(missing[key], text))
        assert problem(section, f"e = {key}={other}").startswith(f"setting {key} of {section[:-1]} ")
    elif not takes(setting, NONSENSE):
        said = problem(section, f"e = {key}='{NONSENSE}'")
        assert said.startswith(f'invalid value "{NONSENSE}" for parameter {key} of {section[:-1]} "e" in configuration')
    else:
        made = parse_config(f"[{section}]\ne = {key}='{NONSENSE}'\n")
        entry: DatabaseConfig | UserConfig = (made.databases if section == "databases" else made.users)["e"]
        assert getattr(entry, setting.name) == NONSENSE


@pytest.mark.parametrize(
    ("theirs", "table"),
    [(DATABASE.split(), DATABASE_KEYS), (USER.split(), USER_KEYS), (["host", "port", "pool_size"], PEER_KEYS)],
)
def test_keys_that_only_we_have_say_so(theirs: list[str], table: dict[str, Setting]) -> None:
    assert all(setting.meaning.startswith("ours") for name, setting in table.items() if name not in theirs)
