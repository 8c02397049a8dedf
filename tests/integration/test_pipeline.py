"""Several Syncs on their way at once, errors among them, and a server that others use too."""

from __future__ import annotations

import contextlib

import psycopg
import pytest
import trio

from pgpool_core.testing import ScriptedPeer, frontend
from tests.conftest import Target
from tests.peers import letters, logged_in, values
from tests.programs import pgbouncer_before

ONE_SERVER = pytest.mark.pooler(default_pool_size=1)


def statement(sql: str, *parameters: str) -> bytes:
    """Parse, Bind, Execute."""
    return frontend.parse(sql) + frontend.bind(values=list(parameters)) + frontend.execute()


async def test_every_sync_is_answered_in_order(target: Target) -> None:
    async with logged_in(target) as peer:
        await peer.send(*(statement("select $1::int", str(number)) + frontend.sync() for number in range(200)))
        for number in range(200):
            answer = await peer.until("Z")
            assert letters(answer) == "12DCZ"
            assert values(answer) == [[str(number).encode()]]


async def test_an_error_spoils_its_own_group_only(target: Target) -> None:
    async with logged_in(target) as peer:
        await peer.send(
            statement("select 'before'") + frontend.sync(),
            statement("select 1") + statement("select 1/0") + statement("select 'skipped'") + frontend.sync(),
            statement("select 'after'") + frontend.sync(),
        )
        answers = [await peer.until("Z") for _ in range(3)]
        # The constant 1/0 fails when Bind plans it, so there is no BindComplete.
        assert [letters(answer) for answer in answers] == ["12DCZ", "12DC1EZ", "12DCZ"]
        assert values(answers[2]) == [[b"after"]]


async def test_an_error_skips_syncless_flushes_and_simple_queries_as_postgres_does(target: Target) -> None:
    async with logged_in(target) as peer:
        # A Query among the skipped is skipped too: only Sync ends the error.
        await peer.send(frontend.parse("selekt"), frontend.flush(), frontend.query("select 'skipped'"), frontend.sync())
        assert letters(await peer.until("Z")) == "EZ"
        assert values(await peer.query("select 'next'")) == [[b"next"]]


async def test_a_transaction_may_span_groups(target: Target) -> None:
    async with logged_in(target) as peer:
        texts = ("begin", "select txid_current()", "select txid_current()", "commit")
        await peer.send(*(statement(sql) + frontend.sync() for sql in texts))
        answers = [await peer.until("Z") for _ in texts]
    assert b"".join(answer[-1].body for answer in answers) == b"TTTI"
    assert values(answers[1]) == values(answers[2])


async def test_a_transaction_that_fails_in_the_middle_of_a_pipeline(target: Target) -> None:
    async with logged_in(target) as peer:
        texts = ("begin", "select 1/0", "select 1", "commit", "select 'clean'")
        await peer.send(*(statement(sql) + frontend.sync() for sql in texts))
        answers = [await peer.until("Z") for _ in texts]
    assert b"".join(answer[-1].body for answer in answers) == b"TEEII"
    assert values(answers[-1]) == [[b"clean"]]


async def test_a_flush_in_the_middle_answers_what_came_before(target: Target) -> None:
    if target.kind == "pgbouncer" and pgbouncer_before(1, 24):
        pytest.skip(
            "PgBouncer 1.18 gives the server away at the first ReadyForQuery, and the second answer never comes"
        )
    async with logged_in(target) as peer:
        await peer.send(statement("select 1") + frontend.sync() + statement("select 2") + frontend.flush())
        assert letters(await peer.until("Z")) == "12DCZ"
        await peer.expect("12DC")
        await peer.send(frontend.sync())
        await peer.expect("Z")


async def test_what_fails_ahead_of_an_unnamed_statement_does_not_take_it_away(target: Target) -> None:
    if target.kind == "pgbouncer" and pgbouncer_before(1, 24):
        pytest.skip("PgBouncer 1.18 gives the server away at ReadyForQuery, and with it the unnamed statement")
    async with logged_in(target) as peer:
        await peer.send(
            frontend.query("select 1/0") + frontend.parse("select 7") + frontend.describe() + frontend.sync()
        )
        assert letters(await peer.until("Z")) == "EZ"
        assert letters(await peer.until("Z")) == "1tTZ"
        await peer.send(frontend.bind() + frontend.execute() + frontend.sync())
        assert letters(await peer.until("Z")) == "2DCZ"
        await peer.send(frontend.parse("selekt") + frontend.describe() + frontend.sync())
        assert letters(await peer.until("Z")) == "EZ"
        await peer.send(frontend.bind() + frontend.sync())
        assert (await peer.expect_error("26000")).fields["M"] == "unnamed prepared statement does not exist"
        await peer.expect("Z")


