"""auth_hba_file and auth_ident_file: which line is about whom, and what becomes of lines that nobody can understand."""

from __future__ import annotations

import ctypes
import errno
import ipaddress
from pathlib import Path

import attrs
import pytest

from pgpool_core.config import Config, DatabaseConfig
from pgpool_core.control.access import Access, address_of, load_access
from pgpool_core.control.interfaces import own_interfaces
from pgpool_core.control.routing import Refusal
from pgpool_core.errors import ConfigError
from pgpool_core.policy.facts import HOST, ROLES, Facts, FactWanted
from pgpool_core.policy.hba import Visitor, load_rules, parse_rules
from pgpool_core.policy.ident import parse_maps

OWN = [ipaddress.ip_interface("192.0.2.7/24"), ipaddress.ip_interface("2001:db8::7/64")]


def found(text: str, who: str = "ann@app", where: str = "10.1.2.3", **more: bool) -> str:
    """The method of the line that decides about a login, "" where there is none."""
    user, _, database = who.partition("@")
    address = address_of(where) if where != "local" else None
    rule = parse_rules(text).find(Visitor(database=database, user=user, address=address, **more), lambda: OWN)
    return rule.method if rule is not None else ""


@pytest.mark.parametrize(
    ("line", "who", "where", "method"),
    [
        ("host all all 0.0.0.0/0 md5", "ann@app", "10.1.2.3", "md5"),
        ("host all all 0.0.0.0/0 md5", "ann@app", "::1", ""),
        ("host all all 0.0.0.0/0 md5", "ann@app", "::ffff:10.1.2.3", "md5"),
        ("host all all 0.0.0.0/0 md5", "ann@app", "local", ""),
        ("local all all trust", "ann@app", "local", "trust"),
        ("local all all trust", "ann@app", "127.0.0.1", ""),
        ("host all all 10.1.0.0/16 password", "ann@app", "10.1.2.3", "plain"),
        ("host all all 10.2.0.0/16 password", "ann@app", "10.1.2.3", ""),
        ("host all all 10.1.2.3 255.255.255.255 reject", "ann@app", "10.1.2.3", "reject"),
        ("host all all 10.1.0.0 255.255.0.0 md5", "ann@app", "10.1.255.1", "md5"),
        ("host all all 2001:db8::/32 md5", "ann@app", "2001:db8::1", "md5"),
        ("host all all ::1/128 md5", "ann@app", "2001:db8::1", ""),
        ("host all all all scram-sha-256", "ann@app", "10.1.2.3", "scram-sha-256"),
        ("host app,other bob,ann all md5", "ann@app", "10.1.2.3", "md5"),
        ("host app, other bob, ann all md5", "ann@other", "10.1.2.3", "md5"),
        ("host other all all md5", "ann@app", "10.1.2.3", ""),
        ("host sameuser all all md5", "ann@app", "10.1.2.3", ""),
        ("host sameuser all all md5", "ann@ann", "10.1.2.3", "md5"),
        ('host "all" all all md5', "ann@app", "10.1.2.3", ""),
        ('host "all" all all md5', "ann@all", "10.1.2.3", "md5"),
        ('host all "a ""b,c" all md5', 'a "b,c@app', "10.1.2.3", "md5"),
        ("host /^ap all all md5", "ann@app", "10.1.2.3", "md5"),
        ("host /^ap$ all all md5", "ann@app", "10.1.2.3", ""),
        ('host all "/^(ann|b,c)$" all md5', "b,c@app", "10.1.2.3", "md5"),
        ("host all all samehost md5", "ann@app", "192.0.2.7", "md5"),
        ("host all all samehost md5", "ann@app", "192.0.2.8", ""),
        ("host all all samenet md5", "ann@app", "192.0.2.8", "md5"),
        ("host all all samenet md5", "ann@app", "2001:db8::ffff", "md5"),
        ("host all all samenet md5", "ann@app", "10.1.2.3", ""),
        ("hostssl all all all md5", "ann@app", "10.1.2.3", ""),
        ("hostnossl all all all md5", "ann@app", "10.1.2.3", "md5"),
        ("hostgssenc all all all md5", "ann@app", "10.1.2.3", ""),
        ("hostnogssenc all all all md5", "ann@app", "10.1.2.3", "md5"),
        ("host sameuser all all md5", "ann@sameuser", "10.1.2.3", ""),
        ('host "sameuser" all all md5', "ann@sameuser", "10.1.2.3", "md5"),
        ("host replication all all md5", "ann@replication", "10.1.2.3", ""),
        ('host "replication" all all md5', "ann@replication", "10.1.2.3", "md5"),
        ("host all all 10.1.2.99/24 md5", "ann@app", "10.1.2.3", "md5"),
        ("host all all ::ffff:0:0/96 md5", "ann@app", "::ffff:10.1.2.3", ""),
        ("host all all all md5 # a comment", "ann@app", "10.1.2.3", "md5"),
        ("host all \\\n  all all \\\n md5", "ann@app", "10.1.2.3", "md5"),
        ("host all all all reject\\", "ann@app", "10.1.2.3", "reject"),
        (",host all,,app ,bob,,ann all md5,", "ann@app", "10.1.2.3", "md5"),
        ('"host" all all all "reject"', "ann@app", "10.1.2.3", "reject"),
        ("local all all ident", "ann@app", "local", "peer"),
        ("\ufeff\r\nhost all all all md5\r", "ann@app", "10.1.2.3", "md5"),
    ],
)
def test_a_line_is_about_these_logins(line: str, who: str, where: str, method: str) -> None:
    rules = parse_rules(line.removeprefix("\ufeff"))
    assert rules.problems == ()
    assert found(line.removeprefix("\ufeff"), who, where) == method


