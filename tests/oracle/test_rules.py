"""auth_hba_file: what a line says, and which line decides about a login, beside PostgreSQL: its view of the same file, and logins to it."""

from __future__ import annotations

import ipaddress
import random
import re
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest

from pgpool_core.policy.facts import Facts
from pgpool_core.policy.hba import Rule, Visitor, load_rules
from pgpool_core.testing import PostgresServer, frontend

DATABASES = (
    "app",
    "all",
    "staff",
    "ann",
    "App",
    "a b",
    'q"t',
    "x,y",
    "h#h",
    "déjà",
    "a\\",
    "sameuser",
    "samerole",
    "replication",
)
USERS = ("ann", "bob", "staff", "all", "Ann", "a b", 'q"t', "x,y", "h#h", "déjà", "+staff", "b\\")
ROLES = {"ann": {"ann", "staff", "ops"}, "bob": {"bob", "ops"}, "staff": {"staff", "ops"}}
ADDRESSES = (
    *(
        "all",
        "samehost",
        "127.0.0.1/32",
        "127.0.0.0/8",
        "127.0.0.5/30",
        "0.0.0.0/0",
        "::/0",
        '"127.0.0.2/31"',
        "10.0.0.0/8",
    ),
    *("127.0.0.1 255.255.255.255", "127.0.0.1 0.0.0.0", "127.0.0.0 255.0.0.0"),
    *(
        "127.0.0.0/33",
        "127.0.0.1",
        "127.0.0.1 ::1",
        "127.0.0.0/-1",
        "127.0.0.0/",
        "127.0.0.1/32,127.0.0.2/32",
        "127.0.0.0/8x",
    ),
)
METHODS = (
    "trust",
    "reject",
    "md5",
    "password",
    "scram-sha-256",
    '"md5"',
    "Trust",
    "magic",
    "md5 nonsense",
    "peer",
    "md5,trust",
    "md5 map=m",
    "",
)
KINDS = (
    "local",
    "local",
    "host",
    "host",
    "host",
    "host",
    "host",
    "hostnossl",
    "hostnogssenc",
    '"host"',
    "Host",
    "hosts",
    "host,local",
)
FILES = {"names": 'ann, bob\nstaff # a comment\n"all"\n', "empty": "# nobody\n"}


def is_chosen(problem: str, address: str | None) -> bool:
    """Whether PostgreSQL takes what we tell of: `+role` for the name of a database, anything for a host's; it leaves out a field without words."""
    if "an address is" in problem:
        return address is not None and re.search(r"[^0-9a-f.:]", address) is not None
    return "+role is for users" in problem or "has no words" in problem


def written(chance: random.Random, name: str) -> str:
    """A name as a file may have it."""
    if chance.random() < 0.2 or any(each in name for each in ' ,"#'):
        return '"' + name.replace('"', '""') + '"'
    at = chance.randrange(len(name))
    return f'{name[:at]}"{name[at:]}"' if at and chance.random() < 0.1 else name


def field(chance: random.Random, names: Sequence[str], keywords: Sequence[str]) -> str:
    words = []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        kind = chance.random()
        if kind < 0.55:
            words.append("all")
        elif kind < 0.65:
            words.append(chance.choice(keywords))
        elif kind < 0.7:
            words.append(chance.choice(("@names", "@nowhere", "@empty", '"@names"')))
        else:
            words.append(written(chance, chance.choice(names)))
    return chance.choice((",", ",", ", ", ",,", " ,")).join(words) + chance.choice(("",) * 12 + (",",))


def line(chance: random.Random) -> str:
    kind = chance.choice(KINDS)
    words = [kind, field(chance, DATABASES, ("sameuser", "samerole", "samegroup", "replication", "+staff"))]
    words.append(field(chance, USERS, ("+staff", "+ops", "+nobody")))
    if kind != "local":
        words.append(chance.choice(ADDRESSES[:12] if chance.random() < 0.9 else ADDRESSES))
    words.append(chance.choice(METHODS[:5] if chance.random() < 0.9 else METHODS))
    if chance.random() < 0.05:
        words.pop(chance.randrange(len(words)))
    text = chance.choice(("", " ", "\t", "", "", ","))
    for word in words:
        text += word + chance.choice((" ", "  ", "\t", " ", " ", " \\\n ", "\\\n"))
    return text.rstrip(" \t\\\n") + chance.choice(("",) * 8 + (" # a comment", "#", "\r", " \\\n"))


