"""URLs of applications: the driver and its parameters stay, the way to the server is the pooler's."""

from __future__ import annotations

import pytest

from pgpool_core.embedded.address import ProxyAddress
from pgpool_core.embedded.urls import ApplicationUrl
from pgpool_core.errors import ConfigError
from pgpool_core.policy.secrets import Secret
from pgpool_core.policy.userlist import Userlist

USERS = Userlist({b"u": Secret.plain_password(b"new/word")})
TCP = ProxyAddress(host="127.0.0.1", port=7000, user="u", database="d", userlist=USERS)
UNIX = ProxyAddress(host="/run/x", port=6432, user="u", database="d", userlist=USERS)
BASE = "u:new%2Fword@127.0.0.1:7000/d"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("postgres://u:p@db:5433/d", f"postgres://{BASE}?sslmode=disable"),
        ("postgresql://u:p@db/d?sslmode=prefer", f"postgresql://{BASE}?sslmode=disable"),
        (
            "postgresql://u@db/d?connect_timeout=3&pgbouncer=true",
            f"postgresql://{BASE}?connect_timeout=3&pgbouncer=true&sslmode=disable",
        ),
        ("postgresql+asyncpg://u@db/d?ssl=prefer", f"postgresql+asyncpg://{BASE}"),
        (
            "postgresql+asyncpg://u@db/d?ssl=prefer&prepared_statement_cache_size=9",
            f"postgresql+asyncpg://{BASE}?prepared_statement_cache_size=9",
        ),
        ("postgresql+psycopg://u@db/d", f"postgresql+psycopg://{BASE}?sslmode=disable"),
        ("postgis://u@db/d", f"postgis://{BASE}?sslmode=disable"),
        ("postgresql://u@a,b/d?load_balance_hosts=disable", f"postgresql://{BASE}?sslmode=disable"),
    ],
)
def test_the_new_url_is_for_the_same_driver(given: str, expected: str) -> None:
    assert ApplicationUrl.parse(given).through(TCP, database="d", user="u") == expected


def test_a_unix_socket_stands_among_the_parameters() -> None:
    url = ApplicationUrl.parse("postgresql://u:p@db/d?application_name=web")
    expected = "postgresql://u:new%2Fword@/d?application_name=web&host=%2Frun%2Fx&port=6432"
    assert url.through(UNIX, database="d", user="u") == expected


def test_what_is_about_the_server_is_read() -> None:
    server = ApplicationUrl.parse("postgresql+psycopg2://u:p%40@a,b/d?load_balance_hosts=disable&sslmode=allow").server
    assert (server.user, server.password, server.hosts, server.dbname) == ("u", "p@", ("a", "b"), "d")
    assert server.load_balance_hosts == "disable"


@pytest.mark.parametrize(
    "given", ["mysql://u:secret@db/d", "secret", "", "postgresqlx://secret@db", "http://secret@db/d"]
)
def test_another_url_is_refused_without_repeating_it(given: str) -> None:
    with pytest.raises(ConfigError, match="not a URL that begins with postgres") as refused:
        ApplicationUrl.parse(given)
    assert "secret" not in str(refused.value)


def test_nothing_secret_is_in_a_repr() -> None:
    assert "p%40" not in repr(ApplicationUrl.parse("postgresql://u:p%40ss@db/d"))
    assert "ss" not in repr(ApplicationUrl.parse("postgresql://u:hu@db/d?x=pass")).replace("class", "")
