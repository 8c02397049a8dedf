"""auth_file and the secrets in it."""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from pathlib import Path

import pytest
import scramp
from hypothesis import given
from hypothesis import strategies as st
from psycopg import pq

from pgpool_core.errors import ConfigError
from pgpool_core.policy import scram
from pgpool_core.policy.scram import ScramKeys, ScramSecret, derive_keys
from pgpool_core.policy.secrets import Secret, SecretKind
from pgpool_core.policy.userlist import load_userlist, parse_userlist

SCRAM_TEXT = (
    b"SCRAM-SHA-256$4096:sOzacyZ98AdERySz62k65g==$zzJ71iwrxpMm8cml+uZ+l73ysI53sh+TmuS0QjWiW5Y=:"
    b"e8lJ3TgqvSFieN9TOfhBlY3JLIOBH8OS0TL1aWz/qUs="
)  # PQencryptPasswordConn("x")
MD5_TEXT = b"md5" + b"0123456789abcdef" * 2


def test_each_kind_of_secret_is_recognised() -> None:
    users = parse_userlist(
        b'; users of the shop\n\n"alice" "open sesame"\n"bob" "%s"\r\n  "carol"\t"%s" ; found in pg_authid\n"dave" ""\n'
        % (MD5_TEXT, SCRAM_TEXT)
    )
    kinds = {user: secret.kind for user in users if (secret := users.get(user)) is not None}
    assert kinds == {
        b"alice": SecretKind.PLAIN,
        b"bob": SecretKind.MD5,
        b"carol": SecretKind.SCRAM,
        b"dave": SecretKind.NONE,
    }
    assert users.get(b"erin") is None
    assert len(users) == 4


def test_doubled_quotes_stand_for_one() -> None:
    users = parse_userlist(b'"al""ice" "se""""cret" ignored "too"\n')
    assert dict(users.secrets) == {b'al"ice': Secret(plain=b'se""cret')}


def test_the_last_line_of_a_user_wins() -> None:
    assert parse_userlist(b'"a" "one"\n"a" "two"').get(b"a") == Secret(plain=b"two")


def test_names_and_secrets_are_bytes_of_any_encoding() -> None:
    assert parse_userlist('\ufeff"bj\u00f6rn" "\u00fc"'.encode()).get("bj\u00f6rn".encode()) == Secret(
        plain="\u00fc".encode()
    )
    assert parse_userlist(b'"bj\xf6rn" "\xfc"').get(b"bj\xf6rn") == Secret(plain=b"\xfc")


