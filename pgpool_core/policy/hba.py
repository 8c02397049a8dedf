"""Rules of auth_hba_file: who may come from where, and how they prove who they are. The first rule that fits decides.

PgBouncer's file format, and of PostgreSQL's besides: membership in roles, host names, samehost, samenet, regular expressions, include
directives. A line that cannot be understood is left out and told; one whose method is not there refuses those whom it fits, so that no
later line lets them in.
Source: PostgreSQL docs, "The pg_hba.conf File"; PgBouncer docs, "HBA file format".
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable
from typing import Final

import attrs

from pgpool_core.policy.facts import NOTHING, Facts, FactWanted
from pgpool_core.policy.ldap import LdapOptions, option, options_of
from pgpool_core.policy.regex import Expression, compile_pattern
from pgpool_core.policy.tokens import Field, Line, Word, read_lines, split_lines

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

METHODS: Final = {
    "trust": "trust",
    "reject": "reject",
    "md5": "md5",
    "password": "plain",
    "scram-sha-256": "scram-sha-256",
    "peer": "peer",
    "cert": "cert",
    "ldap": "ldap",
}
"""What a line says, and what it comes to."""
NOT_BUILT: Final = ("pam", "gss", "sspi", "ident", "radius", "bsd", "oauth")

CLIENTCERTS: Final = ("verify-ca", "verify-full")

_KINDS: Final = ("local", "host", "hostssl", "hostnossl", "hostgssenc", "hostnogssenc")
_GSS: Final = "hostgssenc"  # encrypted by GSSAPI, which nobody is here: the line fits nobody
_GROUPS: Final = ("samerole", "samegroup")
_OF_DATABASES: Final = ("all", "sameuser", "replication", *_GROUPS)
_HOST_NAME: Final = re.compile(
    r"\.?(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?\.)*[A-Za-z_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?\.?"
)
"""The last part does not begin with a digit: a slip in an address is no name."""

_PRIVATE: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        *("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"),
        *("::1/128", "fc00::/7", "fe80::/10"),
    )
)
"""Networks that nobody comes from out of the Internet. Source: RFC 1918, 6598, 3927, 4193, 4291."""

OwnAddresses = Callable[[], Iterable[ipaddress.IPv4Interface | ipaddress.IPv6Interface]]
"""Tells this machine's addresses."""


@attrs.frozen(kw_only=True)
class Visitor:
    """A login as rules see it."""

    database: str
    user: str
    address: Address | None  # None: by the unix socket
    is_replication: bool = False  # physical: not to a database
    is_encrypted: bool = False
    certificate: tuple[str, ...] = ()
    """Names in the client's certificate, which has been verified: the common name (or ""), then others. None: it has shown none."""


@attrs.frozen(kw_only=True)
class Names:
    """What a field says about a name."""

    words: Field
    patterns: tuple[Expression, ...]

    groups: tuple[str, ...] = ()
    """Roles, the name being that of a user who must be a member."""

    keywords: tuple[str, ...]

    def is_keyword(self, word: Word) -> bool:
        """Whether it means more than the name that it is."""
        return word.text[:1] == "/" or _is_group(word) or word.keyword(*self.keywords)

    def fits(self, name: str, special: Callable[[Word], bool], facts: Facts) -> bool:
        """Whether one of the words is `name`, or fits it, or is a keyword that `special` knows to fit.

        Raises:
            FactWanted: a role of `groups` decides.
        """
        if any(special(word) or (word.text == name and not self.is_keyword(word)) for word in self.words):
            return True
        return any(pattern.fits(name) for pattern in self.patterns) or any(map(facts.is_member, self.groups))


def _is_group(word: Word) -> bool:
    return not word.quoted and word.text[:1] == "+"


@attrs.frozen
class HostName:
    """An address that is given by its name, or by the end of it (`.example.org`)."""

    text: str


Where = Network | HostName | str
"""str: "all", "samehost" or "samenet"."""


