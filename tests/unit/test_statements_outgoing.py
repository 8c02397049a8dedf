"""What one message of a client becomes, case by case."""

from __future__ import annotations

import pytest

from pgpool_core_probes import statements_probe
from pgpool_core_probes.statements_probe import name_of
from tests.unit.statements_model import (
    AS_PARSE,
    BROKEN,
    EXECUTE,
    FLUSH,
    FORWARD,
    FULL,
    NEED_MORE,
    OUTDATED,
    PASS,
    RENAMED,
    SEND,
    SWALLOW,
    SYNC,
    TOO_LONG,
    WAIT,
    bind,
    close,
    close_portal,
    describe,
    error,
    message,
    parse,
    split,
    text_of,
)

PARSED, CLOSED = ord("1"), ord("3")
NOWHERE, ASIDE, STALE = name_of(0), name_of(2**64 - 1), name_of(2**64 - 2)


class Pair:
    """One client at one server, answered by hand."""

    def __init__(self, limit: int = 100) -> None:
        self.texts = statements_probe.Texts()
        self.client = statements_probe.Client(self.texts)
        self.server = statements_probe.Server(self.texts)
        self.limit = limit

    def verdict(self, data: bytes, have: int = 1 << 30, *, pending: bool = False) -> int:
        return self.server.plan(self.client, data[:have], limit=self.limit, pending=pending)[0]

    def sends(self, data: bytes, *, failed: bool = False, pending: bool = False, salt: int = 0) -> list[bytes]:
        verdict, pieces, skip, _ = self.server.plan(
            self.client, data, limit=self.limit, failed=failed, pending=pending, salt=salt
        )
        assert verdict == SEND
        return split(pieces + data[skip:])

    def sync(self) -> None:
        self.server.request()
        self.server.ready()

    def prepare(self, name: bytes, query: bytes) -> None:
        for sent in self.sends(parse(name, query)):
            self.server.answer(PARSED if sent[:1] == b"P" else CLOSED)
        self.sync()

    def moves(self) -> None:
        """The client goes on at another server."""
        self.server = statements_probe.Server(self.texts)


def test_who_names_nothing_pays_nothing() -> None:
    pair = Pair()
    for data in (parse(b"", b"select 1"), bind(b""), describe(b""), close(b""), close_portal()):
        assert pair.verdict(data) == PASS
    assert not pair.client.allocated
    assert [pair.server.answer(kind) for kind in (PARSED, CLOSED, CLOSED)] == [FORWARD] * 3
    assert pair.server.owed_len == 0
    assert len(pair.texts) == 0


def test_a_first_parse_goes_out_under_our_name() -> None:
    pair = Pair()
    assert pair.sends(parse(b"a", b"select 1", 23)) == [parse(name_of(1), b"select 1", 23)]
    assert pair.client.stands() == {}
    assert pair.server.answer(PARSED) == FORWARD
    assert pair.client.stands() == {b"a": text_of(b"select 1", 23)}
    assert pair.server.here() == {name_of(1): text_of(b"select 1", 23)}


def test_a_known_text_is_not_parsed_again() -> None:
    pair = Pair()
    pair.prepare(b"a", b"select 1")
    assert pair.sends(parse(b"b", b"select 1")) == [close(NOWHERE)]
    assert pair.server.answer(CLOSED) == AS_PARSE
    assert pair.client.stands().keys() == {b"a", b"b"}


def test_in_a_failed_transaction_postgresql_judges_every_parse() -> None:
    pair = Pair()
    pair.prepare(b"a", b"select 1")
    assert pair.sends(parse(b"b", b"select 1"), failed=True) == [close(ASIDE), parse(ASIDE, b"select 1")]
    assert pair.server.answer(CLOSED) == SWALLOW
    pair.sync()
    assert pair.client.stands().keys() == {b"a"}
    assert pair.server.here().keys() == {name_of(1)}
    assert pair.sends(parse(b"b", b"select 1"), failed=True) == [close(ASIDE), parse(ASIDE, b"select 1")]
    assert [pair.server.answer(kind) for kind in (CLOSED, PARSED)] == [SWALLOW, FORWARD]
    assert pair.client.stands().keys() == {b"a", b"b"}