async def test_simple_queries_and_syncs_mix(target: Target) -> None:
    async with logged_in(target) as peer:
        await peer.send(
            frontend.query("select 1")
            + statement("select 2")
            + frontend.sync()
            + frontend.query("select 3; select 4")
            + frontend.sync()
            + statement("select 5")
            + frontend.sync()
        )
        assert [letters(await peer.until("Z")) for _ in range(5)] == ["TDCZ", "12DCZ", "TDCTDCZ", "Z", "12DCZ"]


async def test_nothing_but_syncs(target: Target) -> None:
    async with logged_in(target) as peer:
        await peer.send(frontend.sync() * 50)
        assert letters([await peer.expect("Z") for _ in range(50)]) == "Z" * 50
        assert values(await peer.query("select 1")) == [[b"1"]]


async def test_a_pipeline_may_come_byte_by_byte(target: Target) -> None:
    async with logged_in(target) as peer:
        group = statement("select 1") + frontend.sync()
        await peer.send_bytewise(group + statement("selekt") + frontend.sync() + group)
        assert [letters(await peer.until("Z")) for _ in range(3)] == ["12DCZ", "EZ", "12DCZ"]


async def test_a_deep_pipeline_is_read_while_it_is_written(target: Target) -> None:
    groups = 5_000

    async def write(peer: ScriptedPeer) -> None:
        for first in range(0, groups, 100):
            await peer.send(*(statement("select $1", str(n)) + frontend.sync() for n in range(first, first + 100)))

    async with logged_in(target) as peer, trio.open_nursery() as nursery:
        nursery.start_soon(write, peer)
        for number in range(groups):
            assert values(await peer.until("Z")) == [[str(number).encode()]]


@ONE_SERVER
async def test_two_pipelines_on_one_server_never_mix(target: Target) -> None:
    async def run(name: str) -> None:
        async with logged_in(target) as peer:
            for turn in range(20):
                await peer.send(*(statement("select $1", f"{name}-{turn}-{n}") + frontend.sync() for n in range(10)))
                for n in range(10):
                    assert values(await peer.until("Z")) == [[f"{name}-{turn}-{n}".encode()]]

    async with trio.open_nursery() as nursery:
        for name in ("alice", "bob", "carol"):
            nursery.start_soon(run, name)


@ONE_SERVER
async def test_who_waits_between_two_groups_blocks_nobody(target: Target) -> None:
    async with logged_in(target) as slow, logged_in(target) as other:
        await slow.send(statement("select 1") + frontend.sync() + statement("select 2") + frontend.sync())
        assert [letters(await slow.until("Z")) for _ in range(2)] == ["12DCZ", "12DCZ"]
        assert values(await other.query("select 3")) == [[b"3"]]
        assert values(await slow.query("select 4")) == [[b"4"]]


def test_the_pipeline_mode_of_psycopg(target: Target) -> None:
    with psycopg.connect(target.url("app", "app"), autocommit=True, prepare_threshold=None) as connection:
        with connection.pipeline():
            cursors = [connection.execute("select %s::int", (number,)) for number in range(300)]
        assert [cursor.fetchone() for cursor in cursors] == [(number,) for number in range(300)]


def test_an_error_aborts_the_pipeline_of_psycopg_and_not_the_connection(target: Target) -> None:
    """At which of its calls psycopg tells of the error depends on how much of the answer is there already."""
    with psycopg.connect(target.url("app", "app"), autocommit=True, prepare_threshold=None) as connection:
        failing, skipped = connection.cursor(), connection.cursor()
        with connection.pipeline() as pipeline:
            connection.execute("select 1")
            with pytest.raises((psycopg.errors.DivisionByZero, psycopg.errors.PipelineAborted)):
                failing.execute("select 1/0")
                skipped.execute("select 2")
                pipeline.sync()
            with contextlib.suppress(psycopg.Error):
                pipeline.sync()
            with pytest.raises(psycopg.Error):
                failing.fetchone()
            with pytest.raises(psycopg.Error):
                skipped.fetchone()
            assert connection.execute("select 3").fetchone() == (3,)
        assert connection.execute("select 4").fetchone() == (4,)


def test_a_transaction_in_the_pipeline_mode_of_psycopg(target: Target) -> None:
    with psycopg.connect(target.url("app", "app"), prepare_threshold=None) as connection, connection.pipeline():
        with connection.transaction():
            first = connection.execute("select txid_current()")
            second = connection.execute("select txid_current()")
        assert first.fetchone() == second.fetchone()
