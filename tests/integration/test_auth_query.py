"""Users who are not in auth_file: looked up by auth_query, let in with what PostgreSQL has stored, and on to PostgreSQL with it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import ipaddress
import re
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import psycopg2
import pytest

from pgpool_core.control.auth_query import CONNECTIONS
from pgpool_core.control.inquiries import confirmed_name
from pgpool_core.testing import PoolerProcess, PostgresServer, PostgresUser, frontend
from tests.conftest import CONSOLE_USERS, PoolerFactory
from tests.console import Console
from tests.watching import until

LOOKER = PostgresUser(name="looker", password="looks up", options="SUPERUSER")
USERS = (
    LOOKER,
    PostgresUser(name="newer", password="newer-secret"),
    PostgresUser(name="older", password="older-secret", method="md5"),
    PostgresUser(name="guest", password="first"),
    PostgresUser(name="trusted", password="", method="trust"),
)
AUTH: dict[str, Any] = {"auth_user": "looker", "pool_mode": "transaction"}


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer(users=USERS, databases=("app", "other")) as running:
        yield running


@pytest.fixture
def role(server: PostgresServer) -> Iterator[str]:
    """A user whom the test may change."""
    yield "guest"
    server.sql("alter role guest login password 'first' valid until 'infinity'")


def entries(server: PostgresServer, more: str = "") -> dict[str, str]:
    place = f"host={server.host} port={server.port}"
    return {"app": f"{place} {more}", "other": place}


def who(url: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute("select current_user").fetchone()
        assert row is not None
        return str(row[0])


def refused(url: str) -> str:
    with pytest.raises(psycopg.OperationalError) as caught:
        psycopg.connect(url)
    return str(caught.value)


LOOKS_UP = {"looker": LOOKER.password}


@pytest.mark.parametrize(  # "older" has an md5 secret, which cannot check a SCRAM login
    ("auth_type", "user"),
    [("plain", "newer"), ("plain", "older"), ("md5", "newer"), ("md5", "older"), ("scram-sha-256", "newer")],
)
def test_postgres_secrets_let_users_in_and_on_to_postgres(
    any_pooler: PoolerFactory, server: PostgresServer, auth_type: str, user: str
) -> None:
    place = any_pooler(databases=entries(server), passwords=LOOKS_UP, auth_type=auth_type, **AUTH)
    if place.kind == "pgbouncer" and (auth_type, user) == ("plain", "newer"):
        pytest.skip("PgBouncer learns no key from a plain password")
    for _ in range(2):  # the second login finds what the first has left
        assert who(place.url(user, "app", password=f"{user}-secret")) == user
    assert "FATAL" in refused(place.url(user, "app", password="wrong"))


def scram_secret(password: str, rounds: int, salt: bytes = b"saltsaltsaltsalt") -> str:
    """As ALTER ROLE takes it ready-made."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    keys = [base64.b64encode(each).decode() for each in (stored, hmac.digest(salted, b"Server Key", "sha256"))]
    return f"SCRAM-SHA-256${rounds}:{base64.b64encode(salt).decode()}${keys[0]}:{keys[1]}"


def test_a_salt_may_have_so_many_bytes_and_no_more(pooler: PoolerFactory, server: PostgresServer, role: str) -> None:
    place = pooler(databases=entries(server), passwords=LOOKS_UP, auth_query_ttl=0, **AUTH)
    server.sql(f"alter role {role} password '{scram_secret('first', 4096, b's' * 64)}'")
    assert who(place.url(role, "app", password="first")) == role
    server.sql(f"alter role {role} password '{scram_secret('first', 4096, b's' * 65)}'")
    assert "password authentication failed" in refused(place.url(role, "app", password="first"))
    place.wait_for_log("unusable secret from auth_query: the salt of a SCRAM secret has 1 to 64 bytes")


def test_plain_passwords_that_no_worker_checks(pooler: PoolerFactory, server: PostgresServer, role: str) -> None:
    """Secrets of many rounds, which any role may give itself, would hold up all clients; SASLprep is not for workers either."""
    place = pooler(databases=entries(server), passwords=LOOKS_UP, auth_type="plain", auth_failure_delay=0, **AUTH)
    server.sql(f"alter role {role} password '{scram_secret('first', 30_000)}'")
    for _ in range(2):
        assert who(place.url(role, "app", password="first")) == role
    unknown = refused(place.url("nobody", "app", password="grüße"))
    for wrong in ("wrong", "grüße"):
        assert refused(place.url(role, "app", password=wrong)).replace(role, "nobody") == unknown
    with psycopg.connect(place.url("pgbouncer", "pgbouncer", unix=True, password=""), autocommit=True) as console:
        steps = {row[0]: row[1:] for row in console.execute("show logins")}
    assert steps["rounds"][3] >= 4
    server.sql(f"alter role {role} password 'Ⅸ'")  # IX, after SASLprep
    until(lambda: not failed(place.url(role, "app", password="IX")))
    assert who(place.url(role, "app", password="Ⅸ")) == role


