"""The SQL that `session.settings` writes, run by PostgreSQL, in encodings where quoting is easily got wrong."""

from __future__ import annotations

import psycopg
import pytest

from pgpool_core.testing import PostgresServer
from pgpool_core_probes import settings_probe

VALUES = {
    "quote": b"it's",
    "backslash": b"C:\\tmp\\",
    "both": b"\\'; SELECT pg_sleep(0); --",
    "half a character of SJIS": b"\x95\x5c'; SET application_name='broken out",
    "nothing": b"",
}


@pytest.mark.parametrize("encoding", ["UTF8", "SJIS", "BIG5", "LATIN1"])
@pytest.mark.parametrize("strings", ["on", "off"])
@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_postgresql_stands_as_the_client_wants_it(
    postgres: PostgresServer, encoding: str, strings: str, value: bytes
) -> None:
    table = settings_probe.Table()
    wanted = {
        b"DateStyle": b"ISO, DMY",
        b"IntervalStyle": b"iso_8601",
        b"TimeZone": b"Europe/Oslo",
        b"application_name": value,
        b"client_encoding": b"LATIN1",
        b"standard_conforming_strings": b"on" if strings == "off" else b"off",
    }
    block = None
    for name, setting in wanted.items():
        block = table.having(block, name, setting)
    status, sql = settings_probe.replay(None, block)
    assert status == 0
    with psycopg.connect(postgres.dsn("app", "app"), autocommit=True) as connection:
        connection.execute(f"SET standard_conforming_strings = {strings}")
        connection.execute(f"SET client_encoding = '{encoding}'")
        connection.pgconn.exec_(sql)
        for name in wanted:
            answer = connection.pgconn.exec_(b"SHOW " + name).get_value(0, 0)
            assert answer == block.get(name), name
