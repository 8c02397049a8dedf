"""Connection strings, as URL and as words."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgpool_core.config import ConfigError, DatabaseConfig, parse_dsn


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("postgres://", {}),
        ("postgresql://h", {"host": "h"}),
        (
            "postgres://u:p%40%2Fw%3A@h:5433/db",
            {"user": "u", "password": "p@/w:", "host": "h", "port": 5433, "dbname": "db"},
        ),
        ("postgres://u@h", {"user": "u", "host": "h", "dbname": "u"}),
        ("postgres://u:@h/db", {"user": "u", "host": "h", "dbname": "db"}),
        ("postgres://h/d%20b%3F", {"host": "h", "dbname": "d b?"}),
        ("postgres://[::1]:5433/db", {"host": "::1", "port": 5433, "dbname": "db"}),
        ("postgres://a:5433,b:5433/db", {"host": "a,b", "port": 5433, "dbname": "db"}),
        ("postgres://h:05433/db?pool_size=08", {"host": "h", "port": 5433, "dbname": "db", "pool_size": 8}),
        ("postgres:///db?host=/run/postgresql&port=5433", {"host": "/run/postgresql", "port": 5433, "dbname": "db"}),
        ("postgres://%2Frun%2Fpostgresql/db", {"host": "/run/postgresql", "dbname": "db"}),
        ("postgres:///db?user=u&password=p%26w", {"dbname": "db", "user": "u", "password": "p&w"}),
        ("postgres://h?application_name=a@b", {"host": "h", "application_name": "a@b"}),
        (
            "postgres://h/db?sslmode=disable&pool_size=7",
            {"host": "h", "dbname": "db", "sslmode": "disable", "pool_size": 7},
        ),
        (
            "postgres://h/db?ssl=true&gssencmode=disable&target_session_attrs=any",
            {"host": "h", "dbname": "db", "sslmode": "require"},
        ),
        ("postgres://h/db?fallback_application_name=f", {"host": "h", "dbname": "db", "application_name": "f"}),
        (
            "postgres://h/db?fallback_application_name=f&application_name=a",
            {"host": "h", "dbname": "db", "application_name": "a"},
        ),
        ("", {}),
        ("host=h dbname = db", {"host": "h", "dbname": "db"}),
        ("  host='h'\n password = 'a b\\'c\\\\' ", {"host": "h", "password": "a b'c\\"}),
        ("password=a\\ b user=''", {"password": "a b"}),
        ("host=a host=b", {"host": "b"}),
        ("reserve_pool=4 pool_mode=session", {"reserve_pool_size": 4, "pool_mode": "session"}),
    ],
)
def test_a_connection_string_is_read(text, fields):
    assert parse_dsn(text) == DatabaseConfig(**fields)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("postgres://h/db?sslmode=nonsense", "invalid value for connection parameter sslmode: expected one of disable"),
        ("postgres://h/db?sslpassword=hunter2", "sslpassword is not supported"),
        (
            "postgres://h/db?connect_timeout=10",
            "connect_timeout is not supported .*; set server_connect_timeout .* instead",
        ),
        ("postgres://h/db?options=-csearch_path%3Dx", "options is not supported"),
        ("postgres://h/db?hostaddr=1.2.3.4", "hostaddr is not supported"),
        ("postgres://h/db?target_session_attrs=primary", "this value of connection parameter target_session_attrs"),
        ("postgres://h/db?nonsense=1", "unknown connection parameter nonsense"),
        ("postgres://h/db?nonsense", "parameter 1 after"),
        ("postgres://h/db?port=0", "invalid value for connection parameter port"),
        ("postgres://h:5432x/db", "invalid value for connection parameter port"),
        ("postgres://h:1,i:2/db", "share one port"),
        ("postgres://[::1/db", "a host is not"),
        ("postgres://[::1]x/db", "a host is not"),
        ("postgres://u:50%@h/db", "% in the password is not followed by"),
        ("postgres://u:%FF@h/db", "password is not UTF-8"),
        ("postgres://h/a%00b", "zero byte in the database name"),
        ("mysql://h/db?x=1", "must begin with postgres://"),
        ("postgresql+psycopg://h/db", "must begin with postgres://"),
        ("somewhere", "neither postgres://"),
        ("host=h password='x", "word 2"),
        ("host=h password=x'y", "word 2"),
        ("host=h\0", "invalid value for connection parameter host"),
        (5, "must be text"),
    ],
)
def test_what_cannot_be_obeyed_is_refused(text, says):
    with pytest.raises(ConfigError, match=says):
        parse_dsn(text)


def test_every_problem_is_told_at_once():
    with pytest.raises(ConfigError) as caught:
        parse_dsn("postgres://h:99999/db?sslmode=most&options=x")
    assert [each.key for each in caught.value.problems] == ["port", "sslmode", "options"]


@pytest.mark.parametrize(
    "text",
    [
        "postgres://u:hunter2@h/db?x=1",
        "postgres://u:hunter2/x@h/db",
        "mysql://u:hunter2@h/db?x=1",
        "postgres://u:hunter2?x@h/db",
        "postgres://u:hunter2%@h/db",
        "postgres://u:a@hunter2@h:1:2/db",
        "postgres://u:a@hunter2@h:1/db",
        "postgres://u:a@hunter2@h/db",
        "password='hunter2",
        "password='a' hunter2",
        "password=hunter2'",
        "password=a hunter2!=x",
    ],
)
def test_no_error_repeats_a_password(text):
    with pytest.raises(ConfigError) as caught:
        parse_dsn(text)
    assert "hunter2" not in str(caught.value)


ODD = st.text(st.sampled_from("postgresql://:@/?&=%,[]' \\\0é1a"), max_size=30)


@given(
    (st.text(st.characters(exclude_categories=())) | ODD).flatmap(
        lambda text: st.sampled_from([text, "postgres://" + text])
    )
)
@example("postgres://\ud800")
@example("postgres://h:" + "9" * 5000)
def test_any_text_is_a_database_or_a_config_error(text):
    try:
        assert isinstance(parse_dsn(text), DatabaseConfig)
    except ConfigError as error:
        assert error.problems