@pytest.mark.parametrize(
    "line",
    [
        b"alice secret",
        b'"alice"',
        b'"alice',
        b'"alice" secret',
        b'"alice" "secret',
        b'"alice""secret"',
        b'"alice","secret"',
        b'"alice" """',
        b'"" "secret"',
        b'"%s" "secret"' % (b"a" * 128),
        b'"alice" "%s"' % (b"s" * 65531),
        b'"al\0ice" "secret"',
        b'"alice" "se\0cret"',
        b'"alice" "SCRAM-SHA-256$secret"',
        b"# secret",
    ],
)
def test_a_broken_line_is_named_and_its_secret_is_not_repeated(line: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_userlist(b'"bob" "fine"\n; comment\n' + line + b'\n"carol" "fine"\n', "/etc/users.txt")
    problem = caught.value.problems[0]
    assert (problem.file, problem.line, problem.key) == ("/etc/users.txt", 3, "auth_file")
    assert "/etc/users.txt:3" in str(caught.value)
    assert "sss" not in str(caught.value)
    assert "$secret" not in str(caught.value)


def test_every_broken_line_is_reported_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        parse_userlist(b'oops\n"a" "b"\noops\n')
    assert [problem.line for problem in caught.value.problems] == [1, 3]


def test_a_missing_file_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.txt: cannot be read: No such file or directory \(auth_file\)"):
        load_userlist(tmp_path / "none.txt")
    (tmp_path / "users.txt").write_bytes(b'"a" "b"')
    assert load_userlist(tmp_path / "users.txt").get(b"a") == Secret(plain=b"b")


@given(
    st.dictionaries(
        st.binary(min_size=1, max_size=20).filter(lambda name: not set(name) & set(b"\0\n")),
        st.binary(max_size=40).filter(lambda text: not set(text) & set(b"\0\n") and not text.startswith(b"SCRAM")),
        max_size=5,
    )
)
def test_what_is_written_with_doubled_quotes_is_read_back(users: dict[bytes, bytes]) -> None:
    def quoted(text: bytes) -> bytes:
        return b'"' + text.replace(b'"', b'""') + b'"'

    text = b"\n".join(quoted(name) + b" " + quoted(secret) for name, secret in users.items())
    assert dict(parse_userlist(text).secrets) == {name: Secret.parse(secret) for name, secret in users.items()}


@given(st.binary(max_size=200))
def test_any_bytes_are_a_list_of_users_or_a_configuration_error(text: bytes) -> None:
    with contextlib.suppress(ConfigError):
        assert len(parse_userlist(text)) <= text.count(b"\n") + 1


@pytest.mark.parametrize(
    "text",
    [
        b"SCRAM-SHA-256$",
        SCRAM_TEXT.replace(b"4096", b"0"),
        SCRAM_TEXT.replace(b"4096", b"-1"),
        SCRAM_TEXT.replace(b"4096", b"99999999"),
        SCRAM_TEXT.replace(b"sOza", b"sO!a"),
        SCRAM_TEXT.replace(b"sOzacyZ98AdERySz62k65g==", b""),
        SCRAM_TEXT[:-4] + b"qUs=AAAA",
        SCRAM_TEXT[:-5] + b"=",
        SCRAM_TEXT + b"$",
        SCRAM_TEXT + b":",
    ],
)
def test_a_malformed_scram_secret_is_refused_rather_than_taken_for_a_password(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"SCRAM|base64"):
        Secret.parse(text)


@pytest.mark.parametrize(
    "text", [b"md5", b"md5rocks", MD5_TEXT.upper(), MD5_TEXT[:-1], MD5_TEXT + b"0", MD5_TEXT[:-1] + b"F"]
)
def test_what_only_begins_like_an_md5_secret_is_a_password(text: bytes) -> None:
    assert Secret.parse(text).plain == text


def test_a_secret_never_shows_itself() -> None:
    for text in (b"hunter2", MD5_TEXT, SCRAM_TEXT):
        secret = Secret.parse(text)
        shown = f"{secret!r} {secret} {secret.scram!r} {[secret]}"
        assert "hunter2" not in shown
        assert "abcdef" not in shown
        assert "zzJ71" not in shown
    assert "hunter2" not in repr(parse_userlist(b'"a" "hunter2"'))
    assert "hidden" in repr(derive_keys(b"hunter2", b"salt", 1))


def test_an_empty_password_is_refused_where_a_password_is_needed() -> None:
    with pytest.raises(ValueError, match="empty"):
        Secret.plain_password(b"")
    assert Secret.plain_password(SCRAM_TEXT).kind is SecretKind.PLAIN


@pytest.mark.trio
async def test_a_plain_secret_gives_every_form_and_the_same_scram_keys_each_time() -> None:
    credential = await Secret.parse(b"hunter2").client_credential(b"alice")
    assert credential["plain"] == b"hunter2"
    assert credential["md5"] == hashlib.md5(b"hunter2alice").hexdigest().encode()
    iterations, salt, stored_key, server_key = credential["scram"]
    oracle = scramp.ScramMechanism("SCRAM-SHA-256").make_auth_info("hunter2", iteration_count=iterations, salt=salt)
    assert oracle == (salt, stored_key, server_key, 4096)
    assert await Secret.parse(b"hunter2").client_credential(b"alice") == credential
    bob = await Secret.parse(b"hunter2").client_credential(b"bob")
    assert bob["scram"][1] != salt, "one salt for two users would show that their passwords are equal"


@pytest.mark.trio
async def test_scram_keys_are_not_made_where_nobody_can_ask_for_them() -> None:
    assert await Secret.parse(b"hunter2").client_credential(b"alice", scram=False) == {
        "plain": b"hunter2",
        "md5": hashlib.md5(b"hunter2alice").hexdigest().encode(),
    }


@pytest.mark.trio
async def test_a_stored_secret_gives_the_forms_it_can() -> None:
    assert await Secret.parse(MD5_TEXT).client_credential(b"alice") == {"md5": MD5_TEXT[3:]}
    stored = ScramSecret.parse(SCRAM_TEXT)
    assert await Secret.parse(SCRAM_TEXT).client_credential(b"alice") == {
        "scram": (4096, stored.salt, stored.stored_key, stored.server_key)
    }
    assert await Secret.parse(b"").client_credential(b"alice") == {}


@pytest.mark.trio
async def test_scram_iterations_of_our_own_secrets_can_be_chosen() -> None:
    credential = await Secret.parse(b"hunter2").client_credential(b"alice", iterations=77)
    iterations, salt, stored_key, server_key = credential["scram"]
    keys = derive_keys(b"hunter2", salt, 77)
    assert (iterations, stored_key, server_key) == (77, keys.stored_key, keys.server_key)


@pytest.mark.trio
async def test_keys_are_computed_once_and_off_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    computed: list[tuple[bytes, bytes, int]] = []

    def derive(password: bytes, salt: bytes, iterations: int) -> ScramKeys:
        assert threading.get_ident() != loop
        computed.append((password, salt, iterations))
        return derive_keys(password, salt, iterations)

    loop = threading.get_ident()
    monkeypatch.setattr(scram, "derive_keys", derive)
    fresh = os.urandom(16)
    wanted = [(b"pw", fresh, 2), (b"pw", fresh, 3), (b"pw2", fresh, 2), (b"pw", fresh + b"x", 2)]
    for _ in range(2):
        for password, salt, iterations in wanted:
            keys = await scram.scram_keys(b"alice", password, salt, iterations)
            assert keys == derive_keys(password, salt, iterations)
    assert computed == wanted


def libpq_secret(password: bytes) -> ScramSecret:
    """PQencryptPasswordConn: the client library's own SASLprep and key derivation, no server needed."""
    connection = pq.PGconn.connect_start(b"host=/nonexistent")
    try:
        return ScramSecret.parse(connection.encrypt_password(password, b"u", b"scram-sha-256"))
    finally:
        connection.finish()


def agrees_with_libpq(password: bytes) -> bool:
    secret = libpq_secret(password)
    keys = derive_keys(password, secret.salt, secret.iterations)
    return (keys.stored_key, keys.server_key) == (secret.stored_key, secret.server_key)


@pytest.mark.parametrize(
    "text",
    [
        "pencil",
        "tab\there",
        "I\u00adX",  # soft hyphen: mapped to nothing
        "\u2168",  # Roman nine: normalised to IX
        "no\u00a0break",  # becomes a space
        "zero\u200bwidth",  # a space for PostgreSQL, nothing for RFC 4013
        "\u00ad",  # nothing is left
        "\u0340",  # deprecated, although its normal form is not
        "\ufb50\u0031",  # right-to-left that ends otherwise
        "\u0627\u0628",
        "\u0627a\u0628",
        "\U0001f511",  # unassigned in Unicode 3.2
        "caf\u00e9",
        "cafe\u0301",
        "\ufb01",
        "\ue000",
    ],
)
def test_passwords_are_prepared_as_libpq_does(text: str) -> None:
    assert agrees_with_libpq(text.encode())


def test_bytes_that_are_no_utf8_go_in_as_they_are() -> None:
    assert agrees_with_libpq(b"caf\xe9")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=6))
def test_any_password_is_prepared_as_libpq_does(text: str) -> None:
    assert agrees_with_libpq(text.encode())
