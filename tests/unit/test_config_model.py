"""Configurations made by programs, SHOW CONFIG's rows, and the manual's tables."""

from __future__ import annotations

import pickle
from pathlib import Path

import attrs
import pytest

from pgpool_core.config import (
    AUTH_TYPES,
    POOL_MODES,
    SETTINGS,
    Config,
    ConfigError,
    DatabaseConfig,
    UserConfig,
    describe,
)
from pgpool_core.config.not_built import NOT_BUILT, NOT_BUILT_DATABASE
from pgpool_core.config.passwords import PasswordFile
from pgpool_core.config.settings import DATABASE_KEYS, PEER_KEYS, USER_KEYS, Setting

MANUAL = (Path(__file__).parents[2] / "docs/config.md").read_text()


def texts(caught) -> list[str]:
    return [each.text for each in caught.value.problems]


@pytest.mark.parametrize("table", [SETTINGS, DATABASE_KEYS, USER_KEYS, PEER_KEYS])
def test_every_default_is_a_value_that_its_own_kind_accepts_and_reads_back(table):
    for setting in table.values():
        if setting.default is not None:
            assert setting.kind.check(setting.default) == setting.default
            assert setting.kind.parse(setting.show(setting.default)) == setting.default


def test_defaults_are_pgbouncers():
    config = Config()
    assert (config.listen_addr, config.listen_port, config.auth_type, config.pool_mode) == ((), 6432, "md5", "session")
    assert (config.default_pool_size, config.max_client_conn, config.server_check_query) == (20, 100, "<empty>")


def test_numbers_of_modes_and_auth_types_are_the_engines():
    assert [POOL_MODES.index(mode) for mode in ("session", "transaction", "statement")] == [0, 1, 2]
    assert [AUTH_TYPES.index(each) for each in ("any", "trust", "plain", "md5", "scram-sha-256")] == [0, 1, 2, 3, 4]


def test_a_config_made_directly_is_checked_and_brought_into_form():
    config = Config(query_wait_timeout=5, admin_users=["a"], pool_mode="Transaction", auth_file=Path("/u"))
    assert (config.query_wait_timeout, config.admin_users, config.pool_mode, config.auth_file) == (
        5.0,
        ("a",),
        "transaction",
        "/u",
    )
    assert isinstance(config.query_wait_timeout, float)
    with pytest.raises(ConfigError) as caught:
        Config(
            listen_port="x", max_client_conn=True, auth_type="pam", databases={"pgbouncer": DatabaseConfig(), "x": {}}
        )
    assert [text.split(":")[0] for text in texts(caught)] == [
        'invalid value "x" for parameter listen_port',
        "setting auth_type = pam is not supported by this version of pgpool_core",
        'invalid value "True" for parameter max_client_conn',
        'database name "pgbouncer" is reserved for the console',
        'database "x" is not a DatabaseConfig',
    ]


def test_entries_made_directly_are_checked():
    with pytest.raises(ConfigError) as caught:
        DatabaseConfig(port=0, password="")
    assert [each.key for each in caught.value.problems] == ["port", "password"]
    with pytest.raises(ConfigError, match="pool_size"):
        UserConfig(pool_size=-1)


def test_of_takes_entries_as_objects_mappings_and_connection_strings():
    config = Config.of(
        databases={
            "a": DatabaseConfig(port=1),
            "b": {"host": "h", "reserve_pool": 2, "pool_size": None},
            "c": "postgres://u@h/c",
        },
        users={"u": {"pool_mode": "statement"}},
        server_lifetime="0.5",
        log_stats="off",
        max_client_conn=7,
    )
    assert config.databases == {
        "a": DatabaseConfig(port=1),
        "b": DatabaseConfig(host="h", reserve_pool_size=2),
        "c": DatabaseConfig(host="h", user="u", dbname="c"),
    }
    assert config.users == {"u": UserConfig(pool_mode="statement")}
    assert (config.server_lifetime, config.log_stats, config.max_client_conn) == (0.5, False, 7)


def test_of_tells_every_problem_at_once():
    with pytest.raises(ConfigError) as caught:
        Config.of(
            databases={"a": {"port": -1, "x": 1}, "b": 5, "pgbouncer": {}, "c": "postgres://h/d?sslpassword=x"},
            users={"u": {"query_timeout": -3}, "": {}},
            pool_mode=3,
            nonsense=1,
            dns_zone_check_period=4,
            so_reuseport=False,
        )
    assert texts(caught) == [
        'invalid value "3" for parameter pool_mode: expected one of session, transaction, statement',
        "unknown parameter: pgbouncer/nonsense",
        "setting dns_zone_check_period is not supported by this version of pgpool_core; leave it out or at 0",
        'invalid value "-1" for parameter port of database "a": expected a whole number from 1 to 65535',
        'unrecognized connection parameter: x of database "a"',
        'database "b": expected a connection string, a mapping or a DatabaseConfig',
        'database "c": connection parameter sslpassword is not supported by this version of pgpool_core',
        'invalid value "-3" for parameter query_timeout of user "u": expected seconds, or a number with us, ms, s, min, h'
        " or d; 0 or more, fractions allowed, at most 2147483647 s",
        'database name "pgbouncer" is reserved for the console',
        "a user name must be a non-empty text without zero bytes",
    ]


