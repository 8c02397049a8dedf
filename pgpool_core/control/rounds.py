"""What is done again and again while the pooler runs: the janitor's look, the names of hosts, the statistics of a period."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import trio

from pgpool_core import logs
from pgpool_core.config.model import Config
from pgpool_core.control.slack import Slack

if TYPE_CHECKING:
    from pgpool_core.control.auth_query import AuthQuery
    from pgpool_core.control.channels import Channels
    from pgpool_core.control.loans import Loans
    from pgpool_core.control.opener import Opener
    from pgpool_core.control.pools import PoolRegistry
    from pgpool_core.control.report import Report
    from pgpool_core.engine.plane import Engine

SOON_S: Final = 1 / 3  # between two rounds of the janitor, as PgBouncer's
CALM_S: Final = (
    1.0  # where nobody waits and no timeout is short: each round wakes a process that may have nothing else to do
)


async def janitor(
    engine: Engine,
    pools: PoolRegistry,
    opener: Opener,
    loans: Loans,
    auth_query: AuthQuery,
    channels: Channels,
    now_us: Callable[[], int],
    on_calm: Callable[[], None],
) -> None:
    """Close what is due, forget what nobody uses, look after what has been lent, renew names of hosts; for ever."""
    from pgpool_core.engine.memory import trim

    def give_back() -> None:
        trim()
        on_calm()

    backend = engine.io_backend
    slack = Slack(lambda: engine.connections, lambda: engine.logins()[0], give_back)
    pause_s = SOON_S
    async with trio.open_nursery() as nursery:
        while True:
            await trio.sleep(pause_s)
            if backend != engine.io_backend:
                backend = engine.io_backend
                logs.LOGGER.warning("the system refuses io_uring by now: %s goes on (io_backend)", backend)
            soon = engine.sweep(now_us())
            loans.look()
            pools.forget_empty(now_us())
            auth_query.expire()
            opener.poke()
            soon = slack.look() or soon
            if pools.names.are_due:
                pools.want_names()
                nursery.start_soon(pools.names.refresh)
            if pools.names.take_news():
                pools.follow_names()
                channels.follow_names()
            pause_s = SOON_S if soon or loans.lookers else CALM_S


class Statistician:
    """Ends a period every stats_period and tells the line about it, which the log has too."""

    def __init__(self, report: Report, config: Callable[[], Config], tell: Callable[[str], None]) -> None:
        """`tell` is called with each line."""
        self._report = report
        self._config = config
        self._tell = tell
        self._began = 0.0
        self._period = trio.CancelScope()

    async def run(self) -> None:
        """For ever; the first period begins now."""
        while True:
            self._began = trio.current_time()
            self._period = trio.CancelScope()
            self.reloaded()
            with self._period:
                await trio.sleep_forever()
            line = logs.stats_line(self._report.end_period())
            self._tell(line)
            if self._config().log_stats:
                logs.LOGGER.info("%s", line)

    def reloaded(self) -> None:
        """The period that runs is as long as stats_period says by now: a longer one before is not waited for."""
        self._period.deadline = self._began + self._config().stats_period
