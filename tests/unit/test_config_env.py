"""Every variable of the packagings around PgBouncer, and the line of the ini that it becomes."""

from __future__ import annotations

import shlex
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest

from pgpool_core.cli import main
from pgpool_core.cli.from_env import kind_of, prepare_files
from pgpool_core.config import Config, ConfigError, DatabaseConfig, parse_config
from pgpool_core.config.env import Generated, generate
from pgpool_core.config.env import docker as image
from pgpool_core.config.env import heroku as buildpack
from pgpool_core.config.not_built import NOT_BUILT
from pgpool_core.config.settings import SETTINGS
from pgpool_core.policy.userlist import load_userlist, parse_userlist

SERVER = {"DB_HOST": "10.0.0.5"}
URL = "postgres://app:p%40%3As%2Fs@db.example.com:5433/main"

VALUES = {
    "LISTEN_ADDR": "127.0.0.1",
    "LISTEN_PORT": "6000",
    "UNIX_SOCKET_DIR": "/tmp",
    "AUTH_TYPE": "scram-sha-256",
    "IGNORE_STARTUP_PARAMETERS": "extra_float_digits,options",
    "ADMIN_USERS": "root, boss",
    "AUTH_HBA_FILE": "/etc/hba",
    "AUTH_USER": "asker",
    "AUTH_QUERY": "SELECT usename, passwd FROM pg_shadow WHERE usename=$1",
    "AUTH_DBNAME": "auth",
    "POOL_MODE": "transaction",
    "STATS_USERS": "stats",
    "LOGFILE": "/var/log/pgbouncer.log",
    "SERVER_RESET_QUERY": "DISCARD ALL; SELECT 1",
    "SERVER_CHECK_QUERY": "select 1",
    "VERBOSE": "2",
    "STATS_PERIOD": "30",
    "CLIENT_TLS_SSLMODE": "require",
    "CLIENT_TLS_DHEPARAMS": "legacy",
    "SERVER_TLS_SSLMODE": "verify-full",
    "CLIENT_TLS_PROTOCOLS": "tlsv1.3",
    "SERVER_TLS_PROTOCOLS": "tlsv1.3",
}
"""A value for each variable that is not content with a small number or a path."""


def value_of(name: str) -> str:
    if name in VALUES:
        return VALUES[name]
    if name.endswith(("_FILE", "_CIPHERS", "_ECDHCURVE")):
        return f"/of/{name.lower()}"
    return "1"


def settings_of(made: Generated) -> dict[str, str]:
    """What the text of the ini says under [pgbouncer]."""
    lines = made.ini().partition("[pgbouncer]\n")[2].splitlines()
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}


def config_of(made: Generated) -> Config:
    """The ini read as a file, with nothing left of what this version does not have yet."""
    text = made.ini(show_secrets=True)
    lines = [line for line in text.splitlines() if line.partition(" =")[0] not in NOT_BUILT]
    return parse_config("\n".join(lines), environ={})


@pytest.mark.parametrize("name", [*image.ALWAYS, *image.IF_SET])
def test_each_variable_of_the_image_is_the_setting_of_its_name(name: str) -> None:
    made = generate("docker", {**SERVER, name: value_of(name)})
    assert settings_of(made)[name.lower()] == value_of(name)
    assert name.lower() in SETTINGS or name.lower() in NOT_BUILT
    if name.lower() in SETTINGS:
        setting = SETTINGS[name.lower()]
        assert getattr(config_of(made), setting.name) == setting.kind.parse(value_of(name))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("METRICS_LISTEN", "0.0.0.0:9127"), ("SESSION_STATE", "off"), ("WORKERS", "2"), ("PEER_ID", "3")),
        *(("TRACK_EXTRA_PARAMETERS", "IntervalStyle"), ("TRANSACTION_TIMEOUT", "30"), ("SERVER_FAST_CLOSE", "1")),
    ],
)
def test_settings_that_the_image_has_no_variable_for_have_one_here(name: str, value: str) -> None:
    made = generate("docker", {**SERVER, name: value})
    assert settings_of(made)[name.lower()] == value
    assert name.lower() not in settings_of(generate("docker", {**SERVER, name: ""}))


def test_what_every_environment_has_is_no_setting() -> None:
    made = generate("docker", {**SERVER, "USER": "root", "CONFFILE": "/x"})
    assert not {"user", "conffile"} & settings_of(made).keys()


