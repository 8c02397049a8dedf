"""What passes between two processes of a takeover after the listening sockets: packets, as bytes; nothing here has a socket.

    old  P{...}                       a pool, before the first parcel that names it
    old  K and 32 bytes               a key for servers that a client has revealed by its login
    old  C, head, bytes               a parcel, or its beginning, with the descriptors; D and bytes: more of it
    new  A and a number               that parcel is ours: whatever becomes of it from now on, the old one forgets it
    new  N and a number               its descriptors could not be taken: it stays with the old one, and so does everybody else

A parcel is what the engine makes of a client or a server (moving/parcel.pxd); here it is only bytes.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from pgpool_core.control.arrivals import Parcel, PoolFacts
from pgpool_core.control.connect import Began, Pairs
from pgpool_core.control.hosts import HostTold

VERSION: Final = 3  # of what stands here and of the parcels; both processes must have the same
CHUNK: Final = 32768  # bytes of a parcel in one packet
MAX_PACKET: Final = 65536
MAX_PARCEL: Final = 1 << 25
CLIENT_KEY_LEN: Final = 32

_HEAD: Final = struct.Struct("!IIBI")  # number, pool, 1 for a client + 2 for a server, length
_ANSWER: Final = struct.Struct("!cI")


@attrs.frozen
class PoolTold:
    """`number` means this pool from now on."""

    number: int
    facts: PoolFacts


@attrs.frozen
class KeyTold:
    """What lets us in at servers with the same secret."""

    key: bytes = attrs.field(repr=False)


@attrs.frozen
class ParcelTold:
    """A whole parcel, its descriptors ours (none: they were lost on the way); `number` is what the answer says."""

    number: int
    parcel: Parcel


def pool_packet(number: int, facts: PoolFacts) -> bytes:
    """PoolTold as a packet."""
    said = attrs.asdict(facts) | {"number": number}
    said["welcome"] = _texts(facts.welcome)
    if (began := facts.began) is not None:
        said["began"] = [_texts(began.settings), None if began.at_login is None else _texts(began.at_login)]
        said["fixed"] = [name.decode("latin-1") for name in began.fixed]
    said["shown"] = None if facts.shown is None else facts.shown.decode("latin-1")
    return b"P" + json.dumps(said).encode()


def _texts(pairs: Pairs) -> list[list[str]]:
    return [[name.decode("latin-1"), value.decode("latin-1")] for name, value in pairs]


def key_packet(key: bytes) -> bytes:
    """KeyTold as a packet."""
    return b"K" + key


def parcel_packets(number: int, parcel: Parcel) -> Iterator[bytes]:
    """A parcel; the descriptors go with the first packet."""
    which = (parcel.client_fd >= 0) + 2 * (parcel.server_fd >= 0)
    yield b"C" + _HEAD.pack(number, parcel.pool, which, len(parcel.data)) + parcel.data[:CHUNK]
    for at in range(CHUNK, len(parcel.data), CHUNK):
        yield b"D" + parcel.data[at : at + CHUNK]


def answer(number: int) -> bytes:
    """That the parcel has come."""
    return _ANSWER.pack(b"A", number)


def refusal(number: int) -> bytes:
    """That its descriptors have not."""
    return _ANSWER.pack(b"N", number)


def answered(packet: bytes) -> tuple[int, bool] | None:
    """The number in such a packet, and whether the parcel is taken; None for another one."""
    if len(packet) != _ANSWER.size or packet[:1] not in (b"A", b"N"):
        return None
    return _ANSWER.unpack(packet)[1], packet[:1] == b"A"


class Reader:
    """The new process's side: packets in, what they say out."""

    def __init__(self) -> None:
        self._begun: tuple[int, Parcel, int] | None = None  # number, what has come of it, its length
        self._pieces = bytearray()

    def read(self, packet: bytes, fds: Sequence[int], *, cut: bool = False) -> PoolTold | KeyTold | ParcelTold | None:
        """One packet; None: nothing is whole yet. The descriptors are ours once this returns.

        Args:
            cut: descriptors were with it, and are lost.

        Raises:
            ValueError: not what may come here; the descriptors are still the caller's.
        """
        kind, body = packet[:1], packet[1:]
        if self._begun is not None:
            if kind != b"D" or fds or cut:
                raise ValueError("a parcel has broken off")
            return self._more(body)
        if kind == b"C":
            return self._parcel(body, fds, cut=cut)
        if fds or cut:
            raise ValueError("descriptors without a parcel")
        if kind == b"P":
            return _pool(body)
        if kind == b"K" and len(body) == CLIENT_KEY_LEN:
            return KeyTold(body)
        raise ValueError("an unknown packet")

    def left(self) -> Parcel | None:
        """A parcel that has not come whole; its descriptors are the caller's to close."""
        begun, self._begun = self._begun, None
        return begun[1] if begun is not None else None

    def _parcel(self, body: bytes, fds: Sequence[int], *, cut: bool) -> ParcelTold | None:
        if len(body) < _HEAD.size:
            raise ValueError("a parcel without a head")
        number, pool, which, length = _HEAD.unpack_from(body)
        if which not in (1, 2, 3) or len(fds) != (0 if cut else which.bit_count()) or length > MAX_PARCEL:
            raise ValueError("a parcel with a wrong head")
        if len(body) - _HEAD.size != min(length, CHUNK):
            raise ValueError("a parcel that begins too short or too long")
        client, server = (fds[0] if which & 1 else -1, fds[-1] if which & 2 else -1) if fds else (-1, -1)
        self._begun = number, Parcel(pool, client, server, b""), length
        self._pieces.clear()
        return self._more(body[_HEAD.size :])

    def _more(self, piece: bytes) -> ParcelTold | None:
        assert self._begun is not None
        number, parcel, length = self._begun
        if not piece and len(self._pieces) < length:
            raise ValueError("a parcel in empty pieces")
        if len(self._pieces) + len(piece) > length:
            raise ValueError("a parcel is longer than it said")
        self._pieces += piece
        if len(self._pieces) < length:
            return None
        self._begun = None
        return ParcelTold(number, attrs.evolve(parcel, data=bytes(self._pieces)))