@attrs.frozen(kw_only=True)
class Rule:
    """One line."""

    kind: str
    databases: Names
    users: Names
    where: Where  # of `local`, "all"
    method: str  # trust, reject, md5, plain, scram-sha-256, peer, cert or ldap
    ident_map: str
    file: str
    number: int
    written: str  # the method as the line has it
    ldap: LdapOptions | None = None  # of ldap
    problem: str = ""  # why it refuses whom it fits, although its method is another
    clientcert: str = ""  # verify-ca: a certificate besides; verify-full: of the user's name, too

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"

    def fits(self, visitor: Visitor, own: OwnAddresses, facts: Facts = NOTHING) -> bool:
        """Whether the line is about this login.

        Raises:
            FactWanted: all that is known fits, and the rest depends on what is not.
        """
        if (self.kind == "local") != (visitor.address is None):
            return False
        if self.kind == _GSS or (
            self.kind in ("hostssl", "hostnossl") and visitor.is_encrypted != (self.kind == "hostssl")
        ):
            return False
        wanted: FactWanted | None = None
        tests: tuple[Callable[[], bool], ...] = (
            lambda: self._fits_address(visitor.address, own, facts),
            lambda: self._fits_database(visitor, facts),
            lambda: self.users.fits(visitor.user, lambda word: word.keyword("all"), facts),
        )
        for fits in tests:
            try:
                if not fits():
                    return False
            except FactWanted as fact:
                wanted = wanted or fact
        if wanted is not None:
            raise wanted
        return True

    @property
    def is_for_others(self) -> bool:
        """Whether it is about logins from other machines."""
        own = self.where == "samehost" or (isinstance(self.where, Network) and self.where.is_loopback)
        return self.kind not in ("local", _GSS) and not own

    @property
    def is_for_everybody(self) -> bool:
        """Whether it is about logins from anywhere: from all addresses, or from many that are not of a private network."""
        if not isinstance(self.where, Network):
            return self.is_for_others and self.where == "all"
        private = any(self.where[0] in each and self.where[-1] in each for each in _PRIVATE)
        return self.is_for_others and self.where.num_addresses > 1 and not private

    @property
    def needs_roles(self) -> bool:
        """Whether it may depend on the roles of a user."""
        return bool(self.users.groups) or any(word.keyword(*_GROUPS) for word in self.databases.words)

    def _fits_database(self, visitor: Visitor, facts: Facts) -> bool:
        if visitor.is_replication:
            return any(word.keyword("replication") for word in self.databases.words)

        def is_database(word: Word) -> bool:
            return word.keyword("all") or (word.keyword("sameuser") and visitor.database == visitor.user)

        if self.databases.fits(visitor.database, is_database, facts):
            return True
        return any(word.keyword(*_GROUPS) for word in self.databases.words) and facts.is_member(visitor.database)

    def _fits_address(self, address: Address | None, own: OwnAddresses, facts: Facts) -> bool:
        if address is None or self.where == "all":
            return True
        if isinstance(self.where, HostName):
            return facts.is_at(self.where.text)
        if isinstance(self.where, str):
            if self.where == "samehost":
                return any(address == each.ip for each in own())
            return any(address in each.network for each in own() if each.version == address.version)
        return address.version == self.where.version and address in self.where


@attrs.frozen(kw_only=True)
class Rules:
    """A file's rules, in order, and the lines that are none, each with the reason."""

    rules: tuple[Rule, ...] = ()
    problems: tuple[str, ...] = ()
    """Lines that are left out."""
    refusing: tuple[str, ...] = ()
    """Lines whose method is not there: they refuse whom they fit."""

    def find(self, visitor: Visitor, own: OwnAddresses, facts: Facts = NOTHING) -> Rule | None:
        """The first rule that is about this login.

        Raises:
            FactWanted: which one that is depends on what is not known.
        """
        return next((rule for rule in self.rules if rule.fits(visitor, own, facts)), None)


def load_rules(path: str) -> Rules:
    """Read an auth_hba_file.

    Raises:
        OSError: it cannot be read.
    """
    return _rules(read_lines(path))


def parse_rules(text: str, path: str = "<auth_hba_file>") -> Rules:
    """Read the text of an auth_hba_file; `path` is for problems."""
    return _rules(split_lines(text, path))


def _rules(lines: Iterable[Line]) -> Rules:
    rules: list[Rule] = []
    problems: list[str] = []
    refusing: list[str] = []
    for line in lines:
        try:
            if line.problem:
                raise ValueError(line.problem)
            rule = _rule(line)
        except ValueError as problem:
            problems.append(f"{line.file}:{line.number}: {problem}")
            continue
        rules.append(rule)
        if rule.written in NOT_BUILT and rule.kind != _GSS:
            refusing.append(f"{rule}: method {rule.written} is not supported by this version, so the line refuses")
        if rule.problem:
            refusing.append(f"{rule}: {rule.problem}, so the line refuses")
    return Rules(rules=tuple(rules), problems=tuple(problems), refusing=tuple(refusing))