@pytest.mark.parametrize("name", [name for name in image.IF_SET if name not in image.MAY_BE_EMPTY])
def test_an_empty_variable_of_the_image_is_as_one_that_is_not_set(name: str) -> None:
    assert settings_of(generate("docker", {**SERVER, name: ""})) == settings_of(generate("docker", SERVER))


@pytest.mark.parametrize("name", sorted(image.MAY_BE_EMPTY))
def test_a_query_may_be_empty(name: str) -> None:
    assert settings_of(generate("docker", {**SERVER, name: ""}))[name.lower()] == ""
    assert name.lower() not in settings_of(generate("docker", SERVER))


def test_the_image_without_variables_has_its_defaults() -> None:
    made = generate("docker", {**SERVER, "LISTEN_ADDR": ""})
    assert settings_of(made) == {
        "listen_addr": "0.0.0.0",
        "listen_port": "5432",
        "unix_socket_dir": "",
        "auth_type": "md5",
        "ignore_startup_parameters": "extra_float_digits",
        "admin_users": "postgres",
        "auth_file": "/etc/pgbouncer/userlist.txt",
    }
    entry = config_of(made).databases["*"]
    assert (entry.host, entry.port, entry.dbname) == ("10.0.0.5", 5432, None)
    assert made.userlist() == ""


@pytest.mark.parametrize(
    ("environ", "name", "host", "port"),
    [
        (
            {"DB_HOST": "h", "DB_NAME": "main", "DB_PORT": "5433", "DB_USER": "app", "DB_PASSWORD": "p@:s/s"},
            "main",
            "h",
            5433,
        ),
        ({"DB_HOST": "h", "DB_NAME": "*", "DB_USER": "app", "DB_PASSWORD": "p@:s/s"}, "*", "h", 5432),
        ({"DATABASE_URL": URL}, "main", "db.example.com", 5433),
        ({"DATABASE_URL": URL.replace("/main", "")}, "*", "db.example.com", 5433),
        ({"DATABASE_URLS": f" {URL} ,"}, "main", "db.example.com", 5433),
    ],
)
def test_the_image_names_its_server_in_three_ways(environ: Mapping[str, str], name: str, host: str, port: int) -> None:
    made = generate("docker", environ)
    ((found, entry),) = config_of(made).databases.items()
    assert (found, entry.host, entry.port) == (name, host, port)
    secret = parse_userlist(made.userlist(show_secrets=True).encode()).get(b"app")
    assert secret is not None
    assert secret.plain == b"p@:s/s"


def test_several_databases_of_the_image_share_one_userlist() -> None:
    urls = f"{URL},postgresql://other@h/second?pool_size=3,postgres://app:else@h/third"
    made = generate("docker", {"DATABASE_URLS": urls})
    databases = config_of(made).databases
    assert databases["second"].pool_size == 3
    assert (databases["third"].user, databases["third"].password) == ("app", "else")
    assert databases["main"].password is None
    assert set(made.users) == {"app"}


