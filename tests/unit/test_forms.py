"""How the way to a proxy is written for each driver, and how Django's settings are made of it. The drivers themselves are asked in integration."""

from __future__ import annotations

import shlex
from typing import get_args
from urllib.parse import urlsplit

import pytest

from pgpool_core import django_database
from pgpool_core.config.dsn import parse_dsn
from pgpool_core.embedded.forms import Form, Way, django_entry

TCP = Way(host="127.0.0.1", port=6000, user="ann", password="s:e/c%r@t", database="my shop")
SIX = Way(host="::1", port=6000, user="ann", password=None, database="shop")
UNIX = Way(host="/run/my pool", port=6432, user="ann", password="secret", database="shop")


@pytest.mark.parametrize(
    ("form", "written"),
    [
        ("url", "postgresql://ann:s%3Ae%2Fc%25r%40t@127.0.0.1:6000/my%20shop?sslmode=disable"),
        ("sqlalchemy+psycopg", "postgresql+psycopg://ann:s%3Ae%2Fc%25r%40t@127.0.0.1:6000/my%20shop?sslmode=disable"),
        ("sqlalchemy+asyncpg", "postgresql+asyncpg://ann:s%3Ae%2Fc%25r%40t@127.0.0.1:6000/my%20shop"),
        (
            "jdbc",
            "jdbc:postgresql://127.0.0.1:6000/my%20shop?user=ann&password=s%3Ae%2Fc%25r%40t&sslmode=disable",
        ),
        (
            "libpq",
            "host='127.0.0.1' port='6000' dbname='my shop' user='ann' password='s:e/c%r@t' sslmode=disable",
        ),
    ],
)
def test_a_form_over_tcp(form: Form, written: str) -> None:
    assert TCP.written(form) == written


@pytest.mark.parametrize(
    ("form", "written"),
    [
        ("url", "postgresql://ann:secret@/shop?host=%2Frun%2Fmy%20pool&port=6432&sslmode=disable"),
        ("sqlalchemy+asyncpg", "postgresql+asyncpg://ann:secret@/shop?host=%2Frun%2Fmy%20pool&port=6432"),
        ("django", "postgresql://ann:secret@%2Frun%2Fmy%20pool:6432/shop?sslmode=disable"),
    ],
)
def test_a_form_over_a_unix_socket(form: Form, written: str) -> None:
    assert UNIX.written(form) == written


@pytest.mark.parametrize(
    ("form", "end"),
    [
        ("url", "?sslmode=require"),
        ("libpq", " sslmode=require"),
        ("libpq-env", "PGSSLMODE=require"),
        ("sqlalchemy+psycopg", "?sslmode=require"),
        ("sqlalchemy+asyncpg", "?ssl=require"),
        ("django", "?sslmode=require"),
        ("node-postgres", "?sslmode=no-verify"),
        ("jdbc", "sslmode=require"),
    ],
)
def test_where_tls_is_required_every_form_asks_for_it(form: Form, end: str) -> None:
    written = Way(host="127.0.0.1", port=6000, user="ann", password=None, database="shop", sslmode="require").written(
        form
    )
    assert end in written
    assert "disable" not in written


def test_ipv6_stands_in_brackets_and_an_unknown_password_nowhere() -> None:
    assert SIX.written("psycopg") == "postgresql://ann@[::1]:6000/shop?sslmode=disable"
    assert "PGPASSWORD" not in SIX.written("libpq-env")
    assert "password" not in SIX.written("libpq") + SIX.written("jdbc")


@pytest.mark.parametrize("form", ["url", "libpq"])
@pytest.mark.parametrize("way", [TCP, SIX, UNIX], ids=["tcp", "ipv6", "unix"])
def test_what_libpq_reads_we_read_back(form: Form, way: Way) -> None:
    entry = parse_dsn(way.written(form))
    assert (entry.hosts, entry.port, entry.user, entry.dbname) == ((way.host,), way.port, way.user, way.database)
    assert entry.password == way.password


def test_a_shell_reads_the_variables() -> None:
    odd = Way(host="127.0.0.1", port=1, user="o'brien", password="a b$c", database="d")
    words = shlex.split(odd.written("libpq-env"))
    assert "PGUSER=o'brien" in words
    assert "PGPASSWORD=a b$c" in words


def test_jdbc_has_no_unix_sockets() -> None:
    with pytest.raises(ValueError, match="no unix sockets"):
        UNIX.written("jdbc")


def test_an_unknown_form_names_those_that_there_are() -> None:
    with pytest.raises(
        ValueError, match=r"no form 'pgbouncer': it is one of url, .*jdbc; a database goes in as database="
    ):
        TCP.written("pgbouncer")  # type: ignore[arg-type]
    assert all(TCP.written(form) for form in get_args(Form))


def test_a_way_hides_its_password() -> None:
    assert "secret" not in repr(UNIX)


@pytest.mark.parametrize("way", [TCP, SIX, UNIX], ids=["tcp", "ipv6", "unix"])
@pytest.mark.parametrize("form", ["url", "django"])
def test_django_gets_what_the_url_says(form: Form, way: Way) -> None:
    entry = django_entry(way.written(form))
    assert {**entry, "PORT": str(entry["PORT"])} == {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": way.host,
        "PORT": str(way.port),
        "USER": way.user,
        "PASSWORD": way.password or "",
        "NAME": way.database,
        "OPTIONS": {"sslmode": "disable"},
    }


def test_django_settings_of_the_caller_go_first_and_options_are_added() -> None:
    entry = django_database(TCP.written("url"), CONN_MAX_AGE=60, NAME="other", OPTIONS={"server_side_binding": True})
    assert (entry["CONN_MAX_AGE"], entry["NAME"]) == (60, "other")
    assert entry["OPTIONS"] == {"sslmode": "disable", "server_side_binding": True}
    assert entry["DISABLE_SERVER_SIDE_CURSORS"] is False


@pytest.mark.parametrize("host", ["db", "db.example", "[::1]"])
def test_a_url_without_a_port_leaves_it_to_django(host: str) -> None:
    entry = django_database(f"postgres://u@{host}/d")
    assert (entry["HOST"], entry["PORT"]) == (host.strip("[]"), "")


def test_what_is_no_url_of_postgresql_is_not_repeated() -> None:
    with pytest.raises(ValueError, match="not a URL that begins with postgresql://") as caught:
        django_database("mysql://u:hidden@h/d")
    assert "hidden" not in str(caught.value)
    with pytest.raises(ValueError, match="names its own database"):
        django_database(TCP.url(), database="other")


def test_urls_survive_the_standard_library() -> None:
    parts = urlsplit(UNIX.written("django"))
    assert (parts.port, parts.username) == (6432, "ann")
