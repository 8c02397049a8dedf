"""Looking users up: what is asked, how often, and what a server may answer. A scripted server, no sockets of a real one."""

from __future__ import annotations

import struct
from types import SimpleNamespace

import attrs
import pytest

from pgpool_core.config import Config
from pgpool_core.control.auth_lookup import AuthLookup, LookupDone
from pgpool_core.control.auth_query import AuthQuery
from pgpool_core.control.messages import message
from pgpool_core.control.routing import Lookup
from pgpool_core.control.server_login import NO_CLIENT_KEYS, LoginRefused, ServerLogin
from pgpool_core.control.talk import NEED_DATA, AnswerCut
from pgpool_core.errors import ServerProtocolError
from pgpool_core.policy.client_keys import ClientKeys
from pgpool_core.policy.scram import ScramSecret, derive_keys
from pgpool_core.policy.secrets import Secret
from tests.unit.fake_engine import FakeEngine


def row(*values: bytes | None) -> bytes:
    body = struct.pack("!H", len(values))
    for value in values:
        body += struct.pack("!i", -1) if value is None else struct.pack("!i", len(value)) + value
    return message(ord("D"), body)


def columns(count: int) -> bytes:
    return message(ord("T"), struct.pack("!H", count) + (b"x\0" + bytes(18)) * count)


READY = message(ord("Z"), b"I")


def answered(data: bytes) -> object:
    lookup = AuthLookup(b"select $1", b"ann")
    lookup.receive_data(data)
    return lookup.next_event()


def test_the_name_travels_as_a_parameter_and_nothing_else_does() -> None:
    sent = AuthLookup(b"select $1", b"o'; drop table x").data_to_send()
    kinds, at = "", 0
    while at < len(sent):
        kinds += chr(sent[at])
        at += 1 + int.from_bytes(sent[at + 1 : at + 5], "big")
    assert kinds == "PBDES"
    assert sent.count(b"drop table") == 1
    with pytest.raises(ValueError, match="zero byte"):
        AuthLookup(b"select $1", b"a\0b")


def test_a_row_is_read_and_what_comes_behind_is_kept() -> None:
    done = answered(columns(2) + row(b"ann", None) + message(ord("C"), b"SELECT 1\0") + READY + b"more")
    assert isinstance(done, LookupDone)
    assert (done.rows, done.problem, done.error, done.unread) == (((b"ann", None),), "", None, b"more")


@pytest.mark.parametrize("count", [0, 1, 3])
def test_two_columns_are_expected(count: int) -> None:
    described = columns(count) if count else message(ord("n"), b"")
    done = answered(described + row(*[b"x"] * count) + READY)
    assert isinstance(done, LookupDone)
    assert (done.rows, done.problem) == ((), f"expected 2 columns from auth_query, not {count}")


def test_an_error_hides_rows_and_the_end_of_the_stream_is_a_cut() -> None:
    error = message(ord("E"), b"SERROR\0C42501\0Mno\0\0")
    done = answered(columns(2) + row(b"ann", b"x") + error + READY)
    assert isinstance(done, LookupDone)
    assert done.rows == ()
    assert done.error is not None
    assert done.error.sqlstate == "42501"
    lookup = AuthLookup(b"select $1", b"ann")
    lookup.receive_data(error)
    assert lookup.next_event() is NEED_DATA
    lookup.receive_data(b"")
    assert isinstance(lookup.next_event(), AnswerCut)


@pytest.mark.parametrize(
    "data",
    [
        b"D\xff\xff\xff\xff",
        b"D\0\0\0\3",
        b"D\0\x10\0\0",
        message(ord("D"), b"\0"),
        message(ord("D"), b"\0\1\0\0\0\5abc"),
        message(ord("D"), b"\0\1\xff\xff\xff\xfe"),
        message(ord("D"), b"\0\1\0\0\0\1ab"),
        message(ord("T"), b"\0"),
        message(ord("Z"), b"?"),
        message(ord("G"), b"\0\0\0"),
        message(ord("R"), b"\0\0\0\0"),
        message(ord("N"), b"\0") * 1001,
    ],
)
def test_a_server_that_breaks_the_protocol_is_told_so_for_good(data: bytes) -> None:
    lookup = AuthLookup(b"select $1", b"ann")
    lookup.receive_data(data)
    for _ in range(2):
        with pytest.raises(ServerProtocolError):
            lookup.next_event()


