"""Every form of `url_for`, read by the driver that it is for, over TCP and over a private unix socket."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator

import asyncpg
import psycopg
import psycopg2
import pytest
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

import pgpool_core
from pgpool_core import ThreadedProxy
from pgpool_core.embedded.forms import Form
from pgpool_core.testing import PostgresServer
from tests.programs import node, python, run

ASK = "select current_user || '@' || current_database() || ' ' || inet_server_port()"
DJANGO = """
import sys
import dj_database_url, django
from django.conf import settings
from django.db import connections
import pgpool_core
url, ask = sys.argv[1:]
settings.configure(DATABASES={"default": dj_database_url.parse(url), "ours": pgpool_core.django_database(url)})
django.setup()
for name in connections:
    with connections[name].cursor() as cursor:
        cursor.execute(ask)
        print(cursor.fetchone()[0])
connections.close_all()
"""
NODE = """
const { Client } = require('pg')
const [url, ask] = process.argv.slice(1)
const client = new Client({ connectionString: url })
client.connect().then(() => client.query(ask)).then(found => { console.log(Object.values(found.rows[0])[0]); return client.end() })
"""


@pytest.fixture(scope="module", params=["127.0.0.1:0", "unix"])
def proxy(request: pytest.FixtureRequest, postgres: PostgresServer) -> Iterator[ThreadedProxy]:
    with pgpool_core.run_proxy_in_thread(postgres.dsn("app", "app"), listen=request.param) as proxy:
        yield proxy


def with_psycopg(url: str) -> str:
    with psycopg.connect(url) as connection:
        row = connection.execute(ASK.encode()).fetchone()
    assert row is not None
    return str(row[0])


def with_psycopg2(url: str) -> str:
    connection = psycopg2.connect(url)
    try:
        with connection.cursor() as cursor:
            cursor.execute(ASK)
            return str(cursor.fetchone()[0])
    finally:
        connection.close()


def with_asyncpg(url: str) -> str:
    async def ask() -> str:
        connection = await asyncpg.connect(url)
        try:
            return str(await connection.fetchval(ASK))
        finally:
            await connection.close()

    return asyncio.run(ask())


def with_sqlalchemy(url: str) -> str:
    engine = sqlalchemy.create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        return str(connection.execute(sqlalchemy.text(ASK)).scalar_one())


def with_async_sqlalchemy(url: str) -> str:
    async def ask() -> str:
        engine = create_async_engine(url, poolclass=NullPool)
        async with engine.connect() as connection:
            return str((await connection.execute(sqlalchemy.text(ASK))).scalar_one())

    return asyncio.run(ask())


def with_shell(lines: str) -> str:
    return run("sh", "-c", f'set -a\n{lines}\npsql -Atc "$1"', "sh", ASK).stdout.strip()


def with_psql(words: str) -> str:
    return run("psql", words, "-Atc", ASK).stdout.strip()


def with_django(url: str) -> str:
    by_package, by_us = python("-c", DJANGO, url, ASK).stdout.splitlines()
    assert by_package == by_us
    return by_us


def with_node(url: str) -> str:
    return node("-e", NODE, url, ASK).stdout.strip()


READERS: dict[Form, Callable[[str], str]] = {
    "url": with_psql,
    "libpq": with_psql,
    "libpq-env": with_shell,
    "psycopg": with_psycopg,
    "psycopg2": with_psycopg2,
    "asyncpg": with_asyncpg,
    "sqlalchemy+psycopg": with_sqlalchemy,
    "sqlalchemy+psycopg2": with_sqlalchemy,
    "sqlalchemy+asyncpg": with_async_sqlalchemy,
    "django": with_django,
    "node-postgres": with_node,
}


@pytest.mark.parametrize("form", READERS)
def test_a_driver_reads_its_form(proxy: ThreadedProxy, postgres: PostgresServer, form: Form) -> None:
    before = proxy.statistics().overall.totals.client_logins
    assert READERS[form](proxy.url_for(form)) == f"app@app {postgres.port}"
    assert proxy.statistics().overall.totals.client_logins > before


def test_another_database(proxy: ThreadedProxy) -> None:
    with psycopg.connect(proxy.url_for("psycopg", database="other")) as connection:
        assert connection.execute("select current_database()").fetchone() == ("other",)


def test_a_child_gets_everything_in_its_environment(proxy: ThreadedProxy) -> None:
    variables = proxy.environ("sqlalchemy+asyncpg")
    assert variables["DATABASE_URL"] == proxy.url_for("sqlalchemy+asyncpg")
    assert run("psql", "-Atc", "select 1", env={**os.environ, **variables}).stdout == "1\n"