def test_behind_a_sync_that_a_copy_has_swallowed_the_error_still_has_the_clients_name() -> None:
    pair = Pair()
    pair.prepare(b"a", b"copy")
    pair.sends(bind(b"a"))
    pair.server.request()
    pair.server.struck(1)
    pair.sends(parse(b"a", b"copy"))
    said = b'prepared statement "%s" already exists'
    verdict, instead = pair.server.failure(error(b"42P05", said % name_of(1), b"StorePreparedStatement")[5:])
    assert (verdict, said % b"a" in instead) == (RENAMED, True)


def test_a_transaction_that_may_have_failed_is_judged_by_postgresql_too() -> None:
    pair = Pair()
    pair.prepare(b"a", b"select 1")
    assert pair.sends(parse(b"b", b"select 1"), pending=True) == [close(ASIDE), parse(ASIDE, b"select 1")]
    pair.sync()
    pair.moves()
    assert pair.verdict(parse(b"a", b"bad"), pending=True) == WAIT
    assert pair.server.entries == 0


def test_in_a_failed_transaction_a_name_in_use_is_nobodys_news() -> None:
    """PostgreSQL complains of the text, or of the transaction, before it looks at the name."""
    pair = Pair()
    pair.prepare(b"a", b"select 1")
    pair.moves()
    assert pair.sends(parse(b"a", b"bad"), failed=True) == [parse(name_of(1), b"bad")]
    pair.sync()
    assert pair.client.stands() == {b"a": text_of(b"select 1")}
    assert pair.server.entries == 0


def test_a_statement_follows_its_client() -> None:
    pair = Pair()
    pair.prepare(b"a", b"select 1")
    pair.moves()
    assert pair.sends(bind(b"a", b"portal")) == [parse(name_of(1), b"select 1"), bind(name_of(1), b"portal")]
    assert pair.sends(describe(b"a")) == [describe(name_of(1))]
    assert pair.server.answer(PARSED) == SWALLOW
    pair.sync()
    assert pair.sends(bind(b"a")) == [bind(name_of(1))]


def test_a_close_takes_the_name_and_leaves_the_statement() -> None:
    pair = Pair()
    pair.prepare(b"a", b"select 1")
    assert pair.sends(close(b"a")) == [close(NOWHERE)]
    assert pair.client.planned() == {}
    assert pair.server.answer(CLOSED) == FORWARD
    assert not pair.client.stands()
    assert pair.server.here() == {name_of(1): text_of(b"select 1")}


def test_what_a_group_has_not_come_to_has_not_happened() -> None:
    pair = Pair()
    pair.prepare(b"a", b"select 1")
    pair.sends(close(b"a"))
    pair.sends(parse(b"b", b"select 2"))
    pair.sync()
    assert pair.client.stands() == pair.client.planned() == {b"a": text_of(b"select 1")}
    assert pair.server.here() == {name_of(1): text_of(b"select 1")}
    assert pair.server.owed_len == 0


def test_a_group_that_is_unsure_of_an_earlier_one_waits() -> None:
    pair = Pair()
    pair.sends(parse(b"a", b"select 1"))
    assert pair.sends(bind(b"a")) == [bind(name_of(1))]
    pair.server.request()
    assert pair.verdict(bind(b"a")) == WAIT
    assert pair.verdict(parse(b"a", b"select 2")) == WAIT
    assert pair.verdict(parse(b"b", b"select 1")) == WAIT
    assert pair.verdict(parse(b"c", b"select 2")) == SEND, "this one depends on nothing"
    pair.server.answer(PARSED)
    assert pair.verdict(bind(b"a")) == SEND


def test_a_close_in_an_earlier_group_may_still_be_skipped() -> None:
    pair = Pair()
    pair.prepare(b"a", b"select 1")
    pair.sends(close(b"a"))
    assert pair.verdict(bind(b"a")) == PASS, "in the same group it is gone, or nothing happens at all"
    pair.server.request()
    assert pair.verdict(bind(b"a")) == WAIT
    pair.server.ready()
    assert pair.sends(bind(b"a")) == [bind(name_of(1))]


