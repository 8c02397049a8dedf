"""The first packet of a connection: what is read, what is refused, whole and byte by byte."""

from __future__ import annotations

import struct
from itertools import repeat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool_core_probes import auth_probe

OK, NEED_MORE, SSL, GSS, CANCEL = range(5)
BAD_LENGTH, BAD_LAYOUT, OLD_PROTOCOL, BAD_PROTOCOL, NO_USER, USER_TOO_LONG, DIRECT_TLS, DATABASE_TOO_LONG = range(
    -1, -9, -1
)
EVERY_STATUS = range(DATABASE_TOO_LONG, CANCEL + 1)

SSL_REQUEST = struct.pack("!II", 8, 80877103)
GSS_REQUEST = struct.pack("!II", 8, 80877104)


def packet(body: bytes, *, major: int = 3, minor: int = 0, length: int | None = None) -> bytes:
    return struct.pack("!IHH", 8 + len(body) if length is None else length, major, minor) + body


def startup(*params: tuple[bytes, bytes], major: int = 3, minor: int = 0) -> bytes:
    return packet(b"".join(n + b"\0" + v + b"\0" for n, v in params) + b"\0", major=major, minor=minor)


def cancel(pid: int, key: bytes) -> bytes:
    return struct.pack("!III", 12 + len(key), 80877102, pid) + key


USUAL = startup(
    (b"user", b"alice"),
    (b"database", b"appdb"),
    (b"application_name", b"psql"),
    (b"options", b"-c geqo=off"),
    (b"client_encoding", b"UTF8"),
)


def test_a_usual_startup_is_read_and_its_parameters_keep_their_order() -> None:
    found = auth_probe.startup_feed(USUAL)
    assert found["status"] == OK
    assert (found["packet_len"], found["major"], found["minor"]) == (len(USUAL), 3, 0)
    assert (found["user"], found["database"]) == (b"alice", b"appdb")
    assert (found["application_name"], found["options"], found["replication"]) == (b"psql", b"-c geqo=off", None)
    assert [name for name, _ in found["params"]] == [
        b"user",
        b"database",
        b"application_name",
        b"options",
        b"client_encoding",
    ]
    assert found["params"][-1] == (b"client_encoding", b"UTF8")


@pytest.mark.parametrize("params", [((b"user", b"bob"),), ((b"user", b"bob"), (b"database", b""))])
def test_the_database_is_named_like_the_user_where_the_client_names_none(
    params: tuple[tuple[bytes, bytes], ...],
) -> None:
    assert auth_probe.startup_feed(startup(*params))["database"] == b"bob"


def test_the_last_of_a_repeated_name_counts_as_in_postgresql() -> None:
    found = auth_probe.startup_feed(startup((b"user", b"a"), (b"user", b"b"), (b"replication", b"database")))
    assert (found["user"], found["replication"]) == (b"b", b"database")


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        *((word, 0) for word in (b"false", b"f", b"FALSE", b"no", b"n", b"off", b"of", b"0")),
        *((word, 1) for word in (b"true", b"T", b"tru", b"yes", b"y", b"on", b"ON", b"1")),
        (b"database", 2),
        *((word, -1) for word in (b"", b"o", b"Database", b"databas", b"2", b"01", b"truer", b"maybe", b"true ")),
    ],
)
def test_replication_is_read_as_postgresql_reads_it(value: bytes, kind: int) -> None:
    """A boolean in any of its spellings, or "database" to the letter."""
    found = auth_probe.startup_feed(startup((b"user", b"a"), (b"replication", value)))
    assert found["replication_kind"] == kind


def test_replication_that_is_not_named_is_none() -> None:
    assert auth_probe.startup_feed(startup((b"user", b"a")))["replication_kind"] == 0


def test_names_are_compared_whole() -> None:
    found = auth_probe.startup_feed(startup((b"user", b"a"), (b"username", b"b"), (b"use", b"c"), (b"databas", b"d")))
    assert (found["user"], found["database"]) == (b"a", b"a")


def test_bytes_behind_the_packet_are_not_looked_at() -> None:
    found = auth_probe.startup_feed(USUAL + b"\xff" * 40)
    assert (found["status"], found["packet_len"]) == (OK, len(USUAL))


