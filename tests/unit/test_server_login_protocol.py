"""ServerLogin without sockets: transcripts, refusals, limits, and any bytes at all."""

from __future__ import annotations

import hashlib
import re
import struct
from base64 import b64encode
from collections.abc import Iterable

import pytest
import scramp
from hypothesis import given
from hypothesis import strategies as st

from pgpool_core.control import server_login
from pgpool_core.control.messages import ErrorFields, cancel_request
from pgpool_core.control.server_login import (
    Channel,
    KeysWanted,
    LoginCut,
    LoginOk,
    LoginRefused,
    ServerLogin,
    ServerNotice,
)
from pgpool_core.control.talk import NEED_DATA
from pgpool_core.errors import ServerProtocolError
from pgpool_core.policy.scram import derive_keys
from pgpool_core.policy.secrets import Secret

NONCE = b"rOprNGfwEbeRWgbNEkqO"
PLAIN = Secret.parse(b"pencil")
MD5 = Secret.parse(b"md5" + hashlib.md5(b"pencilalice").hexdigest().encode())
SCRAM = Secret.parse(
    b"SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0$" + b64encode(b"k" * 32) + b":" + b64encode(b"k" * 32),
)


def msg(code: str, body: bytes = b"") -> bytes:
    return code.encode() + struct.pack("!I", len(body) + 4) + body


def auth(kind: int, data: bytes = b"") -> bytes:
    return msg("R", struct.pack("!I", kind) + data)


def error(code: str = "E", **fields: str) -> bytes:
    return msg(code, b"".join(k.encode() + v.encode() + b"\0" for k, v in fields.items()) + b"\0")


OK = auth(0)
WELCOME = (
    msg("S", b"server_version\x0015.20\0")
    + msg("S", b"TimeZone\0UTC\0")
    + error("N", S="WARNING", V="WARNING", C="01000", M="old collation")
    + msg("S", b"server_version\x0015.21\0")
    + msg("K", struct.pack("!I", 4242) + b"\x00\x01\x02\x03")
    + msg("Z", b"I")
)
WELCOMED = LoginOk(4242, b"\x00\x01\x02\x03", ((b"server_version", b"15.21"), (b"TimeZone", b"UTC")), b"")
NOTICE = "old collation"


def start(secret: Secret | None = None, **more: object) -> ServerLogin:
    login = ServerLogin(user=b"alice", dbname=b"appdb", secret=secret, nonce=NONCE, **more)  # type: ignore[arg-type]
    login.startup = login.data_to_send()  # type: ignore[attr-defined]
    return login


def play(login: ServerLogin, chunks: Iterable[bytes]) -> list[object]:
    """Feed `chunks`; every event and every message sent, in order. Stops at the verdict."""
    seen: list[object] = []
    for chunk in chunks:
        login.receive_data(chunk)
        while (event := login.next_event()) is not NEED_DATA:
            if isinstance(event, KeysWanted):
                login.provide_keys(derive_keys(b"pencil", event.salt, event.iterations))
            else:
                seen.append(event.fields.message if isinstance(event, ServerNotice) else event)
            if sent := login.data_to_send():
                seen.append(sent)
            if isinstance(event, LoginOk | LoginRefused | LoginCut):
                return seen
        if sent := login.data_to_send():
            seen.append(sent)
    return seen


def test_the_startup_packet_names_database_user_and_the_entrys_parameters() -> None:
    login = ServerLogin(
        user=b"alice", dbname=b"appdb", parameters=[(b"client_encoding", b"UTF8"), (b"TimeZone", b"UTC")]
    )
    body = b"user\0alice\0database\0appdb\0client_encoding\0UTF8\0TimeZone\0UTC\0\0"
    assert login.data_to_send() == struct.pack("!II", len(body) + 8, 196608) + body
    assert login.data_to_send() == b""
    assert login.next_event() is NEED_DATA


def test_a_zero_byte_cannot_smuggle_in_a_parameter() -> None:
    with pytest.raises(ValueError, match="zero byte"):
        ServerLogin(user=b"alice\0options\0-cx", dbname=b"appdb")


