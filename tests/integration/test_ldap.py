"""Passwords that an LDAP server checks: a real one (slapd), by every way of PostgreSQL's, from every driver."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import psycopg2
import pytest

from pgpool_core.control.ldap import is_installed
from pgpool_core.testing import PoolerProcess, PostgresServer
from pgpool_core.testing.ports import free_port
from tests.certificates import Authority
from tests.conftest import PASSWORDS, PoolerFactory, in_front_of
from tests.console import Console
from tests.integration.test_auth_query import refused, who
from tests.ldap_server import BASE, READER, READER_PASSWORD, LdapServer, find_slapd
from tests.watching import until

pytestmark = [
    pytest.mark.skipif(not is_installed(), reason="the extra is not installed (pip install 'pgpool-core[ldap]')"),
    pytest.mark.skipif(find_slapd() is None, reason="there is no LDAP server here (apt-get install slapd)"),
]

PEOPLE = {"ann": "ann's secret", "app": PASSWORDS["app"], "legacy": "not that of PostgreSQL", "bob": "bób"}
PREFIX, SUFFIX = "uid=", f",ou=people,{BASE}"


@pytest.fixture(scope="module")
def ldap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LdapServer]:
    folder = tmp_path_factory.mktemp("ldap")
    authority = Authority(folder / "authority")
    certificate = authority.issue("localhost", alternatives=("DNS:localhost", "IP:127.0.0.1"))
    server = LdapServer(folder, PEOPLE, certificate, authority.ca_file)
    yield server
    server.close()


def ways(ldap: LdapServer) -> dict[str, str]:
    """Options that let in the same people."""
    reader = f'ldapbinddn="{READER}" ldapbindpasswd="{READER_PASSWORD}"'
    people = f"ou=people,{BASE}"
    at = f"ldapserver=localhost ldapport={ldap.port}"
    return {
        "bind": f'{at} ldapprefix="{PREFIX}" ldapsuffix="{SUFFIX}"',
        "search": f'{at} ldapbasedn="{people}" {reader}',
        "attribute": f'{at} ldapbasedn="{people}" {reader} ldapsearchattribute=cn',
        "filter": f'{at} ldapbasedn="{BASE}" {reader} ldapsearchfilter="(&(mail=$username@example.org)(sn=*))"',
        "url": f'ldapurl="ldap://127.0.0.1:{ldap.port}/{people}?uid?one" {reader}',
        "url-and-base": f'ldapurl="ldap://127.0.0.1:{ldap.port}" ldapbasedn="{people}" {reader}',
        "url-without-scope": f'ldapurl="ldap://127.0.0.1:{ldap.port}/{BASE}?mail" {reader} ldapsearchattribute="" ldapsearchfilter="mail=$username@example.org"',
        "everywhere": f'{at} ldapbasedn="" {reader} ldapsearchfilter="(&(uid=$username)(mail=*))"',
        "starttls": f'{at} ldaptls=1 ldapprefix="{PREFIX}" ldapsuffix="{SUFFIX}"',
        "ldaps": f'ldapserver=localhost ldapport={ldap.tls_port} ldapscheme=ldaps ldapbasedn="{people}" {reader}',
        "ldaps-url": f'ldapurl="ldaps://localhost:{ldap.tls_port}/{BASE}?uid?sub?(mail=$username@example.org)" {reader}',
        "second": f'ldapserver="no-such-host.invalid localhost" ldapport={ldap.port} ldapprefix="{PREFIX}" ldapsuffix="{SUFFIX}"',
    }


def checked(
    factory: PoolerFactory, postgres: PostgresServer, ldap: LdapServer, options: str, **more: Any
) -> PoolerProcess:
    """A pooler that asks LDAP; its servers are reached as app whoever comes, those of `own` as the client."""
    place = f"host={postgres.host} port={postgres.port}"
    databases = {"app": f"{place} user=app password={PASSWORDS['app']}", "own": f"{place} dbname=app"}
    pooler = factory(
        start=False,
        **{"databases": databases, "passwords": {}, "auth_type": "ldap", "auth_ldap_options": options, **more},
    )
    pooler.env["LDAPTLS_CACERT"] = str(ldap.ca_file)  # type: ignore[index]
    pooler.start()
    return pooler


def with_every_way(postgres: PostgresServer, ldap: LdapServer, ca_file: Path) -> PoolerProcess:
    """A pooler, not started yet, where every way has a line and a database of its name."""
    place = f"host={postgres.host} port={postgres.port} dbname=app user=app password={PASSWORDS['app']}"
    pooler = in_front_of(
        postgres, "pgpool_core", databases=dict.fromkeys(ways(ldap), place), passwords={}, auth_type="hba"
    )
    rules = pooler.folder / "rules"
    rules.write_text("".join(f"host {way} all all ldap {options}\n" for way, options in ways(ldap).items()))
    pooler.settings["auth_hba_file"] = rules  # type: ignore[index]
    pooler.env["LDAPTLS_CACERT"] = str(ca_file)  # type: ignore[index]
    return pooler


@pytest.fixture(scope="module")
def each_way(ldap: LdapServer, postgres: PostgresServer) -> Iterator[PoolerProcess]:
    with with_every_way(postgres, ldap, ldap.ca_file) as pooler:
        yield pooler


def test_ldap_says_who_comes_in(each_way: PoolerProcess, ldap: LdapServer) -> None:
    for way in ways(ldap):
        assert who(each_way.url("ann", way, password="ann's secret")) == "app", way
        assert 'LDAP authentication failed for user "ann"' in refused(each_way.url("ann", way, password="wrong"))
    assert 'LDAP authentication failed for user "nobody"' in refused(each_way.url("nobody", "bind", password="x"))
    assert who(each_way.url("bob", "search", password="bób")) == "app"
    for word in (*PEOPLE.values(), READER_PASSWORD):
        assert word not in each_way.log


@pytest.mark.parametrize(
    "user", ["*", "a*", "ann)(uid=*", "ann,ou=people", "\\61nn", "ann\\2cou=people", 'a"n', "#ann"]
)
def test_a_name_is_nothing_but_a_name(each_way: PoolerProcess, user: str) -> None:
    """What would be more than that in a filter or in a distinguished name matches nobody."""
    for way in ("bind", "search"):
        with pytest.raises(psycopg.OperationalError, match="LDAP authentication failed"):
            psycopg.connect(host=each_way.host, port=each_way.port, dbname=way, user=user, password="ann's secret")


def test_for_all_logins(pooler: PoolerFactory, postgres: PostgresServer, ldap: LdapServer) -> None:
    place = checked(pooler, postgres, ldap, ways(ldap)["bind"])
    assert who(place.url("ann", "app", password="ann's secret")) == "app"
    assert "LDAP authentication failed" in refused(place.url("ann", "app", password="wrong"))
    assert "no such database" in refused(place.url("ann", "nowhere", password="ann's secret"))
    assert "LDAP authentication failed" in refused(place.url("ann", "nowhere", password="wrong"))


def test_an_empty_password_never_reaches_ldap(
    pooler: PoolerFactory, postgres: PostgresServer, ldap: LdapServer
) -> None:
    """It would be an anonymous bind, and succeed."""
    place = checked(pooler, postgres, ldap, ways(ldap)["bind"])
    with pytest.raises(asyncpg.PostgresError, match="empty password returned by client"):
        asyncio.run(asyncpg.connect(place.url("ann", "app", password=""), password=""))


def test_one_whom_two_entries_fit_is_nobody(pooler: PoolerFactory, postgres: PostgresServer, ldap: LdapServer) -> None:
    options = f'ldapserver=localhost ldapport={ldap.port} ldapbasedn="{BASE}" ldapbinddn="{READER}" ldapbindpasswd="{READER_PASSWORD}"'
    place = checked(pooler, postgres, ldap, options)
    assert "LDAP authentication failed" in refused(place.url("ann", "app", password="ann's secret"))
    place.wait_for_log("LDAP knows no such user, or several user=ann")
    assert who(place.url("bob", "app", password="bób")) == "app"


def test_the_password_is_the_servers_where_there_is_no_other(
    pooler: PoolerFactory, postgres: PostgresServer, ldap: LdapServer
) -> None:
    place = checked(pooler, postgres, ldap, ways(ldap)["bind"])
    assert who(place.url("app", "own", password=PEOPLE["app"])) == "app"
    told = refused(place.url("legacy", "own", password=PEOPLE["legacy"]))
    assert 'password authentication failed for user "legacy"' in told and "LDAP" not in told  # by PostgreSQL
    place.passwords = {"legacy": PASSWORDS["legacy"]}
    place.reload()
    place.wait_for_log("configuration reloaded")
    assert who(place.url("legacy", "own", password=PEOPLE["legacy"])) == "legacy"  # auth_file goes before
    assert "LDAP authentication failed" in refused(place.url("legacy", "own", password=PASSWORDS["legacy"]))


def test_the_password_that_was_shown_outlives_a_reload(
    pooler: PoolerFactory, postgres: PostgresServer, ldap: LdapServer
) -> None:
    """Who is logged in goes on, also by a server that is opened afterwards."""
    place = checked(pooler, postgres, ldap, ways(ldap)["bind"])
    with psycopg.connect(place.url("app", "own", password=PEOPLE["app"]), autocommit=True) as connection:
        before = connection.execute("select pg_backend_pid()").fetchone()
        assert before is not None
        place.reload()
        place.wait_for_log("configuration reloaded")
        postgres.sql(f"select pg_terminate_backend({before[0]}, 30000)")
        place.wait_for_log("S-.* closing because: ")
        assert connection.execute("select pg_backend_pid()").fetchone() not in (None, before)


def test_the_password_that_was_shown_goes_over(
    pooler: PoolerFactory, postgres: PostgresServer, ldap: LdapServer
) -> None:
    """A process that takes over (-R) opens servers of its own for clients that have moved."""
    place = checked(pooler, postgres, ldap, ways(ldap)["bind"], default_pool_size=3, server_login_retry=1)
    url = place.url("app", "own", password=PEOPLE["app"])
    with psycopg.connect(url, autocommit=True) as client, psycopg.connect(url, autocommit=True) as other:
        client.execute("begin")
        old = place.replace()
        assert other.execute("select 1").fetchone() == (1,)
        client.execute("commit")
        assert old.wait() == 0
        assert client.execute("select 1").fetchone() == (1,)
        other.execute("begin")
        assert client.execute("select 1").fetchone() == (1,)


def test_another_password_opens_servers_at_once(
    pooler: PoolerFactory, postgres: PostgresServer, ldap: LdapServer
) -> None:
    """The last attempt failed with the old one: that says nothing of the new one."""
    place = checked(pooler, postgres, ldap, ways(ldap)["bind"], server_login_retry=3600)
    assert "password authentication failed" in refused(place.url("legacy", "own", password=PEOPLE["legacy"]))
    ldap.set_password("legacy", PASSWORDS["legacy"])
    try:
        assert who(place.url("legacy", "own", password=PASSWORDS["legacy"])) == "legacy"
    finally:
        ldap.set_password("legacy", PEOPLE["legacy"])


def test_every_driver_gets_through(pooler: PoolerFactory, postgres: PostgresServer, ldap: LdapServer) -> None:
    place = checked(pooler, postgres, ldap, ways(ldap)["search"])
    how: dict[str, Any] = {"host": place.host, "port": place.port, "user": "ann", "database": "app"}
    with contextlib.closing(psycopg2.connect(**how, password="ann's secret")) as connection, connection.cursor() as it:
        it.execute("select 1")
        assert it.fetchone() == (1,)

    async def asked() -> object:
        link = await asyncpg.connect(**how, password="ann's secret")
        try:
            return await link.fetchval("select 1")
        finally:
            await link.close()

    assert asyncio.run(asked()) == 1


def test_rules_may_ask_ldap_and_the_console_too(
    pooler: PoolerFactory, postgres: PostgresServer, ldap: LdapServer
) -> None:
    place = pooler(
        start=False,
        databases={"app": f"host={postgres.host} port={postgres.port} user=app password={PASSWORDS['app']}"},
        passwords={"legacy": PASSWORDS["legacy"]},
        auth_type="hba",
        admin_users="ann",
    )
    rules = place.folder / "rules"
    rules.write_text(f"host all ann all ldap {ways(ldap)['search']}\nhost all legacy all md5\n")
    place.settings["auth_hba_file"] = rules
    place.start()
    assert who(place.url("ann", "app", password="ann's secret")) == "app"
    assert "LDAP authentication failed" in refused(place.url("ann", "app", password="wrong"))
    assert who(place.url("legacy", "app")) == "app"
    with psycopg.connect(place.url("ann", "pgbouncer", password="ann's secret"), autocommit=True) as connection:
        assert connection.execute("show version").fetchone()
    assert "LDAP authentication failed" in refused(place.url("ann", "pgbouncer", password="wrong"))
    rules.write_text("host all ann all ldap ldapserver=x\n")
    place.reload()
    place.wait_for_log("rules:1: ldapbasedn, ldapprefix or ldapsuffix is missing, so the line refuses")
    assert "login rejected" in refused(place.url("ann", "app", password="ann's secret"))


def test_where_no_ldap_server_answers_the_client_is_told(
    pooler: PoolerFactory, postgres: PostgresServer, ldap: LdapServer
) -> None:
    options = f'ldapserver=127.0.0.1 ldapport={free_port()} ldapprefix="{PREFIX}" ldapsuffix="{SUFFIX}"'
    place = checked(pooler, postgres, ldap, options)
    assert "passwords cannot be checked now" in refused(place.url("ann", "app", password="ann's secret"))
    place.wait_for_log("no answer of the LDAP server: LDAPSocketOpenError.* server=127.0.0.1")


def test_a_certificate_of_nobody_known_is_not_believed(
    postgres: PostgresServer, ldap: LdapServer, tmp_path: Path
) -> None:
    with with_every_way(postgres, ldap, Authority(tmp_path / "stranger").ca_file) as place:
        for way in ("ldaps", "starttls"):
            assert "passwords cannot be checked now" in refused(place.url("ann", way, password="ann's secret"))
        place.wait_for_log(f"no answer of the LDAP server: .*certificate verify failed.* port={ldap.tls_port}")
        place.wait_for_log(f"no answer of the LDAP server: .*certificate verify failed.* port={ldap.port}")
        assert who(place.url("ann", "bind", password="ann's secret")) == "app"


def test_a_certificate_of_another_host_is_told(
    pooler: PoolerFactory, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("ldap")
    authority = Authority(folder / "authority")
    elsewhere = authority.issue("elsewhere", alternatives=("DNS:elsewhere.example.org",))
    server = LdapServer(folder, PEOPLE, elsewhere, authority.ca_file)
    try:
        place = checked(pooler, postgres, server, ways(server)["starttls"])
        assert "passwords cannot be checked now" in refused(place.url("ann", "app", password="ann's secret"))
        place.wait_for_log("no answer of the LDAP server: .* doesn't match .*localhost")
    finally:
        server.close()


def steps(console: Console) -> dict[str, tuple[int, ...]]:
    """SHOW LOGINS: active, waiting, max_active, total, queued, failed of each step."""
    return {row["step"]: tuple(int(row[name]) for name in list(row)[1:]) for row in console.rows("SHOW LOGINS")}


def test_an_ldap_server_that_hangs_holds_up_nobody_else(
    pooler: PoolerFactory, postgres: PostgresServer, ldap: LdapServer
) -> None:
    """max_ldap_logins ask at a time, the next one waits; who needs no LDAP comes in meanwhile."""
    place = pooler(
        start=False,
        databases={"app": f"host={postgres.host} port={postgres.port} user=app password={PASSWORDS['app']}"},
        passwords={name: PASSWORDS[name] for name in ("legacy", "admin")},
        auth_type="hba",
        max_ldap_logins=1,
    )
    rules = place.folder / "rules"
    rules.write_text(f"host all ann all ldap {ways(ldap)['bind']}\nhost all legacy,admin all md5\n")
    place.settings["auth_hba_file"] = rules
    place.start()
    assert who(place.url("ann", "app", password="ann's secret")) == "app"
    ldap.pause()
    try:
        with Console(place) as console, ThreadPoolExecutor(3) as threads:
            waiting = [threads.submit(who, place.url("ann", "app", password="ann's secret")) for _ in range(3)]
            for _ in range(3):
                assert who(place.url("legacy", "app")) == "app"
            assert not any(each.done() for each in waiting)
            until(lambda: steps(console)["ldap"] == (1, 2, 1, 4, 2, 0))
            ldap.resume()
            assert [each.result(30) for each in waiting] == ["app"] * 3
            assert steps(console)["ldap"] == (0, 0, 1, 4, 2, 0)
            assert steps(console)["login"][:4] == (0, 0, 512, 7), (
                "four of ann, three of legacy; the console's needs no turn"
            )
    finally:
        ldap.resume()