@pytest.mark.parametrize(
    ("line", "who", "roles", "method"),
    [
        ("host all +staff all md5", "ann@app", {"ann", "staff"}, "md5"),
        ("host all +staff all md5", "ann@app", {"ann"}, ""),
        ("host all +ann all md5", "ann@app", {"ann"}, "md5"),
        ("host all bob,+ops,+staff all md5", "ann@app", {"ann", "staff"}, "md5"),
        ('host all "+staff" all md5', "ann@app", {"ann", "staff"}, ""),
        ('host all "+staff" all md5', "+staff@app", {"ann"}, "md5"),
        ("host all +staff all md5", "+staff@app", set(), ""),
        ("host samerole all all md5", "ann@app", {"ann", "app"}, "md5"),
        ("host samegroup all all md5", "ann@app", {"ann", "app"}, "md5"),
        ("host samerole all all md5", "ann@ann", {"ann"}, "md5"),
        ("host samerole all all md5", "ann@app", {"ann"}, ""),
        ('host "samerole" all all md5', "ann@samerole", set(), "md5"),
        ("host samerole all all md5", "ann@samerole", {"ann"}, ""),
    ],
)
def test_membership_in_roles(line: str, who: str, roles: set[str], method: str) -> None:
    rules = parse_rules(line)
    assert rules.problems == ()
    user, _, database = who.partition("@")
    visitor = Visitor(database=database, user=user, address=address_of("10.1.2.3"))
    rule = rules.find(visitor, lambda: OWN, Facts(roles=frozenset(roles)))
    assert (rule.method if rule else "") == method