@pytest.mark.parametrize(("request_", "status"), [(SSL_REQUEST, SSL), (GSS_REQUEST, GSS)])
def test_encryption_requests_are_eight_bytes(request_: bytes, status: int) -> None:
    assert auth_probe.startup_feed(request_)["status"] == status
    assert auth_probe.startup_feed(request_ + b"early")["packet_len"] == 8
    longer = struct.pack("!I", 9) + request_[4:] + b"\0"
    assert auth_probe.startup_feed(longer)["status"] == BAD_LENGTH


@pytest.mark.parametrize("key", [b"\x01\x02\x03\x04", b"k" * 32, b"k", b"k" * 256])
def test_a_cancel_request_gives_its_process_and_key(key: bytes) -> None:
    found = auth_probe.startup_feed(cancel(0xDEADBEEF, key))
    assert (found["status"], found["cancel_pid"], found["cancel_key"]) == (CANCEL, 0xDEADBEEF, key)


@pytest.mark.parametrize("key", [b"", b"k" * 257])
def test_a_cancel_key_has_between_1_and_256_bytes(key: bytes) -> None:
    assert auth_probe.startup_feed(cancel(1, key))["status"] == BAD_LENGTH


MALFORMED = {
    "length 0": (struct.pack("!I", 0) + b"\0\3\0\0", BAD_LENGTH),
    "length 7": (struct.pack("!I", 7) + b"\0\3\0\0", BAD_LENGTH),
    "length 65536": (struct.pack("!I", 65536) + b"\0\3\0\0", BAD_LENGTH),
    "length is negative as an Int32": (struct.pack("!I", 2**31) + b"\0\3\0\0", BAD_LENGTH),
    "length -1": (struct.pack("!I", 2**32 - 1) + b"\0\3\0\0", BAD_LENGTH),
    "an HTTP request": (b"GET / HTTP/1.1\r\n\r\n", BAD_LENGTH),
    "only the head": (packet(b""), BAD_LAYOUT),
    "an empty list": (packet(b"\0"), NO_USER),
    "no terminator": (packet(b"user\0a\0"), BAD_LAYOUT),
    "no NUL after the last value": (packet(b"user\0a"), BAD_LAYOUT),
    "no NUL after a name": (packet(b"user"), BAD_LAYOUT),
    "a name without a value": (packet(b"user\0"), BAD_LAYOUT),
    "a name whose value is the terminator": (packet(b"user\0\0"), BAD_LAYOUT),
    "a list that ends early": (packet(b"user\0a\0\0database\0b\0\0"), BAD_LAYOUT),
    "two terminators": (packet(b"user\0a\0\0\0"), BAD_LAYOUT),
    "one byte that is no terminator": (packet(b"u"), BAD_LAYOUT),
    "protocol 2": (packet(b"\0" * 288, major=2), OLD_PROTOCOL),
    "protocol 1": (packet(b"\0" * 8, major=1), OLD_PROTOCOL),
    "protocol 0": (packet(b"user\0a\0\0", major=0), BAD_PROTOCOL),
    "protocol 4": (packet(b"user\0a\0\0", major=4), BAD_PROTOCOL),
    "an unknown request code": (packet(b"", major=1234, minor=5682), BAD_PROTOCOL),
    "no user": (startup((b"database", b"a")), NO_USER),
    "an empty user": (startup((b"user", b""), (b"database", b"a")), NO_USER),
    "a user of 128 bytes": (startup((b"user", b"u" * 128), (b"database", b"d")), USER_TOO_LONG),
    "a database of 64 bytes": (startup((b"user", b"u"), (b"database", b"d" * 64)), DATABASE_TOO_LONG),
    "a database that a user of 64 bytes names": (startup((b"user", b"u" * 64)), DATABASE_TOO_LONG),
    "a TLS ClientHello": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", DIRECT_TLS),
}