def test_a_swallowed_sync_ends_no_group() -> None:
    """COPY FROM STDIN: the server ignores a Sync that comes before the copy has ended."""
    pair = Pair()
    pair.sends(parse(b"a", b"copy"))
    pair.server.request()
    assert pair.verdict(bind(b"a")) == WAIT
    pair.server.struck(1)
    assert pair.verdict(bind(b"a")) == SEND
    pair.server.answer(PARSED)
    pair.sync()
    assert pair.server.owed_len == 0
    assert pair.server.groups == (2, 2)


def test_behind_a_deallocate_of_its_own_group_a_text_is_parsed_whatever_the_server_has() -> None:
    pair = Pair()
    pair.prepare(b"a", b"select 1")
    pair.server.barrier()
    assert pair.sends(parse(b"b", b"select 1")) == [close(name_of(1)), parse(name_of(1), b"select 1")]
    assert pair.sends(bind(b"b")) == [bind(name_of(1))]


def test_names_wait_behind_a_deallocate() -> None:
    pair = Pair()
    pair.prepare(b"a", b"select 1")
    pair.server.barrier()
    assert pair.verdict(describe(b"a")) == SEND, "in the same group nothing can wait"
    pair.server.request()
    assert pair.verdict(bind(b"a")) == WAIT
    pair.server.clear()
    pair.client.clear()
    pair.server.ready()
    assert pair.verdict(bind(b"a")) == PASS
    pair.sync()
    assert (pair.client.count(), pair.server.entries, len(pair.texts)) == (0, 0, 0)


def test_a_name_in_use_is_refused_by_postgresql_itself() -> None:
    pair = Pair()
    pair.prepare(b"it's", b"select 1")
    pair.moves()
    assert pair.sends(parse(b"it's", b"select 2")) == [parse(name_of(1), b"select 1"), parse(name_of(1), b"select 2")]
    assert pair.server.answer(PARSED) == SWALLOW
    said = error(b"42P05", b'prepared statement "%s" already exists' % name_of(1))
    own = error(b"42P05", b'prepared statement "it\'s" already exists')
    assert pair.server.failure(said[5:]) == (RENAMED, own)
    pair.sync()
    assert pair.client.stands() == {b"it's": text_of(b"select 1")}


def test_of_two_names_for_one_text_the_error_says_the_right_one() -> None:
    pair = Pair()
    pair.prepare(b"a", b"select 1")
    pair.prepare(b"b", b"select 1")
    pair.sends(bind(b"b"))
    pair.sends(parse(b"a", b"select 2"))
    said = error(b"42P05", b'prepared statement "%s" already exists' % name_of(1))
    assert b'"a" already' in pair.server.failure(said[5:])[1]
    pair.sync()
    pair.sends(bind(b"a"))
    pair.sends(parse(b"c", b"select 3"))
    pair.server.answer(PARSED)
    pair.sends(bind(b"b"))
    pair.sends(bind(b"a"))
    said = error(b"26000", b'prepared statement "%s" does not exist' % name_of(1))
    assert b'"b" does not' in pair.server.failure(said[5:])[1]


def test_a_mark_lasts_until_the_next_answer() -> None:
    pair = Pair()
    pair.prepare(b"a", b"select 1")
    pair.sends(bind(b"a"))
    pair.sends(parse(b"b", b"select 2"))
    pair.sends(bind(b"a"))
    assert pair.server.owed_len == 3
    pair.server.answer(PARSED)
    said = error(b"26000", b'prepared statement "%s" does not exist' % name_of(1))
    assert b'"a" does not' in pair.server.failure(said[5:])[1]


def test_a_name_that_was_free_after_all_stands_for_the_new_text() -> None:
    """DEALLOCATE in the same group, which nobody has seen: the statement that PostgreSQL made has another's name."""
    pair = Pair()
    pair.prepare(b"a", b"select 1")
    pair.sends(parse(b"a", b"select 2"))
    assert pair.sends(bind(b"a")) == [bind(name_of(1))]
    assert pair.server.answer(PARSED) == FORWARD
    pair.sync()
    assert pair.client.stands() == {b"a": text_of(b"select 2")}
    assert pair.server.here() == {name_of(1): None}
    assert pair.sends(bind(b"a")) == [parse(name_of(2), b"select 2"), bind(name_of(2))]
    assert pair.sends(parse(b"b", b"select 1")) == [close(name_of(1)), parse(name_of(1), b"select 1")]


