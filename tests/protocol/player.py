"""Playing a transcript: the lines in their order, one party after the other, at one of its places."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Self

import trio

from pgpool_core.embedded.proxy import Proxy
from pgpool_core.testing import backend
from pgpool_core.testing.messages import frontend
from tests.conftest import PASSWORDS
from tests.protocol.layouts import FIRST_PACKETS
from tests.protocol.party import CUTS, KNOWN_TO_FAIL_S, PATIENCE_S, Mismatch, Party, describe
from tests.protocol.transcript import Line, Place, Transcript, is_server

__all__ = ["Player", "ServerSide"]

SERVER_PARAMETERS = {
    "server_version": "15.0",
    "server_encoding": "UTF8",
    "client_encoding": "UTF8",
    "DateStyle": "ISO, MDY",
    "TimeZone": "UTC",
    "integer_datetimes": "on",
    "standard_conforming_strings": "on",
}
SERVER_PID, SERVER_KEY = 4711, b"\0\0\0\1"
_LOOK_EVERY_S = 0.002
_MAKES_A_REQUEST = ("StartupMessage", "CancelRequest", *FIRST_PACKETS)


class ServerSide:
    """The script behind the pooler: takes connections in order and logs them in, unless the transcript does so itself."""

    def __init__(self, transcript: Transcript, player: Player, nursery: trio.Nursery) -> None:
        self._transcript = transcript
        self._player = player
        self._nursery = nursery
        self._ready: dict[int, trio.Event] = {}
        self.parties: dict[int, Party] = {}
        self.accepting = trio.CancelScope()

    async def serve(self, listener: trio.SocketListener) -> None:
        """Take connections until `accepting` is cancelled."""
        with self.accepting:
            await self._serve(listener)

    async def _serve(self, listener: trio.SocketListener) -> None:
        while True:
            stream = await listener.accept()
            number = len(self.parties) + 1
            name = f"S{number}" if number > 1 else "S"
            party = self.parties[number] = self._player.new_party(name, stream)
            self._nursery.start_soon(self._welcome, number, party)

    async def _welcome(self, number: int, party: Party) -> None:
        if not self._transcript.logs_in_by_hand(number):
            packet = await party.first_packet("StartupMessage")
            if packet[4:8] != b"\0\3\0\0":
                raise Mismatch(f"{party.name} should get StartupMessage; got {packet!r}")
            status = b"".join(backend.parameter(name, value) for name, value in SERVER_PARAMETERS.items())
            key = backend.key_data(SERVER_PID, SERVER_KEY)
            await party.send(backend.authentication_ok() + status + key + backend.ready())
        self._event(number).set()

    async def party(self, name: str) -> Party:
        """The connection of that name, once it is there."""
        number = int(name[1:] or 1)
        with trio.move_on_after(self._player.patience_s):
            await self._event(number).wait()
            return self.parties[number]
        raise Mismatch(f"{name}: the pooler has not connected for {self._player.patience_s:g} s")

    def _event(self, number: int) -> trio.Event:
        return self._ready.setdefault(number, trio.Event())

    async def see_off(self, party: Party) -> None:
        """Let the pooler clean the server behind the last client, and close when it says good-bye; anything else is too much."""
        reset = self._transcript.settings.get("server_reset_query", "DISCARD ALL")
        try:
            while not party.ended and (came := await party.message_or_end()) not in (None, (b"X", b"")):
                if came not in [(b"Q", query.encode() + b"\0") for query in (reset, "ROLLBACK")]:
                    raise Mismatch(
                        f"{party.name} gets more than the transcript says: {describe(*came, from_client=True)}"
                    )
                await party.send(backend.command_complete("CLEANED") + backend.ready())
        finally:
            await trio.aclose_forcefully(party.stream)


class Player:
    """Plays the lines for one place.

    Args:
        address: where clients connect: a Unix socket or (host, port).
        proxy: the pooler, where there is one.
    """

    def __init__(self, transcript: Transcript, place: Place, cut: str, seed: int) -> None:
        self._transcript = transcript
        self._place = place
        self._cut = CUTS[cut]
        self._source = random.Random(seed)
        self.patience_s = KNOWN_TO_FAIL_S if transcript.fails else PATIENCE_S
        self.clients: dict[str, Party] = {}
        self.servers: ServerSide | None = None
        self.address: Path | tuple[str, int] = Path()
        self.proxy: Proxy | None = None

    def new_party(self, name: str, stream: trio.SocketStream) -> Party:
        return Party(
            name, stream, is_server=is_server(name), cut=self._cut, source=self._source, patience_s=self.patience_s
        )

    async def play(self) -> None:
        """Every line for the place, then that no client got more than they say.

        Raises:
            Mismatch: with the place in the file.
        """
        lines = list(self._transcript.lines_for(self._place))
        for (name, sends, deed), group in groupby(lines, lambda line: (line.party, line.sends, _is_deed(line))):
            spoken = list(group)
            try:
                party = await self._party(name)
                if party is None:
                    for line in spoken:
                        await self._see_counts(line)
                elif sends and not deed:
                    await self._send(party, spoken)
                elif sends:
                    for line in spoken:
                        await self._do(party, line)
                else:
                    for line in spoken:
                        await _get(party, line)
            except Mismatch as mismatch:
                raise Mismatch(f"{self._transcript.path.name}:{spoken[0].number}: {mismatch}") from None
        for party in self.clients.values():
            if party.ended:
                continue
            await party.half_close()
            if more := await party.at_end():
                raise Mismatch(f"{self._transcript.path.name}: {party.name} gets more: {party.describe(more)}")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, failed: type[BaseException] | None, *_: object) -> None:
        """Close the clients; the servers only where it has failed, for else they have a good-bye to hear."""
        servers: list[Party] = []
        if self.servers is not None and failed is not None:
            self.servers.accepting.cancel()
            servers += self.servers.parties.values()
        for party in [*self.clients.values(), *servers]:
            await trio.aclose_forcefully(party.stream)

    async def _party(self, name: str) -> Party | None:
        if name == "pool":
            return None
        if is_server(name):
            assert self.servers is not None
            return await self.servers.party(name)
        if name not in self.clients:
            self.clients[name] = self.new_party(name, await _connect(self.address))
        return self.clients[name]

    async def _send(self, party: Party, lines: Sequence[Line]) -> None:
        """What one party says without waiting, in as few sends as the cut allows."""
        for line in lines:
            if line.name == "StartupMessage" and "user" in line.words.named:
                party.user = line.words.named["user"].data.decode()
        parts = [self._cancel(line) if line.name == "CancelRequest" else line.data for line in lines]
        made = [party.answer(line) if data is None else data for line, data in zip(lines, parts, strict=True)]
        await party.send(b"".join(made))

    def _cancel(self, line: Line) -> bytes:
        if line.data is not None:
            return line.data
        of = self.clients[line.words.named["of"].data.decode()]
        wrong = line.words.named["wrong"].data if "wrong" in line.words.named else b""
        key = bytes(byte ^ 0x55 for byte in of.key) if wrong == b"key" else of.key
        return frontend.cancel(of.process ^ 1 if wrong == b"process" else of.process, key)

    async def _do(self, party: Party, line: Line) -> None:
        if line.name == "login":
            named = {key: word.data.decode() for key, word in line.words.named.items()}
            user, database = named.pop("user", "app"), named.pop("database", "app")
            await party.log_in(frontend.startup(user, database, **named), user, PASSWORDS.get(user, ""))
        elif line.name == "half-close":
            await party.half_close()
        elif line.name == "cut":
            await party.cut_off()
        else:
            await party.close()

    async def _see_counts(self, line: Line) -> None:
        """Wait until the pools together have the counts of `line`."""
        wanted = {key: int(word.data) for key, word in line.words.named.items()}
        assert self.proxy is not None
        deadline = trio.current_time() + self.patience_s
        while (seen := self._counts(wanted)) != wanted:
            if trio.current_time() > deadline:
                raise Mismatch(f"{line.text}: {seen}")
            with trio.move_on_after(_LOOK_EVERY_S):
                await trio.sleep_forever()

    def _counts(self, names: dict[str, int]) -> dict[str, int]:
        assert self.proxy is not None
        pools = self.proxy.statistics().pools
        return {name: sum(getattr(pool, name) for pool in pools) for name in names}


def _is_deed(line: Line) -> bool:
    return line.name[0].islower()


async def _get(party: Party, line: Line) -> None:
    if line.name == "end":
        if more := await party.at_end():
            raise Mismatch(f"{line.text}: before that it got {party.describe(more)}")
    elif line.name == "greeting":
        await party.greeting()
    elif party.is_server and line.name in _MAKES_A_REQUEST:
        packet = await party.first_packet(line.text)
        if packet != line.data:
            raise Mismatch(f"should get {line.text}; got {packet!r}")
    else:
        await party.expect(line)


async def _connect(address: Path | tuple[str, int]) -> trio.SocketStream:
    if isinstance(address, Path):
        return trio.SocketStream(await _unix(address))
    return await trio.open_tcp_stream(*address)


async def _unix(path: Path) -> trio.socket.SocketType:
    sock = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    await sock.connect(str(path))
    return sock
