"""The JDBC driver's way with the protocol, message by message: S_1, describe at prepare, portals read in parts."""

from __future__ import annotations

import contextlib

import pytest

from pgpool_core.testing import ScriptedPeer, frontend
from tests.conftest import Target
from tests.crowd import turns
from tests.peers import letters, logged_in, values

pytestmark = [
    pytest.mark.parametrize("target", ["direct", "pgpool_core"], indirect=True),
    pytest.mark.pooler(default_pool_size=2),
]
LOGIN = {"client_encoding": "UTF8", "DateStyle": "ISO", "TimeZone": "Asia/Tokyo", "extra_float_digits": "2"}


async def ask(client: ScriptedPeer, *parts: bytes) -> tuple[str, list[list[bytes | None]]]:
    await client.send(*parts, frontend.sync())
    answer = await client.until("Z")
    return letters(answer).replace("S", ""), values(answer)  # ParameterStatus may come at any time


def begin() -> bytes:
    """What it puts in front of the first statement of a transaction."""
    return frontend.parse("BEGIN") + frontend.bind() + frontend.execute()


async def test_unnamed_at_first_and_named_from_the_fifth_time_on(target: Target) -> None:
    text = "select $1::int4 as n, $2::text as t"
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(logged_in(target, parameters=LOGIN)) for _ in range(4)]
        for client in clients:
            await ask(client, frontend.parse("SET extra_float_digits = 3"), frontend.bind(), frontend.execute())
            said = await ask(
                client,
                frontend.parse("SET application_name = 'PostgreSQL JDBC Driver'"),
                frontend.bind(),
                frontend.execute(),
            )
            assert said[0] == "12CZ"
        for time in range(9):
            for number, client in enumerate(clients):
                name = "" if time < 4 else "S_1"
                prepare = frontend.parse(text, name) if time < 5 else b""
                described = frontend.describe(name) if time == 4 else b""
                use = frontend.bind(name, values=[str(time), f"c{number}"])
                portal = frontend.describe(kind=b"P") if time < 5 else b""
                said = await ask(client, prepare, described, use, portal, frontend.execute())
                assert said == (
                    ("1" if prepare else "") + ("tT" if described else "") + "2" + ("T" if portal else "") + "DCZ",
                    [[str(time).encode(), f"c{number}".encode()]],
                )
        for client in clients:
            assert await ask(
                client, frontend.parse("show extra_float_digits"), frontend.bind(), frontend.execute()
            ) == (
                "12DCZ",
                [[b"3"]],
            )


async def test_a_result_is_read_in_parts(target: Target) -> None:
    text = "select generate_series(1, 25)"
    async with logged_in(target, parameters=LOGIN) as one, logged_in(target, parameters=LOGIN) as two:
        for round_ in range(3):
            for client in (one, two):
                first = await ask(
                    client,
                    begin(),
                    frontend.parse(text, "S_2") if round_ == 0 else b"",
                    frontend.bind("S_2", "C_3"),
                    frontend.describe("C_3", kind=b"P"),
                    frontend.execute("C_3", max_rows=10),
                )
                assert first[0] == "12C" + ("1" if round_ == 0 else "") + "2T" + "D" * 10 + "sZ"
            for client in (two, one):
                assert await ask(client, frontend.execute("C_3", max_rows=10)) == (
                    "D" * 10 + "sZ",
                    [[str(n).encode()] for n in range(11, 21)],
                )
                assert (await ask(client, frontend.execute("C_3", max_rows=10)))[0] == "DDDDDCZ"
                assert (await ask(client, frontend.close("C_3", kind=b"P")))[0] == "3Z"
                assert (await ask(client, frontend.parse("COMMIT"), frontend.bind(), frontend.execute()))[0] == "12CZ"


async def test_a_batch_and_its_error(target: Target) -> None:
    async with logged_in(target, parameters=LOGIN) as one, logged_in(target, parameters=LOGIN) as two:
        for client in (one, two):
            assert (
                await ask(
                    client,
                    frontend.parse("select 10 / ($1::int4 + 0 * pg_backend_pid())", "S_1"),
                    frontend.describe("S_1"),
                )
            )[0] == "1tTZ"
        uses = [frontend.bind("S_1", values=[str(n)]) + frontend.execute() for n in (1, 2, 0, 5)]
        for _ in range(3):
            for client in (one, two):
                assert await ask(client, begin(), *uses) == ("12C2DC2DC2EZ", [[b"10"], [b"5"]])
            for client in (one, two):
                assert letters(await client.query("ROLLBACK")) == "CZ"
                assert await ask(client, uses[3]) == ("2DCZ", [[b"2"]])


@pytest.mark.parametrize("text", ["DEALLOCATE ALL", "DISCARD ALL"])
@pytest.mark.parametrize("simple", [True, False])
async def test_all_statements_end(target: Target, text: str, simple: bool) -> None:
    """What the driver does with autosave, and other pools do between borrowers: later it prepares anew."""
    use = frontend.bind("S_1", values=["1"]) + frontend.execute()
    async with logged_in(target, parameters=LOGIN) as one, logged_in(target, parameters=LOGIN) as two:
        for _ in range(3):
            for client in (one, two):
                assert (await ask(client, frontend.parse("select $1::int4", "S_1"), use))[0] == "12DCZ"
            if simple:
                assert letters(await one.query(text)).replace("S", "") == "CZ"
            else:
                said = await ask(one, frontend.parse(text), frontend.bind(), frontend.execute())
                assert said[0] == "12CZ"
            assert (await ask(one, use))[0] == "EZ"
            assert await ask(two, use) == ("2DCZ", [[b"1"]])
            assert (await ask(two, frontend.close("S_1")))[0] == "3Z"
            assert values(await one.query("show TimeZone")) == [[b"Asia/Tokyo"]]


async def test_a_statement_goes_from_server_to_server(target: Target) -> None:
    use = frontend.bind("S_1") + frontend.execute()
    with turns(target.url("app", "app")) as turn:
        async with logged_in(target, parameters=LOGIN) as client:
            pids = [(await ask(client, frontend.parse("select pg_backend_pid()", "S_1"), use))[1]]
            for _ in range(4):
                turn()
                pids.append((await ask(client, use))[1])
    if not target.is_direct:
        assert pids[0] == pids[2] == pids[4] != pids[1] == pids[3]
