"""What is passed at a glance is what a look at each message would pass, wherever the bytes are cut."""

from hypothesis import given
from hypothesis import strategies as st

from pgpool_core_probes.plain_probe import BIND, CHORE, DESCRIBE, EXECUTE, NAMED, QUERY, ROOM, SYNC, Link

LAST = {
    b"1": NAMED,
    b"3": NAMED,
    b"2": BIND,
    b"T": DESCRIBE,
    b"n": DESCRIBE,
    b"C": EXECUTE,
    b"s": EXECUTE,
    b"I": EXECUTE,
}
PASSING = (b"D", b"d", b"H", b"N", b"V", b"t")
CLOSELY = (b"Z", b"S", b"E", b"A", b"G", b"W", b"c", b"?", b"\0")
"""Those that are to be looked at closely."""
MOST = 100
"""max_packet_size of the probe."""


def message(kind: bytes, body: bytes = b"") -> bytes:
    return kind + (4 + len(body)).to_bytes(4, "big") + body


def answer_to(kind: int) -> st.SearchStrategy[list[bytes]]:
    """Messages that answer a request of this kind whole."""
    rows = st.lists(st.tuples(st.sampled_from(PASSING), st.binary(max_size=20)).map(lambda m: message(*m)), max_size=3)
    if kind == NAMED:
        return rows.map(lambda r: [*r, message(b"1")])
    last = st.sampled_from([each for each, of in LAST.items() if of == kind])
    return st.tuples(rows, last).map(lambda x: [*x[0], message(x[1], b"SELECT 1\0" if x[1] == b"C" else b"")])


GROUPS = st.lists(st.sampled_from([NAMED, BIND, DESCRIBE, EXECUTE]), max_size=6)
CUTS = st.integers(0, 40)


@given(
    st.data(),
    GROUPS,
    st.sampled_from([b"", *(message(kind, b"x") for kind in CLOSELY), message(b"C", b"DISCARD ALL\0")]),
    CUTS,
)
def test_plain_answers_are_taken_off_one_by_one(data: st.DataObject, group: list[int], behind: bytes, cut: int) -> None:
    link = Link()
    ends, owed = [0], [[*group, SYNC]]
    stream = b""
    for i, kind in enumerate(group):
        link.asked(kind)
        answer = data.draw(answer_to(kind))
        for each in answer:
            stream += each
            ends.append(len(stream))
            owed.append([*group[i + (each is answer[-1]) :], SYNC])
    link.asked(SYNC)
    seen = (stream + behind)[: max(0, len(stream + behind) - cut)]
    n = max(i for i, end in enumerate(ends) if end <= len(seen))
    assert link.answers(seen) == ends[n]
    assert link.owes() == owed[n]


def test_the_answer_to_a_query_is_passed_whole_up_to_ready() -> None:
    link = Link()
    link.asked(QUERY)
    rows = message(b"T", b"..") + message(b"D", b"...") * 3 + message(b"C", b"SELECT 3\0")
    assert link.answers(rows + message(b"Z", b"I")) == len(rows)
    assert link.owes() == [QUERY]


def test_what_is_ours_is_not_passed() -> None:
    link = Link()
    link.asked(CHORE)
    assert link.answers(message(b"T") + message(b"D")) == 0
    assert link.owes() == [CHORE]
    link.asked(EXECUTE)
    link.asked(CHORE)
    first = message(b"C", b"SELECT 1\0")
    assert link.answers(first + message(b"D")) == len(first)
    assert link.owes() == [CHORE]


def test_an_answer_of_the_wrong_kind_is_not_passed() -> None:
    link = Link()
    link.asked(NAMED)
    assert link.answers(message(b"3")) == 0
    assert link.answers(message(b"1", b"x")) == 0
    link.closed()
    assert link.answers(message(b"1") + message(b"3")) == 10


def test_a_length_that_no_message_has_is_not_passed() -> None:
    for length in (0, 3, 1 << 31, (1 << 32) - 1):
        link = Link()
        link.asked(QUERY)
        assert link.answers(b"D" + length.to_bytes(4, "big") + b"....") == 0
        link.begun()
        assert link.groups(b"E" + length.to_bytes(4, "big") + b"....", False) == 0