def test_a_server_that_trusts_us_asks_nothing() -> None:
    assert play(start(), [OK + WELCOME]) == [NOTICE, WELCOMED]


def test_bytes_behind_ready_for_query_are_kept() -> None:
    [*_, verdict] = play(start(), [OK + WELCOME + b"N\0\0"])
    assert isinstance(verdict, LoginOk)
    assert verdict.unread == b"N\0\0"


def test_a_verdict_is_repeated() -> None:
    login = start()
    play(login, [OK + WELCOME])
    assert login.next_event() == WELCOMED


def test_a_plain_password_answers_a_cleartext_request() -> None:
    assert play(start(PLAIN), [auth(3), OK + WELCOME]) == [msg("p", b"pencil\0"), NOTICE, WELCOMED]


@pytest.mark.parametrize("secret", [PLAIN, MD5])
def test_plain_and_md5_secrets_answer_an_md5_request(secret: Secret) -> None:
    inner = hashlib.md5(b"pencilalice").hexdigest().encode()
    answer = b"md5" + hashlib.md5(inner + b"salt").hexdigest().encode()
    assert play(start(secret), [auth(5, b"salt"), OK + WELCOME]) == [msg("p", answer + b"\0"), NOTICE, WELCOMED]


def test_scram_meets_scramps_server_and_both_signatures_are_checked() -> None:
    mechanism = scramp.ScramMechanism("SCRAM-SHA-256")
    stored = mechanism.make_auth_info("pencil")
    server = mechanism.make_server(lambda _user: stored)
    login = start(PLAIN)
    [initial] = play(login, [auth(10, b"SCRAM-SHA-256\0\0")])
    first = b"n,,n=,r=" + NONCE
    assert initial == msg("p", b"SCRAM-SHA-256\0" + struct.pack("!I", len(first)) + first)
    server.set_client_first("n,,n=*,r=" + NONCE.decode())  # scramp wants a name where libpq and we send none
    server.client_first_bare = "n=,r=" + NONCE.decode()
    [final] = play(login, [auth(11, server.get_server_first().encode())])
    assert isinstance(final, bytes)
    server.set_client_final(final[5:].decode())  # raises if our proof is wrong
    assert play(login, [auth(12, server.get_server_final().encode()) + OK + WELCOME]) == [NOTICE, WELCOMED]


