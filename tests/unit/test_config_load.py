"""What settings and entries of a file mean, and the sentence for each way to get one wrong."""

from __future__ import annotations

import pytest

from pgpool_core.config import Config, ConfigError, DatabaseConfig, PeerConfig, UserConfig, parse_config
from pgpool_core.config.not_built import NOT_BUILT, NOT_BUILT_DATABASE
from pgpool_core.config.settings import DATABASE_KEYS, SETTINGS


def setting(name: str, text: str) -> object:
    return getattr(parse_config(f"[pgbouncer]\n{name} = {text}\n"), name)


def problem(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, file="f.ini")
    assert len(caught.value.problems) == 1
    return str(caught.value)


def database(text: str) -> DatabaseConfig:
    return parse_config(f"[databases]\ndb = {text}\n").databases["db"]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("listen_addr", "", ()),
        ("listen_addr", "127.0.0.1,  ::1", ("127.0.0.1", "::1")),
        ("listen_addr", "*", ("*",)),
        ("listen_port", "0x1932", 6450),
        ("max_client_conn", "010", 8),
        ("max_client_conn", "+10", 10),
        ("unix_socket_mode", "0700", 0o700),
        ("unix_socket_mode", "0x1ff", 0o777),
        ("unix_socket_dir", "", ""),
        ("unix_socket_dir", "@abstract", "@abstract"),
        ("server_lifetime", "0.5", 0.5),
        ("server_lifetime", ".5", 0.5),
        ("server_lifetime", "1e2", 100.0),
        ("server_lifetime", "0x10", 16.0),
        ("server_lifetime", "10min", 600.0),
        ("server_lifetime", "1.5h", 5400.0),
        ("server_lifetime", "1d", 86400.0),
        ("server_lifetime", "500 ms", 0.5),
        ("server_lifetime", "20us", 0.00002),
        ("tcp_keepidle", "2min", 120),
        ("max_packet_size", "64kB", 65536),
        ("max_packet_size", "1.5MB", 1572864),
        ("query_wait_timeout", "0", 0.0),
        ("log_stats", "0", False),
        ("log_stats", "Off", False),
        ("log_stats", "yes", True),
        ("pool_mode", "Transaction", "transaction"),
        ("auth_type", "scram-sha-256", "scram-sha-256"),
        ("auth_file", "", None),
        ("auth_file", "/etc/my users.txt", "/etc/my users.txt"),
        ("admin_users", "postgres, ops alice", ("postgres", "ops", "alice")),
        ("ignore_startup_parameters", "extra_float_digits,options", ("extra_float_digits", "options")),
        ("server_reset_query", "", ""),
        ("server_check_query", "select 1; select 2", "select 1; select 2"),
        ("io_backend", "epoll", "epoll"),
        ("io_backend", "IO_uring", "io_uring"),
        ("workers", "0", 0),
    ],
)
def test_a_setting_is_read_as_its_kind(name, text, value):
    assert setting(name, text) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("listen_port", "65536"),
        ("listen_port", ""),
        ("listen_port", "6432x"),
        ("listen_port", "6_432"),
        ("listen_port", "١"),
        ("max_client_conn", "-1"),
        ("max_client_conn", "08"),
        ("max_client_conn", "0x"),
        ("max_client_conn", "2147483648"),
        ("max_client_conn", "9" * 5000),
        ("unix_socket_mode", "777"),
        ("unix_socket_mode", "01777"),
        ("server_lifetime", "-1"),
        ("server_lifetime", "10 m"),
        ("server_lifetime", "1H"),
        ("max_packet_size", "0.3B"),
        ("max_client_conn", "1kB"),
        ("server_lifetime", "nan"),
        ("server_lifetime", "inf"),
        ("server_lifetime", "1e99"),
        ("stats_period", "0"),
        ("message_stall_timeout", "0"),
        ("log_stats", "-1"),
        ("log_stats", "both"),
        ("pool_mode", "sessions"),
        ("listen_addr", "127.0.0.1 ::1"),
        ("workers", "65"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_would(name, text):
    shown = text if len(text) < 80 else text[:80] + "..."
    kind = SETTINGS[name].kind
    expected = f'invalid value "{shown}" for parameter {name} in configuration (f.ini:2): expected {kind.accepts}'
    assert problem(f"[pgbouncer]\n{name} = {text}\n") == expected


def test_a_key_that_nobody_knows_is_named_with_its_section():
    assert problem("[pgbouncer]\nPool_Mode = session\n") == "unknown parameter: pgbouncer/Pool_Mode (f.ini:2)"


def test_the_last_of_two_keys_wins_and_a_bad_first_one_is_told_all_the_same():
    assert setting("verbose", "1\n[databases]\n[pgbouncer]\nverbose = 2") == 2
    assert "verbose" in problem("[pgbouncer]\nverbose = x\nverbose = 2\n")


@pytest.mark.parametrize("value", ["pam", "peer"])
def test_an_auth_type_that_is_not_built_is_refused_as_such(value):
    text = problem(f"[pgbouncer]\nauth_type = {value}\n")
    assert text.startswith(
        f"setting auth_type = {value} is not supported by this version of pgpool_core (f.ini:2): expected"
    )


OTHER = {
    "Flag": "1",
    "Integer": "7",
    "Seconds": "7.5",
    "Text": "something",
    "Choice": "verify-full",
    "_IgnoringCase": "search_path",
}


@pytest.mark.parametrize("name", NOT_BUILT)
def test_a_setting_that_is_not_built_is_refused_unless_it_asks_for_nothing(name):
    known = NOT_BUILT[name]
    for accepted in known.accepted:
        assert parse_config(f"[pgbouncer]\n{name} = {accepted}\n") == Config()
    if known.does_nothing:
        assert parse_config(f"[pgbouncer]\n{name} = else\n") == Config()
        return
    text = problem(f"[pgbouncer]\n{name} = {OTHER[type(known.kind).__name__]}\n")
    assert text.startswith(f"setting {name} is not supported by this version of pgpool_core (f.ini:2); leave it out")


def test_a_bad_value_of_a_setting_that_is_not_built_is_a_bad_value():
    assert problem("[pgbouncer]\npeer_id = x\n").startswith('invalid value "x" for parameter peer_id')


def test_no_setting_is_both_built_and_not_built():
    assert not SETTINGS.keys() & NOT_BUILT.keys()
    assert not DATABASE_KEYS.keys() & NOT_BUILT_DATABASE.keys()


def test_a_database_line_sets_what_it_names_and_nothing_else():
    assert database("host = 10.0.0.1 port =5433 password='it''s a secret' reserve_pool=3") == DatabaseConfig(
        host="10.0.0.1", port=5433, password="it's a secret", reserve_pool_size=3
    )
    assert database("") == DatabaseConfig()
    assert database("pool_mode=Statement server_lifetime=.5 connect_query='set a = ''b'''") == DatabaseConfig(
        pool_mode="statement", server_lifetime=0.5, connect_query="set a = 'b'"
    )


def test_the_fallback_is_an_entry_called_star():
    assert parse_config("[databases]\n* = host=h\n").databases == {"*": DatabaseConfig(host="h")}


def test_an_entry_that_comes_twice_is_what_its_last_line_says():
    databases = parse_config("[databases]\na = port=1 pool_size=3\na = port=2\n").databases
    assert databases == {"a": DatabaseConfig(port=2)}


def test_hosts_are_split_at_commas():
    assert database("host=a,b").hosts == ("a", "b")
    assert database("host=/run/postgresql").hosts == ("/run/postgresql",)
    assert database("host=::1").hosts == ("::1",)
    assert database("port=1").hosts == ()


@pytest.mark.parametrize(
    ("line", "start"),
    [
        ("db = host", 'syntax error in connection string of database "db" (f.ini:2): pair 1 '),
        ("db = host=", 'syntax error in connection string of database "db" (f.ini:2): pair 1 '),
        ("db = host=''", 'syntax error in connection string of database "db" (f.ini:2): pair 1 '),
        ("db = port=1 host='a", 'syntax error in connection string of database "db" (f.ini:2): pair 2 '),
        ("db = host='a'b", 'syntax error in connection string of database "db" (f.ini:2): pair 1 '),
        ("db = host=h # note", 'syntax error in connection string of database "db" (f.ini:2): pair 2 '),
        ("db = port=5432x", 'invalid value "5432x" for parameter port of database "db" in configuration (f.ini:2): '),
        ("db = host=a,,b", 'invalid value "a,,b" for parameter host of database "db" in configuration (f.ini:2): '),
        ("db = host=[::1]", 'invalid value "[::1]" for parameter host of database "db" in configuration (f.ini:2): '),
        ("db = sslfile=/x", 'unrecognized connection parameter: sslfile of database "db" (f.ini:2)'),
        ("pgbouncer = host=h", 'database name "pgbouncer" is reserved for the console (f.ini:2)'),
        ("é" * 32 + " = host=h", "syntax error in configuration (f.ini:2): "),
        ("'" + "é" * 32 + "' = host=h", 'database name "' + "é" * 32 + '" is too long: at most 63 bytes (f.ini:2)'),
    ],
)
def test_a_bad_database_line_is_named(line, start):
    assert problem(f"[databases]\n{line}\n").startswith(start)


def test_several_problems_of_one_entry_are_all_told():
    with pytest.raises(ConfigError) as caught:
        parse_config("[databases]\ndb = port=0 pool_mode=x nonsense=1\n")
    assert [each.key for each in caught.value.problems] == ["port", "pool_mode", "nonsense"]


@pytest.mark.parametrize(
    "line",
    [
        "password='hunter2",
        "password=hunter2 hunter2",
        "password='" + "hunter2" * 10_000 + "'",
        "connect_query='hunter2\udce9'",
    ],
)
def test_no_error_repeats_a_password(line):
    assert "hunter2" not in problem(f"[databases]\ndb = {line}\n")


def test_user_lines_set_what_they_name():
    config = parse_config(
        "[users]\nalice = pool_mode=session max_user_connections=5\n'bob b' = query_wait_timeout=1.5\n"
    )
    assert config.users == {
        "alice": UserConfig(pool_mode="session", max_user_connections=5),
        "bob b": UserConfig(query_wait_timeout=1.5),
    }


@pytest.mark.parametrize(
    ("line", "start"),
    [
        (
            "a = max_user_client_connections=x",
            'invalid value "x" for parameter max_user_client_connections of user "a" in configuration (f.ini:2): ',
        ),
        ("a = pool_mode", 'syntax error in settings of user "a" (f.ini:2): pair 1 '),
        ("a = max_db_connections=1", 'unrecognized connection parameter: max_db_connections of user "a" (f.ini:2)'),
        ("'" + "u" * 128 + "' =", 'user name "' + "u" * 80 + '..." is too long: at most 127 bytes (f.ini:2)'),
    ],
)
def test_a_bad_user_line_is_named(line, start):
    assert problem(f"[users]\n{line}\n").startswith(start)


def test_what_is_switched_off_for_a_user_is_not_unset():
    assert parse_config("[users]\na = query_timeout=0\n").users == {"a": UserConfig(query_timeout=0)}


def test_peers_are_read_and_what_is_wrong_with_one_is_told():
    assert parse_config("[peers]\n") == Config()
    config = parse_config("[peers]\n1 = host=h port=7000 pool_size=3\n2 = host=/run/two\n[pgbouncer]\npeer_id = 2\n")
    assert config.peers == {1: PeerConfig(host="h", port=7000, pool_size=3), 2: PeerConfig(host="/run/two", port=6432)}
    assert config.peer_id == 2
    assert "peer 1 has no host" in problem("[peers]\n1 = port=7000\n")
    assert "expected a number from 1 to 16383" in problem("[peers]\n0 = host=h\n")
    assert "expected a number from 1 to 16383" in problem("[peers]\none = host=h\n")
    assert "colour" in problem("[peers]\n1 = host=h colour=red\n")
    with pytest.raises(ConfigError, match="expected a number from 1 to 16383"):
        Config.of(peers={20000: {"host": "h"}})
    with pytest.raises(ConfigError, match="peer 3 has no host"):
        Config.of(peers={3: {"port": 1}})
