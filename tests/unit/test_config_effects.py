"""For each setting the test that sees what it does; a new one needs a line here, and that test.

Whether a setting is known, shown with its default, reloaded and refused by name: test_config_reference.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pgpool_core.config import SETTINGS
from pgpool_core.config.settings import DATABASE_KEYS, USER_KEYS

TESTS = Path(__file__).parents[1]

EFFECTS = {
    "integration/test_auth_query.py": "auth_type auth_file auth_user auth_query auth_dbname auth_query_ttl verbose",
    "integration/test_ldap.py": "auth_ldap_options max_ldap_logins",
    "integration/test_client_settings.py": """scram_iterations application_name_add_host disable_pqexec login_notify_message
        track_extra_parameters server_round_robin server_fast_close max_packet_size""",
    "integration/test_console_orders.py": "suspend_timeout",
    "integration/test_failed_logins.py": "auth_failure_delay",
    "integration/test_first_packets.py": "client_login_timeout",
    "integration/test_forgotten_pools.py": "pool_idle_timeout autodb_idle_timeout",
    "integration/test_half_messages.py": "message_stall_timeout",
    "integration/test_hba.py": "listen_addr auth_hba_file auth_ident_file allow_open_auth",
    "integration/test_io_backend.py": "io_backend",
    "integration/test_leak_check.py": "leak_check",
    "integration/test_limits.py": """max_client_conn default_pool_size min_pool_size reserve_pool_size reserve_pool_timeout
        max_db_connections max_user_connections max_db_client_connections max_user_client_connections server_lifetime
        server_idle_timeout workers admin_users""",
    "integration/test_log_lines.py": "stats_period",
    "integration/test_login_turns.py": "max_logins",
    "integration/test_logins.py": "ignore_startup_parameters",
    "integration/test_metrics.py": "metrics_listen",
    "integration/test_modes.py": "pool_mode server_reset_query server_reset_query_always",
    "integration/test_peers.py": "peer_id so_reuseport",
    "integration/test_prepared_statements.py": "max_prepared_statements",
    "integration/test_process.py": "listen_port unix_socket_dir user pidfile conffile logfile",
    "integration/test_proxy_protocol.py": "proxy_protocol_networks",
    "integration/test_server_login.py": "server_connect_timeout",
    "integration/test_session_functions.py": "function_check_period",
    "integration/test_session_notices.py": "pin_notice",
    "integration/test_session_state.py": "session_state max_pinned_connections",
    "integration/test_setting_effects.py": """unix_socket_mode unix_socket_group log_connections log_disconnections log_pooler_errors
        log_stats stats_users tcp_keepalive tcp_keepidle tcp_keepintvl tcp_keepcnt server_check_query server_check_delay
        dns_max_ttl dns_nxdomain_ttl server_connect_parallel""",
    "integration/test_takeover.py": "client_drain_timeout",
    "integration/test_tcp_settings.py": "listen_backlog tcp_defer_accept tcp_user_timeout tcp_socket_buffer sbuf_loopcnt pkt_buf",
    "integration/test_timeouts.py": """query_wait_timeout query_wait_notify query_timeout transaction_timeout idle_transaction_timeout
        client_idle_timeout""",
    "chaos/test_servers_die.py": "server_drain_timeout",
    "unit/test_logs.py": "syslog syslog_ident syslog_facility",
    "unit/test_pooler.py": "server_login_retry cancel_wait_timeout",
}
"""By file, because a test may be about several."""

TLS = tuple(path.relative_to(TESTS).as_posix() for path in sorted(TESTS.glob("*/test_*tls*.py")))
"""Where all settings of TLS are seen to work."""

TESTED = {name: file for file, names in EFFECTS.items() for name in names.split()}


@pytest.mark.parametrize("name", SETTINGS)
def test_what_a_setting_does_is_seen_by_a_test(name: str) -> None:
    files = TLS if "_tls" in name else (TESTED[name],) if name in TESTED else ()
    assert files, "a setting without an effect test is not done"
    assert any(re.search(rf"\b{name}\b", (TESTS / file).read_text()) for file in files), files


def test_no_setting_that_is_gone_is_listed() -> None:
    assert set(TESTED) <= set(SETTINGS)
    assert len(TESTED) == sum(len(names.split()) for names in EFFECTS.values()), "one is listed twice"


OWN = {  # keys of entries that no setting has
    "integration/test_setting_effects.py": "dbname host port client_encoding datestyle timezone application_name",
    "integration/test_host_states.py": "load_balance_hosts",
    "integration/test_passwords.py": "password password_command",
    "integration/test_server_login.py": "connect_query",
}


@pytest.mark.parametrize("key", sorted({*DATABASE_KEYS, *USER_KEYS}))
def test_what_a_key_of_an_entry_does_is_seen_by_a_test(key: str) -> None:
    own = {name: file for file, names in OWN.items() for name in names.split()}
    name = ALIASES.get(key, key)
    files = (
        [own[key]] if key in own else [TESTED[name]] if name in TESTED else list(TLS) if key.startswith(LIBPQS) else []
    )
    assert files, "a key without an effect test is not done"
    word = re.compile(rf"\b{key}\b")
    assert any(word.search((TESTS / file).read_text()) for file in files), files


ALIASES = {"pool_size": "default_pool_size", "reserve_pool": "reserve_pool_size"}
LIBPQS = ("ssl", "channel_binding")
"""What keys of TLS begin with."""
