"""What is fuzzed: functions of bytes that check what must hold and sum up what happened.

An outcome that has not been seen before makes its input a seed for others, so it says what kind of thing happened,
not how long it was.
"""

from __future__ import annotations

import hashlib
import ipaddress
import struct
from collections.abc import Callable, Coroutine, Hashable, Iterable
from functools import cache
from itertools import cycle, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import trio

from pgpool_core.client.catalogue import BUILT_IN
from pgpool_core.config.ini import read_ini_text
from pgpool_core.config.load import build
from pgpool_core.config.toml import read_toml_text
from pgpool_core.control.auth_lookup import AuthLookup, LookupDone
from pgpool_core.control.catalog import CatalogAnswer
from pgpool_core.control.effects import effects_of
from pgpool_core.control.server_login import KeysWanted, ServerLogin, ServerNotice
from pgpool_core.control.standing import Ask
from pgpool_core.control.talk import NEED_DATA
from pgpool_core.errors import ConfigError, ServerProtocolError, TlsError
from pgpool_core.policy.facts import NOTHING, Facts, FactWanted
from pgpool_core.policy.hba import Visitor, parse_rules
from pgpool_core.policy.ident import parse_maps
from pgpool_core.policy.scram import derive_keys
from pgpool_core.policy.secrets import Secret
from pgpool_core.policy.userlist import parse_userlist
from pgpool_core.process.packets import Reader
from pgpool_core.process.rows import Reader as Handed
from pgpool_core.rows.inbox import Inbox
from pgpool_core.rows.record import Shape
from pgpool_core.session.effects import effects_pack
from pgpool_core.tls.face import Context, Session
from pgpool_core_probes import (
    auth_probe,
    forwarded_probe,
    moving_probe,
    settings_probe,
    sqlscan_probe,
    statements_probe,
    wire_probe,
)
from tests.certificates import Authority
from tests.unit.console_model import Pooler, Reply, session_of
from tests.unit.expect_model import (
    ASK,
    BIND,
    CHORE,
    DESCRIBE,
    EXECUTE,
    IN_READY,
    NAMED,
    NONE,
    QUERY,
    SYNC,
    ExpectModel,
)

Target = Callable[[bytes], Hashable]
OUR_SECRETS = (None, Secret(plain=b"pencil"), Secret(md5=b"0123456789abcdef" * 2), Secret())

MAX_BODY = 1024
SCAN_END = 0
PLAIN, MD5, SCRAM = 2, 3, 4
LOGIN_OK, LOGIN_MORE = 0, 1
SETTINGS_OK, SETTINGS_TOO_LONG = 0, -1
PLAN_PASS, PLAN_SEND, PLAN_NEED_MORE, PLAN_WAIT, PLAN_TOO_LONG = 0, 1, 2, 3, -1
EVERY_TYPE = Shape([codec.name for codec in BUILT_IN.values()], BUILT_IN.values())
NAMES = (
    b"DateStyle",
    b"IntervalStyle",
    b"TimeZone",
    b"application_name",
    b"client_encoding",
    b"standard_conforming_strings",
)


def pieces(data: bytes) -> list[int]:
    """Sizes to cut `data` into that depend on nothing but `data`."""
    return [1 + byte % 29 for byte in hashlib.sha256(data).digest()]


def _without_buffers(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if name != "whole"}


def _scan(which: str, data: bytes) -> Hashable:
    whole = _without_buffers(wire_probe.scan_feed(which, data, max_body=MAX_BODY))
    assert whole == _without_buffers(wire_probe.scan_feed(which, data, repeat(1), max_body=MAX_BODY))
    assert whole == _without_buffers(wire_probe.scan_feed(which, data, pieces(data), max_body=MAX_BODY))
    assert whole["status"] in (SCAN_END, -1, -2)
    assert all(body_len <= MAX_BODY for _, body_len, _ in whole["found"])
    if whole["status"] == SCAN_END:
        assert whole["offset"] + len(whole["held"]) == len(data)
    return whole["status"], tuple(kind for kind, _, _ in whole["found"][:6]), whole["remain"] > 0


def scan_client(data: bytes) -> Hashable:
    """Message boundaries in what a client sends."""
    return _scan("client", data)


def scan_server(data: bytes) -> Hashable:
    """Message boundaries in what a server sends: where somebody acts, and every one of them."""
    some, every = _scan("server", data), _scan("every", data)
    return some, every