@pytest.mark.parametrize(
    ("where", "host", "fits"),
    [
        ("db.example.org", "db.example.org", True),
        ("DB.example.org.", "db.Example.org", True),
        ("db.example.org", "x.db.example.org", False),
        (".example.org", "x.db.example.org", True),
        (".example.org", "example.org", False),
        ("db.example.org", "", False),
        ("7zip.example.org", "7zip.example.org", True),
        ("localhost", "localhost", True),
        ('"all"', "all", True),
    ],
)
def test_names_of_hosts(where: str, host: str, fits: bool) -> None:
    rules = parse_rules(f"host all all {where} md5")
    assert rules.problems == ()
    visitor = Visitor(database="app", user="ann", address=address_of("10.1.2.3"))
    assert (rules.find(visitor, lambda: OWN, Facts(host=host)) is not None) is fits


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("host all +staff all md5", ROLES),
        ("host samerole all all md5", ROLES),
        ("host all all db.example.org md5", HOST),
        ("host all +staff db.example.org md5", HOST),
        ("host all ann,+staff all md5", ""),
        ("host other +staff all md5", ""),
        ("host all bob db.example.org md5", ""),
        ("hostssl all +staff all md5", ""),
        ("host all +staff 192.0.2.0/24 md5", ""),
        ("local all +staff md5", ""),
        ("host app,samerole all all md5", ""),
    ],
)
def test_nothing_is_asked_that_does_not_decide(line: str, wanted: str) -> None:
    visitor = Visitor(database="app", user="ann", address=address_of("10.1.2.3"))
    if not wanted:
        parse_rules(line).find(visitor, lambda: OWN)
        return
    with pytest.raises(FactWanted) as caught:
        parse_rules(line).find(visitor, lambda: OWN)
    assert caught.value.kind == wanted


def test_a_map_may_name_the_members_of_a_role() -> None:
    maps = parse_maps(MAPS)
    staff = Facts(roles=frozenset({"ann", "staff"}))
    assert maps.fits("m", "fred", "ann", staff)
    assert not maps.fits("m", "fred", "ann", Facts(roles=frozenset({"ann"})))
    assert maps.fits("m", "gail", "+staff") and not maps.fits("m", "gail", "ann", staff)
    with pytest.raises(FactWanted):
        maps.fits("m", "fred", "ann")


def test_the_first_line_that_fits_decides() -> None:
    text = "host app ann 10.0.0.0/8 reject\nhost all all 10.0.0.0/8 md5\nhost all all all trust\n"
    assert [found(text, "ann@app"), found(text, "bob@app"), found(text, "bob@app", "192.0.2.9")] == [
        "reject",
        "md5",
        "trust",
    ]


def test_physical_replication_is_not_among_all() -> None:
    assert found("host all all all md5", is_replication=True) == ""
    assert found("host replication all all md5", is_replication=True) == "md5"
    assert found("host replication all all md5", "ann@app") == ""


@pytest.mark.parametrize(
    "line",
    [
        "hosts all all all md5",
        "host all all md5",
        "host all all 10.0.0.0/33 md5",
        "host all all 10.0.0.0 255.0.255.0 md5",
        "host all all 10.0.0.0 ffff:: md5",
        "host all all ::1 255.255.255.255 md5",
        "host all all 10.0.0.0/255.0.0.0 md5",
        "host all all 10.0.0.0/0.255.255.255 md5",
        "host all /^[[:nonsense:]]$ all md5",
        "host all /^[[.a.]]$ all md5",
        "host all /^[a all md5",
        "host all all 10.0.0.0 md5",
        "host all all 10.0.0.256 md5",
        "host all all db-.example.org md5",
        "host all all all",
        "host all all all magic",
        "host all all all peer",
        "host all + all md5",
        "host +staff all all md5",
        "host all /( all md5",
        "host all all all md5 map=x",
        "host all all all md5 nonsense",
        'host all "ann all md5',
        "host all @nowhere all md5",
        "host all all 10.0.0.1/32,10.0.0.2/32 md5",
        "local all all trust trust",
        "include nowhere.conf",
        "host all all all m\0d5",
    ],
)
def test_a_line_that_cannot_be_understood_is_left_out_and_told(line: str) -> None:
    rules = parse_rules(f"{line}\nhost all all all md5\n", "f.conf")
    assert [rule.method for rule in rules.rules] == ["md5"]
    assert len(rules.problems) == 1
    assert rules.problems[0].startswith("f.conf:1: ")