def described(rule: Rule) -> tuple[object, ...]:
    words = ([word.text for word in names.words] for names in (rule.databases, rule.users))
    return (rule.kind, *words, rule.written)


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer(settings={"listen_addresses": "127.0.0.1", "password_encryption": "md5"}) as running:
        running.sql(
            "create role ops; create role staff in role ops; create role ann in role staff; create role bob in role ops"
        )
        yield running


Put = Callable[[str, str], Path]


@pytest.fixture(scope="module")
def put(server: PostgresServer) -> Put:
    def write(name: str, text: str) -> Path:
        assert server.data_dir is not None
        path = server.data_dir / name
        path.write_bytes(text.encode())
        server.account.own(path)
        return path

    for name, text in FILES.items():
        write(name, text)
    return write


def asked(server: PostgresServer, visitor: Visitor) -> str:
    """What PostgreSQL wants of a client, or why it refuses it."""
    if visitor.address is None:
        client = socket.socket(socket.AF_UNIX)
        client.connect(f"{server.socket_dir}/.s.PGSQL.{server.port}")
    else:
        client = socket.create_connection((server.host, server.port), source_address=(str(visitor.address), 0))
    with client, client.makefile("rb") as answers:
        more = {"replication": "true"} if visitor.is_replication else {}
        client.sendall(frontend.startup(visitor.user, visitor.database, **more))
        code, length = struct.unpack("!cI", answers.read(5))
        body = answers.read(length - 4)
    if code == b"R":
        return {0: "trust", 3: "plain", 5: "md5", 10: "scram-sha-256"}[int.from_bytes(body[:4], "big")]
    return "reject" if b"rejects" in body else "none" if b"no pg_hba.conf entry" in body else body.decode()


@pytest.mark.parametrize("seed", range(3))
def test_a_line_says_and_decides_what_it_does_in_postgresql(server: PostgresServer, put: Put, seed: int) -> None:
    chance = random.Random(seed)
    decided = 0
    with psycopg.connect(server.dsn("postgres", "postgres", unix=True), autocommit=True) as console:
        for number in range(25):
            lines = [line(chance) for _ in range(chance.randrange(1, 9))]
            path = put("pg_hba.conf", "\n".join(lines) + chance.choice(("\n", "", "\\")))
            rows = console.execute(
                "select line_number, type, database, user_name, auth_method, address, error from pg_hba_file_rules order by line_number"
            ).fetchall()
            rules = load_rules(str(path))
            ours = {rule.number: rule for rule in rules.rules}
            told = {int(problem.split(":")[1]): problem for problem in rules.problems}
            assert {row[0] for row in rows} == {*ours, *told}, path.read_text()
            for at, *its, address, error in rows:
                if at in ours:
                    assert error is None and described(ours[at]) == tuple(its), path.read_text()
                else:
                    assert error is not None or is_chosen(told[at], address), (told[at], path.read_text())

            before = f"local all postgres trust\nlocal reloaded-{seed}-{number} nobody reject\n"
            good, at = [], 1  # PostgreSQL takes a file without mistakes only
            for text in lines:
                if at in ours and not text.rstrip("\r").endswith("\\\n"):
                    good.append(text)
                at += text.count("\n") + 1
            path = put("pg_hba.conf", before + "\n".join(good) + "\n")
            rules = load_rules(str(path))
            assert rules.problems == ()
            console.execute("select pg_reload_conf()")
            sign = Visitor(database=f"reloaded-{seed}-{number}", user="nobody", address=None)
            while asked(server, sign) != "reject":
                pass
            for _ in range(20):
                where = chance.choice((None, "127.0.0.1", "127.0.0.2", "127.0.0.6", "127.1.2.3"))
                visitor = Visitor(
                    database=chance.choice(DATABASES),
                    user=chance.choice(USERS),
                    address=ipaddress.ip_address(where) if where is not None else None,
                    is_replication=chance.random() < 0.1,
                )
                facts = Facts(roles=frozenset(ROLES.get(visitor.user, ())), host="")
                rule = rules.find(visitor, lambda: [ipaddress.ip_interface("127.0.0.1/8")], facts)
                method = rule.method if rule is not None else "none"
                if method == "peer":
                    continue
                assert asked(server, visitor) == method, (visitor, path.read_text())
                decided += method != "none"
    assert decided > 60