def failed(url: str) -> bool:
    try:
        return not who(url)
    except psycopg.OperationalError:
        return True


def test_every_driver_gets_through(pooler: PoolerFactory, server: PostgresServer) -> None:
    place = pooler(databases=entries(server), passwords=LOOKS_UP, auth_type="md5", **AUTH)
    for user in ("newer", "older"):
        how: dict[str, Any] = {
            "host": place.host,
            "port": place.port,
            "user": user,
            "password": f"{user}-secret",
            "database": "app",
        }
        with contextlib.closing(psycopg2.connect(**how)) as connection, connection.cursor() as cursor:
            cursor.execute("select current_user")
            assert cursor.fetchone() == (user,)

        async def asked(how: dict[str, Any] = how) -> object:
            link = await asyncpg.connect(**how)
            try:
                return await link.fetchval("select current_user")
            finally:
                await link.close()

        assert asyncio.run(asked()) == user


@pytest.mark.parametrize("auth_type", ["plain", "md5", "scram-sha-256"])
def test_a_user_who_does_not_exist_learns_no_more_than_one_with_a_wrong_password(
    pooler: PoolerFactory, server: PostgresServer, auth_type: str
) -> None:
    place = pooler(databases=entries(server), passwords=LOOKS_UP, auth_type=auth_type, **AUTH)
    told = {name: refused(place.url(name, "app", password="wrong")) for name in ("newer", "nobody")}
    assert 'password authentication failed for user "nobody"' in told["nobody"]
    assert told["newer"].replace("newer", "X") == told["nobody"].replace("nobody", "X")
    place.wait_for_log(r"no such user user=nobody")


def test_with_trust_nobody_comes_in_who_does_not_exist(any_pooler: PoolerFactory, server: PostgresServer) -> None:
    place = any_pooler(databases=entries(server), passwords=LOOKS_UP, auth_type="trust", **AUTH)
    assert who(place.url("trusted", "app")) == "trusted"
    assert "no such user" in refused(place.url("nobody", "app"))


def test_a_user_without_a_password_and_an_expired_one_cannot_log_in(
    pooler: PoolerFactory, server: PostgresServer, role: str
) -> None:
    place = pooler(databases=entries(server), passwords=LOOKS_UP, auth_type="md5", **AUTH)
    server.sql("alter role guest valid until '2001-01-01'")
    assert "password authentication failed" in refused(place.url(role, "app", password="first"))
    assert "password authentication failed" in refused(place.url("trusted", "app", password="first"))
    server.sql("alter role guest nologin valid until 'infinity'")
    assert "password authentication failed" in refused(place.url(role, "app", password="first"))


@pytest.mark.parametrize("ttl", ["0", "3600"])
def test_a_new_password_works_at_once(pooler: PoolerFactory, server: PostgresServer, role: str, ttl: str) -> None:
    """The answer that is remembered is older than a second: a login that fails has it looked up again."""
    place = pooler(databases=entries(server), passwords=LOOKS_UP, auth_type="plain", auth_query_ttl=ttl, **AUTH)
    assert who(place.url(role, "app", password="first")) == role
    server.sql("alter role guest password 'second'; select pg_sleep(1.1)")
    assert who(place.url(role, "app", password="second")) == role
    assert "password authentication failed" in refused(place.url(role, "app", password="first"))


@pytest.mark.parametrize("ttl", ["0", "3600"])
def test_with_scram_the_login_that_finds_the_old_secret_is_the_last_to_fail(
    pooler: PoolerFactory, server: PostgresServer, role: str, ttl: str
) -> None:
    place = pooler(databases=entries(server), passwords=LOOKS_UP, auth_query_ttl=ttl, **AUTH)
    assert who(place.url(role, "app", password="first")) == role
    server.sql("alter role guest password 'second'; select pg_sleep(1.1)")
    if ttl != "0":
        assert "password authentication failed" in refused(place.url(role, "app", password="second"))
    assert who(place.url(role, "app", password="second")) == role