BINDING = hashlib.sha256(b"a certificate").digest()
BOTH = auth(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")


def test_a_login_over_tls_is_bound_to_it_and_scramp_agrees() -> None:
    mechanism = scramp.ScramMechanism("SCRAM-SHA-256-PLUS")
    stored = mechanism.make_auth_info("pencil")
    server = mechanism.make_server(lambda _user: stored, channel_binding=("tls-server-end-point", BINDING))
    login = start(PLAIN, channel=Channel(tls=True, binding=BINDING, required=True))
    [initial] = play(login, [BOTH])
    first = b"p=tls-server-end-point,,n=,r=" + NONCE
    assert initial == msg("p", b"SCRAM-SHA-256-PLUS\0" + struct.pack("!I", len(first)) + first)
    server.set_client_first("p=tls-server-end-point,,n=*,r=" + NONCE.decode())
    server.client_first_bare = "n=,r=" + NONCE.decode()
    [final] = play(login, [auth(11, server.get_server_first().encode())])
    assert isinstance(final, bytes)
    server.set_client_final(final[5:].decode())
    assert play(login, [auth(12, server.get_server_final().encode()) + OK + WELCOME]) == [NOTICE, WELCOMED]


@pytest.mark.parametrize(
    ("channel", "offered", "begins"),
    [
        (Channel(tls=True, binding=BINDING), b"SCRAM-SHA-256\0\0", b"SCRAM-SHA-256\0....y,,n="),
        (Channel(tls=True), b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0", b"SCRAM-SHA-256\0....n,,n="),
        (Channel(tls=True), b"SCRAM-SHA-256\0\0", b"SCRAM-SHA-256\0....n,,n="),
        (Channel(), b"SCRAM-SHA-256\0\0", b"SCRAM-SHA-256\0....n,,n="),
    ],
)
def test_without_a_binding_the_server_is_told_whether_there_might_have_been_one(
    channel: Channel, offered: bytes, begins: bytes
) -> None:
    [said] = play(start(PLAIN, channel=channel), [auth(10, offered)])
    assert isinstance(said, bytes)
    assert re.match(re.escape(begins).replace(rb"\.\.\.\.", b"(?s:....)"), said[5:])


@pytest.mark.parametrize(
    "asked", [OK, auth(3), auth(5, b"salt"), auth(10, b"SCRAM-SHA-256\0\0")], ids=["trust", "plain", "md5", "unbound"]
)
def test_a_binding_that_is_required_is_not_given_up(asked: bytes) -> None:
    login = start(PLAIN, channel=Channel(tls=True, binding=BINDING, required=True))
    [verdict] = play(login, [asked])
    assert isinstance(verdict, LoginRefused)
    assert "does not bind the login to the channel" in verdict.fields.message


@pytest.mark.parametrize("channel", [Channel(required=True), Channel(tls=True, required=True)])
def test_a_binding_that_cannot_be_is_a_refusal(channel: Channel) -> None:
    [verdict] = play(start(PLAIN, channel=channel), [auth(10, b"SCRAM-SHA-256\0\0")])
    assert isinstance(verdict, LoginRefused)


def test_an_offer_to_bind_without_tls_is_a_lie() -> None:
    with pytest.raises(ServerProtocolError, match="without TLS"):
        play(start(PLAIN), [BOTH])


def scram_transcript(iterations: int = 1, password: bytes = b"pencil") -> list[bytes]:
    """What a server that knows `password` says to a client with our NONCE."""
    nonce = NONCE + b"3rfcNHYJY1ZVvWVs7j"
    server_first = b"r=" + nonce + b",s=" + b64encode(b"sa") + b",i=%d" % iterations
    keys = derive_keys(password, b"sa", iterations)
    message = b"n=,r=" + NONCE + b"," + server_first + b",c=biws,r=" + nonce
    signature = hashlib.sha256  # kept apart from the code under test: HMAC by its definition, RFC 2104
    block = keys.server_key.ljust(64, b"\0")
    inner = signature(bytes(b ^ 0x36 for b in block) + message).digest()
    outer = signature(bytes(b ^ 0x5C for b in block) + inner).digest()
    return [auth(10, b"SCRAM-SHA-256\0\0"), auth(11, server_first), auth(12, b"v=" + b64encode(outer)), OK, WELCOME]


@pytest.mark.parametrize("iterations", [1, 4095, 4096])
def test_few_iterations_and_a_short_salt_work(iterations: int) -> None:
    assert play(start(PLAIN), scram_transcript(iterations))[-1] == WELCOMED


def test_a_server_that_does_not_know_the_password_is_found_out() -> None:
    login = start(PLAIN)
    with pytest.raises(ServerProtocolError, match="signature is wrong"):
        play(login, scram_transcript(password=b"guess"))
    with pytest.raises(ServerProtocolError, match="signature is wrong"):
        login.next_event()


@pytest.mark.parametrize("said", [1, 2])
def test_a_server_must_prove_itself_before_it_may_say_ok(said: int) -> None:
    with pytest.raises(ServerProtocolError, match="Authentication message 0 where"):
        play(start(PLAIN), [*scram_transcript()[:said], OK + WELCOME])


@pytest.mark.parametrize(
    "server_first",
    [
        b"",
        b"r=other,s=c2E=,i=1",
        b"r=" + NONCE + b",s=c2E=,i=1",
        b"r=" + NONCE + b"x,s=c2E=,i=0",
        b"r=" + NONCE + b"x,s=c2E=,i=-1",
        b"r=" + NONCE + b"x,s=c2E=,i=1000001",
        b"r=" + NONCE + b"x,s=c2E=,i=" + b"9" * 5000,
        b"r=" + NONCE + b"x,s=c2E=,i=\xd9\xa1",
        b"r=" + NONCE + b"x,s=,i=1",
        b"r=" + NONCE + b"x,s=!,i=1",
        b"r=" + NONCE + b"x,s=c2E=",
        b"m=x,r=" + NONCE + b"x,s=c2E=,i=1",
        b"r=" + NONCE + b"x,s=c2E=,i=1,x=y",
        b"r=" + NONCE + b"\n,s=c2E=,i=1",
        b"s=c2E=,r=" + NONCE + b"x,i=1",
    ],
)
def test_a_crooked_server_first_message_is_a_protocol_error(server_first: bytes) -> None:
    with pytest.raises(ServerProtocolError, match=r"SCRAM|base64"):
        play(start(PLAIN), [auth(10, b"SCRAM-SHA-256\0\0"), auth(11, server_first)])


def test_the_most_rounds_that_a_server_may_ask_for_are_pgbouncers() -> None:
    login = start(PLAIN)
    login.receive_data(auth(10, b"SCRAM-SHA-256\0\0") + auth(11, b"r=" + NONCE + b"x,s=c2E=,i=1000000"))
    assert login.next_event() == KeysWanted(b"sa", 1_000_000)


@pytest.mark.parametrize("final", [b"", b"v=", b"v=!!", b"e=other-error", b"v=AAAA", b"x=AAAA"])
def test_a_crooked_server_final_message_is_a_protocol_error(final: bytes) -> None:
    with pytest.raises(ServerProtocolError, match="SCRAM"):
        play(start(PLAIN), [*scram_transcript()[:2], auth(12, final)])


@pytest.mark.parametrize(
    ("secret", "request_", "text"),
    [
        (None, auth(3), "no password supplied"),
        (None, auth(5, b"salt"), "no password supplied"),
        (None, auth(10, b"SCRAM-SHA-256\0\0"), "no password supplied"),
        (Secret(), auth(3), "no password supplied"),
        (MD5, auth(3), "wrong password type"),
        (MD5, auth(10, b"SCRAM-SHA-256\0\0"), "wrong password type"),
        (SCRAM, auth(3), "wrong password type"),
        (SCRAM, auth(5, b"salt"), "wrong password type"),
        (SCRAM, auth(10, b"SCRAM-SHA-256\0\0"), "wrong password type"),
        (PLAIN, auth(10, b"SCRAM-SHA-512\0\0"), "no SASL mechanism that is supported"),
        (PLAIN, auth(7), "GSSAPI authentication is not supported"),
        (PLAIN, auth(9), "SSPI authentication is not supported"),
    ],
)
def test_what_a_secret_cannot_answer_is_refused_and_nothing_is_sent(
    secret: Secret | None, request_: bytes, text: str
) -> None:
    [verdict] = play(start(secret), [request_])
    assert isinstance(verdict, LoginRefused)
    assert verdict.fields.sqlstate == "28000"
    assert verdict.fields.message.startswith("server login failed: ")
    assert verdict.fields.message.endswith(text) or text in verdict.fields.message
    assert ErrorFields.parse(0x45, verdict.fields.raw[5:]) == verdict.fields


def test_an_error_response_is_kept_whole_for_the_clients() -> None:
    raw = error(S="FATAL", V="FATAL", C="53300", M="sorry, too many clients already", D="all 100", H="wait", F="proc.c")
    [verdict] = play(start(), [raw])
    assert isinstance(verdict, LoginRefused)
    assert verdict.fields == ErrorFields("FATAL", "53300", "sorry, too many clients already", "all 100", "wait", raw)


def test_an_error_after_authentication_is_a_refusal_too() -> None:
    [_, verdict] = play(start(PLAIN), [auth(3), OK + error(S="FATAL", C="3D000", M='database "appdb" does not exist')])
    assert isinstance(verdict, LoginRefused)
    assert verdict.fields.sqlstate == "3D000"


@pytest.mark.parametrize("state", ["", "4", "28P0", "28P01x", "28-01", "\u0662\u0662\u0662\u0662\u0662"])
def test_a_nonsensical_sqlstate_of_a_server_becomes_internal_error(state: str) -> None:
    [verdict] = play(start(), [error(S="FATAL", C=state, M="no")])
    assert isinstance(verdict, LoginRefused)
    assert verdict.fields.sqlstate == "XX000"


@pytest.mark.parametrize("ending", [b"\0", b"\n\0", b""])
def test_a_postmaster_that_cannot_fork_is_understood(ending: bytes) -> None:
    login = start()
    said = b"Ecould not fork new process for connection: Resource temporarily unavailable" + ending
    [verdict] = play(login, [said] if ending else [said, b""])
    assert isinstance(verdict, LoginRefused)
    assert verdict.fields.message == "could not fork new process for connection: Resource temporarily unavailable"
    assert verdict.fields.sqlstate == "53000"


@pytest.mark.parametrize("before", [b"", b"R", auth(3), OK, OK + WELCOME[:-1]])
def test_a_server_that_hangs_up_is_told_from_one_that_refuses(before: bytes) -> None:
    assert play(start(PLAIN), [before, b""] if before else [b""])[-1] == LoginCut()


def test_a_server_without_cancel_keys_is_accepted() -> None:
    assert play(start(), [OK + msg("Z", b"I")]) == [LoginOk(0, b"", (), b"")]


def test_a_long_cancel_key_is_kept_whole() -> None:
    [verdict] = play(start(), [OK + msg("K", b"\0\0\0\7" + b"k" * 256) + msg("Z", b"I")])
    assert verdict == LoginOk(7, b"k" * 256, (), b"")
    assert cancel_request(7, b"k" * 256) == struct.pack("!III", 268, 80877102, 7) + b"k" * 256
    assert cancel_request(7, b"abcd") == bytes.fromhex("00000010 04d2162e 00000007") + b"abcd"


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 400 Bad Request\r\n",
        b"SSH-2.0-OpenSSH_9.2p1\r\n",
        msg("Z", b"I"),
        msg("S", b"a\0b\0"),
        msg("K", b"12345678"),
        msg("D", b"\0\0"),
        msg("v", b"\0\0\0\0\0\0\0\0"),
        msg("R"),
        msg("R", b"\0\0\0"),
        auth(1),
        auth(11),
        auth(12),
        auth(99),
        auth(5, b"sal"),
        auth(5, b"salty"),
        auth(10),
        auth(10, b"\0"),
        auth(10, b"\0\0"),
        auth(10, b"SCRAM-SHA-256"),
        auth(10, b"SCRAM-SHA-256\0"),
        b"R\0\0\0\3",
        b"R\xff\xff\xff\xff",
        b"R\x7f\xff\xff\xff",
        b"E" + b"x" * 1100,
        auth(3) + auth(3),
        OK + OK,
        OK + auth(3),
        OK + msg("Z", b"T"),
        OK + msg("Z", b""),
        OK + msg("Z", b"II"),
        OK + msg("K", b"1234567"),
        OK + msg("K", b"1234" + b"k" * 257),
        OK + msg("S", b"a"),
        OK + msg("S", b"\0b\0"),
        OK + msg("S", b"a\0b\0c\0"),
        OK + msg("D", b"\0\0"),
        OK + b"Ecould not fork\0",
        msg("E", b"SFATAL"),
        msg("E", b"SFATAL\0"),
        msg("E", b"\0\0"),
        msg("E"),
        msg("N", b"M"),
        OK + msg("S", b"a\0" + b"b" * 65535),
        OK + msg("N", b"\0") * 1001,
        OK + msg("S", b"a\0" + b"b" * 65000 + b"\0") * 17,
    ],
    ids=lambda said: repr(said[:20]),
)
def test_what_a_server_may_not_say_is_a_protocol_error_that_sticks(said: bytes) -> None:
    login = start(PLAIN)
    with pytest.raises(ServerProtocolError) as caught:
        play(login, [said])
    with pytest.raises(ServerProtocolError) as again:
        login.next_event()
    assert again.value is caught.value


