"""Tables that are temporary because of search_path alone: where no schema that the role may use stands in front of pg_temp."""

from __future__ import annotations

import pytest

from pgpool_core.testing import Message, ScriptedPeer, frontend
from tests.conftest import PoolerFactory
from tests.peers import logged_in, values

Step = str | tuple[str, ...]

LATER: dict[str, list[Step]] = {
    "by CREATE": ["set search_path = nosuch, pg_temp", "select 1", "create table mine (a int)"],
    "by SELECT INTO": ["set search_path = nosuch, pg_temp", "select 1 as a into mine"],
    "behind BEGIN": ["set search_path = nosuch, pg_temp", "begin; create table mine (a int); commit"],
    "behind nothing": ["set search_path = '', pg_temp", "create table mine (a int)"],
    "by the value of a Bind": [
        ("select set_config('search_path', $1, false)", "nosuch, pg_temp"),
        "create table mine (a int)",
    ],
}
AT_ONCE: dict[str, list[Step]] = {
    "by the value of a Bind": [
        "begin",
        ("select set_config('search_path', $1, true)", "pg_temp"),
        "create table mine (a int)",
        "commit",
    ],
    "by both values of a Bind": [
        "begin",
        ("select set_config($1, $2, true)", "search_path", "pg_temp"),
        "create table mine (a int)",
        "commit",
    ],
    "by other escapes": [
        "begin",
        "set local search_path = U&'pg!005ftemp' uescape '!'",
        "create table mine (a int)",
        "commit",
    ],
}
STEPS = {**LATER, **{f"in one transaction {name}": steps for name, steps in AT_ONCE.items()}}


async def play(client: ScriptedPeer, step: Step) -> None:
    if isinstance(step, str):
        answer = await client.query(step)
    else:
        text, *parameters = step
        await client.send(
            frontend.parse(text)
            + frontend.bind(values=[value.encode() for value in parameters])
            + frontend.execute()
            + frontend.sync()
        )
        answer = await client.until("Z")
    assert not [message for message in answer if message.type == b"E"], step


async def temporary(client: ScriptedPeer) -> list[list[bytes | None]]:
    return values(
        await client.query("select relname from pg_class where relnamespace = pg_my_temp_schema() order by 1")
    )


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS.keys())
async def test_a_table_behind_no_schema_is_its_clients_own(pooler: PoolerFactory, steps: list[Step]) -> None:
    place = pooler(default_pool_size=2)
    async with logged_in(place) as one, logged_in(place) as two, logged_in(place) as three:
        for step in steps:
            await play(one, step)
        for other in (two, three):
            await other.query("begin")
            assert await temporary(other) == []
            await other.query("commit")
        assert await temporary(one) == [[b"mine"]]
    alone = pooler(default_pool_size=1)
    async with logged_in(alone) as one:
        for step in steps:
            await play(one, step)
    async with logged_in(alone) as two:
        assert await temporary(two) == []


async def test_one_that_was_prepared_before_is_too(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=1)
    async with logged_in(place) as one:
        await one.send(frontend.parse("create table prepared (a int)", "c") + frontend.sync())
        await one.until("Z")
        await play(one, "set search_path = nosuch, pg_temp")
        await one.send(frontend.bind("c") + frontend.execute() + frontend.sync())
        answer: list[Message] = list(await one.until("Z"))
        assert not [message for message in answer if message.type == b"E"]
    async with logged_in(place) as two:
        assert await temporary(two) == []


async def test_so_is_one_of_a_path_in_the_startup_packet(pooler: PoolerFactory) -> None:
    place = pooler(default_pool_size=1)
    async with logged_in(place, options="-c search_path=pg_temp") as one:
        await play(one, "select 1")
        await play(one, "create table mine (a int)")
    async with logged_in(place) as two:
        assert await temporary(two) == []
