"""Every driver, by every way of proving who one is, with TLS and without: it comes in, and with a wrong password it does not."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import shutil
import ssl
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import attrs
import psycopg
import psycopg2
import pytest

from pgpool_core.testing import PoolerProcess, PostgresServer
from tests import programs
from tests.certificates import Authority, Certificate
from tests.conftest import PASSWORDS, in_front_of
from tests.integration.test_logins import md5_secret, scram_secret

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import pg8000.dbapi

CLIENTS = Path(__file__).parents[1] / "clients"
MODES = ("disable", "require", "verify-full")
PASSWORD = "the right p@ssword"
SECRETS = {
    "plain": PASSWORD,
    "md5-plain": PASSWORD,
    "md5": md5_secret("md5", PASSWORD),
    "scram-plain": PASSWORD,
    "scram": scram_secret(PASSWORD),
    "trusted": "whatever",
    "owner": "",
}
"""Users by how they come in."""
PROVED = tuple(name for name in SECRETS if name not in ("trusted", "owner"))
RULES = """
host all plain all password
host all md5-plain,md5 all md5
host all scram-plain,scram all scram-sha-256
host all trusted all trust
hostssl all owner all cert
"""


@attrs.frozen
class Login:
    """One login of one driver."""

    user: str
    mode: str
    password: str = PASSWORD
    shows: bool = False  # its certificate


@attrs.frozen
class Stage:
    """A pooler that has all these users, and what clients need to look at it."""

    pooler: PoolerProcess
    ca_file: Path
    owner: Certificate

    def context(self, login: Login) -> ssl.SSLContext | None:
        if login.mode == "disable":
            return None
        context = ssl.create_default_context(cafile=self.ca_file)
        if login.mode == "require":
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if login.shows:
            context.load_cert_chain(self.owner.cert_file, self.owner.key_file)
        return context

    def libpq(self, login: Login) -> dict[str, Any]:
        how: dict[str, Any] = {
            "host": "localhost",
            "hostaddr": "127.0.0.1",
            "port": self.pooler.port,
            "dbname": "app",
            "user": login.user,
            "password": login.password,
            "sslmode": login.mode,
            "sslcert": str(self.owner.cert_file) if login.shows else "",
            "sslkey": str(self.owner.key_file),
        }
        return how | ({"sslrootcert": str(self.ca_file)} if login.mode == "verify-full" else {})


@pytest.fixture(scope="module")
def stage(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("logins")
    authority = Authority(folder / "authority")
    certificate = authority.issue("localhost", alternatives=("DNS:localhost", "IP:127.0.0.1"))
    owner = authority.issue("owner")
    owner.key_file.chmod(0o600)
    place = f"host={postgres.host} port={postgres.port} user=app password={PASSWORDS['app']}"
    (folder / "rules").write_text(RULES)
    pooler = in_front_of(
        postgres,
        "pgpool_core",
        databases={"app": place},
        passwords=SECRETS,
        auth_type="hba",
        auth_hba_file=folder / "rules",
        auth_failure_delay=0,
        client_tls_sslmode="allow",
        client_tls_cert_file=certificate.cert_file,
        client_tls_key_file=certificate.key_file,
        client_tls_ca_file=authority.ca_file,
    )
    with pooler:
        yield Stage(pooler, authority.ca_file, owner)


def with_psycopg(stage: Stage, login: Login) -> str:
    try:
        with psycopg.connect(**stage.libpq(login)) as connection:
            assert connection.pgconn.ssl_in_use == (login.mode != "disable")
            return "ok" if connection.execute("select 1").fetchone() == (1,) else "another answer"
    except psycopg.OperationalError as error:
        return str(error)


def with_psycopg2(stage: Stage, login: Login) -> str:
    try:
        with contextlib.closing(psycopg2.connect(**stage.libpq(login))) as connection, connection.cursor() as cursor:
            cursor.execute("select 1")
            return "ok" if cursor.fetchone() == (1,) else "another answer"
    except psycopg2.OperationalError as error:
        return str(error)


def with_asyncpg(stage: Stage, login: Login) -> str:
    async def log_in() -> str:
        try:
            link = await asyncpg.connect(
                host="localhost",
                port=stage.pooler.port,
                user=login.user,
                password=login.password,
                database="app",
                ssl=stage.context(login) or False,
            )
        except asyncpg.PostgresError as error:
            return str(error)
        try:
            return "ok" if await link.fetchval("select 1") == 1 else "another answer"
        finally:
            await link.close()

    return asyncio.run(log_in())


def with_pg8000(stage: Stage, login: Login) -> str:
    try:
        link = pg8000.dbapi.connect(
            login.user,
            host="localhost",
            port=stage.pooler.port,
            database="app",
            password=login.password,
            ssl_context=stage.context(login),
        )
    except pg8000.dbapi.DatabaseError as error:
        told = str(error)
        del error
        gc.collect()  # it leaves its socket to the collector
        return told
    with contextlib.closing(link):
        cursor = link.cursor()
        cursor.execute("select 1")
        return "ok" if cursor.fetchone()[0] == 1 else "another answer"


def each(log_in: Callable[[Stage, Login], str]) -> Callable[[Stage, Sequence[Login]], list[str]]:
    return lambda stage, logins: [log_in(stage, login) for login in logins]


def with_node(stage: Stage, logins: Sequence[Login]) -> list[str]:
    lines = []
    for login in logins:
        how = {"host": "localhost", "port": stage.pooler.port, "database": "app", "user": login.user}
        how |= {"password": login.password, "mode": login.mode, "ca": str(stage.ca_file)}
        if login.shows:
            how |= {"cert": str(stage.owner.cert_file), "key": str(stage.owner.key_file)}
        lines.append(json.dumps(how))
    return programs.node(CLIENTS / "node_login.js", stdin="\n".join(lines) + "\n").stdout.splitlines()


def with_jdbc(stage: Stage, logins: Sequence[Login]) -> list[str]:
    program = shutil.which("java")
    if program is None or shutil.which("javac") is None:
        pytest.skip("there is no JDK here (apt-get install default-jdk-headless)")
    found = os.environ.get("PGPOOL_TEST_JDBC") or next(
        map(str, sorted(Path.home().glob(".m2/repository/org/postgresql/postgresql/*/postgresql-*.jar"))), ""
    )
    if not found:
        pytest.skip("there is no JDBC driver here (PGPOOL_TEST_JDBC names its jar)")
    lines = []
    for login in logins:
        url = f"jdbc:postgresql://localhost:{stage.pooler.port}/app?sslmode={login.mode}&sslrootcert={stage.ca_file}"
        lines.append(f"{url}\t{login.user}\t{login.password}")
    done = programs.run(program, "-cp", found, CLIENTS / "JdbcLogin.java", stdin="\n".join(lines) + "\n")
    return done.stdout.splitlines()


DRIVERS: dict[str, Callable[[Stage, Sequence[Login]], list[str]]] = {
    "psycopg": each(with_psycopg),
    "psycopg2": each(with_psycopg2),
    "asyncpg": each(with_asyncpg),
    "pg8000": each(with_pg8000),
    "node": with_node,
    "jdbc": with_jdbc,
}


LEAVES_SOCKETS = pytest.mark.filterwarnings(
    "ignore:unclosed:ResourceWarning"
)  # some drivers, after a login that failed
EACH = [pytest.param(name, marks=LEAVES_SOCKETS if name in ("asyncpg", "pg8000") else ()) for name in DRIVERS]


@pytest.mark.parametrize("driver", EACH)
def test_every_driver_comes_in_by_every_way(stage: Stage, driver: str) -> None:
    right = [Login(user, mode) for user in (*PROVED, "trusted") for mode in MODES]
    wrong = [Login(user, mode, "a wrong one") for user in PROVED for mode in ("disable", "require")]
    unknown = [Login("scram-nobody", "require")]
    if driver != "jdbc":  # its keys are of another format
        right += [Login("owner", mode, shows=True) for mode in MODES[1:]]
        wrong += [Login("owner", "require")]
    told = DRIVERS[driver](stage, [*right, *wrong, *unknown])
    assert dict(zip(right, told, strict=False)) == dict.fromkeys(right, "ok")
    for login, text in zip([*wrong, *unknown], told[len(right) :], strict=True):
        expected = {"owner": "certificate authentication failed", "scram-nobody": "no authentication method is found"}
        assert expected.get(login.user, "password authentication failed") in text, (login, text)


@pytest.mark.parametrize("driver", EACH)
def test_no_driver_believes_a_certificate_of_somebody_else(stage: Stage, driver: str, tmp_path: Path) -> None:
    stranger = attrs.evolve(stage, ca_file=Authority(tmp_path / "stranger", "a stranger").ca_file)
    login = Login("trusted", "verify-full")
    try:
        told = DRIVERS[driver](stranger, [login])
    except (ssl.SSLCertVerificationError, pg8000.dbapi.InterfaceError) as error:
        told = [str(error)]
    assert any(word in told[0] for word in ("certificate verify failed", "certificate", "PKIX")), told
