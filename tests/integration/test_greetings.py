"""What clients are told at login, those who begin as others before them too."""

from __future__ import annotations

import pytest

from pgpool_core.testing import PoolerProcess, connect_peer, frontend
from pgpool_core.testing.peer import PeerMismatch
from tests.conftest import PASSWORDS, PoolerFactory
from tests.peers import logged_in, values
from tests.programs import pgbouncer_before
from tests.watching import until_async

ASKED = {"application_name": "web", "options": "-c work_mem=3MB", "intervalstyle": "sql_standard"}


async def asked_for(place: PoolerProcess, **parameters: str) -> tuple[dict[str, str], list[bytes | None]]:
    """What a new client is told at login, and where it stands."""
    async with logged_in(place, **parameters) as peer:
        (row,) = values(
            await peer.query(
                "select current_setting('work_mem'), current_setting('intervalstyle'), current_setting('application_name')"
            )
        )
        return peer.parameters, row


async def reload(place: PoolerProcess, **settings: str) -> None:
    """Apply other settings."""
    place.settings.update(settings)
    place.reload()
    await until_async(lambda: "configuration reloaded" in place.log)


async def test_who_begins_as_another_did_stands_where_that_one_stood_with_a_key_of_its_own(
    pooler: PoolerFactory,
) -> None:
    place = pooler(workers=1)
    keys = set()
    told = []
    for _ in range(3):
        async with logged_in(place, **ASKED) as peer:
            keys.add((peer.pid, bytes(peer.key)))
            told.append(peer.parameters)
            assert values(await peer.query("show work_mem")) == [[b"3MB"]]
            await peer.query("set intervalstyle = iso_8601")  # this one's own
            await peer.query("reset work_mem")
            assert values(await peer.query("show work_mem")) == [[b"3MB"]]
            await peer.query("reset intervalstyle")
            assert values(await peer.query("show intervalstyle")) == [[b"sql_standard"]]
    assert len(keys) == 3
    assert told[0] == told[1] == told[2]
    assert told[0]["application_name"] == "web"
    assert told[0]["IntervalStyle"] == "sql_standard"
    parameters, row = await asked_for(place, application_name="wab")
    assert parameters["application_name"] == "wab"
    assert row == [b"4MB", b"postgres", b"wab"]


async def test_what_a_reload_makes_of_the_same_packet_counts_from_then_on(pooler: PoolerFactory) -> None:
    place = pooler(workers=1, ignore_startup_parameters="work_mem")
    for _ in range(2):
        _, row = await asked_for(place, work_mem="5MB")
        assert row[0] == b"4MB"
    await reload(place, ignore_startup_parameters="")
    _, row = await asked_for(place, work_mem="5MB")
    assert row[0] == b"5MB"


async def test_what_session_state_refuses_from_now_on_is_refused_to_who_begins_as_before(pooler: PoolerFactory) -> None:
    place = pooler(workers=1)
    for _ in range(2):
        _, row = await asked_for(place, work_mem="5MB")
        assert row[0] == b"5MB"
    await reload(place, session_state="off")
    with pytest.raises(PeerMismatch, match="unsupported startup parameter: work_mem"):
        await asked_for(place, work_mem="5MB")


# -- what poolers tell of themselves -------------------------------------------------------------------------------------


def of_poolers(parameters: dict[str, str]) -> dict[str, str]:
    return {name.removeprefix("pgbouncer."): value for name, value in parameters.items() if "pgbouncer." in name}


async def test_drivers_are_told_what_kind_of_pooler_they_talk_to(any_pooler: PoolerFactory) -> None:
    modes = {"pool_mode": "statement", "users": {"legacy": "pool_mode=session"}}
    place = any_pooler(start=False, max_prepared_statements=7, **modes)
    if place.kind == "pgbouncer" and pgbouncer_before(1, 26):
        pytest.skip("PgBouncer says so since 1.26")
    place.start()
    expected = {"app": "statement", "legacy": "session"}
    for user, mode in expected.items():
        async with logged_in(place, user) as peer:
            told = of_poolers(peer.parameters)
            assert told.pop("version")
            assert told == {"pool_mode": mode, "max_prepared_statements": "7"}
    async with logged_in(place, "admin", "pgbouncer") as console:
        assert of_poolers(console.parameters).keys() == {"version"}


async def test_the_version_is_that_of_the_console(pooler: PoolerFactory) -> None:
    place = pooler()
    async with logged_in(place, "admin", "pgbouncer") as console, logged_in(place) as peer:
        version = peer.parameters["pgbouncer.version"]
        assert console.parameters["pgbouncer.version"] == version
        assert console.parameters["server_version"] == f"{version}/bouncer"
        ((shown,),) = values(await console.query("show version"))
        assert shown is not None
        assert shown.decode().startswith(f"PgBouncer {version} ")


async def test_a_reload_changes_what_is_told_of_the_pooler(pooler: PoolerFactory) -> None:
    place = pooler(workers=1)
    for _ in range(2):
        async with logged_in(place) as peer:
            assert of_poolers(peer.parameters)["pool_mode"] == "transaction"
    await reload(place, pool_mode="session", max_prepared_statements="0")
    async with logged_in(place) as peer:
        told = of_poolers(peer.parameters)
    assert (told["pool_mode"], told["max_prepared_statements"]) == ("session", "0")


async def test_of_two_poolers_the_nearer_one_is_told(pooler: PoolerFactory) -> None:
    behind = pooler(pool_mode="session", max_prepared_statements=7)
    place = pooler(databases={"app": f"host={behind.host} port={behind.port}"})
    async with await connect_peer((place.host, place.port)) as peer:
        await peer.send(frontend.startup("app", "app"))
        await peer._authenticate("app", PASSWORDS["app"])
        said = [came.body for came in await peer.until("Z") if came.body.startswith(b"pgbouncer.")]
    assert len(said) == 3
    assert b"pgbouncer.pool_mode\0transaction\0" in said
    assert b"pgbouncer.max_prepared_statements\x00200\0" in said
