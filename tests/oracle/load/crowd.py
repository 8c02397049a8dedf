"""Many clients at once before one pooler, and an operator among them, for some seconds."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import attrs
import trio

from pgpool_core.testing import frontend
from pgpool_core.testing.process import ProcessFailed
from tests.oracle.load.acts import CHANNEL, QUIET, Act, announce
from tests.oracle.load.line import Ended, Gate, Line
from tests.oracle.load.matter import Wrong, size

__all__ = ["Crowd"]

SHORT = ("RELOAD", "RECONNECT", "SHOW POOLS", "SHOW CLIENTS", "SHOW SERVERS", "SUSPEND", "PAUSE")


@attrs.define(eq=False)
class Crowd:
    """What it does and what came of it.

    Attributes:
        failures: what was wrong, each with the act and the client's seed.
        done: how often each act was played to its end.
    """

    gate: Gate
    seed: int
    clients: int
    acts: tuple[Act, ...]
    pauses: bool  # PAUSE waits for sessions to end, where servers belong to sessions
    replace: Callable[[], object] | None = None  # has another process take over (-R)
    failures: list[str] = attrs.field(factory=list)
    done: Counter[str] = attrs.field(factory=Counter)
    _heard: dict[int, int] = attrs.field(factory=dict)
    _over: bool = False
    _failed: trio.Event = attrs.field(factory=trio.Event)

    async def play(self, seconds: float) -> None:
        """So long; who is in the middle of something then ends it. The first failure ends it all."""
        async with trio.open_nursery() as nursery:
            for number in range(self.clients):
                nursery.start_soon(self._client, number)
            nursery.start_soon(self._listener)
            nursery.start_soon(self._operator)
            await self._pause(seconds)
            self._over = True

    async def _pause(self, seconds: float) -> None:
        """The others go on so long, unless one has failed."""
        with trio.move_on_after(seconds):
            await self._failed.wait()

    def _fail(self, who: str, why: BaseExceptionGroup) -> None:
        while isinstance(why.exceptions[0], BaseExceptionGroup):
            why = why.exceptions[0]
        self.failures.append(f"{who}: {why.exceptions[0]!r}")
        self._over = True
        self._failed.set()

    async def _client(self, number: int) -> None:
        rng = random.Random(f"{self.seed}/{number}")
        said = 0
        while not self._over:
            what = "login"
            try:
                async with Line(self.gate, rng) as line:
                    for _ in range(rng.randint(1, 12)):
                        if rng.random() < 0.08:
                            what, said = "announce", said + 1
                            await announce(line, rng, number, said)
                        else:
                            act = rng.choice(self.acts)
                            what = act.__name__
                            await act(line, rng)
                        self.done[what] += 1
                        if self._over:
                            break
                    what = "leave"
                    await self._leave(line, rng)
            except* (Wrong, Ended, trio.TooSlowError) as group:
                self._fail(f"client {number} in {what}", group)

    async def _leave(self, line: Line, rng: random.Random) -> None:
        """Politely, with an answer under way or in the middle of a message."""
        way = rng.random()
        text = "x" * size(rng, 200_000)
        if way < 0.3:
            await line.send(frontend.query(f"select '{text}'"), frontend.terminate())
            await line.expect(b"TD")
            await line.expect(b"CZ")
        elif way < 0.5:
            await line.send(frontend.query("select repeat('x', 300) from generate_series(1, 20000)"))
            for _ in range(rng.randint(0, 3000)):
                await line.message()
        elif way < 0.6:
            message = frontend.query(f"select '{text}'")
            await line.send(message[: rng.randrange(len(message))])
        elif way < 0.65:
            await line.send(frontend.query("begin"), frontend.query("copy (select 1) to stdout"))
        else:
            await line.send(frontend.terminate())

    async def _listener(self) -> None:
        """Hears every sender's announcements whole and in order; some may be missed where servers are replaced."""
        rng = random.Random(f"{self.seed}/listener")
        try:
            async with Line(self.gate, rng) as line:
                await line.done(f"listen {CHANNEL}")
                while not self._over:
                    await rng.choice(QUIET)(line, rng)
                    while line.notifications:
                        self._hear(line.notifications.pop(0).body)
        except* (Wrong, Ended, trio.TooSlowError) as group:
            self._fail("listener", group)

    def _hear(self, body: bytes) -> None:
        channel, payload, rest = body[4:].split(b"\0")
        sender, number, padding = payload.split(b":")
        if channel != CHANNEL.encode() or rest or padding.strip(b"x"):
            raise Wrong(f"a notification: {body[:100]!r}")
        if int(number) <= self._heard.get(int(sender), 0):
            raise Wrong(f"notification {int(number)} of client {int(sender)} behind {self._heard[int(sender)]}")
        self._heard[int(sender)] = int(number)
        self.done["heard"] += 1

    async def _operator(self) -> None:
        """Orders, one after the other; what is stopped goes on at once. Now and then another process takes over."""
        rng = random.Random(f"{self.seed}/operator")
        try:
            while not self._over:
                async with Line(attrs.evolve(self.gate, database="pgbouncer"), rng) as line:
                    await self._orders(line, rng)
                if self.replace is not None and not self._over:
                    await trio.to_thread.run_sync(self.replace)
                    self.done["-R"] += 1
        except* (Wrong, Ended, trio.TooSlowError, ProcessFailed) as group:
            self._fail("operator", group)

    async def _orders(self, line: Line, rng: random.Random) -> None:
        """Until all is over, or a takeover is due."""
        orders = SHORT if self.pauses else SHORT[:-1]
        count = 0
        while not self._over and (self.replace is None or count < 4):
            count += 1
            order = rng.choice(orders)
            await line.send(frontend.query(order))
            while (came := await line.message()).type != b"Z":
                if came.type == b"E":
                    raise Wrong(f"{order}: {came.fields}")
            if order in ("PAUSE", "SUSPEND"):
                await self._pause(rng.random() * 0.05)
                await line.done("RESUME")
            self.done[order] += 1
            await self._pause(rng.random() * 0.3)