def test_a_name_of_ours_in_a_clients_mouth_reaches_nobodys_statement() -> None:
    pair = Pair()
    pair.prepare(b"a", b"select 1")
    other = statements_probe.Client(pair.texts)
    stolen = name_of(1)
    assert pair.server.plan(other, bind(stolen))[:2] == (SEND, bind(NOWHERE)[: -len(bind(b"")) + 7])
    said = error(b"26000", b'prepared statement "%s" does not exist' % NOWHERE)
    own = error(b"26000", b'prepared statement "%s" does not exist' % stolen)
    assert pair.server.failure(said[5:]) == (RENAMED, own)
    verdict, pieces, skip, _ = pair.server.plan(other, close(stolen))
    assert (verdict, pieces + close(stolen)[skip:]) == (SEND, close(NOWHERE))
    pair.sync()
    assert other.count() == 0


def test_the_longest_unused_statement_makes_room() -> None:
    pair = Pair(limit=2)
    pair.prepare(b"a", b"select 1")
    pair.prepare(b"b", b"select 2")
    pair.sends(bind(b"a"))
    pair.sync()
    assert pair.sends(parse(b"c", b"select 3")) == [close(name_of(2)), parse(name_of(3), b"select 3")]
    assert [pair.server.answer(kind) for kind in (CLOSED, PARSED)] == [SWALLOW, FORWARD]
    assert pair.server.here().keys() == {name_of(1), name_of(3)}
    assert pair.server.by_age() == [text_of(b"select 1"), text_of(b"select 3")]


def test_an_eviction_that_was_skipped_is_made_good_later() -> None:
    pair = Pair(limit=1)
    pair.prepare(b"a", b"select 1")
    pair.sends(parse(b"b", b"bad"))
    pair.sync()
    assert pair.server.here().keys() == {name_of(1)}
    pair.limit = 3
    pair.prepare(b"b", b"select 2")
    pair.prepare(b"c", b"select 3")
    pair.limit = 1
    sent = pair.sends(parse(b"d", b"select 4"))
    assert [one[:1] for one in sent] == [b"C", b"C", b"C", b"P"]


def test_a_plan_that_ddl_has_spoiled_is_made_anew_everywhere() -> None:
    pair = Pair()
    pair.prepare(b"a", b"select * from t")
    pair.sends(bind(b"a"))
    said = error(b"0A000", b"gespeicherter Plan darf den Ergebnistyp nicht \xc3\xa4ndern", b"RevalidateCachedQuery")
    assert pair.server.failure(said[5:]) == (OUTDATED, b"")
    pair.sync()
    anew = [close(name_of(1)), parse(name_of(1), b"select * from t"), bind(name_of(1))]
    assert pair.sends(bind(b"a")) == anew
    pair.sync()
    assert pair.sends(bind(b"a")) == anew, "skipped, so the old one is still there"
    assert [pair.server.answer(kind) for kind in (CLOSED, PARSED)] == [SWALLOW, SWALLOW]
    pair.sync()
    assert pair.sends(bind(b"a")) == [bind(name_of(1))]


OLD_PLAN = error(b"0A000", b"cached plan must not change result type", b"RevalidateCachedQuery")
DESCRIBE_PORTAL = message(b"D", b"P\0")


def another_hears_of_new_rows(pair: Pair, name: bytes) -> None:
    """Somebody else meets the old plan of the statement that `pair` has as `name`."""
    other = statements_probe.Client(pair.texts)
    server = statements_probe.Server(pair.texts)
    text = pair.client.stands()[name]
    assert server.plan(other, message(b"P", b"x\0" + text))[0] == SEND
    server.answer(PARSED)
    server.request()
    server.ready()
    server.plan(other, bind(b"x"))
    assert server.failure(OLD_PLAN[5:])[0] == OUTDATED
    server.request()
    server.ready()


