"""auth_type = hba against real clients: the line that fits decides how they prove who they are; and listeners open to all."""

from __future__ import annotations

import getpass
from typing import Any

import psycopg
import pytest

from pgpool_core.testing import PoolerProcess, PostgresServer
from pgpool_core.testing.process import ProcessFailed
from tests.conftest import PASSWORDS, PoolerFactory
from tests.integration.test_auth_query import refused, who

LEGACY = {"app": PASSWORDS["app"], "legacy": PASSWORDS["legacy"], "plain": PASSWORDS["plain"]}


def ruled(factory: PoolerFactory, postgres: PostgresServer, rules: str, maps: str = "", **more: Any) -> PoolerProcess:
    """A pooler with these rules; servers are reached with the right password whoever comes."""
    databases = dict.fromkeys(
        ("app", "other"), f"host={postgres.host} port={postgres.port} dbname=app user=app password={PASSWORDS['app']}"
    )
    place = factory(start=False, databases=databases, passwords=LEGACY, auth_type="hba", **more)
    for name, text in (("auth_hba_file", rules), ("auth_ident_file", maps)):
        if not text:
            continue
        path = place.folder / name
        place._write(path, text)
        place.settings[name] = path
    place.start()
    return place


def test_each_login_takes_the_way_that_its_line_names(any_pooler: PoolerFactory, postgres: PostgresServer) -> None:
    rules = """
        host app app 127.0.0.0/8 trust
        host app legacy 127.0.0.1/32 scram-sha-256
        host app plain 127.0.0.1 255.255.255.255 password
        host other app 10.0.0.0/8 trust
        host other legacy,plain all reject
        host other app 127.0.0.1/32 md5
        local all app trust
    """
    place = ruled(any_pooler, postgres, rules)
    assert who(place.url("app", "app", password="wrong")) == "app"
    assert who(place.url("legacy", "app")) == "app"
    assert "failed" in refused(place.url("legacy", "app", password="wrong"))
    assert who(place.url("plain", "app")) == "app"
    assert "failed" in refused(place.url("plain", "app", password="wrong"))
    assert "failed" in refused(place.url("app", "other", password="wrong"))
    assert who(place.url("app", "other")) == "app"
    assert "login rejected" in refused(place.url("plain", "other"))
    assert who(place.url("app", "other", unix=True, password="")) == "app"
    unknown = refused(place.url("nobody", "app"))
    assert "no authentication method is found" in unknown or "login rejected" in unknown


def test_peer_goes_by_the_system_user_and_its_map(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    me = getpass.getuser()
    rules = "local app all peer map=mine\nlocal other all peer\n"
    place = ruled(pooler, postgres, rules, f"mine {me} legacy\nmine somebody app\n")
    assert who(place.url("legacy", "app", unix=True, password="")) == "app"
    assert "FATAL" in refused(place.url("app", "app", unix=True, password=""))
    assert "FATAL" in refused(place.url("app", "other", unix=True, password=""))


def test_hostssl_never_fits_without_tls(any_pooler: PoolerFactory, postgres: PostgresServer) -> None:
    place = ruled(any_pooler, postgres, "hostssl all all 0.0.0.0/0 trust\nhostnossl all app 0.0.0.0/0 md5\n")
    assert "failed" in refused(place.url("app", "app", password="wrong"))
    assert who(place.url("app", "app")) == "app"


def test_a_bad_line_is_left_out_at_start_and_refuses_a_reload(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    place = ruled(pooler, postgres, "nonsense\nhost all all all md5\n")
    place.wait_for_log("line left out: .*auth_hba_file:1: a line begins with local")
    assert who(place.url("app", "app")) == "app"
    place._write(place.folder / "auth_hba_file", "host all all all reject\nnonsense\n")
    place.reload()
    place.wait_for_log("reload failed, nothing was changed: .*auth_hba_file:2")
    assert who(place.url("app", "app")) == "app"
    place._write(place.folder / "auth_hba_file", "host all all all reject\n")
    place.reload()
    place.wait_for_log("configuration reloaded")
    assert "login rejected" in refused(place.url("app", "app"))


def test_an_unknown_user_is_told_no_more_than_one_with_a_wrong_password(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    place = ruled(pooler, postgres, "host all all all scram-sha-256\n")
    told = {name: refused(place.url(name, "app", password="wrong")) for name in ("app", "nobody")}
    assert told["app"].replace('"app"', "X").replace("app", "") == told["nobody"].replace('"nobody"', "X").replace(
        "app", ""
    )


@pytest.mark.parametrize("auth_type", ["any", "trust", "plain"])
def test_a_listener_that_is_open_to_all_is_refused_unless_that_is_wanted(
    pooler: PoolerFactory, postgres: PostgresServer, auth_type: str
) -> None:
    place = pooler(start=False, auth_type=auth_type, listen_addr="*")
    place.spawn()
    with pytest.raises(ProcessFailed, match="allow_open_auth"):
        place.wait_for_log("process up")
    open_one = pooler(auth_type=auth_type, listen_addr="*", allow_open_auth=1, databases={"app": forced(postgres)})
    assert who(open_one.url("trusted", "app")) == "app"


def test_a_line_that_lets_everybody_in_is_refused_unless_that_is_wanted(
    pooler: PoolerFactory, postgres: PostgresServer
) -> None:
    place = pooler(start=False, auth_type="hba", listen_addr="*", databases={"app": forced(postgres)})
    rules = place.folder / "auth_hba_file"
    place.settings["auth_hba_file"] = rules
    place._write(rules, "local all all trust\nhost all all 0.0.0.0/0 trust\n")
    place.spawn()
    with pytest.raises(ProcessFailed, match=f"{rules}:2: trust lets in.*allow_open_auth"):
        place.wait_for_log("process up")
    place.stop()
    place._write(rules, "host all all 127.0.0.0/8 md5\n")
    place.start()
    place._write(rules, "host all all all trust\n")
    place.settings["listen_addr"] = "127.0.0.1"  # what a restart would make of it, and a reload does not
    place.reload()
    place.wait_for_log(f"reload failed, nothing was changed: .*{rules}:1: trust lets in")
    assert "failed" in refused(place.url("app", "app", password="wrong"))
    place.settings["allow_open_auth"] = 1
    place.reload()
    place.wait_for_log("configuration reloaded")
    assert who(place.url("app", "app", password="wrong")) == "app"


def forced(postgres: PostgresServer) -> str:
    return f"host={postgres.host} port={postgres.port} user=app password={PASSWORDS['app']}"


def test_the_console_is_ruled_too(pooler: PoolerFactory, postgres: PostgresServer) -> None:
    place = ruled(pooler, postgres, "host pgbouncer app all md5\nhost all all all reject\n", admin_users="app,legacy")
    with psycopg.connect(place.url("app", "pgbouncer"), autocommit=True) as connection:
        assert connection.execute("show version").fetchone()
    assert "login rejected" in refused(place.url("legacy", "pgbouncer"))