@pytest.mark.parametrize("auth_type", ["plain", "md5", "scram-sha-256"])
def test_servers_are_opened_with_the_new_password(
    pooler: PoolerFactory, server: PostgresServer, role: str, auth_type: str
) -> None:
    place = pooler(databases=entries(server), passwords=LOOKS_UP, auth_type=auth_type, auth_query_ttl=0, **AUTH)
    assert who(place.url(role, "app", password="first")) == role
    server.sql("alter role guest password 'second'")
    with psycopg.connect(place.url(role, "app", password="second"), autocommit=True) as connection:
        assert connection.execute("select current_user").fetchone() == (role,)  # by the server that is there
        server.sql("select pg_terminate_backend(pid, 30000) from pg_stat_activity where usename = 'guest'")
        place.wait_for_log("S-.* closing because: ")
        assert connection.execute("select current_user").fetchone() == (role,)


def test_a_new_password_is_tried_at_once_where_the_old_one_has_failed(
    pooler: PoolerFactory, server: PostgresServer, role: str
) -> None:
    place = pooler(databases=entries(server), passwords=LOOKS_UP, auth_query_ttl=0, server_login_retry=3600, **AUTH)
    with psycopg.connect(place.url(role, "app", password="first"), autocommit=True) as connection:
        connection.execute("select 1")
        server.sql("alter role guest password 'second'")
        server.sql("select pg_terminate_backend(pid, 30000) from pg_stat_activity where usename = 'guest'")
        place.wait_for_log("S-.* closing because: ")
        with pytest.raises(psycopg.OperationalError, match="wrong password type"):
            connection.execute("select 1")
    assert who(place.url(role, "app", password="second")) == role


def test_answers_are_remembered_for_auth_query_ttl(pooler: PoolerFactory, server: PostgresServer, role: str) -> None:
    """Seen at a lookup function that counts."""
    server.sql(
        """create sequence asked;
        create function find_user(name text) returns table (u text, p text) language sql security definer as
        $$ select rolname::text, rolpassword from pg_authid where rolname = $1 and nextval('asked') > 0 $$;""",
        database="app",
    )
    try:
        how: dict[str, Any] = {"passwords": LOOKS_UP, "auth_query": "select * from find_user($1)", **AUTH}
        asked = []
        for ttl in ("3600", "0"):
            place = pooler(databases=entries(server), auth_query_ttl=ttl, **how)
            server.sql("select setval('asked', 1)", database="app")
            for _ in range(3):
                assert who(place.url(role, "app", password="first")) == role
            asked.append(int(server.sql("select last_value from asked", database="app").split()[-1]) - 1)
        assert asked == [1, 3]
    finally:
        server.sql("drop function find_user; drop sequence asked", database="app")


def test_many_logins_at_once_ask_once(pooler: PoolerFactory, server: PostgresServer) -> None:
    place = pooler(
        databases=entries(server), passwords=LOOKS_UP, auth_query="select $1, pg_sleep(0.1)::text || 'x'", **AUTH
    )
    with ThreadPoolExecutor(20) as threads:
        told = list(threads.map(lambda _: refused(place.url("newer", "app", password="wrong")), range(20)))
    assert all("password authentication failed" in text for text in told)
    seen = server.sql("select count(*) from pg_stat_activity where usename = 'looker'")
    assert int(seen.split()[-1]) == 1


def test_auth_dbname_goes_before_the_clients_database(pooler: PoolerFactory, server: PostgresServer) -> None:
    query = (
        "select rolname, case when current_database() = 'other' then rolpassword end from pg_authid where rolname = $1"
    )
    old = pooler(databases=entries(server), passwords=LOOKS_UP, auth_query=query, auth_type="md5", **AUTH)
    assert "failed" in refused(old.url("older", "app", password="older-secret"))
    place = pooler(
        databases=entries(server), passwords=LOOKS_UP, auth_query=query, auth_dbname="other", auth_type="md5", **AUTH
    )
    assert who(place.url("older", "app", password="older-secret")) == "older"


def test_an_entry_may_have_its_own_auth_user_and_query(pooler: PoolerFactory, server: PostgresServer) -> None:
    own = "auth_user=looker auth_dbname=other auth_query='select rolname, rolpassword from pg_authid where rolname=$1'"
    place = pooler(databases=entries(server, own), passwords=LOOKS_UP, auth_type="md5")
    assert who(place.url("older", "app", password="older-secret")) == "older"
    assert "failed" in refused(place.url("older", "other", password="older-secret"))


@pytest.mark.parametrize(
    ("query", "logged"),
    [
        ("select $1::text", "expected 2 columns from auth_query, not 1"),
        ("select $1::text, 2, 3", "expected 2 columns from auth_query, not 3"),
        ("select * from no_such_table", "error in auth_query: 42P01"),
        ("select 'somebody', $1", "another user's name"),
        ("select $1, 'a' union all select $1, 'b'", "at most 1 row"),
    ],
)
def test_a_query_that_cannot_be_used_is_a_config_error(
    pooler: PoolerFactory, server: PostgresServer, query: str, logged: str
) -> None:
    place = pooler(databases=entries(server), passwords=LOOKS_UP, auth_query=query, **AUTH)
    assert "bouncer config error" in refused(place.url("newer", "app", password="newer-secret"))
    place.wait_for_log(re.escape(logged))


