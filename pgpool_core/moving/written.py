"""Parcels written and read in Python: of clients and servers whose process, PgBouncer, tells of them in rows of SHOW FDS.

The layout is that of moving/parcel.pxd; the engine reads what is written here as it reads all others.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from typing import Final

import attrs

VERSION: Final = 3
HEAD: Final = b"PGP" + bytes([VERSION])

_CLIENT, _USER, _SETTINGS, _START = 1, 2, 3, 4
_SERVER, _KEY, _HOST, _STANDS, _BEGUN = 8, 9, 10, 11, 12
_CLIENT_FACTS: Final = struct.Struct("!8sQQQQQIIIBBBB16sHii")
_SERVER_FACTS: Final = struct.Struct("!QQIHBBBB")
_ENTRY: Final = struct.Struct("!BI")

PIN_UNKNOWN: Final = 128
DOUBT_MOVED: Final = 1
DOUBT_LASTS: Final = 2


@attrs.frozen(kw_only=True)
class Peer:
    """Who a client is: `family` is 4, 6, or 1 for the unix socket."""

    family: int
    addr: bytes = b""
    port: int = 0
    uid: int = -1
    pid: int = 0


@attrs.frozen(kw_only=True)
class ClientWritten:
    """A client between transactions, or with the server that it holds."""

    user: bytes
    key: bytes = attrs.field(repr=False)
    peer: Peer
    connect_us: int
    now_us: int
    settings: Mapping[bytes, bytes]
    keeps: bool = False

    def entries(self) -> bytes:
        facts = _CLIENT_FACTS.pack(
            self.key,
            self.connect_us,
            self.now_us,
            self.now_us,
            self.now_us if self.keeps else 0,
            0,
            PIN_UNKNOWN if self.keeps else 0,
            0,
            0,
            0,
            0,
            0,
            self.peer.family,
            self.peer.addr.ljust(16, b"\0"),
            self.peer.port,
            self.peer.uid,
            self.peer.pid,
        )
        block = _block(self.settings)
        return _entry(_CLIENT, facts) + _entry(_USER, self.user) + _entry(_SETTINGS, block) + _entry(_START, block)


@attrs.frozen(kw_only=True)
class ServerWritten:
    """A server; `doubt` is DOUBT_* where it is not known what it has still to answer."""

    host: bytes
    port: int
    is_unix: bool
    backend_pid: int
    key: bytes = attrs.field(repr=False)
    now_us: int
    settings: Mapping[bytes, bytes]
    doubt: int = 0

    def entries(self) -> bytes:
        facts = _SERVER_FACTS.pack(
            self.now_us, self.now_us, self.backend_pid, self.port, self.is_unix, 0, 0, self.doubt
        )
        block = _block(self.settings)
        entries = _entry(_SERVER, facts) + _entry(_KEY, self.key) + _entry(_HOST, self.host)
        return entries + _entry(_STANDS, block) + _entry(_BEGUN, block)


def write(client: ClientWritten | None, server: ServerWritten | None) -> bytes:
    """A whole parcel."""
    return HEAD + (client.entries() if client else b"") + (server.entries() if server else b"")


@attrs.frozen(kw_only=True)
class Read:
    """What SHOW FDS tells of a parcel: of the client in it, else of the server."""

    key: bytes = attrs.field(repr=False)  # as in BackendKeyData, 8 bytes where it is of protocol 3.0
    user: bytes  # empty for a server
    host: bytes  # empty for a client
    port: int
    peer: Peer | None
    settings: Mapping[bytes, bytes]


def read(parcel: bytes) -> Read:
    """Of a parcel that the engine has written: only what SHOW FDS has a column for."""
    found = dict(_entries(parcel))
    if _CLIENT in found:
        facts = _CLIENT_FACTS.unpack(found[_CLIENT])
        peer = Peer(family=facts[12], addr=facts[13], port=facts[14], uid=facts[15], pid=facts[16])
        settings = _pairs(found.get(_SETTINGS, b"\0"))
        return Read(key=facts[0], user=found[_USER], host=b"", port=facts[14], peer=peer, settings=settings)
    _, _, pid, port, *_ = _SERVER_FACTS.unpack(found[_SERVER])
    key = struct.pack("!I", pid) + found[_KEY]
    return Read(key=key, user=b"", host=found[_HOST], port=port, peer=None, settings=_pairs(found.get(_STANDS, b"\0")))


def _entries(parcel: bytes) -> Iterable[tuple[int, bytes]]:
    at = len(HEAD)
    while at < len(parcel):
        kind, length = _ENTRY.unpack_from(parcel, at)
        at += _ENTRY.size
        yield kind, parcel[at : at + length]
        at += length


def _entry(kind: int, data: bytes) -> bytes:
    return _ENTRY.pack(kind, len(data)) + data


def _block(settings: Mapping[bytes, bytes]) -> bytes:
    """As the engine has it: sorted by name, behind a byte that says that no server has stood like this yet."""
    return b"\0" + b"".join(name + b"\0" + value + b"\0" for name, value in sorted(settings.items()))


def _pairs(block: bytes) -> dict[bytes, bytes]:
    parts = block[1:].split(b"\0")[:-1]
    return dict(zip(parts[::2], parts[1::2], strict=True))