@pytest.mark.parametrize("method", ["ldap ldapserver=x", "pam", "gss", "ident map=m", "radius"])
def test_a_method_that_is_not_there_refuses_whom_its_line_fits(method: str) -> None:
    """Were the line left out, a later one might let them in."""
    text = f"host all ann all {method}\nhost all all all trust\n"
    assert (found(text, "ann@app"), found(text, "bob@app")) == ("reject", "trust")
    assert len(parse_rules(text).refusing) == 1


def test_other_files_are_brought_in(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "10.conf").write_text("host one all all md5\n")
    (tmp_path / "more" / "20.conf").write_text("host two all all trust\n")
    (tmp_path / "more" / "ignored").write_text("host all all all trust\n")
    (tmp_path / "names").write_text("three, four\nfive # six\n")
    (tmp_path / "main").write_text(
        "include_dir more\ninclude_if_exists nowhere\nhost @names all all reject\ninclude main2\n"
    )
    (tmp_path / "main2").write_text("host six all all scram-sha-256\ninclude main\n")
    rules = load_rules(str(tmp_path / "main"))
    methods = {}
    for name in ("one", "two", "three", "five", "six", "seven"):
        visitor = Visitor(database=name, user="ann", address=ipaddress.ip_address("10.0.0.1"))
        rule = rules.find(visitor, list)
        methods[name] = rule.method if rule else ""
    assert methods == {
        "one": "md5",
        "two": "trust",
        "three": "reject",
        "five": "reject",
        "six": "scram-sha-256",
        "seven": "",
    }
    assert [text.rpartition(": ")[2] for text in rules.problems] == [f"{tmp_path}/main includes itself"]


def test_a_line_for_gssapi_is_about_nobody_who_comes_by_tls() -> None:
    text = "hostgssenc all all all trust\nhostssl all all all scram-sha-256\n"
    assert found(text, is_encrypted=True) == "scram-sha-256"


@pytest.mark.parametrize(
    ("expression", "fit", "do_not"),
    [
        ("^ann$", ["ann"], ["ann\n", "anna"]),
        ("^a.b$", ["a\nb", "axb"], ["ab"]),
        ("^[[:alpha:]]+$", ["ann", "Bob"], ["ann1", "a:l", "é"]),
        ("^[^[:digit:]_]+$", ["ann"], ["a_b", "a1"]),
        (r"\mapp\M", ["my app", "app-1"], ["apple", "snapp"]),
        (r"^\yann\y", ["ann", "ann-b"], ["anna"]),
        ("^[]a]+$", ["]a"], ["[a"]),
        ("^[a[]$", ["["], ["b"]),
        (r"^cost\$$", ["cost$"], ["cost"]),
        ("^(?:ann|bob)_[0-9]{2}$", ["ann_01"], ["ann_1", "eve_01"]),
        ("(?i)^ANN$", ["ann", "Ann"], ["bob"]),
        (r"\bann\b", ["\bann\b"], ["ann", "\\bann\\b"]),
        (r"a\Bb", ["a\\b"], ["ab", "abb"]),
        ("^an{,1}$", ["an{,1}"], ["an", "a"]),
        ("^(é)?.$", ["éa", "a"], ["é", "aé"]),
        ("^[^a]{2}$", ["é", "bb"], ["b", "ab"]),
        (r"^[\w\-]+$", ["a-b"], ["é", "a\\"]),
    ],
)
def test_expressions_fit_what_they_fit_in_postgresql(expression: str, fit: list[str], do_not: list[str]) -> None:
    line = f'host all "/{expression}" all md5'
    assert parse_rules(line).problems == ()
    fitting = [name for name in [*fit, *do_not] if found(line, f"{name}@app") == "md5"]
    assert fitting == fit


@pytest.mark.parametrize(
    "expression",
    [
        *(
            "ann*+",
            "ann++",
            "an{2}+",
            "a**",
            "a*{2}",
            "(?>ann)",
            "(?P<who>ann)",
            "(?i:ann)",
            "(?x)ann",
            "ann(?i)",
            "(?(1)a|b)",
        ),
        *("ann{256}", "ann{2", "ann{2,1}", "(?=ann)*", r"\y*ann", "^*ann", r"\x61nn", r"\u0061nn", r"\Q", "(a)\\10"),
        *("[[:<:]]ann", "[[:^alpha:]]", "[a-\\d]", "[a-n-z]", "[n-a]", "***=ann", "ann\\"),
    ],
)
def test_what_postgresql_does_not_take_or_reads_in_another_way_is_no_expression(expression: str) -> None:
    rules = parse_rules(f'host all "/{expression}" all md5')
    assert rules.rules == () and len(rules.problems) == 1