def test_keys_that_were_not_asked_for_are_our_bug() -> None:
    with pytest.raises(RuntimeError):
        start(PLAIN).provide_keys(derive_keys(b"pencil", b"salt", 1))


def test_keys_are_asked_for_until_they_come_and_nothing_is_sent_before() -> None:
    login = start(PLAIN)
    for said in scram_transcript()[:2]:
        login.receive_data(said)
    assert login.next_event() == login.next_event() == KeysWanted(b"sa", 1)
    assert b"p=" not in login.data_to_send()


TRANSCRIPTS = {
    "trust": (None, OK + WELCOME),
    "cleartext": (PLAIN, auth(3) + OK + WELCOME + b"more"),
    "md5": (MD5, auth(5, b"salt") + OK + WELCOME),
    "scram": (PLAIN, b"".join(scram_transcript())),
    "scram, wrong": (PLAIN, b"".join(scram_transcript(password=b"guess"))),
    "refused": (PLAIN, auth(3) + error(S="FATAL", C="28P01", M="password authentication failed")),
    "no fork": (None, b"Ecould not fork new process for connection: Cannot allocate memory\n\0"),
    "garbage": (None, b"SSH-2.0-OpenSSH_9.2p1\r\n"),
}


def outcome(secret: Secret | None, chunks: Iterable[bytes]) -> list[object]:
    login = start(secret)
    seen: list[object] = []
    sent = b""
    try:
        for item in play(login, chunks):
            if isinstance(item, bytes):
                sent += item
            elif isinstance(item, LoginOk):  # what came behind it depends on the cut
                seen.append((item.backend_pid, item.backend_key, item.parameters))
            else:
                seen.append(item)
    except ServerProtocolError as problem:
        seen.append(str(problem))
    return [*seen, sent]


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_a_login_fed_byte_by_byte_ends_as_one_fed_whole(name: str) -> None:
    secret, said = TRANSCRIPTS[name]
    assert outcome(secret, [said]) == outcome(secret, [bytes([byte]) for byte in said])


