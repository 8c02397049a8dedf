"""SCRAM-SHA-256-PLUS, our half: the exchange is bound to the certificate that the client has seen, and cannot be talked out of it."""

from __future__ import annotations

import base64
import struct

import pytest
from scramp import ScramClient, ScramMechanism

from pgpool_core_probes import auth_probe
from tests.unit.test_auth_scram import BAD_PASSWORD, MORE, OK, PENCIL, PROTOCOL, SCRAM, Client, initial, payload

BINDING = bytes(range(32))
PLUS = b"SCRAM-SHA-256-PLUS"
HEADER = b"p=tls-server-end-point,,"


def begun(binding: bytes = BINDING, *, known: bool = True) -> auth_probe.Login:
    login = auth_probe.Login()
    status, message = login.begin(SCRAM, b"user", PENCIL if known else None, known=known, binding=binding)
    assert (status, payload(message, 10)) == (MORE, PLUS + b"\0SCRAM-SHA-256\0\0")
    return login


def bound(binding: bytes, header: bytes = HEADER) -> bytes:
    return base64.b64encode(header + binding)


def exchange(
    client: Client, *, binding: bytes | None = None, mechanism: bytes = PLUS, login: auth_probe.Login | None = None
) -> int:
    """How it ends; the client says that it has seen the certificate of `binding`."""
    login = login or begun()
    status, reply = login.password(initial(client.first, mechanism))
    if status != MORE:
        return status
    return login.password(client.final(payload(reply, 11), binding=binding))[0]


@pytest.mark.parametrize("length", [32, 48, 64])
def test_the_right_certificate_and_password_log_in(length: int) -> None:
    seen = bytes(range(length))
    assert exchange(Client(header=HEADER), binding=bound(seen), login=begun(seen)) == OK
    assert exchange(Client("Pencil", header=HEADER), binding=bound(seen), login=begun(seen)) == BAD_PASSWORD


def test_scramp_as_client() -> None:
    salt, stored, server, iterations = ScramMechanism("SCRAM-SHA-256").make_auth_info("pencil")
    secret = auth_probe.Secret(scram=(iterations, salt, stored, server))
    client = ScramClient([PLUS.decode()], "*", "pencil", channel_binding=("tls-server-end-point", BINDING))
    login = auth_probe.Login()
    login.begin(SCRAM, b"user", secret, binding=BINDING)
    _, reply = login.password(initial(client.get_client_first().encode(), PLUS))
    client.set_server_first(payload(reply, 11).decode())
    status, reply = login.password(client.get_client_final().encode())
    assert status == OK
    client.set_server_final(payload(reply, 12).decode())


@pytest.mark.parametrize(
    "binding",
    [
        bound(bytes(32)),
        bound(BINDING[:31]),
        bound(BINDING + b"\0"),
        bound(b""),
        bound(BINDING, b"n,,"),
        bound(BINDING).rstrip(b"="),
        b"biws",
    ],
)
def test_another_certificate_is_refused(binding: bytes) -> None:
    assert exchange(Client(header=HEADER), binding=binding) == PROTOCOL


@pytest.mark.parametrize("header", [b"n,,", b"y,,", b"p=tls-unique,,", b"p=tls-server-end-point,a=x,", b"p=,,", b"p"])
def test_who_chooses_plus_has_to_bind(header: bytes) -> None:
    assert exchange(Client(header=header), binding=bound(BINDING, header)) == PROTOCOL


def test_without_plus_there_is_no_binding_to_be_had() -> None:
    assert exchange(Client(header=b"n,,"), mechanism=b"SCRAM-SHA-256") == OK
    assert exchange(Client(header=HEADER), binding=bound(BINDING), mechanism=b"SCRAM-SHA-256") == PROTOCOL


def test_who_was_told_that_there_is_no_plus_was_lied_to() -> None:
    """The flag `y`: somebody in between has taken PLUS out of what we offer."""
    assert exchange(Client(header=b"y,,"), mechanism=b"SCRAM-SHA-256") == PROTOCOL


def test_plus_cannot_be_chosen_where_it_was_not_offered() -> None:
    login = auth_probe.Login()
    status, message = login.begin(SCRAM, b"user", PENCIL)
    assert (status, payload(message, 10)) == (MORE, b"SCRAM-SHA-256\0\0")
    assert exchange(Client(header=HEADER), binding=bound(b""), login=login) == PROTOCOL


def test_an_unknown_user_hears_the_same_and_fails_at_the_end() -> None:
    assert exchange(Client(header=HEADER), binding=bound(BINDING), login=begun(known=False)) == BAD_PASSWORD


def test_the_first_message_may_be_held_back() -> None:
    client, login = Client(header=HEADER), begun()
    assert login.password(PLUS + b"\0" + struct.pack("!i", -1))[0] == MORE
    status, reply = login.password(client.first)
    assert status == MORE
    assert login.password(client.final(payload(reply, 11), binding=bound(BINDING)))[0] == OK
