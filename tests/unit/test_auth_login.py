"""A client's login without SCRAM: trust, any, plain and md5, and which method a stored secret leads to."""

from __future__ import annotations

import hashlib
import struct
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool_core_probes import auth_probe

ANY, TRUST, PLAIN, MD5, SCRAM = range(5)
OK, MORE, ELSEWHERE = 0, 1, 2
BAD_PASSWORD, PROTOCOL, EMPTY_PASSWORD, NO_SPACE, INTERNAL = range(-1, -6, -1)

ASK_CLEARTEXT = b"R" + struct.pack("!II", 8, 3)
ASK_SASL = b"R" + struct.pack("!II", 23, 10) + b"SCRAM-SHA-256\0\0"


def scram_secret(password: bytes, *, iterations: int = 1, salt: bytes = b"0123456789abcdef") -> auth_probe.Secret:
    salted = hashlib.pbkdf2_hmac("sha256", password, salt, iterations)
    stored = hashlib.sha256(auth_probe.hash_of("hmac_sha256", b"Client Key", key=salted)).digest()
    return auth_probe.Secret(
        scram=(iterations, salt, stored, auth_probe.hash_of("hmac_sha256", b"Server Key", key=salted))
    )


def md5_digits(password: bytes, user: bytes) -> bytes:
    return hashlib.md5(password + user).hexdigest().encode()


SECRETS = {
    "plain": auth_probe.Secret(b"alice", plain=b"secret"),
    "md5": auth_probe.Secret(md5=md5_digits(b"secret", b"alice")),
    "scram": scram_secret(b"secret"),
}


def md5_answer(challenge: bytes, password: bytes, user: bytes) -> bytes:
    assert challenge[:9] == b"R" + struct.pack("!II", 12, 5)
    assert len(challenge) == 13
    return b"md5" + hashlib.md5(md5_digits(password, user) + challenge[9:]).hexdigest().encode() + b"\0"


@pytest.mark.parametrize(
    ("auth_type", "known", "status"),
    [(ANY, True, OK), (ANY, False, OK), (TRUST, True, OK), (TRUST, False, BAD_PASSWORD)],
)
def test_trust_and_any_ask_for_nothing(auth_type: int, known: bool, status: int) -> None:
    assert auth_probe.Login().begin(auth_type, b"alice", known=known, cap=0) == (status, b"")


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())
@pytest.mark.parametrize(
    ("password", "status"), [(b"secret", OK), (b"secre", BAD_PASSWORD), (b"secret ", BAD_PASSWORD)]
)
def test_a_plain_password_is_checked_against_whatever_is_stored(
    secret: auth_probe.Secret, password: bytes, status: int
) -> None:
    login = auth_probe.Login()
    assert login.begin(PLAIN, b"alice", secret) == (MORE, ASK_CLEARTEXT)
    assert login.password(password + b"\0") == (status, b"")


def test_plain_checks_scram_keys_with_many_iterations_and_a_long_salt() -> None:
    secret = scram_secret(b"secret", iterations=6000, salt=b"s" * 64)
    for password, status in ((b"secret", OK), (b"other", BAD_PASSWORD)):
        login = auth_probe.Login()
        login.begin(PLAIN, b"alice", secret)
        assert login.password(password + b"\0")[0] == status


@pytest.mark.parametrize("name", ["plain", "md5"])
def test_md5_is_answered_with_the_stored_digits_and_a_fresh_salt(name: str) -> None:
    salts = set()
    for password, status in ((b"secret", OK), (b"other", BAD_PASSWORD)):
        login = auth_probe.Login()
        step, challenge = login.begin(MD5, b"alice", SECRETS[name])
        assert (step, login.method) == (MORE, MD5)
        salts.add(challenge[9:])
        assert login.password(md5_answer(challenge, password, b"alice")) == (status, b"")
    assert len(salts) == 2


def test_the_digits_of_another_user_do_not_match() -> None:
    login = auth_probe.Login()
    _, challenge = login.begin(MD5, b"bob", auth_probe.Secret(b"bob", plain=b"secret"))
    assert login.password(md5_answer(challenge, b"secret", b"alice"))[0] == BAD_PASSWORD


@pytest.mark.parametrize("answer", [b"md5", b"x" * 35, b"md5" + b"0" * 31, b"md5" + b"0" * 33])
def test_what_is_no_md5_answer_is_a_wrong_password(answer: bytes) -> None:
    login = auth_probe.Login()
    login.begin(MD5, b"alice", SECRETS["md5"])
    assert login.password(answer + b"\0")[0] == BAD_PASSWORD


@pytest.mark.parametrize("digits", [b"\0" * 32, b"0" * 32])
def test_md5_digits_that_were_never_stored_let_nobody_in(digits: bytes) -> None:
    """All zero is no secret: a client could compute the answer to it."""
    login = auth_probe.Login()
    _, challenge = login.begin(MD5, b"alice", auth_probe.Secret())
    answer = b"md5" + hashlib.md5(digits + challenge[9:]).hexdigest().encode() + b"\0"
    assert login.password(answer)[0] == BAD_PASSWORD


def test_a_user_with_nothing_stored_never_logs_in_by_a_plain_password() -> None:
    login = auth_probe.Login()
    assert login.begin(PLAIN, b"alice", auth_probe.Secret()) == (MORE, ASK_CLEARTEXT)
    assert login.password(b"anything\0")[0] == BAD_PASSWORD