async def test_who_does_not_exist_is_logged_when_the_login_has_been_answered(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To write a line takes a tenth of a look-up: done before the answer, it would tell who exists."""

    async def rows(*_: object, **__: object) -> tuple[()]:
        return ()

    query = AuthQuery(FakeEngine(), SimpleNamespace(config=Config()), open_server=rows)  # type: ignore[arg-type]
    monkeypatch.setattr(query, "rows", rows)
    with caplog.at_level("INFO", "pgpool_core"):
        assert (await query.find(Lookup("app", "boss", "select $1"), b"ann")).secret is None
        assert caplog.messages == []
        query.expire()
        query.expire()
    assert [message.partition(" user=")[2] for message in caplog.messages] == ["ann"]


# -- keys of clients ---------------------------------------------------------------------------------------------------


def secret_of(password: bytes, salt: bytes = b"salt of sixteen!") -> tuple[Secret, bytes]:
    keys = derive_keys(password, salt, 4096)
    return Secret(scram=ScramSecret(4096, salt, keys.stored_key, keys.server_key)), keys.client_key


def test_a_key_serves_its_own_secret_only() -> None:
    keys = ClientKeys()
    mine, key = secret_of(b"one")
    other, _ = secret_of(b"two")
    assert keys.missing(mine)
    keys.learn(key)
    assert not keys.missing(mine)
    assert keys.unlock(mine) == attrs.evolve(mine, client_key=key)
    assert keys.unlock(other) == other
    keys.forget(mine)
    assert keys.missing(mine)
    assert key.hex() not in repr(attrs.evolve(mine, client_key=key))


def test_the_key_used_longest_ago_is_forgotten_first() -> None:
    keys = ClientKeys(limit=2)
    secrets = [secret_of(word) for word in (b"one", b"two", b"three")]
    for _, key in secrets[:2]:
        keys.learn(key)
    keys.unlock(secrets[0][0])
    keys.learn(secrets[2][1])
    assert [keys.missing(secret) for secret, _ in secrets] == [False, True, False]
    plain = Secret.parse(b"plain")
    assert not keys.missing(plain)
    assert keys.unlock(plain) == plain
    assert keys.unlock(None) is None


def challenge(login: ServerLogin, nonce: bytes, salt: bytes, iterations: int) -> object:
    from base64 import b64encode

    login.receive_data(message(ord("R"), struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"))
    login.next_event()
    first = b"r=%sserver,s=%s,i=%d" % (nonce, b64encode(salt), iterations)
    login.receive_data(message(ord("R"), struct.pack("!I", 11) + first))
    return login.next_event()


@pytest.mark.parametrize(("salt", "iterations"), [(b"another salt....", 4096), (b"salt of sixteen!", 4097)])
def test_a_key_is_not_tried_on_another_secret(salt: bytes, iterations: int) -> None:
    mine, key = secret_of(b"one")
    login = ServerLogin(user=b"ann", dbname=b"app", secret=attrs.evolve(mine, client_key=key), nonce=b"abc")
    login.data_to_send()
    refused = challenge(login, b"abc", salt, iterations)
    assert isinstance(refused, LoginRefused)
    assert refused.fields.message == "server login failed: wrong password type"


def test_a_key_answers_the_challenge_of_its_secret() -> None:
    mine, key = secret_of(b"one")
    login = ServerLogin(user=b"ann", dbname=b"app", secret=attrs.evolve(mine, client_key=key), nonce=b"abc")
    assert challenge(login, b"abc", b"salt of sixteen!", 4096) is NEED_DATA
    assert b",p=" in login.data_to_send()


def test_without_a_key_the_hint_says_what_is_missing() -> None:
    login = ServerLogin(user=b"ann", dbname=b"app", secret=secret_of(b"one")[0], nonce=b"abc")
    login.receive_data(message(ord("R"), struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"))
    refused = login.next_event()
    assert isinstance(refused, LoginRefused)
    assert refused.fields.hint == NO_CLIENT_KEYS
