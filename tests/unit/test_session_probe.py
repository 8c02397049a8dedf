"""Reading the answers of a probe, and the names that a text may set."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool_core_probes import settings_probe

END, BROKEN = 0, -1
FIELD = st.one_of(st.none(), st.binary(max_size=20).map(lambda raw: raw.replace(b"\0", b"")))


def message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body


def row(*fields: bytes | None) -> bytes:
    body = struct.pack("!H", len(fields))
    for field in fields:
        body += struct.pack("!i", -1) if field is None else struct.pack("!I", len(field)) + field
    return message(b"D", body)


def escaped(text: bytes | None) -> bytes | None:
    """As PostgreSQL's encode(..., 'escape') writes it."""
    if text is None:
        return None
    return b"".join(b"\\\\" if byte == 0x5C else b"\\%03o" % byte if byte >= 0x80 else bytes([byte]) for byte in text)


@given(st.lists(st.tuples(st.sampled_from("snpcltk"), FIELD.filter(lambda f: f is not None), FIELD), max_size=6))
def test_rows_are_read_between_other_messages(rows: list[tuple[str, bytes, bytes | None]]) -> None:
    answer = message(b"T", b"\0\0")
    for kind, name, value in rows:
        answer += row(kind.encode(), escaped(name), escaped(value)) + message(b"N", b"note\0")
    answer += message(b"C", b"SELECT 1\0") + message(b"Z", b"I")
    assert settings_probe.probe_rows(answer) == (END, rows)
    for cut in range(len(answer)):
        status, some = settings_probe.probe_rows(answer[:cut])
        assert some == rows[: len(some)]
        assert status in (END, BROKEN)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_without_harm(answer: bytes) -> None:
    settings_probe.probe_rows(answer)
    settings_probe.probe_rows(b"D" + struct.pack("!I", len(answer) + 4) + answer)
    settings_probe.names(answer)


def test_a_row_of_another_shape_is_no_answer() -> None:
    for wrong in (
        row(b"s", b"a"),
        row(b"s", b"a", b"b", b"c"),
        row(b"ss", b"a", b"b"),
        row(b"s", None, b"b"),
        row(b"s", b"a", b"x\0y"),
        message(b"D", b"\0\3\0\0\0\1s\xff\xff\xff\xfe"),
        message(b"D", b""),
    ):
        assert settings_probe.probe_rows(wrong) == (BROKEN, [])


def test_a_backslash_that_escapes_nothing_stays_as_it_is() -> None:
    for text in (b"\\", b"\\9", b"\\400", b"\\000", b"\\12", b"\\x41", b"a\\28"):
        assert settings_probe.probe_rows(row(b"n", b"a", text)) == (END, [("n", b"a", text)])
    assert settings_probe.probe_rows(row(b"n", b"a", b"\\377\\001\\\\0")) == (END, [("n", b"a", b"\xff\x01\\0")])


def test_names_of_custom_settings_are_found_wherever_they_stand() -> None:
    found, more = settings_probe.names(
        b"SET App.Tenant = 1; SELECT set_config('deep.er.name', 'x', false), a.b.c FROM t; SET \"q\".\"r\" TO 2",
        b"\0\0portal\0s\0\0\0\0\2\0\0\0\5my.id\0\0\0\1x",
    )
    assert not more
    assert {b"app.tenant", b"deep.er.name", b"q.r", b"my.id"} <= set(found)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("SET app . tenant = 'acme'", "app.tenant"),
        ("set app/* a /* b */ */.\n-- c\r tenant to 1", "app.tenant"),
        ('RESET "app" . "Tenant"', "app.tenant"),
        ("set session/**/app. tenant = 1", "app.tenant"),
        ("do $$begin execute 'set app . tenant . id = 1'; end$$", "app.tenant.id"),
        ("do $$begin set session . tenant = 1; end$$", "session.tenant"),
        ('set "app.deep" . er = 1', "app.deep.er"),
        (f"set {'n' * 70} . {'m' * 70} = 1", f"{'n' * 63}.{'m' * 63}"),
        ("do $$begin execute E'set\\tapp.tenant = 1'; end$$", "app.tenant"),
    ],
)
def test_names_behind_set_may_have_something_around_their_dots(text: str, name: str) -> None:
    found, more = settings_probe.names(text.encode())
    assert name.encode() in found
    assert not more


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("select set_config($$app.tenant$$, 'x', false)", "app.tenant"),
        ("select set_config($a_1$app.tenant$a_1$, 'x', false)", "app.tenant"),
        ("do $x$begin perform set_config($y$deep.er.tenant$y$, $y$1$y$, false); end$x$", "deep.er.tenant"),
        ("do $$begin execute $a$select set_config($b$app.tenant$b$, '1', false)$a$; end$$", "app.tenant"),
        ("select act($a$$b$app.tenant$b$$a$)", "app.tenant"),
        ("select set_config($$app.ten$ant$$, 'x', false)", "app.ten$ant"),
        ("select set_config($a$app.ten$ant$a$, 'x', false)", "app.ten$ant"),
        ("select set_config('app.ten$ant', 'x', false)", "app.ten$ant"),
        ("select set_config('app.tenant$$', 'x', false)", "app.tenant$$"),
        ("do $a$set app . tenant = 1$a$", "app.tenant"),
        ("select act($a$app.x = 1; set app.tenant to 1$a$)", "app.tenant"),
    ],
)
def test_names_between_dollars_are_found(text: str, name: str) -> None:
    found, more = settings_probe.names(text.encode())
    assert name.encode() in found
    assert not more


def test_prose_is_not_taken_for_names() -> None:
    assert settings_probe.names(b"A word. Another . one, and so on. All of it") == ([], False)


def test_comments_that_hold_others_are_gone_past_within_limits() -> None:
    assert settings_probe.names(b"set /*" * 100_000) == ([], True)
    assert settings_probe.names(b"set app" + b"/**/" * 10_000 + b". x = 1") == ([b"app.x"], False)


def test_a_name_that_may_be_any_is_one_too_many() -> None:
    assert settings_probe.names(b'set U&"\\0061pp" . x = 1')[1]
    assert not settings_probe.names(b'select U&"\\0061pp" . x')[1]


def test_too_many_names_are_said_to_be_too_many() -> None:
    found, more = settings_probe.names(b" ".join(b"a%d.b" % i for i in range(65)))
    assert (len(found), more) == (64, True)
    assert settings_probe.probe_sql(1, None, b" ".join(b"a%d.b" % i for i in range(65))) == b""


def test_a_probe_that_does_not_fit_is_not_written() -> None:
    whole = settings_probe.probe_sql(63, None)
    assert settings_probe.probe_sql(63, None, cap=len(whole)) == whole
    assert settings_probe.probe_sql(63, None, cap=len(whole) - 1) == b""
