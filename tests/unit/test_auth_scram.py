"""SCRAM-SHA-256, our half: against scramp, against keys that hashlib computed, and against clients that cheat."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import struct
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramClient, ScramMechanism

from pgpool_core_probes import auth_probe

MD5, SCRAM = 3, 4
OK, MORE = 0, 1
BAD_PASSWORD, PROTOCOL = -1, -2
SALT = b"0123456789abcdef"


def secret_of(password: str, *, iterations: int = 4096, salt: bytes = SALT) -> auth_probe.Secret:
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    return auth_probe.Secret(scram=(iterations, salt, stored, hmac.digest(salted, b"Server Key", "sha256")))


PENCIL = secret_of("pencil")
CHEAP = secret_of("x", iterations=1)


def initial(message: bytes, mechanism: bytes = b"SCRAM-SHA-256", length: int | None = None) -> bytes:
    return mechanism + b"\0" + struct.pack("!i", len(message) if length is None else length) + message


def payload(reply: bytes, code: int) -> bytes:
    assert reply[:9] == b"R" + struct.pack("!II", len(reply) - 1, code)
    return reply[9:]


class Client:
    """A client by the letter of RFC 5802, each part of which a test may bend."""

    def __init__(
        self,
        password: str = "pencil",
        *,
        header: bytes = b"n,,",
        name: bytes = b"",
        nonce: bytes = b"rOprNGfwEbeRWgbNEkqO",
    ) -> None:
        self.password, self.header = password, header
        self.bare = b"n=" + name + b",r=" + nonce

    @property
    def first(self) -> bytes:
        return self.header + self.bare

    def final(
        self, server_first: bytes, *, nonce: bytes | None = None, extra: bytes = b"", binding: bytes | None = None
    ) -> bytes:
        found = re.fullmatch(rb"r=([!-+\--~]+),s=([A-Za-z0-9+/=]+),i=([1-9][0-9]*)", server_first)
        assert found
        salted = hashlib.pbkdf2_hmac(
            "sha256", self.password.encode(), base64.b64decode(found[2], validate=True), int(found[3])
        )
        cbind = base64.b64encode(self.header) if binding is None else binding
        without_proof = b"c=" + cbind + b",r=" + (found[1] if nonce is None else nonce) + extra
        message = self.bare + b"," + server_first + b"," + without_proof
        key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
        self.expected = b"v=" + base64.b64encode(
            hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256")
        )
        return without_proof + b",p=" + base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True)))


def begun(
    secret: auth_probe.Secret | None = PENCIL, *, user: bytes = b"user", known: bool = True, auth_type: int = SCRAM
) -> auth_probe.Login:
    login = auth_probe.Login()
    status, message = login.begin(auth_type, user, secret, known=known)
    assert (status, payload(message, 10)) == (MORE, b"SCRAM-SHA-256\0\0")
    return login


def challenged(login: auth_probe.Login, client: Client) -> bytes:
    status, reply = login.password(initial(client.first))
    assert status == MORE
    return payload(reply, 11)


@pytest.mark.parametrize("name", [b"", b"*", b"user", b"someone else", b"=2C=3D", b"\xc3\xa9"])
@pytest.mark.parametrize("header", [b"n,,", b"y,,"])
def test_the_right_password_logs_in_whatever_name_scram_carries(name: bytes, header: bytes) -> None:
    client, login = Client(name=name, header=header), begun()
    status, reply = login.password(client.final(challenged(login, client)))
    assert (status, payload(reply, 12)) == (OK, client.expected)


@pytest.mark.parametrize("iterations", [1, 9, 10, 4095, 4096, 15000])
@pytest.mark.parametrize("salt", [b"s", b"salt of 17 bytes!", b"l" * 64])
def test_any_iteration_count_and_salt_that_postgresql_may_store_works(iterations: int, salt: bytes) -> None:
    secret = secret_of("pencil", iterations=iterations, salt=salt)
    for password, expected in (("pencil", OK), ("Pencil", BAD_PASSWORD)):
        client, login = Client(password), begun(secret)
        first = challenged(login, client)
        assert first.endswith(b",s=" + base64.b64encode(salt) + b",i=%d" % iterations)
        assert login.password(client.final(first))[0] == expected


def test_the_largest_iteration_count_is_told_whole() -> None:
    login = begun(auth_probe.Secret(scram=(2**31 - 1, b"l" * 64, b"k" * 32, b"k" * 32)))
    assert challenged(login, Client()).endswith(b",i=2147483647")


@pytest.mark.parametrize("password", ["pencil", "pässword", "\u2168", "a\u00adb", "p,=\\"])
def test_scramp_as_client_is_served_with_scramps_keys(password: str) -> None:
    """\u2168 and the soft hyphen are changed by SASLprep: the keys carry that, we never see the password."""
    salt, stored, server, iterations = ScramMechanism("SCRAM-SHA-256").make_auth_info(password)
    secret = auth_probe.Secret(scram=(iterations, salt, stored, server))
    client, login = ScramClient(["SCRAM-SHA-256"], "*", password), begun(secret)
    _, reply = login.password(initial(client.get_client_first().encode()))
    client.set_server_first(payload(reply, 11).decode())
    status, reply = login.password(client.get_client_final().encode())
    assert status == OK
    client.set_server_final(payload(reply, 12).decode())


def test_our_signature_proves_the_keys_scramp_would_prove() -> None:
    client, login = Client(), begun()
    server_first = challenged(login, client)
    final = client.final(server_first).decode()
    nonce = server_first.decode().split(",")[0][2:]

    keys = ScramMechanism("SCRAM-SHA-256").make_auth_info("pencil", iteration_count=4096, salt=SALT)

    theirs = ScramMechanism("SCRAM-SHA-256").make_server(lambda _: keys, s_nonce=nonce[20:])
    theirs.set_client_first("n,,n=*,r=rOprNGfwEbeRWgbNEkqO")
    theirs.client_first_bare = client.bare.decode()
    assert theirs.get_server_first() == server_first.decode()
    theirs.set_client_final(final)
    assert payload(login.password(final.encode())[1], 12).decode() == theirs.get_server_final()


def test_a_wrong_password_is_told_at_the_end_and_nothing_else_is() -> None:
    client, login = Client("pen"), begun()
    assert login.password(client.final(challenged(login, client))) == (BAD_PASSWORD, b"")


def test_each_exchange_has_a_nonce_of_its_own_behind_the_clients() -> None:
    nonces = {challenged(begun(), Client()).split(b",")[0] for _ in range(20)}
    assert len(nonces) == 20
    assert all(re.fullmatch(rb"r=rOprNGfwEbeRWgbNEkqO[A-Za-z0-9+/]{24}", nonce) for nonce in nonces)


def test_a_proof_cannot_be_used_again() -> None:
    client, login = Client(), begun()
    final = client.final(challenged(login, client))
    again = begun()
    challenged(again, client)
    assert again.password(final)[0] == PROTOCOL


@pytest.mark.parametrize("header", [b"n,,", b"y,,"])
def test_an_unknown_user_hears_the_same_and_fails_at_the_end(header: bytes) -> None:
    """A made-up secret of the caller, none at all, or even the right one: no proof helps."""
    lengths = set()
    salts = set()
    for secret in (None, auth_probe.Table().mock(b"ghost"), PENCIL):
        client, login = Client(header=header), begun(secret, user=b"ghost", known=False)
        first = challenged(login, client)
        lengths.add(len(first))
        salts.add(first.split(b",")[1])
        assert login.password(client.final(first)) == (BAD_PASSWORD, b"")
    assert len(lengths) == 1
    assert len(salts) == 2  # the two made-up ones agree


def test_an_md5_secret_meets_scram_with_a_mock_and_fails() -> None:
    secret = auth_probe.Secret(md5=hashlib.md5(b"penciluser").hexdigest().encode())
    client, login = Client(), begun(secret)
    first = challenged(login, client)
    assert first.endswith(b"s=" + base64.b64encode(auth_probe.Table().mock(b"user").salt) + b",i=4096")
    assert login.password(client.final(first)) == (BAD_PASSWORD, b"")


def test_md5_with_scram_keys_is_scram() -> None:
    client, login = Client(), begun(auth_type=MD5)
    assert login.password(client.final(challenged(login, client)))[0] == OK


def test_a_client_may_hold_its_first_message_back_once() -> None:
    client, login = Client(), begun()
    status, reply = login.password(initial(b"", length=-1))
    assert (status, payload(reply, 11)) == (MORE, b"")
    status, reply = login.password(client.first)
    assert status == MORE
    assert login.password(client.final(payload(reply, 11)))[0] == OK
    login = begun()
    login.password(initial(b"", length=-1))
    assert login.password(b"")[0] == PROTOCOL


BAD_INITIAL = {
    "nothing": b"",
    "no mechanism": b"\0",
    "no NUL": b"SCRAM-SHA-256",
    "no length": b"SCRAM-SHA-256\0",
    "half a length": b"SCRAM-SHA-256\0\0\0\0",
    "another mechanism": initial(b"n,,n=,r=abc", b"SCRAM-SHA-1"),
    "channel binding that was not offered": initial(b"n,,n=,r=abc", b"SCRAM-SHA-256-PLUS"),
    "a password": b"pencil\0",
    "a length below the text": initial(b"n,,n=,r=abc", length=10),
    "a length above the text": initial(b"n,,n=,r=abc", length=12),
    "a length of -2": initial(b"n,,n=,r=abc", length=-2),
    "no text announced and some sent": initial(b"n,,n=,r=abc", length=-1),
    "more than 1024 bytes": initial(b"n,,n=,r=" + b"a" * 1020),
}


@pytest.mark.parametrize("body", BAD_INITIAL.values(), ids=BAD_INITIAL.keys())
def test_a_malformed_initial_response_is_a_protocol_error(body: bytes) -> None:
    assert begun().password(body) == (PROTOCOL, b"")


BAD_FIRST = {
    "empty": b"",
    "too short": b"n,",
    "no header": b"n=,r=abc",
    "binding asked for": b"p=tls-server-end-point,,n=,r=abc",
    "an unknown flag": b"x,,n=,r=abc",
    "a flag in upper case": b"N,,n=,r=abc",
    "an authorization identity": b"n,a=admin,n=,r=abc",
    "no comma": b"nn,n=,r=abc",
    "no name": b"n,,r=abc",
    "nonce before name": b"n,,r=abc,n=",
    "no nonce": b"n,,n=",
    "an empty nonce": b"n,,n=,r=",
    "a blank in the nonce": b"n,,n=,r=a b",
    "a control character in the nonce": b"n,,n=,r=a\x7f",
    "a nonce beyond ASCII": "n,,n=,r=ü".encode(),
    "a NUL": b"n,,n=,r=abc\0",
    "a mandatory extension first": b"n,,m=x,n=,r=abc",
    "a mandatory extension last": b"n,,n=,r=abc,m=x",
    "an extension without a letter": b"n,,n=,r=abc,1=x",
    "an extension without a value": b"n,,n=,r=abc,x",
    "an attribute of one byte": b"n,,n=,r=abc,x=,y",
}


@pytest.mark.parametrize("message", BAD_FIRST.values(), ids=BAD_FIRST.keys())
def test_a_malformed_first_message_is_a_protocol_error(message: bytes) -> None:
    assert begun().password(initial(message)) == (PROTOCOL, b"")


@pytest.mark.parametrize("extension", [b",x=1", b",X=", b",a=b,c=d"])
def test_optional_extensions_are_stepped_over_and_signed(extension: bytes) -> None:
    client, login = Client(), begun()
    client.bare += extension
    assert login.password(client.final(challenged(login, client), extra=extension))[0] == OK


def test_the_longest_nonce_fits() -> None:
    room = 1024 - len(initial(b"n,,n=,r="))
    client = Client(nonce=b"a" * room)
    secret = secret_of("pencil", salt=b"l" * 64)
    first = challenged(begun(secret), client)
    assert len(first) == 2 + room + 24 + 3 + 88 + 7
    login = begun(secret)
    challenged(login, client)
    assert login.password(b"c=biws,r=" + b"a" * 1015)[0] == PROTOCOL


@pytest.mark.parametrize(
    ("header", "binding"),
    [
        (b"n,,", b"eSws"),
        (b"y,,", b"biws"),
        (b"n,,", b""),
        (b"n,,", b"biws="),
        (b"n,,", b"cCws"),
        (b"n,,", b"biw"),
        (b"n,,", b"BIWS"),
    ],
)
def test_the_header_must_be_the_one_the_exchange_began_with(header: bytes, binding: bytes) -> None:
    client, login = Client(header=header), begun()
    assert login.password(client.final(challenged(login, client), binding=binding)) == (PROTOCOL, b"")


def bend_nonce(nonce: bytes) -> list[bytes]:
    return [
        nonce[:-1],
        nonce + b"a",
        nonce[20:],
        nonce[:20],
        b"",
        b"X" + nonce[1:],
        nonce[:-1] + (b"a" if nonce[-1:] != b"a" else b"b"),
    ]


@pytest.mark.parametrize("which", range(7))
def test_a_nonce_that_is_not_the_one_we_told_is_a_protocol_error(which: int) -> None:
    client, login = Client(), begun()
    first = challenged(login, client)
    nonce = bend_nonce(first.split(b",")[0][2:])[which]
    assert login.password(client.final(first, nonce=nonce)) == (PROTOCOL, b"")


def stray_bits(final: bytes) -> bytes:
    """The last digit before '=' holds two bits of padding: a lenient decoder reads four texts as one."""
    digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return final[:-2] + digits[digits.index(final[-2]) + 1 :][:1] + b"="


BENDS: dict[str, Callable[[bytes], bytes]] = {
    "no proof": lambda f: f[: f.index(b",p=")],
    "an empty proof": lambda f: f[: f.index(b",p=") + 3],
    "a short proof": lambda f: f[:-4],
    "a long proof": lambda f: f + b"AAAA",
    "no padding": lambda f: f[:-1] + b"A",
    "padding left out": lambda f: f[:-1],
    "white space": lambda f: f[:-5] + b" " + f[-4:],
    "a digit of the URL alphabet": lambda f: f[:-5] + b"-" + f[-4:],
    "stray bits": stray_bits,
    "something behind the proof": lambda f: f + b",x=1",
    "a comma behind the proof": lambda f: f + b",",
    "a NUL behind the proof": lambda f: f + b"\0",
    "a mandatory extension": lambda f: f.replace(b",p=", b",m=1,p="),
    "a broken extension": lambda f: f.replace(b",p=", b",xx,p="),
    "nonce before header": lambda f: b",".join([f.split(b",")[1], f.split(b",")[0], f.split(b",", 2)[2]]),
    "nothing": lambda f: b"",
    "only the header": lambda f: f[:6],
    "more than 1024 bytes": lambda f: f.replace(b",p=", b",x=" + b"y" * 1000 + b",p="),
}


@pytest.mark.parametrize("bend", BENDS.values(), ids=BENDS.keys())
def test_a_malformed_final_message_is_a_protocol_error(bend: Callable[[bytes], bytes]) -> None:
    client, login = Client(), begun()
    final = client.final(challenged(login, client))
    assert bend(final) != final
    assert login.password(bend(final)) == (PROTOCOL, b"")


@given(position=st.integers(0, 255))
def test_no_proof_with_a_flipped_bit_is_right(position: int) -> None:
    client, login = Client(password="x"), begun(CHEAP)
    final = client.final(challenged(login, client))
    proof = bytearray(base64.b64decode(final[-44:]))
    proof[position // 8] ^= 1 << position % 8
    assert login.password(final[:-44] + base64.b64encode(proof))[0] == BAD_PASSWORD


@given(
    message=st.binary(max_size=80)
    | st.lists(st.sampled_from([b"n,,", b"y,,", b"n=", b"r=", b",", b"abc", b"m=", b"x=1", b"\0"])).map(b"".join)
)
def test_any_first_message_is_taken_or_a_protocol_error(message: bytes) -> None:
    status, reply = begun(CHEAP).password(initial(message))
    assert status in (MORE, PROTOCOL)
    assert (status == MORE) is bool(reply)
    if status == MORE:
        assert re.match(rb"[ny],,n=[^,\0]*,r=[!-+\--~]+(,|$)", message)


@given(
    message=st.binary(max_size=80)
    | st.lists(st.sampled_from([b"c=biws", b",r=", b"NONCE", b",p=", b"A" * 43, b"=", b",x=1", b","])).map(b"".join)
)
def test_any_final_message_without_the_password_is_refused(message: bytes) -> None:
    client, login = Client(password="x"), begun(CHEAP)
    nonce = challenged(login, client).split(b",")[0][2:]
    assert login.password(message.replace(b"NONCE", nonce))[0] in (BAD_PASSWORD, PROTOCOL)


def test_each_reply_asks_for_exactly_its_room_and_can_be_asked_again() -> None:
    first, second = auth_probe.reply_cap_needed(SCRAM, b"user", PENCIL, [initial(Client().first)])
    assert first == (24, 24)
    assert (
        second[0]
        == second[1]
        == 9 + len(b"r=rOprNGfwEbeRWgbNEkqO") + 24 + len(b",s=" + base64.b64encode(SALT) + b",i=4096")
    )
    client, login = Client(), begun()
    final = client.final(challenged(login, client))
    assert login.password(final, cap=54) == (-4, b"")
    assert login.password(final, cap=55)[0] == OK


def test_keys_are_gone_after_the_end() -> None:
    for password in ("pencil", "pen"):
        client, login = Client(password), begun()
        first = challenged(login, client)
        assert SALT in login.raw
        login.password(client.final(first))
        assert SALT not in login.raw