HARMLESS = b"SELECT * FROM t"
"""A text that the probe knows."""
PLAIN = {
    message(b"P", b"\0" + HARMLESS + b"\0\0\0"): NAMED,
    message(b"P", b"\0" + HARMLESS + b"\0\0\1\0\0\0\0"): NAMED,
    message(b"B", b"\0\0\0\0\0\0\0\0"): BIND,
    message(b"D", b"P\0"): DESCRIBE,
    message(b"E", b"\0\0\0\0\0"): EXECUTE,
    message(b"E", b"c1\0...."): EXECUTE,
    message(b"S"): SYNC,
}
"""And what is written down for it."""
QUERIES = {message(b"Q", HARMLESS + b"\0"): QUERY}
OTHERS = st.sampled_from(
    [message(kind, b"\0") for kind in (b"Q", b"P", b"C", b"F", b"H", b"X", b"d", b"c", b"f", b"?")]
    + [message(b"E", b"." * (MOST + 1)), message(b"Q"), message(b"Q", HARMLESS), message(b"P"), message(b"P", b"\0")]
)
NAMES = st.sampled_from(
    [
        message(b"B", b"\0s1\0\0\0\0\0\0\0"),
        message(b"B", b"p\0\0\0\0\0\0\0\0"),
        message(b"D", b"Ss1\0"),
        message(b"B"),
        message(b"D"),
    ]
)


@given(st.lists(st.sampled_from([*PLAIN, *QUERIES]), max_size=8), OTHERS, CUTS, st.booleans())
def test_plain_messages_are_written_down_one_by_one(asked: list[bytes], behind: bytes, cut: int, tracked: bool) -> None:
    link = Link()
    link.known(HARMLESS)
    ends, wrote, open_group = [0], [], False
    for each in asked:
        if open_group and each in QUERIES:
            break  # which is not plain there
        ends.append(ends[-1] + len(each))
        wrote.append(PLAIN.get(each, QUERY))
        open_group = each not in QUERIES and wrote[-1] != SYNC
    stream = b"".join(asked) + behind
    seen = stream[: max(0, len(stream) - cut)]
    n = max(i for i, end in enumerate(ends) if end <= len(seen))
    assert link.groups(seen, tracked, True) == ends[n]
    del wrote[n:]
    requests = sum(kind in (SYNC, QUERY) for kind in wrote)
    assert link.open == (n > 0 and wrote[-1] not in (SYNC, QUERY))
    assert link.requests == (requests, requests)
    assert link.parses == wrote.count(NAMED) * tracked
    assert link.owes() == wrote


@given(
    st.sampled_from(
        [b"SELECT * FROM u", b"SET a = 1", b"BEGIN", b"LISTEN abc", b"DEALLOCATE abc", b"SELECT pg_notify($1, $2)"]
    )
)
def test_a_text_that_is_unknown_or_does_something_is_looked_at(text: bytes) -> None:
    link = Link()
    link.known(HARMLESS)
    if text != b"SELECT * FROM u":
        link.known(text)
    for asked in (message(b"Q", text + b"\0"), message(b"P", b"\0" + text + b"\0\0\0")):
        assert link.groups(asked, True, True) == 0
        assert link.groups(asked, False, False) == len(asked)
        assert link.groups(message(b"S"), False, False) == 5


def test_a_text_is_plain_when_others_were_that_differ_in_their_values_only() -> None:
    link = Link()
    for value in range(3):
        link.known(b"SELECT a FROM t WHERE id = %d AND b = '%d'" % (value, value))
    asked = [message(b"Q", text + b"\0") for text in (b"SELECT a FROM t WHERE id = 77 AND b = 'LISTEN x'",) * 2]
    assert link.groups(b"".join(asked), True, True) == sum(map(len, asked))
    asked = [message(b"Q", text + b"\0") for text in (b"SELECT a FROM t WHERE id = 77; LISTEN x --AND b = 'a'",)]
    assert link.groups(b"".join(asked), True, True) == 0


@given(NAMES)
def test_a_name_is_looked_at_where_names_follow_their_client(named: bytes) -> None:
    for tracked in (True, False):
        link = Link()
        assert link.groups(named, tracked) == (0 if tracked else len(named))


def test_a_bind_is_plain_only_where_its_client_has_parsed() -> None:
    link = Link()
    bind = message(b"B", b"\0\0\0\0\0\0\0\0")
    link.parsed(False)
    assert link.groups(bind, True) == 0
    link.parsed(True)
    assert link.groups(bind, True) == len(bind)


def test_more_than_there_is_room_for_is_left_to_the_long_way() -> None:
    link = Link()
    executes = message(b"E", b"\0\0\0\0\0")
    assert link.groups(executes * 100, False) == len(executes) * ROOM
    assert link.groups(executes, False) == 0
    assert link.owes() == [EXECUTE] * ROOM


def test_a_group_that_is_kept_ends_with_its_sync() -> None:
    link = Link()
    link.begun()
    link.kept()
    executes, sync = message(b"E", b"\0\0\0\0\0"), message(b"S")
    assert link.groups(executes + sync + executes + sync, True) == len(executes + sync)
    assert not link.kept_on
    assert link.owes() == [EXECUTE, SYNC]
