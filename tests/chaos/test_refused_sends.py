"""The kernel refuses a send on a connection that is as well as before."""

from __future__ import annotations

import errno
import sys

import pytest

from pgpool_core.testing import PostgresServer, frontend
from tests import refused_sends
from tests.chaos.conftest import scene_of
from tests.conftest import PoolerFactory
from tests.peers import logged_in, values

QUERY = "select 'not to be sent', repeat('x', 8000)"


@pytest.mark.parametrize("refusal", [errno.ENOBUFS, errno.ENOMEM, errno.EHOSTUNREACH])
async def test_what_cannot_be_sent_to_a_server_ends_both_and_nobody_waits(
    pooler: PoolerFactory, postgres: PostgresServer, refusal: int
) -> None:
    """Nothing ever came of it: the server did not know that it was asked, its socket had nothing to say."""
    asked = frontend.query(QUERY)
    place = pooler(start=False, io_backend="epoll", default_pool_size=1, server_login_retry=1)
    place.command = (sys.executable, "-m", refused_sends.__name__, str(refusal), str(len(asked)), "serve")
    place.env = {"PYTHONPATH": ":".join(sys.path)}
    place.start()
    scene = scene_of(place, postgres)
    async with logged_in(place) as peer, logged_in(place) as other:
        assert values(await peer.query("select 1")) == [[b"1"]]
        await peer.send(asked)
        told = await peer.until("E")
        assert (told[-1].fields["C"], told[-1].fields["M"]) == ("08006", "server conn crashed?")
        assert await peer.receive() is None
        assert values(await other.query("select 2")) == [[b"2"]]
    scene.check()