def expect(data: bytes) -> Hashable:
    """Each byte is an event; the queue against its model."""
    queue, model, answered = wire_probe.Queue(), ExpectModel(), []
    for byte in data:
        match byte % 16:
            case which if which < 8:
                kind = (QUERY, SYNC, CHORE, ASK, NAMED, BIND, DESCRIBE, EXECUTE)[which]
                assert queue.push(kind) == 0
                model.push(kind)
            case 8 | 9:
                kind = queue.ready()
                assert kind == model.ready()
                assert kind == NONE or kind in IN_READY
                answered.append(kind)
            case 10:
                queue.copy_begins()
                model.copy_begins()
            case 11:
                assert queue.copy_ends() == 0
                model.copy_ends()
            case 12:
                assert queue.error() == model.error()
            case 13 | 14:
                last = b"123TnCsI"[byte // 16 % 8]
                queue.answer(last)
                model.answer(last)
            case _:
                assert queue.head() == model.head()
        assert (queue.owed, queue.copying, queue.skipping, queue.silent) == (
            model.owed,
            model.copying,
            model.skipping,
            model.silent,
        )
    return tuple(answered[:5]), queue.cap, queue.copying, queue.skipping


def forwarded(data: bytes) -> Hashable:
    """A PROXY header."""
    found = forwarded_probe.feed(data)
    assert found == forwarded_probe.feed(data, repeat(1)) == forwarded_probe.feed(data, pieces(data))
    if len(found) == 1:
        assert found[0] in (1, -1)
        return found
    _, length, family, _, _ = found
    assert length <= len(data)
    return family, data[:1], length > 107


def startup(data: bytes) -> Hashable:
    """The first packet of a connection."""
    whole = auth_probe.startup_feed(data)
    assert whole == auth_probe.startup_feed(data, repeat(1)) == auth_probe.startup_feed(data, pieces(data))
    if whole["status"] != 0:
        return whole["status"]
    assert 0 < len(whole["user"]) < 128
    assert len(whole["database"]) < 64
    answer = auth_probe.startup_negotiate(data, 65536)
    assert struct.unpack("!I", answer[1:5])[0] + 1 == len(answer)
    return whole["status"], len(whole["params"]), whole["protocol_options"], whole["minor"] > 0


def _scram_keys() -> tuple[int, bytes, bytes, bytes]:
    salted = hashlib.pbkdf2_hmac("sha256", b"secret", b"0123456789abcdef", 1)
    client = auth_probe.hash_of("hmac_sha256", b"Client Key", key=salted)
    server = auth_probe.hash_of("hmac_sha256", b"Server Key", key=salted)
    return 1, b"0123456789abcdef", hashlib.sha256(client).digest(), server


SECRETS = (
    None,
    auth_probe.Secret(b"alice", plain=b"secret"),
    auth_probe.Secret(md5=hashlib.md5(b"secretalice").hexdigest().encode()),
    auth_probe.Secret(scram=_scram_keys()),
)


def login(data: bytes) -> Hashable:
    """A client's side of a login; the first byte chooses the method and what is stored."""
    if not data:
        return None
    auth_type, secret, known = (PLAIN, MD5, SCRAM)[data[0] % 3], SECRETS[data[0] >> 2 & 3], bool(data[0] & 0x80)
    bound = b"b" * 32 if data[0] & 0x40 else b""
    steps = auth_probe.login_feed(auth_type, b"alice", secret, data[1:], known=known, binding=bound)
    for chunks in (repeat(1), pieces(data)):
        again = auth_probe.login_feed(auth_type, b"alice", secret, data[1:], chunks, known=known, binding=bound)
        assert steps == again
    assert all(status == LOGIN_MORE for status, _ in steps[:-1])
    if steps[-1][0] == LOGIN_OK:
        assert known and secret is not None, "nobody logs in without a secret"
        assert b"secret\0" in data, "nobody logs in without the password"
    return auth_type, tuple(status for status, _ in steps)


def settings(data: bytes) -> Hashable:
    """Lines of a name's number and a value: blocks against a dictionary, and what the replay says."""
    table = settings_probe.Table()
    block, wanted, refused = None, dict[bytes, bytes](), 0
    for line in data.split(b"\0"):
        name, value = NAMES[line[0] % len(NAMES)] if line else NAMES[0], line[1:]
        kept = bytes(byte if byte < 0x7F else ord("?") for byte in value)
        made = table.having(block, name, value)
        if made == SETTINGS_TOO_LONG:
            refused += 1
            continue
        block, wanted[name] = made, kept
        del made
        assert block.data == b"".join(name + b"\0" + wanted[name] + b"\0" for name in sorted(wanted))
        assert len(table) <= 2
    status, sql, must_wait = settings_probe.replay(None, block)
    assert (status, must_wait) == (SETTINGS_OK, False)
    assert sql.isascii()
    assert sql == b"".join(b'SET "' + name + b'" = ' + quoted(wanted[name]) + b";" for name in sorted(wanted))
    assert settings_probe.replay(block, block) == (SETTINGS_OK, b"", False)
    assert settings_probe.replay(None, block, len(sql) // 2)[0] == (SETTINGS_TOO_LONG if sql else SETTINGS_OK)
    del block
    assert len(table) == 0
    return len(wanted), refused, b"\\" in sql, b"''" in sql


def quoted(value: bytes) -> bytes:
    """A string constant of PostgreSQL that reads back as `value` whatever standard_conforming_strings says."""
    doubled = value.replace(b"'", b"''")
    return b"E'" + doubled.replace(b"\\", b"\\\\") + b"'" if b"\\" in value else b"'" + doubled + b"'"


KNOWN_TEXTS = sqlscan_probe.Known()


def sqlscan(data: bytes) -> Hashable:
    """A text of SQL; the first byte chooses how to read it. What is flagged stays so when more statements follow."""
    if not data:
        return None
    reading, text = data[0] & 7, data[1:]
    found = sqlscan_probe.scan(text, reading)
    flags, proved = found["flags"], found["proved"]
    assert (found["verb"] == "none") == (found["statements"] == 0)
    assert "local_set" not in flags or "sets" in flags
    assert ("calls" in flags) == bool(found["calls"] or found["calls_overflow"])
    assert len(set(found["calls"])) == len(found["calls"])
    if proved is None:
        assert not (found["name"] or found["value"] or found["local"] or found["value_kind"])
    else:
        assert found["statements"] == 1
        assert proved.split()[0] == found["verb"]
        again = sqlscan_probe.scan(b" /*;*/ " + text.removesuffix(b";"), reading)
        assert (again["proved"], again["name"]) == (proved, found["name"])
    more = sqlscan_probe.scan(b"LISTEN a;" + text, reading)["flags"]
    assert flags | {"listens"} == more, "one statement hides nothing of the next"
    if not reading & sqlscan_probe.TRAILING:
        one = sqlscan_probe.scan(text, sqlscan_probe.STANDARD)["flags"]
        other = sqlscan_probe.scan(text, sqlscan_probe.BACKSLASHES)["flags"]
        both = sqlscan_probe.scan(text, sqlscan_probe.UNKNOWN)["flags"]
        assert (one | other) - {"local_set", "calls"} == both - {"local_set", "calls"}
    unsure = sqlscan_probe.scan(text, sqlscan_probe.UNKNOWN | sqlscan_probe.TRAILING)
    assert all(KNOWN_TEXTS.scan(text) == unsure for _ in range(3)), "a known text is the same as when it was new"
    shape = sqlscan_probe.shape(text)
    if shape and not (found["name"] or found["value"] or found["bodies"] or "sets" in flags):
        assert sqlscan_probe.shape(shape) == shape
        assert sqlscan_probe.scan(shape, reading) == found, "a text and its shape are the same"
    for kind, token, closed in sqlscan_probe.tokens(text, reading):
        assert 1 <= kind <= 9
        assert token and (closed or text.endswith(token) or reading & sqlscan_probe.TRAILING)
        sqlscan_probe.fold(token)
    return flags, proved, found["value_kind"], found["statements"] > 1, reading > 1


def _whole(data: bytes) -> list[bytes]:
    """The messages that `data` begins with, whatever is in them."""
    found = []
    while len(data) >= 5 and 4 <= (length := struct.unpack("!I", data[1:5])[0]) < len(data):
        found.append(data[: length + 1])
        data = data[length + 1 :]
    return found


def _drain(server: statements_probe.Server) -> None:
    server.request()
    while server.groups[0] < server.groups[1]:
        server.ready()


def statements(data: bytes) -> Hashable:
    """A client's messages after a byte of settings: first lengths that lie, then two servers that take what they like.

    The client moves to the other server after a Sync; a server answers whatever is due, or an error.
    """
    if not data:
        return None
    limit, texts = 1 + data[0] % 3, statements_probe.Texts()
    client = statements_probe.Client(texts)
    servers = [statements_probe.Server(texts), statements_probe.Server(texts)]
    seen = []
    for have in range(5, min(len(data) - 1, 40)):
        if data[1:2] in (b"B", b"D", b"C", b"P") and data[2:6] >= b"\0\0\0\4":
            trial = statements_probe.Server(texts)
            early = trial.plan(statements_probe.Client(texts), data[1 : 1 + have], limit=limit)
            assert early[0] in (PLAN_PASS, PLAN_SEND, PLAN_NEED_MORE, PLAN_TOO_LONG)
            assert early[2] <= have
    for message in _whole(data[1:])[:1]:
        used = statements_probe.group_used_once(message + data[1 + len(message) :])
        assert used == statements_probe.group_used_once(data[1:] + b"\0") or used == 2
        seen.append((b"once", used))
    for message in _whole(data[1:]):
        server = servers[0]
        if message[:1] in (b"P", b"B", b"D", b"C"):
            seen.append((b"again", client.may_send_again(message + data[1:])))
            verdict, pieces, skip, _ = server.plan(client, message, limit=limit, salt=data[0] & 8)
            if verdict == PLAN_NEED_MORE:  # what stands behind a Bind tells whether the client asks about the rows
                assert message[:1] == b"B"
                verdict, pieces, skip, _ = server.plan(client, message + b"S\0\0\0\4", limit=limit)
            assert verdict in (PLAN_PASS, PLAN_SEND, PLAN_WAIT, PLAN_TOO_LONG)
            sent = pieces + message[skip:]
            assert sum(map(len, _whole(sent))) == len(sent), "no message has a wrong length"
            seen.append((message[:1], verdict, len(_whole(sent))))
        elif message[:1] == b"1":
            seen.append((b"1", server.answer(0x31)))
        elif message[:1] == b"3":
            seen.append((b"3", server.answer(0x33)))
        elif message[:1] == b"E":
            verdict, instead = server.failure(message[5:], 512)
            assert _whole(instead) == ([instead] if instead else [])
            seen.append((b"E", verdict))
        elif message[:1] == b"X":
            server.orphan(client)
            seen.append((b"X", server.answer(0x31)))
            _drain(server)
            client = statements_probe.Client(texts)
        elif message[:1] == b"S":
            server.request()
            if data[0] & 16:
                server.struck(1)
            else:
                server.ready()
            if server.owed_len == 0:
                servers.reverse()
    for server in servers:
        _drain(server)
        assert server.owed_len == 0
        assert server.count == server.entries == len(server.here())
    assert client.stands() == client.planned()
    assert client.count() == len(client.stands())
    return tuple(seen[:5])


def config(data: bytes) -> Hashable:
    """A configuration file, as ini or as TOML: it is read, or every problem is told and no secret of the environment with it.

    Nothing is opened: what would name another file is not.
    """
    environ = {"A": "hunter2 port='hunter2", "U": "postgres://hunter2:hunter2@h:hunter2/d"}
    data = data.replace(b"%include", b"%exclude").replace(b"file:", b"life:")
    text = data[1:].decode("utf-8", "surrogateescape")
    if data[:1] == b"t":
        items = read_toml_text(data[1:].decode("utf-8", "replace"), "f.toml")
    else:
        items = read_ini_text(text, "f.ini", environ)
    loaded = build(items, environ)
    assert (
        all("hunter2" not in problem.text and "\n" not in problem.text for problem in loaded.problems)
        or b"hunter" in data
    )
    kinds = {problem.text.partition(" ")[0] for problem in loaded.problems}
    return data[:1] == b"t", frozenset(kinds), len(loaded.config.databases) > 0, len(loaded.config.users) > 0


def hba(data: bytes) -> Hashable:
    """auth_hba_file: each line is a rule or a problem, and any login finds an answer. Nothing is opened."""
    text = data.replace(b"include", b"exclude").replace(b"@", b"%").decode("utf-8", "surrogateescape")
    rules = parse_rules(text)
    methods = []
    for address in (None, ipaddress.ip_address("10.1.2.3"), ipaddress.ip_address("2001:db8::1")):
        for replication in (False, True):
            for facts in (NOTHING, Facts(roles=frozenset({"ann", "app"}), host="db.example.org")):
                visitor = Visitor(database="app", user="ann", address=address, is_replication=replication)
                try:
                    rule = rules.find(visitor, list, facts)
                except FactWanted as wanted:
                    assert facts is NOTHING
                    methods.append(wanted.kind)
                else:
                    methods.append(rule.method if rule is not None else "")
    assert all(problem.startswith("<auth_hba_file>:") and "\n" not in problem for problem in rules.problems)
    assert len(rules.rules) + len(rules.problems) <= text.count("\n") + 1
    kinds = frozenset(problem.partition(": ")[2] for problem in rules.problems)
    return tuple(methods), kinds, min(len(rules.rules), 3), len(rules.refusing) > 0


def ident(data: bytes) -> Hashable:
    """auth_ident_file, likewise. Expressions of an operator may be slow, those of chance may be too: none is tried."""
    text = (
        data.replace(b"include", b"exclude").replace(b"@", b"%").replace(b"/", b"_").decode("utf-8", "surrogateescape")
    )
    maps = parse_maps(text)
    assert all(problem.startswith("<auth_ident_file>:") for problem in maps.problems)
    fits = tuple(maps.fits(name, "root", "ann", Facts(roles=frozenset({"ann"}))) for name in ("", "m"))
    return fits, len(maps.maps), frozenset(problem.partition(": ")[2] for problem in maps.problems)


def auth_row(data: bytes) -> Hashable:
    """What a server answers to auth_query: whole and byte by byte it comes to the same."""
    seen = []
    for step in (len(data) or 1, 1):
        lookup = AuthLookup(b"select $1", b"ann")
        verdict: object = NEED_DATA
        try:
            for at in range(0, len(data), step):
                lookup.receive_data(data[at : at + step])
                verdict = lookup.next_event()
                if verdict is not NEED_DATA:
                    break
            else:
                lookup.receive_data(b"")
                verdict = lookup.next_event()
        except ServerProtocolError as error:
            seen.append((type(error).__name__, str(error)[:12]))
            continue
        if isinstance(verdict, LookupDone):
            seen.append((type(verdict).__name__, f"{len(verdict.rows)} {verdict.problem} {verdict.error is None}"))
        else:
            seen.append((type(verdict).__name__, ""))
    assert seen[0] == seen[1]
    return seen[0]


def server_login(data: bytes) -> Hashable:
    """What a server says to a login of ours, SCRAM included: whole and byte by byte it comes to the same.

    The first byte says what we have to prove ourselves with.
    """
    secret = OUR_SECRETS[data[0] % len(OUR_SECRETS)] if data else None
    seen = [_server_login(secret, data[1:], step) for step in (len(data) or 1, 1)]
    assert seen[0] == seen[1]
    return seen[0]


def _server_login(secret: Secret | None, data: bytes, step: int) -> Hashable:
    login = ServerLogin(user=b"ann", dbname=b"app", secret=secret, nonce=b"abcdefghijklmnopqr")
    login.data_to_send()
    sent = said = 0
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    for piece in (*pieces, b""):
        login.receive_data(piece)
        while True:
            try:
                event = login.next_event()
            except ServerProtocolError as error:
                return "broken", str(error)[:12], said
            if event is NEED_DATA:
                break
            if isinstance(event, KeysWanted):
                login.provide_keys(derive_keys(b"pencil", b"salt", 1))
            elif not isinstance(event, ServerNotice):
                sent += len(login.data_to_send())
                return type(event).__name__, min(said, 5), sent > 0
            said += 1
        sent += len(login.data_to_send())
        assert sent < 1_000_000, "a server has us talk without end"
    return "cut", min(said, 5)


def userlist(data: bytes) -> Hashable:
    """auth_file: users with secrets, or problems, each with its line."""
    try:
        users = parse_userlist(data)
    except ConfigError as error:
        assert all(problem.file for problem in error.problems)
        return frozenset(problem.text.partition(" ")[0] for problem in error.problems), 0
    secrets = [users.get(name) for name in users]
    assert all(secret is not None for secret in secrets)
    assert "$" not in repr(secrets), "a secret shows"
    return frozenset(secret.kind for secret in secrets if secret is not None), min(len(secrets), 3)


def console(data: bytes) -> Hashable:
    """What a console client sends: whatever it is, each message has an answer, and Sync and Query make ready.

    The first byte says whether an admin speaks; then messages as on the wire, the last one perhaps cut off.
    """
    pooler = Pooler()
    session = session_of(pooler, is_admin=bool(data[:1] != b"0"))
    kinds, at, answers = b"", 1, b""
    while at + 5 <= len(data) and len(kinds) < 50:
        kind, length = data[at : at + 1], int.from_bytes(data[at + 1 : at + 5], "big")
        body = data[at + 5 : at + 1 + min(max(length, 4), MAX_BODY)]
        at += 5 + len(body)
        answer = _at_once(session.answer(kind, body))
        codes = [code for code, _ in Reply.split(answer)]
        assert codes.count(b"Z") == (1 if kind == b"S" or (kind in b"QF" and answer) else 0)
        kinds, answers = kinds + kind, answers + b"".join(codes)
    assert _at_once(session.answer(b"S", b"")).endswith((b"\5I", b"\5T", b"\5E"))
    return kinds[:6], answers[:8], tuple(order.split()[0] for order in pooler.done[:3])


def _at_once(coroutine: Coroutine[object, object, bytes]) -> bytes:
    """Run what does not wait; a checkpoint of trio is stepped over."""
    return trio.run(lambda: coroutine)


def functions(data: bytes) -> Hashable:
    """A database's definitions as its server tells them, then looked up in a text of all their names."""

    def read(pieces: Iterable[bytes]) -> CatalogAnswer | str:
        answer = CatalogAnswer()
        try:
            for piece in pieces:
                answer.receive(piece)
        except (ServerProtocolError, UnicodeError) as error:
            return type(error).__name__
        return answer

    whole = read([data])
    bytewise = read(data[i : i + 1] for i in range(len(data)))
    if isinstance(whole, str) or isinstance(bytewise, str):
        assert whole == bytewise
        return whole
    assert (whole.things, whole.done, whole.unread) == (bytewise.things, bytewise.done, bytewise.unread)
    effects = effects_of(whole.things)
    assert effects == effects_of(reversed(whole.things)), "the order does not matter"
    table = effects_pack(effects.names, sorted(effects.settings), serial=0, generation=1)
    for name, (flags, _) in effects.names.items():
        plain = name.isalpha() and name.isascii() and len(name) < 64
        if flags and plain:
            assert sqlscan_probe.scan(b"select a." + name, effects=table)["hidden"]
    return whole.done, len(whole.things) > 1, frozenset(effects.names.values())


def rows(data: bytes) -> Hashable:
    """A server's answer as the rows of a query of every type, whole and in pieces."""
    whole = _answer(data, [len(data)])
    assert whole == _answer(data, pieces(data)) == _answer(data, [1])
    return whole[:3]


def _answer(data: bytes, sizes: list[int]) -> tuple[Hashable, ...]:
    inbox, found, codes, at, error = Inbox(), [], [], 0, ""
    inbox.expect(EVERY_TYPE, found)
    try:
        for size in cycle(sizes):
            inbox.feed(data[at : at + size])
            at += size
            while code := inbox.next():
                codes.append(code)
            if at >= len(data):
                break
    except ServerProtocolError as broken:
        error = str(broken)
    failure = str(inbox.failure).partition(":")[0] if inbox.failure else ""
    return error, tuple(codes[:6]), failure, repr(found)


@cache
def _tls_contexts() -> tuple[Context, Context, Context]:
    with TemporaryDirectory() as folder:
        authority = Authority(Path(folder))
        server = authority.issue("server")
        return (
            Context(role="server", certificate=server.cert, key=server.key),
            Context(role="server", certificate=server.cert, key=server.key, ca=authority.ca, peer="required"),
            Context(role="client", ca=authority.ca, peer="required"),
        )


def _tls_verdict(session: Session, parts: Iterable[bytes]) -> str:
    try:
        for part in parts:
            assert session.receive(part) == b"", "who has not shown that he is there says nothing"
    except TlsError as error:
        assert error.part == "peer"
        return str(error)
    return "closed" if session.closed else ""


def _cut(text: bytes, sizes: Iterable[int]) -> list[bytes]:
    parts, at = [], 0
    for size in sizes:
        if at >= len(text):
            break
        parts.append(text[at : at + size])
        at += size
    return parts


def tls(data: bytes) -> Hashable:
    """A stranger's bytes instead of TLS; the first chooses the role, or that the records come to a session that stands."""
    if not data:
        return None
    contexts, which, text = _tls_contexts(), data[0] % 4, data[1:]
    if which == 3:
        client, server = Session(contexts[2]), Session(contexts[0])
        client.begin()
        for _ in range(3):
            server.receive(client.take())
            client.receive(server.take())
        assert client.established and server.established
        good = client.send(b"SELECT 1")
        assert server.receive(good[:7]) == b""
        assert server.receive(good[7:]) == b"SELECT 1"
        return _tls_verdict(server, [text])
    found = set()
    for parts in ([text], _cut(text, cycle(pieces(data))) if len(text) > 300 else _cut(text, repeat(1))):
        session = Session(contexts[which])
        if which == 2:
            session.begin()
        found.add(_tls_verdict(session, parts))
    assert len(found) == 1, "it does not matter how the bytes come"
    return which, found.pop()


def parcel(data: bytes) -> Hashable:
    """What another process tells of a client or a server: what is understood is said again in the same way."""
    said = moving_probe.read(data)
    if said is None:
        return None
    again = moving_probe.write(said)
    assert again is not None
    assert moving_probe.read(again) == said
    return tuple(sorted(said)), len(said.get("names", ())) > 1


def takeover(data: bytes) -> Hashable:
    """Packets of another process, each behind two bytes of its length, with a descriptor for each bit of the next one."""
    reader, said, at = Reader(), [], 0
    while at + 3 <= len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        packet, fds = data[at + 3 : at + 3 + length], [7, 8][: data[at + 2] % 3]
        at += 3 + length
        try:
            said.append(type(reader.read(packet, fds)).__name__)
        except ValueError:
            said.append("refused")
            break
    left = reader.left()
    assert left is None or reader.left() is None
    return tuple(said[:4]), left is not None


def handed(data: bytes) -> Hashable:
    """SHOW FDS of a stranger, each stretch behind two bytes of its length and one that says how many descriptors it has."""
    closed: list[int] = []
    reader, said, at, given = Handed(closed.append), [], 0, 0
    try:
        while at + 3 <= len(data):
            length = int.from_bytes(data[at : at + 2], "big")
            fds = [given + n for n in range(data[at + 2] % 3)] if length else []
            given += len(fds)
            reader.receive(data[at + 3 : at + 3 + length], fds)
            at += 3 + length
            while (answer := reader.answer()) is not None:
                closed += [fd for _, fd in answer.rows if fd >= 0]
                said.append((len(answer.rows) > 1, answer.error is not None, answer.asks_password))
    except ServerProtocolError:
        said.append((False, False, False))
    reader.close()
    assert sorted(closed) == list(range(given)), "every descriptor is somebody's, once"
    return tuple(said[:4])


def standing(data: bytes) -> Hashable:
    """A server that was handed over, asked how it stands: it does not matter how its bytes come."""
    if not data:
        return None
    found = set()
    for parts in ([data], _cut(data, repeat(1))):
        ask = Ask()
        try:
            for part in parts:
                ask.receive_data(part)
                if ask.next_event() is not NEED_DATA:
                    break
            said = ask.next_event()
            found.add("more" if said is NEED_DATA else type(said).__name__)
        except ServerProtocolError:
            found.add("refused")
    assert len(found) == 1
    return found.pop()


TARGETS: dict[str, Target] = {
    "server_login": server_login,
    "userlist": userlist,
    "tls": tls,
    "parcel": parcel,
    "takeover": takeover,
    "handed": handed,
    "standing": standing,
    "console": console,
    "functions": functions,
    "rows": rows,
    "scan_client": scan_client,
    "scan_server": scan_server,
    "expect": expect,
    "forwarded": forwarded,
    "startup": startup,
    "login": login,
    "settings": settings,
    "sqlscan": sqlscan,
    "statements": statements,
    "auth_row": auth_row,
    "config": config,
    "hba": hba,
    "ident": ident,
}
