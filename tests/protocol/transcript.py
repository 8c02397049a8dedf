"""Reading a transcript: one conversation as text; README.md describes the format."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import attrs

from tests.protocol.layouts import FIRST_PACKETS, layout_of, startup_message
from tests.protocol.words import TranscriptError, Words, read_words

__all__ = ["Line", "Place", "Transcript", "load", "parse"]

Place = Literal["scripted", "direct", "pooler"]
PLACES: Sequence[Place] = get_args(Place)

_LINE = re.compile(
    r"(?:@(?P<only>\S+)\s+)?(?P<party>\w+)(?:(?P<way>[:>])|->(?P<to>\w+))\s+(?P<name>[\w-]+)(?:\s+(?P<words>.*))?$"
)
_HEADER = re.compile(r"(?P<key>on|set|server|user|fails):\s+(?P<value>.*)$")
_SETTING = re.compile(r"(\w+)\s*=\s*(.*)$")
_SERVER = re.compile(r"S\d*$")
_COUNTS = (
    *("cl_active", "cl_waiting", "cl_active_cancel_req", "cl_waiting_cancel_req"),
    *("sv_active", "sv_active_cancel", "sv_being_canceled", "sv_idle", "sv_used", "sv_tested", "sv_login"),
)


@attrs.frozen(kw_only=True)
class Line:
    """One thing that a party does or gets.

    Attributes:
        party: "C", "S2" ...; "pool" for a look at the pooler's own counts.
        sends: what the party sends or does; else what it must get.
        data: of what is sent, or compared without wildcards, the bytes; None where they are made up or read while it is played.
        only: the places that the line is for.
    """

    number: int
    party: str
    sends: bool
    name: str
    words: Words
    data: bytes | None
    only: Sequence[Place]
    text: str

    @property
    def is_server(self) -> bool:
        return is_server(self.party)

    def is_for(self, place: Place) -> bool:
        if place not in self.only:
            return False
        return (place == "scripted" or not self.is_server) and (place != "direct" or self.party != "pool")


@attrs.frozen(kw_only=True)
class Transcript:
    """A conversation.

    Attributes:
        places: where it is played.
        settings: of [pgbouncer], beside those that every transcript has.
        server: words added to the entry of [databases].
        users: auth_file.
        fails: the known defect because of which it cannot be played to its end; empty where it can.
    """

    path: Path
    places: Sequence[Place]
    settings: Mapping[str, str]
    server: str
    users: Mapping[str, str]
    fails: str
    lines: Sequence[Line]

    @property
    def name(self) -> str:
        return self.path.stem

    def lines_for(self, place: Place) -> Iterator[Line]:
        return (line for line in self.lines if line.is_for(place))

    def logs_in_by_hand(self, connection: int) -> bool:
        """Whether the server's part in the login of that connection, counted from 1, stands in the transcript."""
        for line in self.lines:
            if line.is_server and int(line.party[1:] or 1) == connection:
                return line.name in ("StartupMessage", "CancelRequest", *FIRST_PACKETS)
        return False


def is_server(party: str) -> bool:
    return _SERVER.match(party) is not None


def load(path: Path) -> Transcript:
    """Read a file; raises TranscriptError with file and line."""
    return parse(path.read_text(), path)


def parse(text: str, path: Path) -> Transcript:
    """Read `text`; `path` is what errors call it.

    Raises:
        TranscriptError: a line that means nothing.
    """
    places: Sequence[Place] = ("scripted",)
    settings: dict[str, str] = {}
    users: dict[str, str] = {}
    server = fails = ""
    lines: list[Line] = []
    passed_on: list[Line] = []  # what the right sides of a run of arrows get, once the left side has sent all of it
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        try:
            header = _HEADER.match(line)
            if header is None:
                sent, got = _line(number, line)
                if passed_on and not (got and _same_arrow(lines[-1], passed_on[-1], sent, got)):
                    lines += passed_on
                    passed_on = []
                lines.append(sent)
                passed_on += [got] if got else []
            elif lines:
                raise TranscriptError(f"{header['key']}: stands behind the first line of the conversation")
            elif header["key"] == "on":
                places = [_place(word) for word in header["value"].split()]
            elif header["key"] == "set":
                settings.update([_pair(header["value"], _SETTING)])
            elif header["key"] == "user":
                users.update([_pair(header["value"], re.compile(r"(\S+)\s+(\S+)$"))])
            elif header["key"] == "fails":
                fails = header["value"]
            else:
                server += f" {header['value']}"
        except TranscriptError as error:
            raise TranscriptError(f"{path.name}:{number}: {error}") from None
    lines += passed_on
    if not lines:
        raise TranscriptError(f"{path.name}: no line of a conversation")
    return Transcript(path=path, places=places, settings=settings, server=server, users=users, fails=fails, lines=lines)


def _place(word: str) -> Place:
    for place in PLACES:
        if place == word:
            return place
    raise TranscriptError(f"{word!r} is no place: {', '.join(PLACES)}")


