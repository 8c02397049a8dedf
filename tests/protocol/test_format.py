"""The format itself: what means nothing is refused with file and line, and a transcript that is not so does not pass."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.layouts import BACKEND, FRONTEND, layout_of, read_message
from tests.protocol.party import CUTS, Mismatch
from tests.protocol.places import play_scripted
from tests.protocol.transcript import Transcript, parse
from tests.protocol.words import TranscriptError, Word, Words, read_words, write_words

WRONG = {
    "no line": "# nothing but a comment",
    "unknown message": "C: Greet",
    "a server's message": "C: DataRow 1",
    "a client's message": "S: Query x",
    "missing field": "C: Query",
    "one field too many": "C: Query a b",
    "unknown key": 'C: Parse "select 1" colour=red',
    "key twice": 'C: Parse "select 1" name=a name=b',
    "no number": "C: Execute max_rows=many",
    "number too big": "C: Execute max_rows=5000000000",
    "unknown choice": "C: Describe table t",
    "unknown status": "S: ReadyForQuery X",
    "unknown type": "S: RowDescription a:money",
    "unknown escape": 'C: Query "\\q"',
    "open quotes": 'C: Query "select',
    "zero byte in a string": 'C: Query "a\\0b"',
    "wildcard in what is sent": "C: Query *",
    "rest before the end": "C> DataRow ... 1",
    "unknown deed": "C: dance",
    "deed with a field": "C: close now",
    "end that is sent": "C: end",
    "odd digits": "C: Bytes 123",
    "unknown place": "@moon C: Sync",
    "unknown place of the file": "on: moon\nC: Sync",
    "unknown header": "by: me\nC: Sync",
    "late header": "C: Sync\nset: a = b",
    "no setting": "set: pool_mode\nC: Sync",
    "unknown count": "pool> counts sv_happy=1",
    "pool that speaks": "pool: counts cl_waiting=1",
    "arrow between clients": "C->D Query x",
    "arrow with a deed": "C->S close",
    "bad version": "C: StartupMessage three user=app",
    "cancel of nobody": "C: CancelRequest wrong=key",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_what_means_nothing_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(TranscriptError, match=r"^some\.txt:(\d+: | )"):
        parse(text, Path("some.txt"))


def test_the_line_that_is_named_is_the_wrong_one() -> None:
    with pytest.raises(TranscriptError, match=r"^some\.txt:3: unknown message 'Greet'"):
        parse("# a comment\nC: Sync\nC: Greet\nC: Sync", Path("some.txt"))


WORDS = st.builds(
    Words,
    st.lists(st.one_of(st.builds(Word, st.binary(max_size=8)), st.just(Word(kind="null")), st.just(Word(kind="any")))),
    st.dictionaries(st.sampled_from(["name", "types", "_pq_.x"]), st.builds(Word, st.binary(max_size=8))),
)


@given(WORDS)
def test_words_that_are_written_are_read_back(words: Words) -> None:
    assert read_words(write_words(words)) == words


LINES = {
    "Bind": 'x NULL "" portal=p',
    "FunctionCall": "1397 -42 NULL",
    "Parse": '"select $1" name=s types=23,0',
    "SASLInitialResponse": 'SCRAM-SHA-256 "n,,n=,r=x"',
    "Execute": "max_rows=3",
    "AuthenticationSASL": "SCRAM-SHA-256-PLUS SCRAM-SHA-256",
    "BackendKeyData": "4711 0102ff",
    "ErrorResponse": 'FATAL 08P01 "no" detail="so it is" position=3',
    "RowDescription": "?column?:int4 name",
    "NegotiateProtocolVersion": "196608 _pq_.a _pq_.b",
    "NotificationResponse": '9 news ""',
    "ParameterDescription": "23 25",
    "CopyInResponse": "3",
    "DataRow": '1 NULL "NULL"',
}


@pytest.mark.parametrize("name", LINES)
def test_a_message_that_is_written_is_read_back(name: str) -> None:
    words = read_words(LINES[name])
    layout = layout_of(name, from_client=name in FRONTEND)
    found = dict(read_message(layout.letter, layout.body(words), from_client=name in FRONTEND))
    assert found[name] == words


@given(st.sampled_from([*FRONTEND.values(), *BACKEND.values()]), st.binary(max_size=40))
def test_any_body_is_read_or_refused(layout: object, body: bytes) -> None:
    for table, from_client in ((FRONTEND, True), (BACKEND, False)):
        for one in table.values():
            if one is layout:
                for name, words in read_message(one.letter, body, from_client=from_client):
                    assert table[name].body(words) == body or name in ("ErrorResponse", "NoticeResponse")


def test_cuts_lose_nothing() -> None:
    data = bytes(range(256)) * 4
    for cut in CUTS.values():
        assert b"".join(cut(data, random.Random(1))) == data
    assert len(list(CUTS["bytes"](data, random.Random(1)))) == len(data)


GOOD = """\
C: login
C->S Query "select 1"
S->C RowDescription x
S->C DataRow 1
S->C CommandComplete "SELECT 1"
S->C ReadyForQuery I
"""
FALSE = {
    "the server should get something else": ('C->S Query "select 1"', 'C: Query "select 1"\nS> Query "select 2"'),
    "the client should get something else": ("S->C DataRow 1", "S: DataRow 1\nC> DataRow 2"),
    "the client gets more": ("S->C DataRow 1", "S: DataRow 1"),
    "the server gets more": ('C->S Query "select 1"', 'C: Query "select 1"'),
    "the order is another": (
        "S->C RowDescription x\nS->C DataRow 1",
        "S: RowDescription x\nS: DataRow 1\nC> DataRow 1\nC> RowDescription x",
    ),
    "the connection should have ended": ("S->C DataRow 1", "S->C DataRow 1\nC> end"),
    "something comes after the end": ("S->C ReadyForQuery I", "S: ReadyForQuery I"),
    "a column too many": ("S->C DataRow 1", "S: DataRow 1\nC> DataRow 1 NULL"),
    "the pool is not so": ("S->C DataRow 1", "S->C DataRow 1\npool> counts cl_waiting=1"),
}


def made(text: str) -> Transcript:
    return parse(f"fails: at once, so that nobody waits long\n{text}", Path("made.txt"))


async def test_a_transcript_that_is_so_passes() -> None:
    await play_scripted(made(GOOD), "whole", 0)


@pytest.mark.parametrize(("old", "new"), FALSE.values(), ids=FALSE)
async def test_a_transcript_that_is_not_so_does_not_pass(old: str, new: str) -> None:
    assert old in GOOD
    with pytest.RaisesGroup(Mismatch, flatten_subgroups=True):
        await play_scripted(made(GOOD.replace(old, new)), "whole", 0)
