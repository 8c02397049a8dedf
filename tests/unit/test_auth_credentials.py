"""Stored secrets: what they are made of, the table that workers share, the users who do not exist."""

from __future__ import annotations

import hashlib
import hmac
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool_core_probes import auth_probe

PLAIN, MD5, SCRAM = 1, 2, 4
KEY = b"k" * 32


@given(parts=st.lists(st.binary(max_size=200), min_size=1, max_size=8), key=st.binary(min_size=32, max_size=32))
def test_hashes_agree_with_hashlib(parts: list[bytes], key: bytes) -> None:
    whole = b"".join(parts)
    assert auth_probe.hash_of("md5", *parts) == hashlib.md5(whole).digest()
    assert auth_probe.hash_of("hmac_sha256", *parts, key=key) == hmac.digest(key, whole, "sha256")
    assert auth_probe.hash_of("sha256", parts[0]) == hashlib.sha256(parts[0]).digest()


@pytest.mark.parametrize("iterations", [1, 2, 4096])
def test_the_salted_password_agrees_with_hashlib(iterations: int) -> None:
    expected = hashlib.pbkdf2_hmac("sha256", b"pencil", b"salt", iterations)
    assert auth_probe.hash_of("pbkdf2_sha256", b"pencil", b"salt", iterations=iterations) == expected


def test_zero_iterations_are_no_secret() -> None:
    with pytest.raises(RuntimeError):
        auth_probe.hash_of("pbkdf2_sha256", b"pencil", b"salt", iterations=0)


def test_a_plain_password_leaves_its_md5_secret_and_no_trace_of_itself() -> None:
    secret = auth_probe.Secret(b"alice", plain=b"correct horse battery")
    assert secret.kinds == PLAIN | MD5
    assert hashlib.md5(b"correct horse batteryalice").hexdigest().encode() in secret.raw
    assert b"correct horse" not in secret.raw


def test_md5_digits_are_kept_in_lower_case() -> None:
    digits = hashlib.md5(b"secretbob").hexdigest().encode()
    assert auth_probe.Secret(b"bob", md5=digits.upper()).raw == auth_probe.Secret(b"bob", md5=digits).raw


@pytest.mark.parametrize(
    "digits", [b"", b"0" * 31, b"0" * 33, b"md5" + b"0" * 32, b"g" * 32, b"0" * 31 + b"\0", b"`" * 32]
)
def test_what_is_no_md5_secret_is_refused(digits: bytes) -> None:
    with pytest.raises(ValueError, match="refused"):
        auth_probe.Secret(b"bob", md5=digits)


def test_an_empty_plain_password_is_refused() -> None:
    with pytest.raises(ValueError, match="refused"):
        auth_probe.Secret(b"bob", plain=b"")


@pytest.mark.parametrize(
    "scram",
    [
        (0, b"salt", KEY, KEY),
        (2**31, b"salt", KEY, KEY),
        (4096, b"", KEY, KEY),
        (4096, b"s" * 65, KEY, KEY),
        (4096, b"salt", KEY[:-1], KEY),
        (4096, b"salt", KEY, KEY + b"k"),
    ],
)
def test_what_is_no_scram_secret_is_refused(scram: tuple[int, bytes, bytes, bytes]) -> None:
    with pytest.raises(ValueError, match="refused"):
        auth_probe.Secret(b"bob", scram=scram)


@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([b"", b"a", b"b", b"ab", b"ba", b"a\0"]), st.binary(min_size=1, max_size=8) | st.none()
        )
    )
)
def test_the_table_agrees_with_a_dict(steps: list[tuple[bytes, bytes | None]]) -> None:
    table, model = auth_probe.Table(), dict[bytes, bytes]()
    for user, password in steps:
        if password is None and user == b"":
            table.clear()
            model.clear()
        elif password is None:
            found = table.get(user)
            assert (found.raw if found else None) == model.get(user)
        else:
            secret = auth_probe.Secret(user, plain=password)
            assert table.put(user, secret) == 0
            model[user] = secret.raw


def test_the_table_grows_and_forgets_nobody() -> None:
    table = auth_probe.Table()
    secrets = {b"user%d" % i: auth_probe.Secret(md5=b"%032x" % i) for i in range(5000)}
    for user, secret in secrets.items():
        table.put(user, secret)
    for user, secret in secrets.items():
        found = table.get(user)
        assert found is not None and found.raw == secret.raw
    assert table.get(b"user5000") is None
    table.clear()
    assert table.get(b"user0") is None


def test_readers_see_a_whole_secret_while_it_is_replaced() -> None:
    table = auth_probe.Table()
    versions = [auth_probe.Secret(scram=(i, b"%d" % i * 60, b"%d" % i * 32, b"%d" % i * 32)) for i in range(1, 5)]
    allowed = {v.raw for v in versions}
    table.put(b"shared", versions[0])
    seen: set[bytes] = set()
    gone = 0
    start = threading.Barrier(4)

    def read() -> None:
        nonlocal gone
        start.wait()
        for _ in range(3000):
            found = table.get(b"shared")
            if found is None:
                gone += 1
            else:
                seen.add(found.raw)

    def write() -> None:
        start.wait()
        for i in range(3000):
            table.put(b"shared", versions[i % 4])
            table.put(b"more%d" % i, versions[0])

    threads = [threading.Thread(target=read) for _ in range(3)] + [threading.Thread(target=write)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert gone == 0
    assert seen and seen <= allowed


def test_a_user_who_does_not_exist_looks_the_same_each_time_and_like_nobody_else() -> None:
    table = auth_probe.Table()
    ghost = table.mock(b"ghost")
    assert table.mock(b"ghost").raw == ghost.raw == auth_probe.Table().mock(b"ghost").raw
    assert (len(ghost.salt), ghost.iterations) == (16, 4096)
    assert table.mock(b"ghosu").salt != ghost.salt
    assert auth_probe.Table(b"k" * 32).mock(b"ghost").salt != ghost.salt
    assert auth_probe.Table(None).mock(b"ghost").salt != auth_probe.Table(None).mock(b"ghost").salt
    assert not ghost.kinds & PLAIN


def test_a_mock_is_asked_for_what_most_users_are_asked_for() -> None:
    table = auth_probe.Table()
    scram = auth_probe.Secret(scram=(4096, b"salt", KEY, KEY))
    assert table.mock(b"ghost").kinds == MD5 | SCRAM
    table.put(b"a", scram)
    assert table.mock(b"ghost").kinds == SCRAM
    table.put(b"b", auth_probe.Secret(b"b", plain=b"x"))
    assert table.mock(b"ghost").kinds == MD5 | SCRAM
    for _ in range(3):
        table.put(b"b", auth_probe.Secret(b"b", plain=b"x"))
    table.put(b"c", scram)
    assert table.mock(b"ghost").kinds == SCRAM
    table.clear()
    assert table.mock(b"ghost").kinds == MD5 | SCRAM
