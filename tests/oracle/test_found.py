"""What the oracles have found, in its shortest form; each is played on PostgreSQL too."""

from __future__ import annotations

import pytest
import trio

from pgpool_core.testing import ScriptedPeer, connect_peer, frontend
from tests.oracle.conftest import Places
from tests.oracle.stage import Address
from tests.peers import letters, values

DIRECT = pytest.mark.parametrize("side", [0, 1], ids=["direct", "pooler"])


async def came(address: Address, **parameters: str) -> ScriptedPeer:
    peer = await connect_peer((address.host, address.port))
    await peer.log_in("app", address.database, **parameters)
    return peer


@DIRECT
async def test_a_parameter_by_its_name_counts_more_than_options(places: Places, side: int) -> None:
    async with await came(places(1)[side], search_path="s1", options="-c search_path=public") as one:
        assert values(await one.query("show search_path")) == [[b"s1"]]


@DIRECT
async def test_a_client_is_told_how_postgresql_spells_its_parameter(places: Places, side: int) -> None:
    async with await came(places(1)[side], client_encoding="utf-8") as one:
        for message in await one.query("show client_encoding"):
            if message.type == b"S":
                name, value = message.body.decode().split("\0")[:2]
                one.parameters[name] = value
        assert one.parameters["client_encoding"] == "UTF8"


@DIRECT
async def test_a_late_copy_data_that_comes_in_pieces(places: Places, side: int) -> None:
    data = frontend.execute() + frontend.copy_data(b"101\tx\n") + frontend.copy_data(b"102\ty\n") + frontend.sync()
    async with await came(places(1)[side]) as one:
        for at in range(len(data)):
            await one.send(data[at : at + 1])
            await trio.lowlevel.checkpoint()
        assert letters(await one.until("Z")) == "EZ"


@DIRECT
async def test_what_a_client_has_set_to_the_servers_default_is_not_a_reset(places: Places, side: int) -> None:
    """On a server where nobody has set it PostgreSQL calls the same value a default."""
    address = places(2)[side]
    async with await came(address, application_name="mine") as one, await came(address) as two:
        await one.query("set application_name = ''")
        await two.query("begin")  # keeps the server on which that was said
        await one.query("set statement_timeout = 0")
        assert values(await one.query("show application_name")) == [[b""]]
        await one.query("reset application_name")
        assert values(await one.query("show application_name")) == [[b"mine"]]


@DIRECT
@pytest.mark.parametrize("sql", ["set app.a = 'Łódź'", 'set app."ż" = \'1\'; set search_path = "Łódź", public'])
async def test_a_value_that_a_client_encoding_does_not_have(places: Places, side: int, sql: str) -> None:
    address = places(1)[side]
    show = "select current_setting('app.a', true), current_setting('app.ż', true), current_setting('search_path')"
    async with await came(address) as one, await came(address, client_encoding="LATIN1") as two:
        await one.query(sql)
        seen = values(await one.query(show))
        for _ in range(2):
            assert values(await two.query("show client_encoding")) == [[b"LATIN1"]]
            await two.query(
                "set client_encoding = 'UTF8'"
            )  # from one encoding to another with the other's value in between
            await two.query("set client_encoding = 'LATIN1'")
            assert values(await one.query(show)) == seen


@DIRECT
async def test_a_value_stays_the_same_when_its_client_changes_encoding(places: Places, side: int) -> None:
    address = places(1)[side]
    async with await came(address) as one, await came(address) as two:
        await one.query("set app.a = 'Bodø'")
        for encoding, seen in (("LATIN1", b"Bod\xf8"), ("UTF8", "Bodø".encode())):
            await one.query(f"set client_encoding = '{encoding}'")
            await two.query("select 1")
            assert values(await one.query("select current_setting('app.a')")) == [[seen]]
        await one.query("set app.a = 'Łódź'")
        await one.query("set client_encoding = 'LATIN1'")
        await one.query("set work_mem = '5MB'")  # asked about while the value cannot be told
        await two.query("select 1")
        assert values(await one.query("select length(current_setting('app.a')), current_setting('work_mem')")) == [
            [b"4", b"5MB"]
        ]


@DIRECT
@pytest.mark.parametrize("role", ["role", "session authorization"])
async def test_a_setting_that_is_hidden_from_the_role_of_that_moment(places: Places, side: int, role: str) -> None:
    address = places(2)[side]
    async with await boss(address) as one:
        await one.query(f"set dynamic_library_path = '$libdir:/x'; set {role} reader")
        assert values(await one.query("show is_superuser")) == [[b"off"]]
    for _ in range(3):
        async with await boss(address) as two:
            assert values(await two.query("show dynamic_library_path")) == [[b"$libdir"]]


async def boss(address: Address) -> ScriptedPeer:
    peer = await connect_peer((address.host, address.port))
    await peer.log_in("boss", address.database)
    return peer
