"""What a text means, and when a Parse of the same bytes has to mean something else."""

from __future__ import annotations

import pytest

from pgpool_core_probes import statements_probe
from pgpool_core_probes.statements_probe import name_of
from tests.unit.statements_model import SEND, bind, close, error, parse, split, text_of
from tests.unit.test_statements_outgoing import CLOSED, NOWHERE, PARSED, Pair

UTF8, LATIN1 = 1 << 56, 3 << 56
FOREIGN = name_of(2**64 - 3)
SQL, ACCENTED = b"select x from t where n = $1", b"select '\xc3\xa9'"


class Place(Pair):
    """A client at a server, at settings and in transactions."""

    def asks(self, data: bytes, *, salt: int = 0, span: int = 0, cut: bytes = b"") -> list[bytes]:
        """What the server gets, which answers all of it."""
        verdict, pieces, skip, _ = self.server.plan(self.client, data, limit=self.limit, salt=salt, span=span)
        assert verdict == SEND
        sent = split(pieces + data[skip:])
        for message in sent:
            if message[:1] in (b"P", b"C"):
                self.server.answer(PARSED if message[:1] == b"P" else CLOSED)
        self.sync()
        return sent

    def changes_client(self) -> None:
        self.client = statements_probe.Client(self.texts)


@pytest.mark.parametrize(
    ("text", "momentary"),
    [
        (b"select 'now'::timestamptz", True),
        (b"select date 'Today 12:00'", True),
        (b"select ' tomorrow'::date", True),
        (b"select date $$yesterday$$", True),
        (b"select E'\\'', 'now'::date", True),
        (b"select now(), 'x', today from now", False),
        (b"select 'unknown', 'nowhere', 'known', 'to day', 'it''s', knows", False),
        (b"select $1, 'yes' -- not now()", False),
        (b"", False),
        (b"select 1\0 'now'", False),
    ],
)
def test_a_text_may_be_about_the_moment_of_its_parse(text: bytes, momentary: bool) -> None:
    assert statements_probe.momentary(text) == momentary


def test_a_text_about_the_moment_is_another_one_each_time() -> None:
    texts = statements_probe.Texts()
    held = [texts.intern(text_of(b"select 'now'::date")) for _ in range(3)]
    assert len({one.id for one in held}) == 3


def test_any_number_of_one_text_are_found_as_soon_as_others() -> None:
    texts = statements_probe.Texts()
    held = [texts.intern(text_of(b"select 'now'::date")) for _ in range(2000)]
    assert len(texts) == len(held)
    assert texts.longest() < 20


def test_a_change_parts_those_who_come_from_those_who_were_there() -> None:
    texts = statements_probe.Texts()
    before, other = texts.intern(text_of(b"select * from Orders")), texts.intern(text_of(b"select * from users"))
    texts.changes(b"orders", b"more")
    after = texts.intern(before.text)
    assert after.id != before.id
    assert texts.intern(before.text).id == after.id
    assert texts.intern(other.text).id == other.id
    texts.changes()
    assert texts.intern(other.text).id != other.id
    assert texts.intern(before.text).id != after.id


def test_who_has_missed_many_changes_takes_everything_for_changed() -> None:
    texts = statements_probe.Texts()
    held = texts.intern(text_of(b"select 1"))
    for _ in range(32):
        texts.changes(b"orders")
    assert texts.intern(held.text).id == held.id
    for _ in range(33):
        texts.changes(b"orders")
    assert texts.intern(held.text).id != held.id


def test_inside_a_span_a_text_is_prepared_for_this_client_alone() -> None:
    place = Place()
    place.asks(parse(b"a", SQL))
    place.changes_client()
    assert place.asks(parse(b"b", SQL), span=5) == [parse(name_of(2), SQL)]
    assert place.asks(bind(b"b")) == [bind(name_of(2))]
    assert place.asks(parse(b"c", SQL)) == [close(NOWHERE)]
    assert place.asks(bind(b"c")) == [bind(name_of(1))]


def test_what_is_parsed_for_a_use_inside_a_span_lasts_as_long_as_that() -> None:
    place = Place()
    place.asks(parse(b"a", SQL))
    place.moves()
    assert place.asks(bind(b"a"), span=5) == [parse(name_of(1), SQL), bind(name_of(1))]
    assert place.asks(bind(b"a"), span=5) == [bind(name_of(1))]
    assert place.asks(bind(b"a"), span=6) == [close(name_of(1)), parse(name_of(1), SQL), bind(name_of(1))]
    place.changes_client()
    assert place.asks(parse(b"b", SQL)) == [close(name_of(1)), parse(name_of(1), SQL)]
    assert place.asks(bind(b"b"), span=7) == [bind(name_of(1))]


def test_a_name_whose_text_has_to_be_parsed_under_other_settings_moves() -> None:
    place = Place()
    place.asks(parse(b"a", SQL), salt=1)
    assert place.asks(bind(b"a"), salt=2) == [bind(name_of(1))]
    place.moves()
    assert place.asks(bind(b"a"), salt=2) == [parse(name_of(2), SQL), bind(name_of(2))]
    assert place.asks(bind(b"a"), salt=1) == [bind(name_of(2))]
    place.asks(parse(b"b", SQL), salt=1)
    place.server = statements_probe.Server(place.texts)
    place.asks(parse(b"c", SQL), salt=2)
    assert place.asks(bind(b"b"), salt=2) == [close(NOWHERE), bind(name_of(2))]
    assert place.asks(bind(b"b"), salt=2) == [bind(name_of(2))]


def test_a_move_that_fails_has_not_happened() -> None:
    place = Place()
    place.asks(parse(b"a", SQL), salt=1)
    place.moves()
    verdict = place.server.plan(place.client, bind(b"a"), salt=2)[0]
    assert verdict == SEND
    place.server.failure(error(b"42P01", b"no such table")[5:])
    place.sync()
    assert place.asks(bind(b"a"), salt=1) == [parse(name_of(1), SQL), bind(name_of(1))]


def test_a_text_beyond_ascii_is_not_sent_under_another_encoding() -> None:
    place = Place()
    place.asks(parse(b"a", ACCENTED), salt=UTF8)
    place.asks(parse(b"b", SQL), salt=UTF8)
    place.moves()
    assert place.asks(bind(b"a"), salt=LATIN1) == [bind(FOREIGN)]
    assert place.asks(bind(b"b"), salt=LATIN1) == [parse(name_of(2), SQL), bind(name_of(2))]
    assert place.asks(bind(b"a"), salt=UTF8) == [parse(name_of(1), ACCENTED), bind(name_of(1))]
    assert place.asks(bind(b"a"), salt=LATIN1) == [bind(name_of(1))]


def test_a_refused_value_makes_the_next_parse_look_again() -> None:
    place = Place()
    place.asks(parse(b"a", SQL))
    place.server.plan(place.client, bind(b"a"))
    place.server.failure(error(b"22003", b"out of range")[5:])
    place.sync()
    place.changes_client()
    assert place.asks(parse(b"b", SQL)) == [parse(name_of(2), SQL)]