@pytest.mark.parametrize(
    ("said", "every"),
    [("off", 0), ("always", 1), ("sample:1", 1), ("Sample:20", 20), ("sample:1000000", 1000000), (7, 7)],
)
def test_leak_check_is_a_number_of_returns(said, every):
    assert Config.of(leak_check=said).leak_check == every
    assert DatabaseConfig(leak_check=said).leak_check == every


@pytest.mark.parametrize(
    "said", ["", "on", "sample", "sample:0", "sample:", "sample:-1", "sample:1000001", "2", -1, True]
)
def test_leak_check_refuses_anything_else(said):
    with pytest.raises(ConfigError, match="off, always, or sample:N"):
        Config.of(leak_check=said)


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", 5, None])
def test_a_name_that_postgresql_cannot_have_is_refused(name):
    with pytest.raises(ConfigError, match="non-empty text"):
        Config(databases={name: DatabaseConfig()})


def test_names_and_passwords_may_be_as_long_as_pgbouncers():
    config = Config.of(databases={"d" * 63: {"password": "p" * 65530, "user": "u" * 127}}, users={"u" * 127: {}})
    assert len(config.databases["d" * 63].password) == 65530
    with pytest.raises(ConfigError) as caught:
        Config.of(databases={"d": {"password": "hunter2" * 9362, "user": "u" * 128}}, users={"u" * 128: {}})
    assert len(caught.value.problems) == 3
    assert "hunter2" not in str(caught.value)


def test_no_repr_shows_a_password_or_the_sql_of_a_connect_query():
    config = Config.of(databases={"a": {"password": "hunter2", "connect_query": "set k = 'hunter2'"}})
    assert "hunter2" not in repr(config)
    assert "hunter2" not in repr(config.databases["a"])


def test_a_config_is_frozen_copies_what_it_was_given_and_survives_pickling():
    databases = {"a": DatabaseConfig()}
    config = Config(databases=databases)
    databases["b"] = DatabaseConfig()
    assert list(config.databases) == ["a"]
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        config.listen_port = 1


def test_show_config_has_every_setting_in_order_as_a_file_would_write_it():
    rows = describe(Config.of(listen_addr=("a", "b"), server_lifetime=0.25, log_stats=False, unix_socket_mode=0o700))
    assert [row.key for row in rows] == sorted(SETTINGS.keys() | NOT_BUILT.keys())
    shown = {row.key: row[1:] for row in rows}
    assert shown["listen_addr"] == ("a, b", "", False)
    assert shown["server_lifetime"] == ("0.25", "3600", True)
    assert shown["log_stats"] == ("0", "1", True)
    assert shown["unix_socket_mode"] == ("0700", "0777", False)
    assert shown["auth_file"] == (None, None, True)
    assert shown["dns_zone_check_period"] == ("0", "0", False)
    assert shown["query_wait_timeout"] == ("120", "120", True)


def default_cell(setting: Setting) -> str:
    text = setting.show(setting.default)
    return "unset" if text is None else f"`{text}`" if text else "empty"


def manual_part(heading: str) -> str:
    return MANUAL.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("name", SETTINGS)
def test_the_manual_tells_every_setting_as_it_is(name):
    setting = SETTINGS[name]
    cells = [
        f"`{name}`",
        default_cell(setting),
        setting.unit or "-",
        setting.meaning,
        "yes" if setting.reloadable else "restart",
    ]
    assert manual_part("[pgbouncer]").count("\n| " + " | ".join(cells) + " |\n") == 1


@pytest.mark.parametrize(
    ("section", "table"), [("[databases]", DATABASE_KEYS), ("[users]", USER_KEYS), ("[peers]", PEER_KEYS)]
)
def test_the_manual_tells_every_key_of_an_entry_as_it_is(section, table):
    rows = [
        f"| `{name}` | {default_cell(each)} | {each.unit or '-'} | {each.meaning} |" for name, each in table.items()
    ]
    assert [line for line in manual_part(section).splitlines() if line.startswith("| `")] == rows


def test_the_manual_lists_what_is_not_built():
    part = manual_part("Settings of PgBouncer that are not built yet")
    listed = [line.split("`")[1] for line in part.splitlines() if line.startswith("| `")]
    assert listed == [*NOT_BUILT, *NOT_BUILT_DATABASE]


def test_the_manual_example_is_one_config_said_twice():
    from pgpool_core.config import parse_config

    names = {}
    exec(MANUAL.partition("```python\n")[2].partition("```")[0], names)  # the manual is ours
    assert names["config"] == parse_config(MANUAL.partition("```ini\n")[2].partition("```")[0])


def test_the_examples_of_the_manual_can_be_read(tmp_path):
    from pgpool_core.config import load_config

    path = tmp_path / "manual.toml"
    path.write_text(MANUAL.partition("```toml\n")[2].partition("```")[0].replace("file:/run/secrets/app", "x"))
    assert set(load_config(path, environ={"REPORTS_PASSWORD": "p"}).databases) == {"app", "reports"}
    (tmp_path / "app").write_text("secret\n")
    path = tmp_path / "manual.ini"
    path.write_text(MANUAL.split("```ini\n")[2].partition("```")[0].replace("/run/secrets", str(tmp_path)))
    environ = {"DB_HOST": "h", "REPORTS_PASSWORD": "p@", "BILLING_URL": "postgres://h/billing"}
    databases = load_config(path, environ=environ).databases
    assert databases["app"].password == PasswordFile(str(tmp_path / "app"))
    assert databases["reports"].password == "p@"
    assert databases["billing"].dbname == "billing"