def test_an_auth_user_whom_postgres_refuses_is_a_config_error(pooler: PoolerFactory, server: PostgresServer) -> None:
    place = pooler(databases=entries(server), passwords={"looker": "wrong"}, **AUTH)
    assert "bouncer config error" in refused(place.url("newer", "app", password="newer-secret"))
    place.wait_for_log("auth_query: server login failed at .* password authentication failed")


def test_a_server_that_is_not_there_is_said_to_be_unavailable(pooler: PoolerFactory, server: PostgresServer) -> None:
    place = pooler(databases={"app": "host=127.0.0.1 port=1"}, passwords=LOOKS_UP, **AUTH)
    assert "users cannot be looked up now" in refused(place.url("newer", "app", password="newer-secret"))


@pytest.mark.parametrize("ignored", ["search_path, options", "extra_float_digits"])
def test_what_a_client_asks_for_at_login_does_not_reach_the_lookup(
    any_pooler: PoolerFactory, server: PostgresServer, pgbouncers_way: dict[str, str], ignored: str
) -> None:
    """CVE-2025-12819: a search_path of the client's would choose what `my_users` is. Where it is not ignored it follows, also as with PgBouncer."""
    server.sql(
        """create table public.my_users as select rolname::text as u, rolpassword as p from pg_authid;
        create schema evil;
        create table evil.my_users as select rolname::text as u, 'chosen'::text as p from pg_authid;
        grant usage on schema evil to public; grant select on evil.my_users to public;""",
        database="app",
    )
    try:
        place = any_pooler(
            databases=entries(server),
            passwords=LOOKS_UP,
            auth_type="plain",
            auth_query="select u, p from my_users where u = $1",
            ignore_startup_parameters=ignored,
            **pgbouncers_way,
            **AUTH,
        )
        for _ in range(2):
            url = place.url("newer", "app", password="chosen") + "?options=-csearch_path%3Devil"
            told = refused(url)
            assert "authentication failed" in told or "unsupported startup parameter" in told, told
    finally:
        server.sql("drop table public.my_users; drop schema evil cascade", database="app")


def test_what_an_owner_puts_on_the_search_path_does_not_decide_what_the_default_query_asks(
    pooler: PoolerFactory, server: PostgresServer
) -> None:
    server.sql(
        """create schema evil;
        create view evil.pg_authid as select 'newer'::name as rolname, null::timestamptz as rolvaliduntil,
            'chosen'::text as rolpassword, true as rolcanlogin;
        grant usage on schema evil to public; grant select on evil.pg_authid to public;
        alter database app set search_path = evil, pg_catalog""",
        database="app",
    )
    try:
        place = pooler(databases=entries(server), passwords=LOOKS_UP, auth_type="plain", **AUTH)
        assert "failed" in refused(place.url("newer", "app", password="chosen"))
        assert who(place.url("newer", "app", password="newer-secret")) == "newer"
    finally:
        server.sql("alter database app reset search_path; drop schema evil cascade", database="app")


def test_who_has_left_is_not_looked_up(pooler: PoolerFactory, server: PostgresServer) -> None:
    server.sql(
        """create table asked(name text);
        create function slowly(name text) returns table (u text, p text) language plpgsql as $$ begin
            insert into asked values ($1); perform pg_advisory_xact_lock_shared(7);
            return query select rolname::text, rolpassword from pg_authid where rolname = $1; end $$;""",
        database="app",
    )
    try:
        place = pooler(
            databases=entries(server),
            passwords={**LOOKS_UP, **CONSOLE_USERS},
            auth_query="select * from slowly($1)",
            **AUTH,
        )
        with (
            psycopg.connect(server.dsn("looker", "app"), autocommit=True) as holder,
            ThreadPoolExecutor(CONNECTIONS) as threads,
            contextlib.ExitStack() as ghosts,
        ):
            holder.execute("select pg_advisory_lock(7)")
            there = [threads.submit(refused, place.url(f"user{n}", "app", password="x")) for n in range(CONNECTIONS)]
            waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
            until(lambda: holder.execute(waiting).fetchone() == (CONNECTIONS,))
            for n in range(50):
                ghost = ghosts.enter_context(socket.create_connection((place.host, place.port)))
                ghost.sendall(frontend.startup(f"ghost{n}", "app"))
            until(lambda: logging_in(place) == CONNECTIONS + 50)
            ghosts.close()
            until(lambda: logging_in(place) == CONNECTIONS)
            holder.execute("select pg_advisory_unlock(7)")
            assert all("failed" in each.result(30) for each in there)
            assert "failed" in refused(place.url("after", "app", password="x"))  # who came last is asked about last
        names = server.sql("select name from asked order by name", database="app").split()
        assert [name for name in names if name.startswith("ghost")] == []
        assert "after" in names
    finally:
        server.sql("drop function slowly; drop table asked", database="app")