@pytest.mark.parametrize(
    ("auth_type", "name", "method"),
    [(MD5, "scram", SCRAM), (MD5, "md5", MD5), (SCRAM, "scram", SCRAM), (SCRAM, "md5", SCRAM), (PLAIN, "scram", PLAIN)],
)
def test_the_method_follows_the_setting_and_what_is_stored(auth_type: int, name: str, method: int) -> None:
    login = auth_probe.Login()
    status, message = login.begin(auth_type, b"alice", SECRETS[name])
    assert (status, login.method) == (MORE, method)
    assert (message == ASK_SASL) is (method == SCRAM)


@pytest.mark.parametrize("auth_type", [PLAIN, MD5])
@pytest.mark.parametrize("with_secret", [False, True])
def test_an_unknown_user_is_asked_as_anybody_and_fails(auth_type: int, with_secret: bool) -> None:
    """Also where the caller has a secret at hand that the password would match."""
    login = auth_probe.Login()
    status, message = login.begin(auth_type, b"alice", SECRETS["plain"] if with_secret else None, known=False)
    assert status == MORE
    body = b"secret\0" if auth_type == PLAIN else md5_answer(message, b"secret", b"alice")
    assert login.password(body) == (BAD_PASSWORD, b"")


@pytest.mark.parametrize("auth_type", [PLAIN, MD5])
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", PROTOCOL),
        (b"secret", PROTOCOL),
        (b"sec\0ret\0", PROTOCOL),
        (b"secret\0\0", PROTOCOL),
        (b"x" * 65536 + b"\0", PROTOCOL),
        (b"x" * 65535 + b"\0", BAD_PASSWORD),
        (b"\0", EMPTY_PASSWORD),
    ],
)
def test_a_password_message_is_one_text_and_its_nul(auth_type: int, body: bytes, status: int) -> None:
    login = auth_probe.Login()
    login.begin(auth_type, b"alice", SECRETS["plain"])
    assert login.password(body) == (status, b"")


@pytest.mark.parametrize("auth_type", [PLAIN, MD5, SCRAM])
def test_a_login_asks_only_where_its_words_fit_and_can_be_asked_again(auth_type: int) -> None:
    [(cap, length)] = auth_probe.reply_cap_needed(auth_type, b"alice", SECRETS["plain"], [])
    assert cap == length > 0


def test_calls_that_make_no_sense_are_ours_to_explain() -> None:
    login = auth_probe.Login()
    assert login.password(b"secret\0")[0] == INTERNAL
    assert login.begin(5, b"alice", SECRETS["plain"])[0] == INTERNAL
    assert login.begin(PLAIN, b"u" * 128, SECRETS["plain"])[0] == INTERNAL
    login.begin(PLAIN, b"alice", SECRETS["plain"])
    assert login.password(b"secret\0")[0] == OK
    assert login.password(b"secret\0")[0] == INTERNAL


def test_no_secret_is_left_after_the_end() -> None:
    digits = md5_digits(b"secret", b"alice")
    login = auth_probe.Login()
    login.begin(PLAIN, b"alice", SECRETS["md5"])
    assert digits in login.raw
    login.password(b"secret\0")
    assert digits not in login.raw
    assert any(login.raw)
    login.wipe()
    assert not any(login.raw)


@given(
    user=st.binary(max_size=127), password=st.binary(min_size=1, max_size=80), other=st.binary(min_size=1, max_size=80)
)
def test_any_password_matches_itself_and_no_other(user: bytes, password: bytes, other: bytes) -> None:
    password, other = password.replace(b"\0", b"0"), other.replace(b"\0", b"0")
    secrets = [
        auth_probe.Secret(user, plain=password),
        auth_probe.Secret(md5=md5_digits(password, user)),
        scram_secret(password),
    ]
    for secret in secrets:
        for tried in (password, other):
            login = auth_probe.Login()
            login.begin(PLAIN, user, secret)
            if secret is secrets[-1] and not tried.isascii():  # SASLprep may have to change it
                assert login.password(tried + b"\0")[0] == ELSEWHERE
            else:
                assert login.password(tried + b"\0")[0] == (OK if tried == password else BAD_PASSWORD)


@pytest.mark.parametrize(("rounds", "status"), [(10_000, OK), (10_001, ELSEWHERE)])
def test_a_worker_does_not_compute_for_long(rounds: int, status: int) -> None:
    login = auth_probe.Login()
    login.begin(PLAIN, b"alice", scram_secret(b"secret", iterations=rounds))
    assert login.password(b"secret\0")[0] == status


@given(
    auth_type=st.sampled_from([PLAIN, MD5, SCRAM]),
    secret=st.sampled_from([*SECRETS.values(), None]),
    known=st.booleans(),
    stream=st.binary(max_size=200)
    | st.lists(st.binary(max_size=60)).map(
        lambda bodies: b"".join(b"p" + struct.pack("!I", len(b) + 4) + b for b in bodies)
    ),
    chunks=st.lists(st.integers(1, 30)),
)
def test_any_bytes_end_in_a_status_and_never_in_a_login(
    auth_type: int, secret: auth_probe.Secret | None, known: bool, stream: bytes, chunks: list[int]
) -> None:
    steps = auth_probe.login_feed(auth_type, b"alice", secret, stream, known=known)
    assert all(status in (MORE, ELSEWHERE, BAD_PASSWORD, PROTOCOL, EMPTY_PASSWORD) for status, _ in steps)
    assert auth_probe.login_feed(auth_type, b"alice", secret, stream, chunks, known=known) == steps
    assert auth_probe.login_feed(auth_type, b"alice", secret, stream, repeat(1), known=known) == steps