def test_a_name_that_is_captured_is_whole() -> None:
    maps = parse_maps("m /^(.*)@x$ \\1")
    assert maps.fits("m", "zoé@x", "zoé") and maps.fits("m", "zo\udce9@x", "zo\udce9")


def test_what_a_map_has_captured_is_a_name_and_nothing_else() -> None:
    maps = parse_maps(
        """
        m  /^(.*)@x$         \\1
        n  /^(.*)@x$         +\\1
        o  /^a?(b)?@x$       root\\1
        """
    )
    assert maps.problems == ()
    assert maps.fits("m", "all@x", "all") and not maps.fits("m", "all@x", "ann")
    assert not maps.fits("n", "staff@x", "ann", Facts(roles=frozenset({"ann", "staff"})))
    assert maps.fits("n", "staff@x", "+staff")
    assert maps.fits("o", "b@x", "rootb") and not maps.fits("o", "a@x", "root")


@pytest.mark.parametrize(
    ("line", "warned"),
    [
        ("host all all 10.0.0.0/8 trust", True),
        ("hostssl all all samenet trust", True),
        ("host all all db.example.org trust", True),
        ("host all all 8.8.8.8/32 password", True),
        ("host all all fd00::/16 password", True),
        ("hostssl all all all password", False),
        ("hostssl all all all trust clientcert=verify-full", False),
        ("host all all 127.0.0.0/8 trust", False),
        ("host all all ::1/128 trust", False),
        ("host all all samehost trust", False),
        ("local all all trust", False),
        ("host all all all scram-sha-256", False),
        ("host all all all reject", False),
    ],
)
def test_a_line_that_lets_others_in_without_proof_is_told(tmp_path: Path, line: str, warned: bool) -> None:
    path = tmp_path / "hba.conf"
    path.write_text(f"{line}\n")

    def warnings(address: str = "0.0.0.0", allowed: bool = False, sslmode: str = "allow") -> tuple[str, ...]:
        config = Config(
            databases={"app": DatabaseConfig()},
            auth_type="hba",
            auth_hba_file=str(path),
            listen_addr=(address,),
            allow_open_auth=allowed,
            client_tls_sslmode=sslmode,
        )
        return load_access(config, strict=True).warnings()

    assert [text for text in warnings() if text.startswith(f"{path}:1: ")] == list(warnings())
    assert bool(warnings()) is warned
    assert warnings(address="127.0.0.1") == warnings(allowed=True) == ()
    if "password" in line:
        assert warnings(sslmode="require") == ()


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize(
    "line",
    [
        *("host all all all trust", "host app,other ann all trust", "hostssl all all 0.0.0.0/0 trust"),
        *("host all all ::/0 trust", "host all all 128.0.0.0/1 trust", "host all all 10.0.0.0 254.0.0.0 trust"),
        *("host all all 8.8.8.0/24 trust", "host replication all 2000::/3 trust", "host all all 127.0.0.0/7 trust"),
        *("host all all all password", "hostnossl all all ::/0 password"),
    ],
)
def test_a_line_that_lets_everybody_in_without_proof_is_an_error(tmp_path: Path, line: str, strict: bool) -> None:
    path = tmp_path / "hba.conf"
    path.write_text(f"local all all trust\n{line}\n")
    config = Config(
        databases={"app": DatabaseConfig()},
        auth_type="hba",
        auth_hba_file=str(path),
        listen_addr=("::1", "10.0.0.1"),
        client_tls_sslmode="allow",
    )
    with pytest.raises(ConfigError) as caught:
        load_access(config, strict=strict)
    (problem,) = caught.value.problems
    assert problem.text.startswith(f"{path}:2: {line.split()[-1]} ")
    assert "whoever reaches listen_addr 10.0.0.1" in problem.text and "allow_open_auth" in problem.text
    for harmless in (attrs.evolve(config, allow_open_auth=True), attrs.evolve(config, listen_addr=("::1",))):
        assert load_access(harmless, strict=strict).warnings() == ()
    encrypted = attrs.evolve(config, client_tls_sslmode="require")
    if "password" in line:
        assert load_access(encrypted, strict=strict).warnings() == ()
    else:
        with pytest.raises(ConfigError):
            load_access(encrypted, strict=strict)