def _pair(text: str, form: re.Pattern[str]) -> tuple[str, str]:
    if (found := form.match(text)) is None:
        raise TranscriptError(f"not as it should be: {text!r}")
    return found[1], found[2]


def _line(number: int, text: str) -> tuple[Line, Line | None]:
    """One line; an arrow is two: what the left side sends, what the right side gets."""
    found = _LINE.match(text)
    if found is None:
        raise TranscriptError(
            f"neither a header nor `PARTY: Message`, `PARTY> Message`, `PARTY->PARTY Message`: {text!r}"
        )
    words = read_words(found["words"] or "")
    party, to, name = found["party"], found["to"], found["name"]
    only = PLACES if found["only"] is None else [_place(word) for word in found["only"].split(",")]
    if to is not None and (is_server(party) == is_server(to) or "pool" in (party, to) or not name[0].isupper()):
        raise TranscriptError("an arrow carries a message between a client and a server")

    def one(party: str, sends: bool) -> Line:
        if party == "pool":
            _check_look(words, name, sends)
        data = None if party == "pool" else _said(party, name, words, sends)
        return Line(number=number, party=party, sends=sends, name=name, words=words, data=data, only=only, text=text)

    return one(party, found["way"] != ">"), None if to is None else one(to, False)


def _same_arrow(sent: Line, got: Line, next_sent: Line, next_got: Line) -> bool:
    return (sent.party, got.party, sent.only) == (next_sent.party, next_got.party, next_sent.only)


def _check_look(words: Words, name: str, sends: bool) -> None:
    if sends or name != "counts" or words.values or not words.named:
        raise TranscriptError("the pool is only looked at: `pool> counts cl_waiting=1`")
    for key, word in words.named.items():
        if key not in _COUNTS or not word.data.isdigit():
            raise TranscriptError(f"no count of the pool: {key}={word}")


def _said(party: str, name: str, words: Words, sends: bool) -> bytes | None:
    server = is_server(party)
    from_client = sends != server
    if sends and words.has_wildcard:
        raise TranscriptError("what is sent has no wildcards")
    if name[0].islower():
        _check_deed(name, words, sends, server)
        return None
    if name == "Bytes":
        return _bytes(words)
    if from_client and name == "StartupMessage":
        return startup_message(words)
    if from_client and name == "CancelRequest":
        return _cancel(words)
    if from_client and name in FIRST_PACKETS:
        if words != Words([], {}):
            raise TranscriptError(f"{name} has no fields")
        return b"\0\0\0\x08" + FIRST_PACKETS[name].to_bytes(4, "big")
    if sends and from_client and _is_made_up(name, words):
        return None
    layout = layout_of(name, from_client=from_client)
    if words.has_wildcard or name in ("ErrorResponse", "NoticeResponse"):
        layout.check(words)
        return None if not sends else _whole(layout.letter, layout.body(words))
    return _whole(layout.letter, layout.body(words))


def _whole(letter: bytes, body: bytes) -> bytes:
    return letter + (len(body) + 4).to_bytes(4, "big") + body


def _check_deed(name: str, words: Words, sends: bool, server: bool) -> None:
    """What is no message."""
    allowed = (
        {"close", "cut", "half-close", *(() if server else ("login",))}
        if sends
        else {"end", *(() if server else ("greeting",))}
    )
    if name not in allowed:
        raise TranscriptError(f"{name!r} is none of {', '.join(sorted(allowed))}")
    if words.values or (words.named and name != "login"):
        raise TranscriptError(f"{name} has no such fields")


def _bytes(words: Words) -> bytes:
    try:
        return bytes.fromhex("".join(word.data.decode() for word in words.values))
    except ValueError as error:
        raise TranscriptError("Bytes takes hexadecimal digits") from error


def _cancel(words: Words) -> bytes | None:
    """`CancelRequest of=C`, with `wrong=key` or `wrong=process`; or process and key in hexadecimal digits."""
    if not words.values:
        wrong = words.named.get("wrong")
        if words.named.keys() - {"of", "wrong"} or "of" not in words.named or (wrong and wrong.data not in _WRONG):
            raise TranscriptError("CancelRequest takes of= and wrong=key or wrong=process, or process and key")
        return None
    if len(words.values) != 2 or words.named:
        raise TranscriptError("CancelRequest takes of=, or process and key")
    try:
        body = int(words.values[0].data).to_bytes(4, "big") + bytes.fromhex(words.values[1].data.decode())
    except (ValueError, OverflowError) as error:
        raise TranscriptError("CancelRequest takes a number and hexadecimal digits") from error
    return (len(body) + 8).to_bytes(4, "big") + (80877102).to_bytes(4, "big") + body


_WRONG = (b"key", b"process")


def _is_made_up(name: str, words: Words) -> bool:
    """Answers that depend on a salt or nonce: made while the transcript is played."""
    if name == "PasswordMessage":
        return words.named.keys() == {"md5"} and not words.values
    if name == "SASLInitialResponse":
        return words.named.keys() == {"password"} and not words.values
    return name == "SASLResponse" and not words.values and not words.named
