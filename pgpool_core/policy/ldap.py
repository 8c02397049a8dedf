"""How passwords are checked by LDAP: the options of an `ldap` line of auth_hba_file, or of auth_ldap_options.

Two ways: to bind as ldapprefix + user + ldapsuffix; or, with ldapbasedn, to look the user up and bind as what was found.
Source: PostgreSQL docs, "LDAP Authentication"; PgBouncer docs, auth_ldap_options; RFC 4516 (URLs).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote

import attrs

from pgpool_core.policy.tokens import Field, split_lines

SCOPES: Final = {"base": "base", "one": "one", "onelevel": "one", "sub": "sub", "subtree": "sub"}
"""What a URL may say, in any case, and what it means; the long words are OpenLDAP's."""
_DEFAULT_PORTS: Final = {"ldap": 389, "ldaps": 636}
_BIND: Final = ("ldapprefix", "ldapsuffix")
_SEARCH: Final = ("ldapbasedn", "ldapbinddn", "ldapbindpasswd", "ldapsearchattribute", "ldapsearchfilter")
_KNOWN: Final = ("ldapserver", "ldapport", "ldapscheme", "ldaptls", "ldapurl", *_BIND, *_SEARCH)

_UNFIT: Final = {"search": frozenset("*()\\/\0"), "bind": frozenset(',+=<>;#"\\\0')}
"""Characters with which a name would be more than a name, in a filter and in a distinguished name."""


@attrs.frozen(kw_only=True)
class LdapOptions:
    """Where and how a password is checked."""

    servers: tuple[str, ...]
    port: int
    secure: bool = False  # ldaps: TLS from the first byte
    starttls: bool = False
    prefix: str = ""
    suffix: str = ""
    base: str | None = None  # None: bind as prefix + user + suffix; empty: search everywhere
    bind_dn: str = ""  # empty: look users up as nobody
    bind_password: str = attrs.field(default="", repr=False)
    attribute: str = "uid"
    filter: str = ""  # instead of `attribute`; $username is the user
    scope: str = "sub"

    def dn_of(self, user: str) -> str | None:
        """As whom to bind, without a search; None: no such name can be one."""
        return None if not user or _UNFIT["bind"] & set(user) else f"{self.prefix}{user}{self.suffix}"

    def filter_for(self, user: str) -> str | None:
        """What to search for; None: no such name can be one."""
        if not user or _UNFIT["search"] & set(user):
            return None
        return self.filter.replace("$username", user) if self.filter else f"({self.attribute}={user})"


def parse_options(text: str) -> LdapOptions:
    """Read auth_ldap_options, which are written as on a line of auth_hba_file.

    Raises:
        ValueError: they are no such options.
    """
    lines = list(split_lines(text, ""))
    if len(lines) != 1 or lines[0].problem:
        raise ValueError(lines[0].problem if len(lines) == 1 else "options are name=value, on one line")
    return options_of(option(field) for field in lines[0].fields)


def option(field: Field) -> tuple[str, str]:
    """Name and value of an option.

    Raises:
        ValueError: it is none.
    """
    name, equals, value = ",".join(word.text for word in field).partition("=")
    if not equals or not name:
        raise ValueError("an option is name=value")
    return name, value


def options_of(given: Iterable[tuple[str, str]]) -> LdapOptions:
    """What these options come to, in their order: what a later one says holds, be it an URL.

    An URL without a scope means `base`, but `sub` where another option follows, as PostgreSQL has it.

    Raises:
        ValueError: one is unknown, or they contradict each other.
    """
    values: dict[str, str] = {}
    scope = "sub"
    for name, value in given:
        if name not in _KNOWN:
            raise ValueError(f"an option that ldap does not take: {name}")
        if name == "ldapurl":
            said, scope = _url(value)
            values |= said
        else:
            values[name], scope = value, scope or "sub"
    scheme = values.get("ldapscheme", "ldap")
    if scheme not in _DEFAULT_PORTS:
        raise ValueError("ldapscheme is ldap or ldaps")
    if values.get("ldaptls", "0") not in ("0", "1"):
        raise ValueError("ldaptls is 0 or 1")
    starttls = values.get("ldaptls") == "1"
    if starttls and scheme == "ldaps":
        raise ValueError("ldaptls is for ldap, not for ldaps")
    servers = tuple(values.get("ldapserver", "").split())
    if not servers:
        raise ValueError("ldapserver is missing")
    base = values.get("ldapbasedn")
    if base is not None and any(name in values for name in _BIND):
        raise ValueError("ldapprefix and ldapsuffix are for a bind without a search (ldapbasedn)")
    if base is None and any(name in values for name in _SEARCH):
        raise ValueError("a search needs ldapbasedn")
    if base is None and not any(name in values for name in _BIND):
        raise ValueError("ldapbasedn, ldapprefix or ldapsuffix is missing")
    if values.get("ldapsearchattribute") and values.get("ldapsearchfilter"):
        raise ValueError("ldapsearchattribute and ldapsearchfilter exclude each other")
    return LdapOptions(
        servers=servers,
        port=_port(values["ldapport"]) if "ldapport" in values else _DEFAULT_PORTS[scheme],
        secure=scheme == "ldaps",
        starttls=starttls,
        prefix=values.get("ldapprefix", ""),
        suffix=values.get("ldapsuffix", ""),
        base=base,
        bind_dn=values.get("ldapbinddn", ""),
        bind_password=values.get("ldapbindpasswd", ""),
        attribute=values.get("ldapsearchattribute") or "uid",
        filter=_filter(values.get("ldapsearchfilter", "")),
        scope=scope or "base",
    )


def _url(text: str) -> tuple[dict[str, str], str]:
    """What an URL says, as options; and the scope, for which there is none: empty where it does not say."""
    scheme, colon, rest = text.partition("://")
    if not colon or scheme.lower() not in _DEFAULT_PORTS:
        raise ValueError("ldapurl begins with ldap:// or ldaps://")
    host, slash, tail = rest.partition("/")
    base, attribute, scope, search_filter, *more = [unquote(part) for part in [*tail.split("?"), "", "", ""]][:4] + [
        part for part in tail.split("?")[4:] if part
    ]
    if more:
        raise ValueError("extensions of an LDAP URL are not supported (ldapurl)")
    server, bracket, port = host.rpartition("]")[2].rpartition(":") if "]" in host else host.rpartition(":")
    if "]" in host:
        server = host[1 : host.index("]")]
    elif not bracket:
        server, port = host, ""
    scheme = scheme.lower()
    said = {"ldapserver": unquote(server), "ldapscheme": scheme, "ldapport": port or str(_DEFAULT_PORTS[scheme])}
    if slash:
        said["ldapbasedn"] = base
    if search_filter:
        said["ldapsearchfilter"] = search_filter
    elif attribute := attribute.partition(",")[0]:
        said["ldapsearchattribute"] = attribute
    if scope and scope.lower() not in SCOPES:
        raise ValueError("the scope in ldapurl is base, one or sub")
    return said, SCOPES[scope.lower()] if scope else ""


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text[:6]) < 65536:
        raise ValueError("ldapport is a number from 1 to 65535")
    return int(text)


def _filter(text: str) -> str:
    if text and (text.count("(") != text.count(")") or "$username" not in text):
        raise ValueError("ldapsearchfilter has to name $username, and to be balanced")
    return text if not text or text.startswith("(") else f"({text})"