def test_what_the_image_writes_where_nobody_reads_it_goes_where_it_is_meant() -> None:
    made = generate("docker", {**SERVER, "CLIENT_ENCODING": "UTF8", "TIMEZONE": "Europe/Oslo", "POOL_SIZE": "7"})
    config = config_of(made)
    assert list(config.databases) == ["*"]
    assert (config.databases["*"].client_encoding, config.databases["*"].timezone) == ("UTF8", "Europe/Oslo")
    assert config.default_pool_size == 7
    assert [warning.split()[0] for warning in made.warnings] == ["POOL_SIZE", "TIMEZONE"]
    both = generate("docker", {**SERVER, "POOL_SIZE": "7", "DEFAULT_POOL_SIZE": "8"})
    assert config_of(both).default_pool_size == 8


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "no server is named: set DB_HOST, DATABASE_URL or DATABASE_URLS"),
        ({"DATABASE_URL": "hunter2"}, "environment variable DATABASE_URL is no URL"),
        ({"DATABASE_URL": "postgres://u:hunter2@h:x/d"}, "environment variable DATABASE_URL: invalid value"),
        ({"DATABASE_URL": "postgres://u:hunter2@/d"}, "environment variable DATABASE_URL names no host"),
        ({"DATABASE_URLS": "postgres://u:hunter2@h/d,postgres://h/d"}, 'DATABASE_URLS names database "d" twice'),
        ({"DB_HOST": "h", "DB_PORT": "hunter2"}, "environment variable DB_PORT cannot be used: expected a whole"),
        ({"DB_HOST": "h", "DB_PASSWORD": "file:/none/secret"}, "DB_PASSWORD cannot be used: cannot read /none/secret"),
        ({"DB_HOST": "h", "POOL_MODE": "session\nuser = root"}, "environment variable POOL_MODE has a line end"),
        ({"DB_HOST": "h\nx = y"}, "environment variable DB_HOST has a line end"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(environ: Mapping[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        generate("docker", environ)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_nothing_in_a_value_becomes_a_variable_a_pair_or_an_entry() -> None:
    made = generate(
        "docker", {"DATABASE_URL": "postgres://u@h/odd%20name%27?connect_query=select%20%27${X}%27", "LOGFILE": "/${X}"}
    )
    config = config_of(made)
    assert config.logfile == "/${X}"
    assert config.databases == {
        "odd name'": DatabaseConfig(host="h", connect_query="select '${X}'", **asked_by(made, "odd name'"))
    }


@pytest.mark.parametrize(
    ("kind", "environ"),
    [
        ("docker", {**SERVER, "DB_PASSWORD": 'x"\n"root" "hunter2'}),
        ("docker", {**SERVER, "DB_USER": "a", "DB_PASSWORD": "x\r"}),
        ("docker", {"DATABASE_URL": "postgres://u:hunter2%0Ax@h/d"}),
        ("docker", {"DATABASE_URL": "postgres://u@h/d%0A%5Bpgbouncer%5D"}),
        ("docker", {"DATABASE_URL": "postgres://u@h/d?application_name=a%0Ab"}),
        ("heroku", {"DATABASE_URL": "postgres://u:hunter2%0Ax@h:1/d"}),
        ("heroku", {"DATABASE_URL": "postgres://u:p@h:1/d%0D%0A"}),
        ("bitnami", {"POSTGRESQL_HOST": "h", "POSTGRESQL_PASSWORD": "hunter2\nx"}),
    ],
)
def test_nothing_in_a_variable_begins_another_line_of_a_file(kind: str, environ: Mapping[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        generate(kind, environ)
    assert "hunter2" not in str(caught.value)


def test_a_name_may_begin_with_a_star() -> None:
    made = generate("docker", {**SERVER, "DB_NAME": "*x"})
    assert list(config_of(made).databases) == ["*x"]


def asked_by(made: Generated, name: str) -> dict[str, str]:
    """auth_user, where this version has it."""
    (pairs,) = (entry.pairs for entry in made.databases if entry.name == name)
    return {"auth_user": pairs["auth_user"]} if "auth_user" in pairs else {}


HEROKU = {"DATABASE_URL": URL + "?sslmode=require&pool=5"}


@pytest.mark.parametrize("name", buildpack.VARIABLES)
def test_each_variable_of_the_buildpack_is_the_setting_of_its_name(name: str) -> None:
    made = generate("heroku", {**HEROKU, f"PGBOUNCER_{name}": value_of(name)})
    assert settings_of(made)[name.lower()] == value_of(name)
    assert name.lower() in SETTINGS or name.lower() in NOT_BUILT
    default = settings_of(generate("heroku", {**HEROKU, f"PGBOUNCER_{name}": ""}))[name.lower()]
    assert default == buildpack.VARIABLES[name]


def test_the_buildpack_listens_on_loopback_and_names_its_databases_by_number() -> None:
    second = "postgresql://other:secret@[2001:db8::1]:5432/d2"
    made = generate("heroku", {**HEROKU, "SECOND": second, "PGBOUNCER_URLS": "DATABASE_URL SECOND"})
    config = config_of(made)
    assert (config.listen_addr, config.listen_port) == (("127.0.0.1",), 6000)
    assert config.databases == {
        "db1": DatabaseConfig(host="db.example.com", dbname="main", port=5433),
        "db2": DatabaseConfig(host="2001:db8::1", dbname="d2"),
    }
    assert config.auth_file == "/app/vendor/pgbouncer/users.txt"
    assert made.users == {"app": "p@:s/s", "other": "secret"}
    assert made.exports == {
        "DATABASE_URL": "postgres://app:p%40%3As%2Fs@127.0.0.1:6000/db1?pool=5",
        "DATABASE_URL_PGBOUNCER": "postgres://app:p%40%3As%2Fs@127.0.0.1:6000/db1?pool=5",
        "SECOND": "postgres://other:secret@127.0.0.1:6000/db2",
        "SECOND_PGBOUNCER": "postgres://other:secret@127.0.0.1:6000/db2",
    }


def test_session_mode_of_the_buildpack_resets_its_servers() -> None:
    assert settings_of(generate("heroku", HEROKU))["server_reset_query"] == ""
    session = settings_of(generate("heroku", {**HEROKU, "PGBOUNCER_POOL_MODE": "session"}))
    assert session["server_reset_query"] == "DISCARD ALL;"


def test_without_tls_the_buildpack_says_nothing_about_ciphers() -> None:
    assert "server_tls_ciphers" in settings_of(generate("heroku", HEROKU))
    plain = settings_of(generate("heroku", {**HEROKU, "PGBOUNCER_SERVER_TLS_SSLMODE": "disable"}))
    assert not {"server_tls_ciphers", "server_tls_protocols"} & plain.keys()


def test_prepared_statements_may_be_switched_off_in_the_url_of_the_application() -> None:
    made = generate("heroku", {"DATABASE_URL": URL, "PGBOUNCER_PREPARED_STATEMENTS": "false"})
    assert made.exports["DATABASE_URL"].endswith("/db1?prepared_statements=false")


def test_one_user_with_two_passwords_reaches_both_servers() -> None:
    other = URL.replace("p%40%3As%2Fs", "else")
    made = generate("heroku", {"DATABASE_URL": URL, "OTHER": other, "PGBOUNCER_URLS": "DATABASE_URL,OTHER"})
    assert (config_of(made).databases["db2"].user, config_of(made).databases["db2"].password) == ("app", "else")
    assert made.exports["OTHER"] == "postgres://app:p%40%3As%2Fs@127.0.0.1:6000/db2"


@pytest.mark.parametrize(
    "url", ["", "postgres://u@h:1/d", "postgres://u:hunter2@h/d", "http://u:hunter2@h:1/d", "postgres://u:p@h:1/"]
)
def test_a_url_without_all_its_parts_is_refused_by_the_name_of_its_variable(url: str) -> None:
    with pytest.raises(ConfigError, match="environment variable DATABASE_URL is not") as caught:
        generate("heroku", {"DATABASE_URL": url})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "on"), [(None, True), ("1", True), ("YES", True), ("On", True), ("true", True), ("0", False), ("", True)]
)
def test_the_buildpack_may_be_switched_off(value: str | None, on: bool) -> None:
    assert buildpack.is_enabled({} if value is None else {"PGBOUNCER_ENABLED": value}) is on


def test_bitnamis_variables(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from a file\n")
    made = generate(
        "bitnami",
        {
            "POSTGRESQL_HOST": "db",
            "POSTGRESQL_PORT": "5433",
            "POSTGRESQL_DATABASE": "main",
            "POSTGRESQL_USERNAME": "app",
            "POSTGRESQL_PASSWORD_FILE": str(tmp_path / "password"),
            "PGBOUNCER_DATABASE": "*",
            "PGBOUNCER_DSN_10": "ten=host=h10",
            "PGBOUNCER_DSN_2": "two=host=h2 port=7 password='a b'",
            "PGBOUNCER_PORT": "7000",
            "PGBOUNCER_LISTEN_ADDRESS": "127.0.0.1",
            "PGBOUNCER_AUTH_TYPE": "md5",
            "PGBOUNCER_POOL_MODE": "transaction",
            "PGBOUNCER_IGNORE_STARTUP_PARAMETERS": "extra_float_digits",
            "PGBOUNCER_USERLIST": '"second" "it""s"\n; nobody\n\n',
            "PGBOUNCER_NO_SUCH_SETTING": "1",
            "PGBOUNCER_SOCKET_DIR": "/run/pgbouncer",
            "PGBOUNCER_SOCKET_MODE": "0770",
            "PGBOUNCER_LOG_FILE": "/tmp/log",
        },
    )
    config = config_of(made)
    assert (config.unix_socket_dir, config.unix_socket_mode, config.logfile) == ("/run/pgbouncer", 0o770, "/tmp/log")
    assert config.ignore_startup_parameters == ("extra_float_digits",)
    assert config.databases == {
        "two": DatabaseConfig(host="h2", port=7, password="a b"),
        "ten": DatabaseConfig(host="h10"),
        "*": DatabaseConfig(host="db", port=5433),
    }
    assert (config.listen_addr, config.listen_port, config.auth_type) == (("127.0.0.1",), 7000, "md5")
    assert (config.pool_mode, config.admin_users) == ("transaction", ("app",))
    assert made.users == {"app": "from a file", "second": 'it"s'}


BITNAMI = {"POSTGRESQL_HOST": "db", "POSTGRESQL_USERNAME": "app", "POSTGRESQL_PASSWORD": "it's a secret"}


@pytest.mark.parametrize(
    ("environ", "name", "entry"),
    [
        ({}, "postgres", DatabaseConfig(host="db", dbname="postgres")),
        ({"PGBOUNCER_DATABASE": "a"}, "a", DatabaseConfig(host="db", dbname="a")),
        ({"POSTGRESQL_DATABASE": "b"}, "postgres", DatabaseConfig(host="db", dbname="b")),
        ({"PGBOUNCER_DATABASE": "a", "POSTGRESQL_DATABASE": "b"}, "a", DatabaseConfig(host="db", dbname="b")),
        ({"PGBOUNCER_DATABASE": "*", "POSTGRESQL_DATABASE": "b"}, "*", DatabaseConfig(host="db")),
        ({"PGBOUNCER_SET_DATABASE_USER": "yes"}, "postgres", DatabaseConfig(host="db", dbname="postgres", user="app")),
        (
            {"PGBOUNCER_SET_DATABASE_USER": "TRUE", "PGBOUNCER_SET_DATABASE_PASSWORD": "1"},
            "postgres",
            DatabaseConfig(host="db", dbname="postgres", user="app", password="it's a secret"),
        ),
        ({"PGBOUNCER_SET_DATABASE_USER": "no"}, "postgres", DatabaseConfig(host="db", dbname="postgres")),
        ({"PGBOUNCER_AUTH_USER": "asks"}, "postgres", DatabaseConfig(host="db", dbname="postgres", auth_user="asks")),
        (
            {"PGBOUNCER_CONNECT_QUERY": "set search_path to ''a b'', c"},
            "postgres",
            DatabaseConfig(host="db", dbname="postgres", connect_query="set search_path to 'a b', c"),
        ),
        (
            {"PGBOUNCER_CONNECT_QUERY": "set search_path to 'a b', c"},
            "postgres",
            DatabaseConfig(host="db", dbname="postgres", connect_query="set search_path to 'a b', c"),
        ),
    ],
)
def test_the_entry_that_bitnamis_variables_name(environ: Mapping[str, str], name: str, entry: DatabaseConfig) -> None:
    made = generate("bitnami", {**BITNAMI, **environ})
    config = config_of(made)
    assert config.databases == {name: entry}
    assert config.auth_user == "" and made.warnings == ()


def test_any_value_of_bitnamis_may_be_in_a_file(tmp_path: Path) -> None:
    def file(text: str) -> str:
        path = tmp_path / f"file{len(list(tmp_path.iterdir()))}"
        path.write_text(f"{text}\n")
        return str(path)

    environ = {
        **{f"{name}_FILE": file(value) for name, value in BITNAMI.items()},
        "POSTGRESQL_PASSWORD": "not this one",
        "PGBOUNCER_DATABASE_FILE": file("main"),
        "PGBOUNCER_POOL_MODE_FILE": file("statement"),
        "PGBOUNCER_AUTH_QUERY_FILE": file("select $1, 2"),
        "PGBOUNCER_DSN_0_FILE": file("two=host=h2 password=x"),
        "PGBOUNCER_USERLIST_FILE": file('"u" "v"\n"w" "x"'),
        "PGBOUNCER_AUTH_HBA_FILE": "/etc/rules",
        "PGBOUNCER_CLIENT_TLS_CA_FILE": "/etc/ca",
    }
    made = generate("bitnami", environ)
    config = config_of(made)
    main = DatabaseConfig(host="db", dbname="main")
    assert config.databases == {"two": DatabaseConfig(host="h2", password="x"), "main": main}
    assert made.users == {"app": "it's a secret", "u": "v", "w": "x"}
    assert (config.pool_mode, config.auth_query) == ("statement", "select $1, 2")
    assert (config.auth_hba_file, config.client_tls_ca_file) == ("/etc/rules", "/etc/ca")
    assert made.warnings == ()


def test_what_kubernetes_says_of_a_service_called_pgbouncer_is_no_port() -> None:
    made = generate(
        "bitnami", {**BITNAMI, "PGBOUNCER_PORT": "tcp://10.0.0.1:6432", "PGBOUNCER_SERVICE_HOST": "10.0.0.1"}
    )
    assert config_of(made).listen_port == 6432
    assert made.warnings == ()


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "POSTGRESQL_HOST is not set"),
        ({"PGBOUNCER_DSN_0": "hunter2"}, "PGBOUNCER_DSN_0 cannot be used: it is not NAME=key=value"),
        ({"PGBOUNCER_DSN_0": "a=host=h password='hunter2"}, "PGBOUNCER_DSN_0 cannot be used: pair 2"),
        ({"POSTGRESQL_HOST": "h", "PGBOUNCER_USERLIST": "hunter2"}, "PGBOUNCER_USERLIST has a line 1"),
        (
            {"POSTGRESQL_HOST": "h", "POSTGRESQL_PASSWORD_FILE": "/none"},
            "POSTGRESQL_PASSWORD_FILE cannot be used: /none",
        ),
    ],
)
def test_a_variable_of_bitnami_that_cannot_be_used_is_named(environ: Mapping[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        generate("bitnami", environ)
    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "environ"),
    [
        ("bitnami", {"POSTGRESQL_HOST": "h", "PGBOUNCER_POOL_MODE": "session", "PGBOUNCER_DATABASE": "*"}),
        ("heroku", {**HEROKU, "PGBOUNCER_POOL_MODE": "session", "PGBOUNCER_ENABLED": "1"}),
    ],
)
def test_variables_that_mean_nothing_here_are_told(kind: str, environ: Mapping[str, str]) -> None:
    assert generate(kind, environ).warnings == ()
    beside = {"PGBOUNCER_SERVICE_HOST": "10.0.0.1", "PGBOUNCER_PORT_6432_TCP": "tcp://10.0.0.1:6432"}  # by Kubernetes
    assert generate(kind, {**environ, **beside, "PGBOUNCER_SET_DATABASE_PASSWORD": ""}).warnings == ()
    more = {"PGBOUNCER_FORCE_INITSCRIPTS": "yes", "PGBOUNCER_POOLMODE": "hunter2"}
    [said] = generate(kind, {**environ, **more}).warnings
    assert said == "not read, because nothing is known of them: PGBOUNCER_FORCE_INITSCRIPTS, PGBOUNCER_POOLMODE"


def test_who_starts_with_an_environment_is_warned_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare_files("bitnami", {"POSTGRESQL_HOST": "h", "PGBOUNCER_POOLMODE": "session"}, str(tmp_path))
    assert capsys.readouterr().err == "warning: not read, because nothing is known of them: PGBOUNCER_POOLMODE\n"


@pytest.mark.parametrize(
    ("environ", "kind"),
    [
        ({}, "docker"),
        ({"DYNO": "web.1"}, "heroku"),
        ({"PGBOUNCER_URLS": "A"}, "heroku"),
        ({"POSTGRESQL_HOST": "h"}, "bitnami"),
    ],
)
def test_an_environment_is_known_by_its_variables(environ: Mapping[str, str], kind: str) -> None:
    assert kind_of("auto", environ) == kind
    assert kind_of("docker", environ) == "docker"


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The environment of the process, cut down to one database of the image's."""
    given = {"DB_HOST": "10.0.0.5", "DB_USER": "app", "DB_PASSWORD": "hunter2", "TIMEZONE": "UTC"}
    for kind in ("DATABASE_URL", "DATABASE_URLS", "DYNO", "PGBOUNCER_URLS", "POSTGRESQL_HOST", "PGBOUNCER_DSN_0"):
        monkeypatch.delenv(kind, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    return given


def test_the_printed_files_hide_passwords_unless_asked(
    environ: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["config", "--from-env"]) == 0
    said = capsys.readouterr()
    assert "hunter2" not in said.out
    assert '; "app" "********"' in said.out
    assert "warning: TIMEZONE" in said.err
    assert main(["config", "--from-env", "docker", "--show-secrets"]) == 0
    said = capsys.readouterr()
    assert '; "app" "hunter2"' in said.out
    assert "* = host=10.0.0.5 port=5432" in said.out
    assert parse_config(said.out).databases["*"].timezone == "UTC"


def test_what_cannot_be_used_is_printed_and_told(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAX_CLIENT_CONN", "many")
    monkeypatch.setenv("SERVER_LIFETIME", "-1")
    assert main(["config", "--from-env"]) == 1
    said = capsys.readouterr()
    assert "max_client_conn = many\n" in said.out
    told = [line.partition(" in configuration (")[0] for line in said.err.splitlines() if " error: " in line]
    assert told == [
        'pgpool-core config: error: invalid value "many" for parameter max_client_conn',
        'pgpool-core config: error: invalid value "-1" for parameter server_lifetime',
    ]
    assert "hunter2" not in said.err


def test_the_exports_hide_passwords_unless_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://u:hunter2@h:5432/d")
    monkeypatch.delenv("PGBOUNCER_URLS", raising=False)
    assert main(["config", "--from-env", "heroku", "--exports"]) == 0
    assert "hunter2" not in capsys.readouterr().out
    assert main(["config", "--from-env", "heroku", "--exports", "--show-secrets"]) == 0
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert ["export", "DATABASE_URL=postgres://u:hunter2@127.0.0.1:6000/db1"] in lines


def test_an_environment_that_asks_for_nothing_is_told(
    environ: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.delenv("DB_HOST")
    assert main(["config", "--from-env"]) == 1
    assert "set DB_HOST" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["serve", "--from-env", "--config-dir", str(tmp_path)])
    assert ended.value.code == 1
    assert "set DB_HOST" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["serve"], ["serve", "--from-env", "docker", "x.ini"], ["config"]])
def test_a_file_or_the_environment_is_named_and_not_both(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2


def test_missing_files_are_written_for_nobody_else_to_read(tmp_path: Path, environ: dict[str, str]) -> None:
    ini = Path(prepare_files("docker", environ, str(tmp_path)))
    assert ini == tmp_path / "pgbouncer.ini"
    assert ini.read_text() == generate("docker", environ, str(tmp_path)).ini(show_secrets=True)
    users = tmp_path / "userlist.txt"
    assert users.read_text() == '"app" "hunter2"\n'
    assert {stat.S_IMODE(path.stat().st_mode) for path in (ini, users)} == {0o600}


def test_files_that_are_there_are_kept_and_users_added(tmp_path: Path, environ: dict[str, str]) -> None:
    (tmp_path / "pgbouncer.ini").write_text("; mine\n")
    (tmp_path / "userlist.txt").write_text('"other" "x"')
    for _ in range(2):
        prepare_files("docker", environ, str(tmp_path))
        assert (tmp_path / "pgbouncer.ini").read_text() == "; mine\n"
        assert (tmp_path / "userlist.txt").read_text() == '"other" "x"\n"app" "hunter2"\n'


def test_an_ini_of_the_buildpack_that_is_there_is_used_alone(tmp_path: Path) -> None:
    (tmp_path / "pgbouncer.ini").write_text("; mine\n")
    for given in (HEROKU, {}):
        ini = prepare_files("heroku", {**given, "PGBOUNCER_CONFIG_DIR": str(tmp_path)})
        assert ini == str(tmp_path / "pgbouncer.ini")
    assert not (tmp_path / "users.txt").exists()


def test_an_ini_of_the_image_that_is_there_needs_no_variables(tmp_path: Path) -> None:
    (tmp_path / "pgbouncer.ini").write_text("; mine\n")
    assert prepare_files("docker", {}, str(tmp_path)) == str(tmp_path / "pgbouncer.ini")
    assert not (tmp_path / "userlist.txt").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"cannot write .*none/userlist.txt: No such file .* \(--config-dir\)"):
        prepare_files("docker", environ, str(tmp_path / "none"))


def test_auth_file_may_be_elsewhere(tmp_path: Path, environ: dict[str, str]) -> None:
    users = tmp_path / "users"
    prepare_files("docker", {**environ, "AUTH_FILE": str(users)}, str(tmp_path))
    assert set(load_userlist(users)) == {b"app"}