def logging_in(place: PoolerProcess) -> int:
    with Console(place) as console:
        return next(row["active"] + row["waiting"] for row in console.rows("SHOW LOGINS") if row["step"] == "login")


def test_strangers_make_no_pools(pooler: PoolerFactory, server: PostgresServer) -> None:
    """A name of `*` that nobody has logged in to costs nothing that stays."""
    place = pooler(
        databases={"*": f"host={server.host} port={server.port}"}, passwords={"newer": "newer-secret", **CONSOLE_USERS}
    )
    for n in range(3):
        assert "failed" in refused(place.url("newer", f"nowhere{n}", password="wrong"))
    assert who(place.url("newer", "other", password="newer-secret")) == "newer"
    assert "nowhere" not in "".join(line for line in place.log.splitlines() if "auto-database" in line)
    with Console(place) as console:
        assert {row["database"] for row in console.rows("SHOW POOLS")} == {"other", "pgbouncer"}


def test_a_restarted_server_costs_no_login(pooler: PoolerFactory) -> None:
    with PostgresServer(users=USERS, databases=("app",)) as own:
        place = pooler(
            databases={"app": f"host={own.host} port={own.port}"}, passwords=LOOKS_UP, auth_query_ttl=0, **AUTH
        )
        assert who(place.url("newer", "app", password="newer-secret")) == "newer"
        own.restart()
        assert who(place.url("newer", "app", password="newer-secret")) == "newer"


def test_a_reload_begins_anew(pooler: PoolerFactory, server: PostgresServer, role: str) -> None:
    place = pooler(databases=entries(server), passwords=LOOKS_UP, auth_query_ttl=3600, **AUTH)
    assert who(place.url(role, "app", password="first")) == role
    place.settings["auth_user"] = ""
    place.reload()
    place.wait_for_log("configuration reloaded")
    assert "password authentication failed" in refused(place.url(role, "app", password="first"))


def test_the_console_is_open_to_users_who_are_looked_up(pooler: PoolerFactory, server: PostgresServer) -> None:
    place = pooler(
        databases=entries(server),
        passwords=LOOKS_UP,
        auth_dbname="app",
        admin_users="newer",
        auth_type="scram-sha-256",
        **AUTH,
    )
    with psycopg.connect(place.url("newer", "pgbouncer", password="newer-secret"), autocommit=True) as connection:
        assert connection.execute("show version").fetchone()


# -- pass-through ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("auth_type", ["md5", "scram-sha-256"])
def test_the_clients_scram_login_unlocks_the_server(
    any_pooler: PoolerFactory, server: PostgresServer, auth_type: str
) -> None:
    """Nothing but the stored secret is in auth_file."""
    stored = server.sql("select rolpassword from pg_authid where rolname = 'newer'").split()[-1]
    assert stored.startswith("SCRAM-SHA-256$")
    place = any_pooler(databases=entries(server), passwords={"newer": stored}, auth_type=auth_type)
    for _ in range(2):
        assert who(place.url("newer", "app", password="newer-secret")) == "newer"
    assert who(place.url("newer", "other", password="newer-secret")) == "newer"


def test_without_the_clients_keys_the_server_cannot_be_unlocked(
    any_pooler: PoolerFactory, server: PostgresServer
) -> None:
    stored = server.sql("select rolpassword from pg_authid where rolname = 'newer'").split()[-1]
    place = any_pooler(databases=entries(server), passwords={"newer": stored}, auth_type="trust")
    assert "server login failed: wrong password type" in refused(place.url("newer", "app"))
    place.wait_for_log("client authentication did not provide SCRAM keys")


def test_a_secret_that_is_not_the_servers_does_not_unlock_it(
    pooler: PoolerFactory, server: PostgresServer, role: str
) -> None:
    stored = server.sql("select rolpassword from pg_authid where rolname = 'guest'").split()[-1]
    server.sql("alter role guest password 'first'")  # the same password with another salt
    place = pooler(databases=entries(server), passwords={role: stored})
    assert "server login failed: wrong password type" in refused(place.url(role, "app", password="first"))