def test_who_has_not_heard_of_new_rows_is_refused_once() -> None:
    pair = Pair()
    pair.prepare(b"a", b"select * from t")
    another_hears_of_new_rows(pair, b"a")
    assert pair.verdict(bind(b"a")) == NEED_MORE, "what comes behind it decides"
    assert pair.verdict(bind(b"a") + DESCRIBE_PORTAL[:6]) == NEED_MORE
    assert pair.sends(bind(b"a") + EXECUTE)[:1] == [bind(STALE)]
    missing = error(b"26000", b'prepared statement "%s" does not exist' % STALE)
    verdict, instead = pair.server.failure(missing[5:])
    assert (verdict, split(instead)) == (RENAMED, [instead])
    assert statements_probe.fields(instead[5:]) == (
        b"0A000",
        b"cached plan must not change result type",
        b"RevalidateCachedQuery",
    )
    pair.sync()
    assert pair.sends(bind(b"a"))[-1] == bind(name_of(1)), "it has heard now"


@pytest.mark.parametrize("behind", [bind(b"a") + DESCRIBE_PORTAL, describe(b"a")], ids=["portal", "statement"])
def test_who_asks_about_the_rows_is_not_refused(behind: bytes) -> None:
    pair = Pair()
    pair.prepare(b"a", b"select * from t")
    another_hears_of_new_rows(pair, b"a")
    assert b"".join(pair.sends(behind)).endswith(behind.replace(b"a\0", name_of(1) + b"\0")[5:])
    pair.sync()
    assert pair.sends(bind(b"a"))[-1] == bind(name_of(1))


def test_a_describe_of_another_portal_does_not_count() -> None:
    pair = Pair()
    pair.prepare(b"a", b"select * from t")
    another_hears_of_new_rows(pair, b"a")
    assert pair.sends(bind(b"a", b"p") + DESCRIBE_PORTAL)[0] == bind(STALE, b"p")


def test_in_a_failed_transaction_nobody_is_refused_for_new_rows() -> None:
    pair = Pair()
    pair.prepare(b"a", b"select * from t")
    another_hears_of_new_rows(pair, b"a")
    assert pair.sends(bind(b"a") + EXECUTE, failed=True)[-2:] == [bind(name_of(1)), EXECUTE]


def test_what_is_refused_behind_the_clients_back_it_has_not_heard_of() -> None:
    pair = Pair()
    pair.prepare(b"a", b"select * from t")
    pair.sends(bind(b"a"))
    assert pair.server.failure(OLD_PLAN[5:], told=False)[0] == OUTDATED
    pair.sync()
    assert pair.sends(bind(b"a") + EXECUTE)[0] == bind(STALE)


@pytest.mark.parametrize(
    ("group", "fits"),
    [
        (bind(b"a") + DESCRIBE_PORTAL + EXECUTE + SYNC, True),
        (bind(b"a") + DESCRIBE_PORTAL + EXECUTE + close_portal() + bind(b"a") + DESCRIBE_PORTAL + EXECUTE + SYNC, True),
        (describe(b"a") + FLUSH, True),
        (describe(b"a") + bind(b"a") + EXECUTE + SYNC, True),
        (bind(b"a") + EXECUTE + SYNC, False),
        (bind(b"a") + EXECUTE + DESCRIBE_PORTAL + SYNC, False),
        (bind(b"a") + DESCRIBE_PORTAL + EXECUTE + bind(b"a") + EXECUTE + SYNC, False),
        (describe(b"b") + bind(b"a") + EXECUTE + SYNC, False),
        (DESCRIBE_PORTAL + EXECUTE + SYNC, False),
        (bind(b"") + DESCRIBE_PORTAL + EXECUTE + SYNC, False),
        (bind(b"a", b"p") + DESCRIBE_PORTAL + EXECUTE + SYNC, False),
        (bind(b"never") + DESCRIBE_PORTAL + EXECUTE + SYNC, False),
        (bind(b"a") + DESCRIBE_PORTAL + EXECUTE + parse(b"c", b"select 1") + SYNC, False),
        (bind(b"a") + DESCRIBE_PORTAL + EXECUTE + close(b"b") + SYNC, False),
        (bind(b"a") + DESCRIBE_PORTAL + EXECUTE + message(b"Q", b"select 1\0") + SYNC, False),
        (bind(b"a") + DESCRIBE_PORTAL + EXECUTE + SYNC + SYNC, False),
        (bind(b"a") + DESCRIBE_PORTAL + EXECUTE + SYNC[:3], False),
        (SYNC, True),
    ],
)
def test_which_groups_may_be_sent_once_more(group: bytes, fits: bool) -> None:
    pair = Pair()
    pair.prepare(b"a", b"select * from t")
    pair.prepare(b"b", b"select * from t where true")
    assert pair.client.may_send_again(group) is fits


