"""What clients are told at login, those who begin as others before them too."""

from __future__ import annotations

import pytest

from pgpool_core.testing import PoolerProcess
from pgpool_core.testing.peer import PeerMismatch
from tests.conftest import PoolerFactory
from tests.peers import logged_in, values
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