def test_a_key_is_known_until_the_secret_changes(pooler: PoolerFactory, server: PostgresServer, role: str) -> None:
    stored = server.sql("select rolpassword from pg_authid where rolname = 'guest'").split()[-1]
    place = pooler(databases=entries(server), passwords={role: stored})
    for database in ("app", "other"):
        assert who(place.url(role, database, password="first")) == role
    server.sql("alter role guest password 'second'")
    place.passwords = {role: server.sql("select rolpassword from pg_authid where rolname = 'guest'").split()[-1]}
    place.reload()
    place.wait_for_log("configuration reloaded")
    assert "password authentication failed" in refused(place.url(role, "app", password="first"))
    assert who(place.url(role, "app", password="second")) == role


def test_no_secret_and_no_key_reaches_the_log(pooler: PoolerFactory, server: PostgresServer) -> None:
    place = pooler(databases=entries(server), passwords=LOOKS_UP, verbose=3, auth_type="md5", **AUTH)
    assert who(place.url("newer", "app", password="newer-secret")) == "newer"
    refused(place.url("newer", "app", password="a wrong one"))
    for word in ("newer-secret", "looks up", "a wrong one", "SCRAM-SHA-256$", "rolpassword"):
        assert word not in place.log


# -- counted -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", ["max_db_connections", "max_user_connections"])
def test_lookups_are_counted_by_the_limits(pooler: PoolerFactory, server: PostgresServer, limit: str) -> None:
    """An idle server makes room for a lookup, the lookup for a server; where all are in use, a login waits, and hears why not."""
    databases = {
        "app": f"host={server.host} port={server.port} user=looker",
        "other": f"host={server.host} port={server.port}",
    }
    place = pooler(
        databases=databases, passwords=LOOKS_UP, auth_type="md5", server_connect_timeout=2, **{limit: 1}, **AUTH
    )
    for user in ("newer", "older"):
        assert who(place.url(user, "app", password=f"{user}-secret")) == "looker"
    assert int(server.sql("select count(*) from pg_stat_activity where usename = 'looker'").split()[-1]) == 1
    with psycopg.connect(place.url("newer", "app", password="newer-secret")) as connection:
        connection.execute("select 1")
        told = refused(place.url("guest", "app", password="first"))
        assert "no server connection is free (max_db_connections, max_user_connections)" in told
    assert who(place.url("guest", "app", password="first")) == "looker"


# -- with rules --------------------------------------------------------------------------------------------------------


def test_rules_are_about_users_who_are_looked_up_too(pooler: PoolerFactory, server: PostgresServer) -> None:
    place = pooler(start=False, databases=entries(server), passwords=LOOKS_UP, auth_type="hba", **AUTH)
    rules = place.folder / "rules"
    rules.write_text(
        "host app newer 127.0.0.1/32 scram-sha-256\nhost app older all md5\nhost app trusted,nobody all trust\n"
    )
    place.settings["auth_hba_file"] = rules
    place.start()
    for user in ("newer", "older"):
        assert who(place.url(user, "app", password=f"{user}-secret")) == user
        assert "password authentication failed" in refused(place.url(user, "app", password="wrong"))
        assert "no authentication method is found" in refused(place.url(user, "other", password=f"{user}-secret"))
    assert who(place.url("trusted", "app")) == "trusted"
    assert "no such user" in refused(place.url("nobody", "app"))


def grouped(factory: PoolerFactory, server: PostgresServer, rules: str, **more: Any) -> PoolerProcess:
    place = factory(start=False, databases=entries(server), passwords=LOOKS_UP, auth_type="hba", **{**AUTH, **more})
    path = place.folder / "rules"
    path.write_text(rules)
    place.settings["auth_hba_file"] = path
    place.start()
    return place


def test_rules_may_be_about_the_members_of_a_role(pooler: PoolerFactory, server: PostgresServer) -> None:
    """Membership of any depth counts, being a superuser does not."""
    server.sql(
        "create role staff; create role crew; create role app; grant staff to crew; grant crew to newer; grant app to older"
    )
    try:
        place = grouped(
            pooler, server, "host all +staff all scram-sha-256\nhost samerole all all md5\nhost all all all reject\n"
        )
        assert who(place.url("newer", "app", password="newer-secret")) == "newer"
        assert who(place.url("older", "app", password="older-secret")) == "older"
        assert "login rejected" in refused(place.url("older", "other", password="older-secret"))
        assert "login rejected" in refused(place.url("looker", "app", password=LOOKER.password))
        assert "login rejected" in refused(place.url("nobody", "app"))
        server.sql("revoke crew from newer; ")
        assert who(place.url("newer", "app", password="newer-secret")) == "newer"  # remembered
        place.reload()
        place.wait_for_log("configuration reloaded")
        assert "login rejected" in refused(place.url("newer", "app", password="newer-secret"))
    finally:
        server.sql("drop role staff; drop role crew; drop role app")


