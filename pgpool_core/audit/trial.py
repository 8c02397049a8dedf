"""Running a program through a pool that changes servers at every transaction, to see what it needs of one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

import attrs
import trio

from pgpool_core.audit.advice import Advice
from pgpool_core.audit.session import Session
from pgpool_core.embedded.proxy import Proxy, open_proxy
from pgpool_core.embedded.source import is_connection_string

_LOGIN_S: Final = 15.0
_LOOK_EVERY_S: Final = 0.05


async def try_command(url: str, command: Sequence[str], *, spare: int, pool_size: int) -> tuple[int, Advice]:
    """Run `command` with DATABASE_URL and the PG* variables leading to a pooler of its own in front of `url`.

    Args:
        spare: servers that are open from the beginning and taken in turn.
        pool_size: servers at most.
    Returns:
        The exit status of the command (128 + N when signal N ended it), and what it used.
    Raises:
        PgPoolError: the connection string cannot be used, or nobody can log in with it.
        OSError: there is no such command.
    """
    if is_connection_string(url):
        await (await Session.open(url, timeout_s=_LOGIN_S)).close()  # through the pooler it would say less, and later
    async with open_proxy(
        url,
        pool_mode="transaction",
        session_state="auto",
        leak_check="always",
        server_round_robin=True,
        min_pool_size=spare,
        default_pool_size=pool_size,
    ) as proxy:
        async with await Session.open(proxy.url, timeout_s=_LOGIN_S) as session:
            await session.query("SELECT 1")
        await _opened(proxy, spare)
        before = proxy.features().transactions
        environment = {**os.environ, **proxy.environ()}
        done = await trio.run_process(list(command), stdin=None, check=False, env=environment)
        status = done.returncode if done.returncode >= 0 else 128 - done.returncode
        features = proxy.features()
        features = attrs.evolve(features, transactions=features.transactions - before)
        return status, Advice(features=features, leaks=proxy.statistics().leaks)


async def _opened(proxy: Proxy, servers: int) -> None:
    """Wait until so many servers are open, or for as long as a login may take."""
    with trio.move_on_after(_LOGIN_S):
        while sum(pool.sv_idle for pool in proxy.statistics().pools) < servers:  # noqa: ASYNC110 (nobody tells)
            await trio.sleep(_LOOK_EVERY_S)