MAPS = r"""
m  root     postgres
m  ann      all
m  /^(.*)@x$  \1
m  bob      "all"
m  eve      /^e
m  fred     +staff
m  gail     "+staff"
"""


@pytest.mark.parametrize(
    ("name", "system_user", "user", "may"),
    [
        ("m", "root", "postgres", True),
        ("m", "root", "ann", False),
        ("m", "ann", "whoever", True),
        ("m", "carl@x", "carl", True),
        ("m", "carl@x", "dora", False),
        ("m", "bob", "whoever", False),
        ("m", "bob", "all", True),
        ("m", "eve", "else", True),
        ("m", "eve", "adam", False),
        ("n", "root", "postgres", False),
        ("", "ann", "ann", True),
        ("", "ann", "bob", False),
        ("", "", "", True),
    ],
)
def test_maps_say_who_may_be_whom(name: str, system_user: str, user: str, may: bool) -> None:
    maps = parse_maps(MAPS)
    assert maps.problems == ()
    assert maps.fits(name, system_user, user) is may


@pytest.mark.parametrize(
    "line", ["m root", "m root a b", r"m root \1", "m root +", "m /( x", "m a,b c", "m /^(a+)+$ x"]
)
def test_a_bad_line_of_a_map_is_told(line: str) -> None:
    maps = parse_maps(f"{line}\nm root x\n", "i.conf")
    assert [text.partition(": ")[0] for text in maps.problems] == ["i.conf:1"]
    assert maps.fits("m", "root", "x")


@pytest.mark.parametrize(
    "expression",
    ["^(deploy|deploy_ro)", "^(deploy|deploy_ro)$", "^(?:a|ab)(.*)$", "^(.*?)@x$", "^(.*)@x", "(a*)(?:b|c)"],
)
def test_what_other_engines_capture_otherwise_gives_nobody_a_name(expression: str) -> None:
    """PostgreSQL takes the longest of `deploy|deploy_ro`, Python's `re` the first."""
    maps = parse_maps(f"m /{expression} \\1")
    assert len(maps.problems) == 1 and "has to end with $" in maps.problems[0]
    assert not maps.fits("m", "deploy_ro", "deploy")


@pytest.mark.parametrize(
    "expression", ["^(.*)@x\\.(com|org)$", "^cn=([^,]+)(,.*)?$", "([a-z]+)$", "^([a-z]{1,63})(_[a-z]+){0,3}$"]
)
def test_what_every_engine_captures_alike_is_a_name(expression: str) -> None:
    assert parse_maps(f'm "/{expression}" \\1').problems == ()


@pytest.mark.parametrize(
    "expression",
    [
        "^(a+)+$",
        "^([a-z0-9]+_?)+$",
        "(?:a|aa)*b",
        "(?:(?:x{1,3}y)*z)*$",
        "a*a*a*a*$",
        "(a{1,16}){1,16}$",
        "(?:a|ab){4}",
    ],
)
def test_an_expression_that_can_take_for_ever_is_refused(expression: str) -> None:
    rules = parse_rules(f'local all "/{expression}" trust')
    assert rules.problems and "for ever" in rules.problems[0]


