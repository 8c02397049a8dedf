"""Real client libraries log in against `startup` and `client_login`: libpq (psycopg, psycopg2) and asyncpg.

A thread answers one connection on a unix socket with nothing but the bytes that `auth` makes, and a greeting.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psycopg
import psycopg2
import pytest

from pgpool_core_probes import auth_probe

PLAIN, MD5, SCRAM = 2, 3, 4
STARTUP_OK, STARTUP_NEED_MORE, STARTUP_SSL, STARTUP_GSS = range(4)
LOGIN_OK, LOGIN_MORE = 0, 1
PORT = 5432  # only a part of the socket file's name

AUTHENTICATION_OK = b"R" + struct.pack("!II", 8, 0)
GREETING = (
    AUTHENTICATION_OK
    + b"".join(
        b"S" + struct.pack("!I", len(text) + 4) + text
        for text in (
            b"client_encoding\0UTF8\0",
            b"server_version\x0015.0\0",
            b"standard_conforming_strings\0on\0",
            b"DateStyle\0ISO, MDY\0",
        )
    )
    + b"K"
    + struct.pack("!III", 12, 1, 1)
    + b"Z"
    + struct.pack("!I", 5)
    + b"I"
)
REFUSAL_TEXT = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed\0\0"
REFUSAL = b"E" + struct.pack("!I", len(REFUSAL_TEXT) + 4) + REFUSAL_TEXT


def scram_secret(password: bytes, iterations: int) -> auth_probe.Secret:
    salt = b"0123456789abcdef"
    salted = hashlib.pbkdf2_hmac("sha256", password, salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return auth_probe.Secret(scram=(iterations, salt, stored, hmac.digest(salted, b"Server Key", "sha256")))


SECRETS = {
    "plain": (PLAIN, auth_probe.Secret(b"alice", plain=b"secret")),
    "md5": (MD5, auth_probe.Secret(b"alice", plain=b"secret")),
    "scram": (SCRAM, scram_secret(b"secret", 4096)),
    "scram with 100 iterations": (SCRAM, scram_secret(b"secret", 100)),
    "scram in place of md5": (MD5, scram_secret(b"secret", 4096)),
}


def receive_startup(peer: socket.socket) -> tuple[bytes, bytes]:
    """The user that the client named, and the packet; encryption requests are declined."""
    data = b""
    while True:
        found = auth_probe.startup_feed(data)
        if found["status"] in (STARTUP_SSL, STARTUP_GSS):
            peer.sendall(b"N")
            data = b""
        if found["status"] == STARTUP_OK:
            return found["user"], data
        more = peer.recv(4096)
        assert more, "the client left during startup"
        data += more


def receive_password(peer: socket.socket) -> bytes:
    reader = peer.makefile("rb", buffering=0)
    head = reader.read(5)
    assert head and head[:1] == b"p"
    body = bytearray()
    while len(body) < struct.unpack("!I", head[1:])[0] - 4:
        body += peer.recv(4096)
    return bytes(body)


def serve_one(listener: socket.socket, auth_type: int, secret: auth_probe.Secret) -> None:
    peer, _ = listener.accept()
    with peer:
        user, packet = receive_startup(peer)
        if auth_probe.startup_feed(packet)["minor"] > 0:
            peer.sendall(auth_probe.startup_negotiate(packet, 4096))
        login = auth_probe.Login()
        status, reply = login.begin(auth_type, user, secret, known=user == b"alice")
        while status == LOGIN_MORE:
            peer.sendall(reply)
            status, reply = login.password(receive_password(peer))
        peer.sendall(reply + GREETING if status == LOGIN_OK else REFUSAL)
        while peer.recv(4096):  # until the client leaves
            pass


@contextmanager
def served(folder: Path, auth_type: int, secret: auth_probe.Secret) -> Iterator[str]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/.s.PGSQL.{PORT}")
        listener.listen()
        listener.settimeout(10)
        thread = threading.Thread(target=serve_one, args=(listener, auth_type, secret))
        thread.start()
        try:
            yield str(folder)
        finally:
            thread.join(10)
            assert not thread.is_alive()


def by_psycopg(host: str, user: str, password: str) -> None:
    psycopg.connect(host=host, port=PORT, user=user, password=password, dbname="d", connect_timeout=10).close()


def by_psycopg2(host: str, user: str, password: str) -> None:
    psycopg2.connect(host=host, port=PORT, user=user, password=password, dbname="d", connect_timeout=10).close()


def by_asyncpg(host: str, user: str, password: str) -> None:
    async def log_in() -> None:
        connection = await asyncpg.connect(host=host, port=PORT, user=user, password=password, database="d", timeout=10)
        connection.terminate()

    asyncio.run(log_in())


DRIVERS = {"psycopg": by_psycopg, "psycopg2": by_psycopg2, "asyncpg": by_asyncpg}


@pytest.mark.parametrize("log_in", DRIVERS.values(), ids=DRIVERS.keys())
@pytest.mark.parametrize(("auth_type", "secret"), SECRETS.values(), ids=SECRETS.keys())
def test_a_driver_logs_in(
    tmp_path: Path, log_in: Callable[[str, str, str], None], auth_type: int, secret: auth_probe.Secret
) -> None:
    with served(tmp_path, auth_type, secret) as host:
        log_in(host, "alice", "secret")


@pytest.mark.parametrize("log_in", DRIVERS.values(), ids=DRIVERS.keys())
@pytest.mark.parametrize(("auth_type", "secret"), SECRETS.values(), ids=SECRETS.keys())
@pytest.mark.parametrize(("user", "password"), [("alice", "wrong"), ("nobody", "secret")])
def test_a_driver_with_a_wrong_name_or_password_is_told_so(
    tmp_path: Path,
    log_in: Callable[[str, str, str], None],
    auth_type: int,
    secret: auth_probe.Secret,
    user: str,
    password: str,
) -> None:
    with (
        served(tmp_path, auth_type, secret) as host,
        pytest.raises((psycopg.Error, psycopg2.Error, asyncpg.PostgresError), match="password authentication failed"),
    ):
        log_in(host, user, password)