@pytest.mark.parametrize(
    ("formats", "values", "results", "fits"),
    [
        ([], [b"1", b"2"], [], True),
        ([0], [b"1", None], [1], True),
        ([1], [b"1", None], [1], False),
        ([1, 0], [b"1", b"2"], [1], True),
        ([0, 1], [b"1", b"2"], [], False),
        ([], [b"1", b"2"], [0, 1], False),
        ([1, 0, 1], [b"1", b"2", b"3"], [], False),
    ],
)
def test_values_that_mean_the_same_in_any_case(
    formats: list[int], values: list[bytes | None], results: list[int], fits: bool
) -> None:
    """The first parameter's type is declared, the second's is not."""
    pair = Pair()
    for sent in pair.sends(parse(b"a", b"select * from t where a = $1 and b = $2", 23, 0)):
        pair.server.answer(PARSED if sent[:1] == b"P" else CLOSED)
    pair.sync()
    said = b"".join(b"\xff\xff\xff\xff" if v is None else len(v).to_bytes(4, "big") + v for v in values)
    codes = [b"".join(n.to_bytes(2, "big") for n in (len(some), *some)) for some in (formats, results)]
    body = b"\0a\0" + codes[0] + len(values).to_bytes(2, "big") + said + codes[1]
    group = message(b"B", body) + DESCRIBE_PORTAL + EXECUTE + SYNC
    assert pair.client.may_send_again(group) is fits
    for cut in range(1, len(body)):
        assert not pair.client.may_send_again(message(b"B", body[:cut]) + DESCRIBE_PORTAL + EXECUTE + SYNC)


def test_a_server_that_has_lost_everything_behind_our_back_is_believed() -> None:
    pair = Pair()
    pair.prepare(b"a", b"select 1")
    pair.sends(bind(b"a"))
    said = error(b"26000", b'prepared statement "%s" does not exist' % name_of(1))
    assert pair.server.failure(said[5:])[0] == RENAMED
    pair.sync()
    assert pair.server.here() == {}
    assert pair.sends(bind(b"a")) == [parse(name_of(1), b"select 1"), bind(name_of(1))]
    taken = error(b"42P05", b'prepared statement "%s" already exists' % name_of(1))
    verdict, instead = pair.server.failure(taken[5:])
    assert (verdict, b'"a" already exists' in instead) == (RENAMED, True)
    pair.sync()
    assert pair.server.here() == {name_of(1): None}
    assert pair.sends(bind(b"a"))[0] == close(name_of(1))


def test_names_differ_in_their_first_63_bytes_as_in_postgresql() -> None:
    pair = Pair()
    pair.prepare(b"n" * 63, b"select 1")
    assert pair.sends(bind(b"n" * 64)) == [bind(name_of(1))]
    assert pair.verdict(bind(b"n" * 62)) == PASS


def test_a_text_is_another_statement_where_its_meaning_depends_on_other_things() -> None:
    pair = Pair()
    for salt, query, number in ((1, b"e", 1), (2, b"e", 2), (1, b"f", 3), (1, b"e", 1)):
        sent = pair.sends(parse(b"n%d" % number + bytes([64 + len(pair.texts) + salt]), query), salt=salt)
        assert sent in ([parse(name_of(number), query)], [close(NOWHERE)])
    assert len(pair.texts) == 3