def test_where_nobody_can_be_asked_for_roles_the_lines_about_them_let_nobody_past(
    pooler: PoolerFactory, server: PostgresServer
) -> None:
    """The console is in no database of a server; auth_dbname says which one is asked."""
    rules = "host all +staff all reject\nhost all all all trust\n"
    place = grouped(pooler, server, rules, admin_users="newer")
    assert "bouncer config error" in refused(place.url("newer", "pgbouncer"))
    place.wait_for_log(r"pgbouncer/newer auth_hba_file asks for membership in a role.*\(auth_dbname\)")
    assert who(place.url("trusted", "app")) == "trusted"
    asked = grouped(pooler, server, rules, admin_users="newer", auth_dbname="app")
    with psycopg.connect(asked.url("newer", "pgbouncer"), autocommit=True) as connection:
        assert connection.execute("show version").fetchone()
    nobody = grouped(pooler, server, rules, auth_user="")
    nobody.wait_for_log(r"rules:1: membership in roles is looked up by auth_user, which is not set \(auth_user\)")
    assert "bouncer config error" in refused(nobody.url("looker", "app"))


def test_one_who_waits_for_roles_holds_nobody_up(pooler: PoolerFactory, own_postgres: PostgresServer) -> None:
    """The server that is to be asked stands still; others log in meanwhile, and it gets its answer in the end."""
    databases = dict.fromkeys(("app", "other"), f"host={own_postgres.host} port={own_postgres.port} user=app")
    place = pooler(start=False, databases=databases, auth_type="hba", auth_user="app", auth_dbname="app")
    path = place.folder / "rules"
    path.write_text("host other all all trust\nhost app +app all trust\n")
    place.settings["auth_hba_file"] = path
    place.start()
    assert who(place.url("app", "other")) == "app"  # the pool has its greeting now
    own_postgres.pause()
    try:
        with ThreadPoolExecutor(1) as threads:
            waits = threads.submit(psycopg.connect, place.url("app", "app"))
            with psycopg.connect(place.url("app", "other")):
                assert not waits.done()
            own_postgres.resume()
            waits.result(30).close()
    finally:
        own_postgres.resume()


def test_rules_may_name_hosts(pooler: PoolerFactory, server: PostgresServer) -> None:
    name = confirmed_name(ipaddress.ip_address("127.0.0.1"))
    if not name:
        pytest.skip("127.0.0.1 has no name here")
    place = grouped(pooler, server, f"host app trusted {name.upper()} trust\nhost all all db.invalid trust\n")
    assert who(place.url("trusted", "app")) == "trusted"
    assert "no authentication method is found" in refused(place.url("trusted", "other"))


ASKING = "select count(*) from pg_stat_activity where usename = 'looker' and backend_type = 'client backend'"


@pytest.mark.parametrize("order", ["PAUSE", "PAUSE app", "KILL", "RECONNECT", "RECONNECT app"])
def test_orders_about_servers_are_about_those_that_auth_query_has_too(
    pooler: PoolerFactory, server: PostgresServer, order: str
) -> None:
    place = pooler(databases=entries(server), passwords={**LOOKS_UP, **CONSOLE_USERS}, auth_query_ttl=0, **AUTH)
    with Console(place) as console:
        assert who(place.url("newer", "app", password="newer-secret")) == "newer"
        assert server.sql(ASKING) == "1"
        console.run(order)
        until(lambda: server.sql(ASKING) == "0", patience_s=10)


def looking_up(console: Console) -> bool:
    return any(row["step"] == "auth_query" and row["active"] for row in console.rows("SHOW LOGINS"))


@pytest.mark.parametrize("order", ["PAUSE", "PAUSE app"])
def test_who_is_looked_up_in_a_pause_waits_and_nothing_is_asked(
    any_pooler: PoolerFactory, server: PostgresServer, order: str
) -> None:
    server.sql(
        """create table asked (at timestamptz default clock_timestamp());
        create function noted(name text) returns table (u text, p text) language plpgsql as $$ begin
            insert into asked default values;
            return query select rolname::text, rolpassword from pg_authid where rolname = $1; end $$;""",
        database="app",
    )
    passwords = {**LOOKS_UP, **CONSOLE_USERS}
    query = "select * from noted($1)"
    try:
        place = any_pooler(databases=entries(server), passwords=passwords, auth_query=query, **AUTH)
        with Console(place) as console, ThreadPoolExecutor() as pool:
            console.run(order)
            waits = pool.submit(who, place.url("newer", "app", password="newer-secret"))
            if place.kind == "pgpool_core":
                until(lambda: waits.done() or looking_up(console))
            else:
                until(lambda: waits.done() or any(row["cl_waiting"] for row in console.rows("SHOW POOLS")))
            assert not waits.done()
            resumed = server.sql("select clock_timestamp()")
            console.run("RESUME" + order.removeprefix("PAUSE"))
            assert waits.result() == "newer"
        assert server.sql(f"select count(*), min(at) > '{resumed}' from asked", database="app") == "1|t"
    finally:
        server.sql("drop function noted; drop table asked", database="app")