@pytest.mark.parametrize(("data", "status"), MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_startup_is_refused_by_its_own_name(data: bytes, status: int) -> None:
    assert auth_probe.startup_feed(data)["status"] == status
    assert auth_probe.startup_feed(data, repeat(1))["status"] == status


def test_names_at_their_bounds_are_taken() -> None:
    found = auth_probe.startup_feed(startup((b"user", b"u" * 127), (b"database", b"d" * 63)))
    assert (found["status"], len(found["user"]), len(found["database"])) == (OK, 127, 63)


def test_a_packet_of_65535_bytes_is_taken() -> None:
    fixed = len(startup((b"user", b"a"), (b"options", b"")))
    found = auth_probe.startup_feed(startup((b"user", b"a"), (b"options", b"x" * (65535 - fixed))))
    assert (found["status"], found["packet_len"]) == (OK, 65535)


@pytest.mark.parametrize("data", [packet(b"", major=2, length=300), packet(b"", major=9, length=300)])
def test_a_wrong_protocol_is_refused_before_its_body_has_come(data: bytes) -> None:
    assert auth_probe.startup_feed(data)["status"] in (OLD_PROTOCOL, BAD_PROTOCOL)


@pytest.mark.parametrize("data", [USUAL, SSL_REQUEST, GSS_REQUEST, cancel(7, b"abcd")])
def test_every_proper_beginning_needs_more(data: bytes) -> None:
    for have in range(len(data)):
        assert auth_probe.startup_feed(data[:have])["status"] == NEED_MORE
    assert auth_probe.startup_feed(data, repeat(1)) == auth_probe.startup_feed(data)


def test_the_answer_to_a_newer_protocol_lists_the_options_nobody_knows() -> None:
    data = startup(
        (b"user", b"a"),
        (b"_pq_.test_protocol_negotiation", b""),
        (b"database", b"d"),
        (b"_pq_.compression", b"zstd"),
        minor=9999,
    )
    found = auth_probe.startup_feed(data)
    assert (found["minor"], found["protocol_options"]) == (9999, 2)
    names = b"_pq_.test_protocol_negotiation\0_pq_.compression\0"
    expected = b"v" + struct.pack("!III", 12 + len(names), 0x00030000, 2) + names
    assert auth_probe.startup_negotiate(data, 200) == expected
    assert auth_probe.startup_negotiate(data, len(expected)) == expected
    assert auth_probe.startup_negotiate(data, len(expected) - 1) == b""


def test_protocol_3_2_without_options_is_told_3_0() -> None:
    data = startup((b"user", b"a"), (b"pq_.x", b""), minor=2)
    assert auth_probe.startup_negotiate(data, 13) == b"v" + struct.pack("!III", 12, 0x00030000, 0)


@given(data=st.binary(max_size=300), chunks=st.lists(st.integers(1, 50)))
def test_any_bytes_give_one_status_however_they_arrive(data: bytes, chunks: list[int]) -> None:
    whole = auth_probe.startup_feed(data)
    assert whole["status"] in EVERY_STATUS
    assert auth_probe.startup_feed(data, chunks) == whole
    assert auth_probe.startup_feed(data, repeat(1)) == whole


@given(
    body=st.binary(max_size=120)
    | st.lists(st.sampled_from([b"\0", b"user", b"database", b"_pq_.", b"x"])).map(b"".join)
)
def test_any_body_in_a_right_frame_is_read_or_refused(body: bytes) -> None:
    found = auth_probe.startup_feed(packet(body))
    assert found["status"] in (OK, BAD_LAYOUT, NO_USER, USER_TOO_LONG, DATABASE_TOO_LONG)
    if found["status"] == OK:
        assert b"".join(n + b"\0" + v + b"\0" for n, v in found["params"]) + b"\0" == body
        assert auth_probe.startup_negotiate(packet(body), 4096)[9:13] == struct.pack("!I", found["protocol_options"])


NAMES = st.binary(max_size=70).map(lambda b: b.replace(b"\0", b""))


@given(params=st.lists(st.tuples(NAMES.filter(bool), NAMES), max_size=6), user=NAMES.filter(bool))
def test_what_a_client_writes_is_what_is_read(params: list[tuple[bytes, bytes]], user: bytes) -> None:
    params = [*params, (b"user", user), (b"database", b"d")]
    found = auth_probe.startup_feed(startup(*params), repeat(7))
    assert found["status"] == OK
    assert found["params"] == params
    assert (found["user"], found["database"]) == (user, b"d")