def test_a_message_in_pieces_is_decided_when_its_name_is_there() -> None:
    pair = Pair()
    long = parse(b"a", b"x" * 1000)
    assert [pair.verdict(long, have) for have in (5, 6, 7, 500, len(long) - 1)] == [NEED_MORE] * 5
    assert pair.verdict(long) == SEND
    assert [pair.verdict(bind(b"a", b"p"), have) for have in (5, 7, 8, 9)] == [NEED_MORE] * 3 + [SEND]
    assert [pair.verdict(close(b"a"), have) for have in (5, 7, 8)] == [NEED_MORE] * 2 + [SEND]


def test_what_is_too_long_is_told_at_once() -> None:
    pair = Pair()
    text = text_of(b"x" * ((1 << 20) - 3))
    assert len(text) == 1 << 20
    assert pair.verdict(message(b"P", b"a\0" + text)) == SEND
    assert pair.verdict(message(b"P", b"b\0x" + text), 10) == TOO_LONG
    assert pair.verdict(bind(b"n" * 4097)) == TOO_LONG
    assert pair.client.planned().keys() == {b"a"}
    assert pair.server.pass_on(pair.client, ord("P")) == PASS
    assert [pair.server.answer(PARSED) for _ in range(2)] == [FORWARD, FORWARD]


def test_an_answer_that_is_not_due_breaks_the_protocol() -> None:
    pair = Pair()
    pair.sends(parse(b"a", b"select 1"))
    assert pair.server.answer(CLOSED) == BROKEN
    assert pair.server.answer(PARSED) == FORWARD


def test_a_client_that_leaves_takes_its_names_and_nothing_else() -> None:
    pair = Pair()
    pair.sends(parse(b"a", b"select 1"))
    pair.sends(bind(b"a"))
    pair.server.orphan(pair.client)
    assert pair.server.answer(PARSED) == FORWARD
    pair.sync()
    assert pair.server.here() == {name_of(1): text_of(b"select 1")}


def test_a_server_that_goes_leaves_the_names_as_they_were() -> None:
    pair = Pair()
    pair.prepare(b"a", b"select 1")
    pair.sends(close(b"a"))
    pair.sends(parse(b"b", b"select 2"))
    pair.moves()
    assert pair.client.stands() == pair.client.planned() == {b"a": text_of(b"select 1")}
    assert pair.sends(bind(b"a"))[-1] == bind(name_of(1))


def test_a_client_has_only_so_many_names() -> None:
    pair = Pair(limit=1 << 20)
    pair.prepare(b"0", b"select")
    for number in range(1, 1 << 16):
        assert pair.verdict(parse(b"%d" % number, b"select")) == SEND
        pair.server.answer(CLOSED)
    assert pair.verdict(parse(b"more", b"select")) == FULL
    assert pair.verdict(parse(b"7", b"select")) == SEND, "the names that are there can be used"


def test_a_queue_has_an_end() -> None:
    pair = Pair()
    pair.prepare(b"a", b"select 1")
    for _ in range(1 << 16):
        assert pair.verdict(close_portal()) == PASS
        assert pair.verdict(parse(b"", b"")) == PASS
    assert pair.verdict(bind(b"a")) == FULL
    pair.sync()
    assert pair.verdict(bind(b"a")) == SEND


@pytest.mark.parametrize("count", [1, 1000])
def test_binding_again_and_again_is_one_mark(count: int) -> None:
    pair = Pair()
    pair.prepare(b"a", b"select 1")
    pair.prepare(b"b", b"select 2")
    for _ in range(count):
        pair.sends(bind(b"a"))
        pair.sends(bind(b"b"))
    assert pair.server.owed_len == 2


def test_the_steady_state_is_a_message_and_its_rest() -> None:
    pair = Pair()
    pair.prepare(b"a", b"select 1")
    data = bind(b"a", b"p") + EXECUTE + SYNC
    verdict, pieces, skip, parses = pair.server.plan(pair.client, data[:9])
    assert (verdict, skip, parses) == (SEND, 9, 0)
    assert pieces + data[skip:] == bind(name_of(1), b"p") + EXECUTE + SYNC
