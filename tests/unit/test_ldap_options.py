"""Options of LDAP as PostgreSQL and PgBouncer write them, what contradicts itself in them, and names that are more than names."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import attrs
import pytest

from pgpool_core.config import Config, DatabaseConfig
from pgpool_core.control.access import address_of, load_access
from pgpool_core.errors import ConfigError
from pgpool_core.policy.hba import Visitor, parse_rules
from pgpool_core.policy.ldap import LdapOptions, parse_options

SEARCH = LdapOptions(servers=("h",), port=389, base="dc=net")


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (
            'ldapserver=h ldapprefix="cn=" ldapsuffix=", dc=example, dc=net"',
            LdapOptions(servers=("h",), port=389, prefix="cn=", suffix=", dc=example, dc=net"),
        ),
        ("ldapserver=h ldapport=12 ldapsuffix=@x.org", LdapOptions(servers=("h",), port=12, suffix="@x.org")),
        ('ldapserver="h i" ldapbasedn="dc=net"', LdapOptions(servers=("h", "i"), port=389, base="dc=net")),
        (
            "ldapserver=h ldapbasedn=dc=a,dc=net ldaptls=1",
            LdapOptions(servers=("h",), port=389, starttls=True, base="dc=a,dc=net"),
        ),
        (
            "ldapserver=h ldapscheme=ldaps ldapbasedn=dc=net ldapbinddn=cn=r ldapbindpasswd=p ldapsearchattribute=cn",
            LdapOptions(
                servers=("h",), port=636, secure=True, base="dc=net", bind_dn="cn=r", bind_password="p", attribute="cn"
            ),
        ),
        (
            'ldapserver=h ldapbasedn=dc=net ldapsearchfilter="(|(uid=$username)(mail=$username))"',
            LdapOptions(servers=("h",), port=389, base="dc=net", filter="(|(uid=$username)(mail=$username))"),
        ),
        (
            'ldapurl="ldap://127.0.0.1:12345/dc=example,dc=net?uid?sub"',
            LdapOptions(servers=("127.0.0.1",), port=12345, base="dc=example,dc=net"),
        ),
        (
            'ldapurl="ldaps://h/dc=a%20b,dc=net?cn?one?(uid=$username)"',
            LdapOptions(
                servers=("h",), port=636, secure=True, base="dc=a b,dc=net", scope="one", filter="(uid=$username)"
            ),
        ),
        ('ldapurl="ldap://[::1]:9/dc=net"', LdapOptions(servers=("::1",), port=9, base="dc=net", scope="base")),
        ('ldapurl="ldap://[::1]/dc=net"', LdapOptions(servers=("::1",), port=389, base="dc=net", scope="base")),
        ('ldapserver=h ldapprefix="" ldapsuffix="@x.org"', LdapOptions(servers=("h",), port=389, suffix="@x.org")),
        (
            'ldapserver=h ldapbasedn="dc=net" ldapbinddn="" ldapbindpasswd="" ldapsearchattribute="" ldapsearchfilter=""',
            SEARCH,
        ),
        (
            'ldapserver=h ldapbasedn="" ldapsearchattribute=cn',
            LdapOptions(servers=("h",), port=389, base="", attribute="cn"),
        ),
        (
            'ldapurl="ldaps://h/?cn?sub"',
            LdapOptions(servers=("h",), port=636, secure=True, base="", attribute="cn"),
        ),
        ('ldapurl="ldap://h" ldapbasedn=dc=net', SEARCH),
        (
            'ldapport=7 ldapurl="ldap://g/dc=org?cn?one" ldapserver=h ldapbasedn=dc=net ldapsearchattribute=uid',
            attrs.evolve(SEARCH, scope="one"),
        ),
        ('ldapserver=g ldapurl="ldap://h/dc=net"', attrs.evolve(SEARCH, scope="base")),
        ('ldapurl="ldap://h/dc=net" ldapport=389', SEARCH),
        ('ldapurl="LDAP://h/dc=net?uid?SUB"', SEARCH),
        ('ldapurl="ldap://h/dc=net?uid?subtree"', SEARCH),
        ('ldapurl="ldap://h/dc=net??onelevel"', attrs.evolve(SEARCH, scope="one")),
    ],
)
def test_options(text: str, options: LdapOptions) -> None:
    assert parse_options(text) == options
    rules = parse_rules(f"host all all all ldap {text}")
    assert rules.problems == () and [rule.ldap for rule in rules.rules] == [options]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "name=value"),
        ("ldapserver=h", "missing"),
        ("ldapprefix=x", "ldapserver is missing"),
        ("ldapserver=h ldapprefix=x ldapbasedn=dc=net", "without a search"),
        ("ldapserver=h ldapsearchattribute=x", "needs ldapbasedn"),
        ("ldapserver=h ldapbasedn=d ldapsearchattribute=x ldapsearchfilter=$username", "exclude"),
        ("ldapserver=h ldapbasedn=d ldapsearchfilter=(uid=ann)", "username"),
        ("ldapserver=h ldapbasedn=d ldapsearchfilter=((uid=$username)", "balanced"),
        ("ldapserver=h ldapbasedn=d ldapport=0", "ldapport"),
        ("ldapserver=h ldapbasedn=d ldapport=99999999999999999999", "ldapport"),
        ("ldapserver=h ldapbasedn=d ldaptls=yes", "0 or 1"),
        ("ldapserver=h ldapbasedn=d ldapscheme=ldapi", "ldap or ldaps"),
        ("ldapserver=h ldapbasedn=d ldapscheme=ldaps ldaptls=1", "not for ldaps"),
        ("ldapserver=h ldapbasedn=d radius=1", "does not take: radius"),
        ("ldapserver", "name=value"),
        ("ldapurl=http://h/d", "begins with"),
        ("ldapserver=h ldapbasedn=d ldapsearchattribute", "name=value"),
        ("ldapurl=ldap://h/d ldapserver= ", "ldapserver is missing"),
        ("ldapurl=ldap://h/d?uid?deep", "scope"),
        ("ldapurl=ldap:///d?uid?sub", "ldapserver is missing"),
        ("ldapurl=ldap://h/d?uid?sub?(uid=$username)?!x", "extensions"),
        ('ldapurl="ldap://h', "quote"),
    ],
)
def test_what_contradicts_itself_is_told(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_options(text)
    rules = parse_rules(f"host all all all ldap {text}\n")
    assert "quote" in problem or (rules.refusing and rules.rules[0].method == "reject")  # not left to the next line
    assert rules.refusing or rules.problems


@pytest.mark.parametrize("name", ["", "*", "a(b", "a)b", "a\\b", "a/b", "a\0"])
def test_a_name_that_is_more_in_a_filter(name: str) -> None:
    assert SEARCH.filter_for(name) is None
    assert SEARCH.filter_for("a,b") == "(uid=a,b)"


@pytest.mark.parametrize("name", ["", "a,b", "\\61b", "a=b", "a+b", "<", ">", ";", "#a", 'a"', "a\0"])
def test_a_name_that_is_more_in_a_distinguished_name(name: str) -> None:
    options = LdapOptions(servers=("h",), port=389, prefix="cn=", suffix=",dc=net")
    assert options.dn_of(name) is None
    assert options.dn_of("a(b") == "cn=a(b,dc=net"


def test_a_password_shows_in_no_text() -> None:
    assert "secret" not in repr(parse_options("ldapserver=h ldapbasedn=d ldapbindpasswd=secret"))


def test_without_the_extra_a_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And a line of auth_hba_file refuses whom it fits, rather than to let a later one decide."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    databases = {"a": DatabaseConfig(host="h")}
    config = Config(databases=databases, auth_type="ldap", auth_ldap_options="ldapserver=h ldapbasedn=d")
    with pytest.raises(ConfigError, match=r"needs the package ldap3: pip install 'pgpool-core\[ldap\]' \(auth_type\)"):
        load_access(config, strict=False)
    (tmp_path / "hba").write_text("host all all all ldap ldapserver=h ldapbasedn=d\nhost all all all trust\n")
    access = load_access(Config(databases=databases, auth_type="hba", auth_hba_file=str(tmp_path / "hba")), strict=True)
    rule = access.rule_for(Visitor(database="a", user="ann", address=address_of("10.1.2.3")))
    assert rule is not None and rule.method == "reject"
    assert any("pip install" in text for text in access.warnings())


def test_options_are_needed_and_must_be_right() -> None:
    for options, problem in (("", "needs auth_ldap_options"), ("ldapserver=h", "missing")):
        with pytest.raises(ConfigError, match=problem):
            load_access(Config(auth_type="ldap", auth_ldap_options=options), strict=False)
