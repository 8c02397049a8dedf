"""The SQL that `session.replay` and `session.probe` write, run by PostgreSQL, in encodings where quoting is easily got wrong."""

from __future__ import annotations

import re

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
    status, sql, _ = settings_probe.replay(None, block)
    assert status == 0
    with psycopg.connect(postgres.dsn("app", "app"), autocommit=True) as connection:
        connection.execute(f"SET standard_conforming_strings = {strings}")
        connection.execute(f"SET client_encoding = '{encoding}'")
        connection.pgconn.exec_(sql)
        for name in wanted:
            answer = connection.pgconn.exec_(b"SHOW " + name).get_value(0, 0)
            assert answer == block.get(name), name


SETTINGS, EVERYTHING = 1, 63


def ask(connection: psycopg.Connection[object], sql: bytes) -> set[tuple[str, bytes, bytes | None]]:
    """Run a probe; its answer read by libpq."""
    result = connection.pgconn.exec_(sql)
    assert result.status == psycopg.pq.ExecStatus.TUPLES_OK, result.error_message
    return {
        (
            (result.get_value(i, 0) or b"").decode(),
            unescaped(result.get_value(i, 1)) or b"",
            unescaped(result.get_value(i, 2)),
        )
        for i in range(result.ntuples)
    }


def unescaped(text: bytes | None) -> bytes | None:
    if text is None:
        return None
    return re.sub(rb"\\(\\|[0-7]{3})", lambda m: b"\\" if m[1] == b"\\" else bytes([int(m[1], 8)]), text)


def as_block(table: settings_probe.Table, found: set[tuple[str, bytes, bytes | None]]) -> settings_probe.Held | None:
    block = None
    for kind, name, value in found:
        if kind == "s" or (kind == "n" and value is not None and "." in name.decode()):
            block = table.having(block, settings_probe.spelled(name) or name, value)
    return block


@pytest.mark.parametrize("encoding", ["UTF8", "LATIN1", "SJIS"])
def test_what_one_session_has_set_another_has_after_the_replay(postgres: PostgresServer, encoding: str) -> None:
    """Ask one connection what it has, replay that to another, ask again: no difference."""
    said = """
        SET search_path = "$user", "Odd Name", public; SET work_mem = '5MB'; SET TimeZone = 'Europe/Oslo';
        SET app.tenant = 'żółw''s \\'; SELECT set_config('Deep.er.name', '1', false); SET LOCAL app.local = '1';
        SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE; SET extra_float_digits = 2;
        SET temp_tablespaces = ''; SET statement_timeout = '7min'; SET bytea_output = 'escape';
    """
    table = settings_probe.Table()
    with (
        psycopg.connect(postgres.dsn("app", "app"), autocommit=True) as one,
        psycopg.connect(postgres.dsn("app", "app"), autocommit=True) as two,
    ):
        one.execute(said.encode())
        for it in (one, two):  # which need not have the characters of every value
            it.pgconn.exec_(f"SET client_encoding = {encoding}".encode())
        sql = settings_probe.probe_sql(SETTINGS, None, said.encode())
        found = ask(one, sql)
        names = {name for kind, name, value in found if value is not None}
        assert {b"search_path", b"work_mem", b"app.tenant", b"deep.er.name", b"default_transaction_isolation"} <= names
        wanted = as_block(table, found)
        status, replay, must_wait = settings_probe.replay(None, wanted)
        assert (status, must_wait) == (0, False)
        assert two.pgconn.exec_(replay).error_message == b""
        assert ask(two, sql) == found
        status, back, _ = settings_probe.replay(wanted, None)
        assert two.pgconn.exec_(back).error_message == b""
        left = {(kind, value) for kind, _, value in ask(two, sql) if value not in (None, b"none", b"app")}
        assert left == {("n", b"")}, "PostgreSQL forgets a custom setting's value, not its name"


def test_everything_that_a_session_can_leave_is_found(postgres: PostgresServer) -> None:
    sql = settings_probe.probe_sql(EVERYTHING, None)
    with psycopg.connect(postgres.dsn("app", "app"), autocommit=True) as connection:
        clean = ask(connection, sql)
        connection.execute("PREPARE p AS SELECT 1")
        connection.execute("LISTEN news")
        connection.execute("CREATE TEMP TABLE mine (a int)")
        connection.execute("SELECT pg_advisory_lock(1), pg_try_advisory_lock_shared(1, 2)")
        connection.execute("BEGIN")
        connection.execute("DECLARE held CURSOR WITH HOLD FOR SELECT 1")
        connection.execute("COMMIT")
        found = ask(connection, sql) - clean
        kinds = {kind: name for kind, name, _ in found}
        assert set(kinds) == {"p", "c", "l", "t", "k"}
        assert (kinds["p"], kinds["c"], kinds["l"]) == (b"p", b"held", b"news")
        connection.execute("DISCARD ALL")
        assert ask(connection, sql) == clean


def test_a_hostile_search_path_does_not_change_what_is_asked(postgres: PostgresServer) -> None:
    with psycopg.connect(postgres.dsn("app", "app"), autocommit=True) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS trap")
        connection.execute(
            "CREATE OR REPLACE VIEW trap.pg_settings AS SELECT 'a' AS name, 'b' AS setting, 'c' AS source"
        )
        connection.execute("CREATE OR REPLACE FUNCTION trap.current_setting(text, bool) RETURNS text RETURN 'wrong'")
        try:
            connection.execute("SET search_path = trap, pg_catalog")
            found = ask(connection, settings_probe.probe_sql(SETTINGS, None))
        finally:
            connection.execute("DROP SCHEMA trap CASCADE")
    assert ("s", b"search_path", b"trap, pg_catalog") in found
    assert b"wrong" not in {value for _, _, value in found}
