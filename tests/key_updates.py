"""A TLS client that can ask for new keys (KeyUpdate), which Python's ssl cannot: OpenSSL called by hand."""

from __future__ import annotations

import ctypes
import ctypes.util
import socket
from typing import Final

__all__ = ["KeyUpdater"]

_REQUESTED: Final = 1  # SSL_KEY_UPDATE_REQUESTED: the other side is to answer with one of its own


def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(ctypes.util.find_library("ssl"), use_errno=True)
    for name in ("TLS_client_method", "SSL_CTX_new", "SSL_new"):
        getattr(library, name).restype = ctypes.c_void_p
    return library


class KeyUpdater:
    """TLS over `raw`, a blocking socket, which stays the caller's; nobody's certificate is looked at. Source: SSL_key_update(3)."""

    def __init__(self, raw: socket.socket) -> None:
        self._library = _library()
        self._context = ctypes.c_void_p(self._library.SSL_CTX_new(ctypes.c_void_p(self._library.TLS_client_method())))
        self._ssl = ctypes.c_void_p(self._library.SSL_new(self._context))
        assert self._library.SSL_set_fd(self._ssl, raw.fileno()) == 1
        assert self._library.SSL_connect(self._ssl) == 1

    def send(self, data: bytes) -> None:
        assert self._library.SSL_write(self._ssl, data, len(data)) == len(data)

    def receive(self) -> bytes:
        """Something that has come."""
        into = ctypes.create_string_buffer(65536)
        n = self._library.SSL_read(self._ssl, into, len(into))
        assert n > 0
        return into.raw[:n]

    def ask_for_new_keys(self) -> bool:
        """Ask, and do not wait for the answer; False: the connection has ended."""
        assert self._library.SSL_key_update(self._ssl, _REQUESTED) == 1
        return bool(self._library.SSL_do_handshake(self._ssl) == 1)

    def close(self) -> None:
        self._library.SSL_free(self._ssl)
        self._library.SSL_CTX_free(self._context)
