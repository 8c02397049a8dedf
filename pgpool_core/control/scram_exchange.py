"""The client's side of one SCRAM-SHA-256 exchange: what we say, and what the server must say for us to believe it.

Sources: RFC 5802 section 5 to 7; RFC 5929, section 4 (tls-server-end-point); PostgreSQL docs, "SASL Authentication".
"""

from __future__ import annotations

from base64 import b64encode
from typing import Final

from pgpool_core.errors import ServerProtocolError
from pgpool_core.policy.scram import (
    MAX_SERVER_ITERATIONS,
    ScramKeys,
    client_proof,
    decode_base64,
    parse_iterations,
    server_signature_is,
)

SCRAM_SHA_256: Final = b"SCRAM-SHA-256"
SCRAM_SHA_256_PLUS: Final = b"SCRAM-SHA-256-PLUS"

_UNBOUND: Final = b"n,,"
_BINDABLE: Final = b"y,,"  # we could bind, the server seems not to: if it did offer that, somebody has taken it away
_BOUND: Final = b"p=tls-server-end-point,,"


class ScramExchange:
    """Call client_first, take_server_first, client_final and check_server_final, in this order and once each."""

    def __init__(self, nonce: bytes) -> None:
        self._nonce = nonce
        self._header = _UNBOUND
        self._binding = b""
        self._client_first_bare = b"n=,r=" + nonce  # the name stands in the startup packet; libpq sends none either
        self._server_first = b""
        self._auth_message = b""
        self._keys: ScramKeys | None = None

    def client_first(self, *, binding: bytes = b"", bindable: bool = False) -> bytes:
        """The client-first-message.

        Args:
            binding: tls-server-end-point of the server's certificate, for SCRAM-SHA-256-PLUS.
            bindable: without it, whether it could have been.
        """
        self._header, self._binding = _BOUND if binding else _BINDABLE if bindable else _UNBOUND, binding
        return self._header + self._client_first_bare

    def take_server_first(self, data: bytes) -> tuple[bytes, int]:
        """Read `r=NONCE,s=SALT,i=COUNT`; salt and iteration count for the keys.

        Raises:
            ServerProtocolError: malformed, the nonce does not continue ours, or there is an extension: RFC 5802 lets nobody
                go on who does not know it.
        """
        parts = data.split(b",")
        if len(parts) != 3 or [part[:2] for part in parts] != [b"r=", b"s=", b"i="]:
            raise ServerProtocolError("malformed SCRAM server-first-message")
        nonce = parts[0][2:]
        if not nonce.startswith(self._nonce) or len(nonce) == len(self._nonce):
            raise ServerProtocolError("the server's SCRAM nonce does not continue ours")
        if not all(0x21 <= byte <= 0x7E for byte in nonce):
            raise ServerProtocolError("the server's SCRAM nonce is not printable")
        try:
            salt, iterations = decode_base64(parts[1][2:]), parse_iterations(parts[2][2:], MAX_SERVER_ITERATIONS)
        except ValueError as error:
            raise ServerProtocolError(f"malformed SCRAM server-first-message: {error}") from None
        if not salt:
            raise ServerProtocolError("malformed SCRAM server-first-message: empty salt")
        self._server_first = data
        return salt, iterations

    def client_final(self, keys: ScramKeys) -> bytes:
        """The client-final-message, with the proof that we hold the keys."""
        nonce = self._server_first.partition(b",")[0]  # r=...
        without_proof = b"c=" + b64encode(self._header + self._binding) + b"," + nonce
        self._auth_message = b",".join((self._client_first_bare, self._server_first, without_proof))
        self._keys = keys
        return without_proof + b",p=" + b64encode(client_proof(keys, self._auth_message))

    def check_server_final(self, data: bytes) -> None:
        """Read `v=SIGNATURE`.

        Raises:
            ServerProtocolError: malformed, an error of the server, or a server that does not know the password.
        """
        keys, self._keys = self._keys, None
        if data.startswith(b"e="):
            raise ServerProtocolError("the server broke off the SCRAM exchange")
        try:
            signature = decode_base64(data.removeprefix(b"v="))
        except ValueError:
            signature = b""
        if not data.startswith(b"v=") or keys is None:
            raise ServerProtocolError("malformed SCRAM server-final-message")
        if not server_signature_is(signature, keys, self._auth_message):
            raise ServerProtocolError("the server's SCRAM signature is wrong: it does not know the password")