def test_who_ends_a_pause_is_looked_up(pooler: PoolerFactory, server: PostgresServer) -> None:
    place = pooler(
        databases=entries(server),
        passwords=LOOKS_UP,
        admin_users="newer",
        auth_dbname="app",
        auth_query_ttl=0,
        **AUTH,
    )
    for order in ("PAUSE", "RESUME"):
        with psycopg.connect(place.url("newer", "pgbouncer", password="newer-secret"), autocommit=True) as console:
            console.execute(order)
    assert who(place.url("newer", "app", password="newer-secret")) == "newer"


def test_who_logs_in_while_the_server_is_away_in_a_pause_waits(pooler: PoolerFactory) -> None:
    with PostgresServer(users=USERS, databases=("app", "other")) as own:
        place = pooler(databases=entries(own), passwords={**LOOKS_UP, **CONSOLE_USERS}, auth_query_ttl=0, **AUTH)
        url = place.url("newer", "app", password="newer-secret")
        assert who(url) == "newer"
        with Console(place) as console, ThreadPoolExecutor() as pool:
            console.run("PAUSE")
            own.stop()
            waits = pool.submit(who, url)
            until(lambda: waits.done() or looking_up(console))
            assert not waits.done()
            own.start()
            console.run("RESUME")
            assert waits.result() == "newer"


def test_a_query_that_takes_too_long_is_cancelled_and_counted_until_it_has_ended(
    pooler: PoolerFactory, server: PostgresServer
) -> None:
    server.sql(
        """create function slowly(name text) returns table (u text, p text) language plpgsql as $$ begin
            perform pg_advisory_xact_lock_shared(7);
            return query select rolname::text, rolpassword from pg_authid where rolname = $1; end $$;""",
        database="app",
    )
    try:
        place = pooler(
            databases=entries(server, "max_db_connections=2"),
            passwords=LOOKS_UP,
            auth_query="select * from slowly($1)",
            server_connect_timeout=1,
            **AUTH,
        )
        with psycopg.connect(server.dsn("looker", "app"), autocommit=True) as holder:
            holder.execute("select pg_advisory_lock(7)")
            others = "select count(*) from pg_stat_activity where usename = 'looker' and pid <> pg_backend_pid()"
            for user in ("newer", "older", "nobody"):
                assert "users cannot be looked up now" in refused(place.url(user, "app", password=f"{user}-secret"))
                assert holder.execute(others).fetchone() == (0,)
            holder.execute("select pg_advisory_unlock(7)")
            assert who(place.url("newer", "app", password="newer-secret")) == "newer"
    finally:
        server.sql("drop function slowly", database="app")


@pytest.mark.parametrize("before", ["hba", "scram-sha-256"])
def test_a_login_that_is_looked_up_while_the_rules_change_is_decided_by_the_new_ones(
    pooler: PoolerFactory, server: PostgresServer, tmp_path: Path, before: str
) -> None:
    server.sql(
        """create function held(name text) returns table (u text, p text) language plpgsql as $$ begin
            perform pg_advisory_xact_lock_shared(7);
            return query select rolname::text, rolpassword from pg_authid where rolname = $1; end $$;""",
        database="app",
    )
    rules = tmp_path / "rules"
    rules.write_text("host all all all scram-sha-256\n")
    try:
        place = pooler(
            databases=entries(server),
            passwords=LOOKS_UP,
            auth_type=before,
            auth_hba_file=rules,
            auth_query="select * from held($1)",
            auth_query_ttl=0,
            **AUTH,
        )
        assert who(place.url("newer", "app", password="newer-secret")) == "newer"
        with psycopg.connect(server.dsn("looker", "app"), autocommit=True) as holder, ThreadPoolExecutor() as pool:
            holder.execute("select pg_advisory_lock(7)")
            waits = pool.submit(refused, place.url("newer", "app", password="newer-secret"))
            until(
                lambda: holder.execute("select 1 from pg_locks where locktype = 'advisory' and not granted").fetchall()
            )
            rules.write_text("host all all all reject\n")
            place.settings["auth_type"] = "hba"
            place.reload()
            place.wait_for_log("configuration reloaded")
            holder.execute("select pg_advisory_unlock(7)")
            assert "login rejected" in waits.result()
    finally:
        server.sql("drop function held", database="app")
