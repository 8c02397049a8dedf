"""Values that stand elsewhere: variables of the environment, files of secrets, URLs in place of pairs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pgpool_core.config import Config, ConfigError, DatabaseConfig, PasswordFile, parse_config

ENVIRON = {
    "HOST": "db.internal",
    "PORT": "5433",
    "SECRET": "p w'@:/?%${HOST}",
    "EMPTY": "",
    "LATIN": "\udce9",
    "PAIR": "port='p w'",
}


def database(line: str, environ: Mapping[str, str] = ENVIRON) -> DatabaseConfig:
    return parse_config(f"[databases]\ndb = {line}\n", environ=environ).databases["db"]


def problem(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_config(text, file="f.ini", environ=ENVIRON)
    assert len(caught.value.problems) == 1
    assert caught.value.line == 2
    return str(caught.value)


def setting(name: str, text: str) -> object:
    return getattr(parse_config(f"[pgbouncer]\n{name} = {text}\n", environ=ENVIRON), name)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("listen_port", "${PORT}", 5433),
        ("listen_port", "${NONE:-6000}", 6000),
        ("listen_port", "${EMPTY:-6000}", 6000),
        ("listen_addr", "127.0.0.1, ${HOST}", ("127.0.0.1", "db.internal")),
        ("logfile", "/var/log/${HOST}-${PORT}.log", "/var/log/db.internal-5433.log"),
        ("logfile", "/${EMPTY}/${NONE:-}x", "//x"),
        ("logfile", "$${HOST} $1 $HOST", "${HOST} $1 $HOST"),
        ("server_check_query", "select $1", "select $1"),
    ],
)
def test_a_variable_is_filled_in(name: str, text: str, value: object) -> None:
    assert setting(name, text) == value


def test_what_a_variable_holds_stays_one_value() -> None:
    assert database("host=${HOST} port=${PORT} password=${SECRET}") == DatabaseConfig(
        host="db.internal", port=5433, password=ENVIRON["SECRET"]
    )
    assert database("password='${SECRET}!'").password == ENVIRON["SECRET"] + "!"


def test_a_whole_entry_may_stand_in_a_variable_and_is_not_filled_in_again() -> None:
    url = "postgres://app:a%40${HOST}@10.0.0.1:5433/main?pool_size=7"
    entry = DatabaseConfig(host="10.0.0.1", port=5433, user="app", password="a@${HOST}", dbname="main", pool_size=7)
    assert database("${URL}", {"URL": url}) == entry
    pairs = "host=10.0.0.1 port=5433 user=app password='a@${HOST}' dbname=main pool_size=7"
    assert database("${URL}", {"URL": pairs}) == entry


def test_a_url_is_an_entry_and_a_variable_in_it_one_part_of_it() -> None:
    assert database("postgres://app@${HOST}:${PORT}/main") == DatabaseConfig(
        host="db.internal", port=5433, user="app", dbname="main"
    )
    assert database("postgresql://app:${SECRET}@h/main").password == ENVIRON["SECRET"]


def test_a_url_without_a_database_leaves_the_name_to_the_client() -> None:
    assert database("postgres://app@h") == DatabaseConfig(host="h", user="app")


@pytest.mark.parametrize(
    ("text", "start"),
    [
        (
            "[pgbouncer]\nlisten_port = ${NONE}\n",
            "invalid value for parameter listen_port in configuration (f.ini:2): the environment variable NONE is not set",
        ),
        (
            "[databases]\ndb = host=h password=${NONE}\n",
            'invalid value for parameter password of database "db" in configuration (f.ini:2): '
            "the environment variable NONE is not set",
        ),
        (
            "[databases]\ndb = ${NONE}\n",
            'invalid value for parameter db of database "db" in configuration (f.ini:2): the environment variable NONE',
        ),
        ("[databases]\ndb = postgres://u:${NONE}@h/d\n", "invalid value for parameter db of"),
        (
            "[pgbouncer]\nlogfile = ${1}\n",
            "invalid value for parameter logfile in configuration (f.ini:2): ${ is not followed by NAME}",
        ),
        (
            "[pgbouncer]\nlogfile = ${HOST\n",
            "invalid value for parameter logfile in configuration (f.ini:2): ${ is not",
        ),
        (
            "[pgbouncer]\nlogfile = ${LATIN}\n",
            "invalid value for parameter logfile in configuration (f.ini:2): the environment variable LATIN is not a text",
        ),
        (
            "[databases]\ndb = password=${EMPTY}\n",
            'invalid value for parameter password of database "db" in configuration (f.ini:2): expected a non-empty text',
        ),
    ],
)
def test_a_value_that_cannot_be_filled_in_names_the_variable(text: str, start: str) -> None:
    assert problem(text).startswith(start)


@pytest.mark.parametrize(
    "text",
    [
        "[pgbouncer]\nlisten_port = ${SECRET}\n",
        "[pgbouncer]\npool_mode = ${SECRET}\n",
        "[pgbouncer]\npeer_id = ${SECRET}\n",
        "[databases]\ndb = pool_size=${SECRET}\n",
        "[databases]\ndb = ${SECRET}\n",
        "[databases]\ndb = ${PAIR}\n",
        "[databases]\ndb = postgres://u@h:${SECRET}/d\n",
        "[databases]\ndb = postgres://u@h/d?pool_size=${SECRET}\n",
    ],
)
def test_no_error_repeats_what_a_variable_holds(text: str) -> None:
    assert "p w" not in problem(text)
    assert "p%20w" not in problem(text)


def test_a_secret_may_stand_in_a_file_whose_last_line_end_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"it's ${HOST} \r\n")
    password = database(f"host=h password=file:{tmp_path}/secret").password  # read when a server is logged in to
    assert password == PasswordFile(f"{tmp_path}/secret")
    assert database(f"host=h connect_query=file:{tmp_path}/secret").connect_query == "it's ${HOST} "
    assert database("password=file:${DIR}/secret", {"DIR": str(tmp_path)}).password == password


def test_a_whole_entry_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgres://app:x@h/main\n")
    assert database(f"file:{tmp_path}/url") == DatabaseConfig(host="h", user="app", password="x", dbname="main")


def test_only_secrets_stand_in_files() -> None:
    assert setting("logfile", "file:/x") == "file:/x"
    assert database("dbname=file:/x").dbname == "file:/x"


def test_a_secret_that_cannot_be_read_is_named_by_its_file(tmp_path: Path) -> None:
    assert f"cannot read {tmp_path}/none: No such file" in problem(f"[databases]\ndb = password=file:{tmp_path}/none\n")
    assert "Is a directory" in problem(f"[databases]\ndb = password=file:{tmp_path}\n")
    (tmp_path / "latin").write_bytes(b"hunter2\xe9")
    text = problem(f"[databases]\ndb = password=file:{tmp_path}/latin\n")
    assert "is not a text in UTF-8" in text
    assert "hunter2" not in text
    assert "is longer than" in problem("[databases]\ndb = password=file:/dev/zero\n")


def test_an_empty_secret_is_refused_as_an_empty_password_is(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("\n")
    assert "expected a non-empty text" in problem(f"[databases]\ndb = password=file:{tmp_path}/secret\n")


def test_a_bad_url_is_told_with_its_place_and_without_itself() -> None:
    text = problem("[databases]\ndb = postgres://u:hunter2@h:1,i:2/d\n")
    assert text.startswith('database "db": invalid connection URL: several hosts must share one port (f.ini:2)')
    assert "hunter2" not in text
    assert problem("[databases]\npgbouncer = postgres://h/d\n").startswith('database name "pgbouncer" is reserved')


def test_a_program_says_what_it_means() -> None:
    assert Config.of(databases={"db": {"password": "${SECRET}"}}).databases["db"].password == "${SECRET}"