def _rule(line: Line) -> Rule:
    fields = list(line.fields)
    kind = _single(fields.pop(0), "connection type")
    if kind.text not in _KINDS:
        raise ValueError(f"a line begins with {', '.join(_KINDS[:4])}")
    if len(fields) < 2:
        raise ValueError("database and user are missing")
    databases, users = _names(fields.pop(0), of_databases=True), _names(fields.pop(0), of_databases=False)
    where = _where(fields) if kind.text != "local" else "all"
    if not fields:
        raise ValueError("the method is missing")
    written = _single(fields.pop(0), "method").text
    if written not in METHODS and written not in NOT_BUILT:
        raise ValueError("unknown method")
    if written == "ident" and kind.text == "local":  # as it was called once
        written = "peer"
    if written == "peer" and kind.text != "local":
        raise ValueError("peer is for local lines")
    if written == "cert" and kind.text not in ("hostssl", _GSS):
        raise ValueError("cert is for hostssl lines")
    ldap, problem = None, ""
    try:
        pairs = [option(field) for field in fields]
    except ValueError as error:
        if written != "ldap":
            raise
        pairs, problem = [], str(error)  # the line is about somebody: it must not be left to others
    options = dict(pairs)
    ident_map = options.pop("map", None)
    clientcert = options.pop("clientcert", None)
    if clientcert is not None and (clientcert not in CLIENTCERTS or kind.text not in ("hostssl", _GSS)):
        raise ValueError("clientcert is verify-ca or verify-full, on hostssl lines")
    if written == "ldap" and not problem:
        try:
            ldap, options = options_of((name, value) for name, value in pairs if name in options), {}
        except ValueError as error:
            problem, options = str(error), {}
    if (ident_map is not None and written not in ("peer", "cert", "ident")) or (options and written not in NOT_BUILT):
        raise ValueError("an option that this method does not take")
    return Rule(
        kind=kind.text,
        databases=databases,
        users=users,
        where=where,
        method=METHODS.get(written, "reject") if not problem else "reject",
        ident_map=ident_map or "",
        file=line.file,
        number=line.number,
        written=written,
        ldap=ldap,
        problem=problem,
        clientcert=clientcert or "",
    )


def _single(field: Field, what: str) -> Word:
    if len(field) != 1:
        raise ValueError(f"one {what} is expected, not several")
    return field[0]


def _names(field: Field, *, of_databases: bool) -> Names:
    if any(not word.text or (word.text == "+" and not word.quoted) for word in field):
        raise ValueError("an empty name")
    groups = tuple(word.text[1:] for word in field if _is_group(word))
    if groups and of_databases:
        raise ValueError("+role is for users, samerole for databases")
    patterns = tuple(compile_pattern(word.text[1:]) for word in field if word.text[:1] == "/")
    keywords = _OF_DATABASES if of_databases else ("all",)
    return Names(words=field, patterns=patterns, groups=groups, keywords=keywords)


def _where(fields: list[Field]) -> Where:
    """Take the address, and the mask that may follow it."""
    if not fields:
        raise ValueError("the address is missing")
    word = _single(fields.pop(0), "address")
    if word.keyword("all", "samehost", "samenet"):
        return word.text
    text = word.text
    if _HOST_NAME.fullmatch(text):
        return HostName(text.removesuffix("."))
    try:
        address, slash, bits = text.partition("/")
        if not slash:
            mask = ipaddress.ip_address(_single(fields.pop(0), "mask").text if fields else "")
            ones = bin(int(mask))[2:].zfill(mask.max_prefixlen)
            if "01" in ones or mask.version != ipaddress.ip_address(address).version:
                raise ValueError
            bits = str(ones.count("1"))
        if not (bits.isascii() and bits.isdigit()):  # a mask behind the slash, which Python knows in two kinds
            raise ValueError
        return ipaddress.ip_network(f"{address}/{bits}", strict=False)
    except ValueError:
        raise ValueError(
            "an address is all, samehost, samenet, ADDRESS/BITS, ADDRESS MASK or the name of a host"
        ) from None