def _pool(body: bytes) -> PoolTold:
    try:
        said = json.loads(body)
    except RecursionError:
        raise ValueError("a pool that is nested too deeply") from None
    match said:
        case {
            "number": int(number),
            "database": str(database),
            "user": str(user),
            "target": str(target),
            "welcome": list(pairs),
            "hosts": list(hosts),
            "keeping": str(keeping),
        }:
            shown = said.get("shown")
            if not isinstance(shown, str | None):
                raise ValueError("a password that is no text")
            facts = PoolFacts(
                database=database,
                user=user,
                target=target,
                welcome=_pairs(pairs),
                began=_began(said.get("began"), said.get("fixed", [])),
                hosts=tuple(map(_host, hosts)),
                keeping=keeping,
                shown=None if shown is None else shown.encode("latin-1"),
            )
            return PoolTold(number, facts)
    raise ValueError("a pool without its facts")


def _pairs(said: list[object]) -> Pairs:
    pairs: list[tuple[bytes, bytes]] = []
    for pair in said:
        match pair:
            case [str(name), str(value)]:
                pairs.append((name.encode("latin-1"), value.encode("latin-1")))
            case _:
                raise ValueError("a parameter is not a pair")
    return tuple(pairs)


def _began(said: object, fixed: object) -> Began | None:
    if said is None:
        return None
    if isinstance(fixed, list) and all(isinstance(name, str) for name in fixed):
        names = tuple(name.encode("latin-1") for name in fixed)
        match said:
            case [list(settings), None]:
                return Began(_pairs(settings), fixed=names)
            case [list(settings), list(at_login)]:
                return Began(_pairs(settings), _pairs(at_login), names)
    raise ValueError("what servers begin with is not told as it should be")


def _host(said: object) -> HostTold:
    match said:
        case {
            "host": str(host),
            "up": (bool() | None) as up,
            "since_us": int(since_us),
            "tried_us": int(tried_us),
            "error": str(error),
            "opened": int(opened),
            "failed": int(failed),
            "addresses": list(addresses),
        } if all(isinstance(address, str) for address in addresses):
            return HostTold(host, up, since_us, tried_us, error, opened, failed, tuple(addresses))
    raise ValueError("a host without its facts")