def test_what_is_decided_is_said_in_pgbouncers_words() -> None:
    access = Access(
        rules=parse_rules("host app all 10.0.0.1/32 reject\nlocal all all peer map=m"), maps=parse_maps(MAPS)
    )
    inside = Visitor(database="app", user="ann", address=ipaddress.ip_address("10.0.0.1"))
    outside = Visitor(database="app", user="ann", address=ipaddress.ip_address("10.0.0.2"))
    peer = Visitor(database="app", user="postgres", address=None)
    told = [access.method(inside, None), access.method(outside, None), access.method(peer, 4_000_000_000)]
    assert [each.text for each in told if isinstance(each, Refusal)] == [
        "login rejected",
        "no authentication method is found",
        "unix socket login rejected",
    ]
    assert access.method(peer, 0) == "peer"


CERTIFICATES = """
hostssl app ann all cert
hostssl app all all cert map=m
hostssl one all all md5 clientcert=verify-ca
hostssl two all all md5 clientcert=verify-full
hostnossl all all all password
"""


@pytest.mark.parametrize(
    ("database", "user", "names", "told"),
    [
        ("app", "ann", ("ann",), "cert"),
        ("app", "ann", ("x", "ann"), "cert"),
        ("app", "ann", ("Ann",), ""),
        ("app", "ann", (), ""),
        ("app", "postgres", ("root",), "cert"),
        ("app", "postgres", ("x", "root"), ""),
        ("app", "postgres", ("postgres",), ""),
        ("one", "ann", ("anybody",), "md5"),
        ("one", "ann", (), ""),
        ("two", "ann", ("ann",), "md5"),
        ("two", "ann", ("bob",), ""),
        ("app", "ann", None, "plain"),
    ],
)
def test_certificates(database: str, user: str, names: tuple[str, ...] | None, told: str) -> None:
    access = Access(rules=parse_rules(CERTIFICATES), maps=parse_maps(MAPS))
    assert access.problems() == ()
    visitor = Visitor(
        database=database,
        user=user,
        address=ipaddress.ip_address("10.0.0.1"),
        is_encrypted=names is not None,
        certificate=names or (),
    )
    method = access.method(visitor, None)
    assert (method if isinstance(method, str) else "") == told


@pytest.mark.parametrize(
    "line",
    [
        "host all all all cert",
        "host all all all md5 clientcert=verify-ca",
        "hostssl all all all md5 clientcert=1",
        "hostssl all all all md5 clientcert=",
        'hostssl all all all md5 clientcert=""',
        "hostssl all all all md5 map=m",
        "hostssl all all all md5 map=",
    ],
)
def test_certificates_where_there_are_none(line: str) -> None:
    assert parse_rules(line).problems


def test_the_interfaces_of_this_machine_are_known() -> None:
    assert any(each.ip.is_loopback for each in own_interfaces())


def test_where_the_system_does_not_tell_its_interfaces_there_are_none_and_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Refusing:
        def __init__(self, name: None, *, use_errno: bool) -> None: ...

        def getifaddrs(self, first: object) -> int:
            ctypes.set_errno(errno.EAFNOSUPPORT)
            return -1

    monkeypatch.setattr(ctypes, "CDLL", Refusing)
    assert [own_interfaces(), own_interfaces()] == [[], []]
    [record] = caplog.records
    assert "Address family not supported by protocol" in record.getMessage()


def test_at_start_bad_lines_are_left_out_at_reload_they_are_errors(tmp_path: Path) -> None:
    file = tmp_path / "hba"
    file.write_text("nonsense\nhost all all all md5\n")
    config = Config(databases={"a": DatabaseConfig(host="h")}, auth_type="hba", auth_hba_file=str(file))
    assert len(load_access(config, strict=False).rules.rules) == 1
    with pytest.raises(ConfigError, match="hba:1: a line begins with local"):
        load_access(config, strict=True)
    with pytest.raises(ConfigError, match="cannot be read"):
        load_access(Config(auth_type="hba", auth_hba_file=str(tmp_path / "nowhere")), strict=False)
    with pytest.raises(ConfigError, match="needs auth_hba_file"):
        load_access(Config(auth_type="hba"), strict=False)
