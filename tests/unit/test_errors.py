"""Exceptions and the ErrorResponse made from them."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgpool_core import errors
from pgpool_core.errors import ConfigError, ConfigProblem, PgPoolError, PoolClosed, TooManyClients, error_response


def fields_of(message: bytes) -> dict[str, bytes]:
    """Read an ErrorResponse as a client would, and insist that nothing is left over."""
    assert message[:1] == b"E"
    assert int.from_bytes(message[1:5], "big") == len(message) - 1
    body = message[5:]
    fields: dict[str, bytes] = {}
    while body[:1] != b"\0":
        text, zero, rest = body[1:].partition(b"\0")
        assert zero
        assert body[:1].decode() not in fields
        fields[body[:1].decode()] = text
        body = rest
    assert body == b"\0"
    return fields


@pytest.mark.parametrize(
    ("name", "sqlstate"),
    [
        ("ConfigError", "F0000"),
        ("ClientProtocolError", "08P01"),
        ("ServerProtocolError", "08P01"),
        ("LoginError", "28000"),
        ("LoginTimeout", "28000"),
        ("BadPassword", "28P01"),
        ("PoolError", "53000"),
        ("QueryWaitTimeout", "53000"),
        ("TooManyClients", "53300"),
        ("PoolClosed", "57P03"),
        ("ServerUnavailable", "08001"),
        ("InternalError", "XX000"),
    ],
)
def test_each_exception_has_its_sqlstate_and_reaches_the_client_with_it(name, sqlstate):
    error = getattr(errors, name)("text (setting)")
    assert isinstance(error, PgPoolError)
    assert fields_of(error_response(error)) == {
        "S": b"FATAL",
        "V": b"FATAL",
        "C": sqlstate.encode(),
        "M": b"text (setting)",
    }


def test_detail_hint_and_severity_are_sent():
    message = error_response(PoolClosed("closing", detail="why", hint="retry"), severity="ERROR")
    assert message == b"E\0\0\0\x2f" + b"SERROR\0VERROR\0C57P03\0Mclosing\0Dwhy\0Hretry\0\0"


def test_an_sqlstate_of_the_server_replaces_ours():
    assert fields_of(error_response(PgPoolError("no", sqlstate="3D000")))["C"] == b"3D000"
    with pytest.raises(ValueError, match="five"):
        PgPoolError("no", sqlstate="3D00\0")


def test_fields_of_a_server_keep_their_codes_and_come_after_ours():
    message = error_response({"S": "FATAL", "R": "auth_failed", "M": "no", "C": "28P01", "F": "auth.c"})
    assert message[5:] == b"SFATAL\0VFATAL\0C28P01\0Mno\0Rauth_failed\0Fauth.c\0\0"


def test_a_translated_severity_keeps_its_untranslated_twin():
    assert fields_of(error_response({"S": "FEHLER", "V": "ERROR", "M": "x", "C": "28000"}))["V"] == b"ERROR"
    assert fields_of(error_response({"S": "FEHLER", "M": "x", "C": "28000"}))["V"] == b"FATAL"


def test_a_foreign_exception_keeps_its_text_to_itself():
    assert fields_of(error_response(KeyError("secret")))["M"] == b"internal error"


def test_a_zero_byte_does_not_end_a_field_early():
    assert fields_of(error_response(TooManyClients("a\0Mb")))["M"] == b"aMb"


def test_bytes_that_were_not_utf8_go_out_as_they_came():
    assert fields_of(error_response({"M": b"caf\xe9".decode("utf-8", "surrogateescape")}))["M"] == b"caf\xe9"


def test_a_field_name_of_two_letters_is_our_bug():
    with pytest.raises(ValueError, match="one letter"):
        error_response({"M": "x", "DD": "y"})


@given(st.text(st.characters(exclude_categories=())), st.text(), st.text())
def test_any_text_makes_a_message_that_can_be_read(message, detail, hint):
    fields = fields_of(error_response(PgPoolError(message, detail=detail, hint=hint)))
    assert set("SVCM") <= set(fields)


def test_a_very_long_text_is_cut_between_characters():
    text = fields_of(error_response(PgPoolError("é" * 100_000)))["M"]
    assert text.decode().endswith("é...")
    assert len(text) <= 60_003


def test_a_config_error_carries_every_problem_and_says_one_per_line():
    error = ConfigError([ConfigProblem("one (a.ini:3)", "a.ini", 3, "pgbouncer", "x"), ConfigProblem("two")])
    assert str(error) == "one (a.ini:3)\ntwo"
    assert (error.file, error.line, error.key) == ("a.ini", 3, "x")
    assert fields_of(error_response(error))["M"] == b"one (a.ini:3)"
    assert fields_of(error_response(error))["D"] == b"one (a.ini:3)\ntwo"


@pytest.mark.parametrize(
    "error",
    [PgPoolError("x", hint="h", sqlstate="3D000"), ConfigError([ConfigProblem("one", "f", 1)]), ConfigError("two")],
)
def test_exceptions_survive_pickling_and_copying(error):
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (str(twin), twin.sqlstate, vars(twin)) == (str(error), error.sqlstate, vars(error))


def test_an_internal_error_dumps_its_state_in_its_text_but_not_to_the_client():
    error = errors.InternalError("count is wrong", state={"idle": 3})
    assert str(error) == "count is wrong [idle=3]"
    assert fields_of(error_response(error))["M"] == b"count is wrong"