@given(st.sampled_from(sorted(TRANSCRIPTS)), st.data())
def test_a_login_cut_anywhere_ends_as_one_fed_whole(name: str, data: st.DataObject) -> None:
    secret, said = TRANSCRIPTS[name]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(said) - 1), max_size=6)))
    chunks = [said[a:b] for a, b in zip([0, *cuts], [*cuts, len(said)], strict=True)]
    assert outcome(secret, chunks) == outcome(secret, [said])


FRAGMENTS = st.one_of(
    st.binary(min_size=1, max_size=40),
    st.sampled_from([OK, WELCOME, auth(3), auth(5, b"salt"), *scram_transcript()]),
    st.builds(auth, st.integers(0, 13), st.binary(max_size=20)),
    st.builds(msg, st.sampled_from(list("RSKZNEAvDT")), st.binary(max_size=20)),
)


@given(st.lists(FRAGMENTS, max_size=8), st.sampled_from([None, PLAIN, MD5, SCRAM]), st.booleans())
def test_any_bytes_give_events_or_a_protocol_error(fragments: list[bytes], secret: Secret | None, ends: bool) -> None:
    login = start(secret)
    try:
        seen = play(login, [*fragments, b""] if ends else fragments)
    except ServerProtocolError:
        with pytest.raises(ServerProtocolError):
            login.next_event()
    else:
        assert not ends or isinstance(login.next_event(), LoginOk | LoginRefused | LoginCut), seen


def test_the_limits_leave_room_for_honest_servers() -> None:
    assert server_login.MAX_MESSAGE_LEN >= 64 * 1024
    many = b"".join(msg("S", b"p%d\0value\0" % number) for number in range(500))
    [verdict] = play(start(), [OK + many + msg("Z", b"I")])
    assert isinstance(verdict, LoginOk)
    assert len(verdict.parameters) == 500
