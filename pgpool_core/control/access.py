"""auth_type = hba: which way of proof a login is to take, as auth_hba_file and auth_ident_file say.

Decided anew for every login, because the answer depends on where it comes from.
Source: PgBouncer docs, "HBA file format", "Ident map file format"; its texts.
"""

from __future__ import annotations

import ipaddress
import pwd
from collections.abc import Iterator
from typing import Final

import attrs

from pgpool_core import logs
from pgpool_core.config.doubts import open_addresses
from pgpool_core.config.model import Config
from pgpool_core.config.words import AUTH_TYPES
from pgpool_core.control.interfaces import own_interfaces
from pgpool_core.control.ldap import INSTALL, is_installed
from pgpool_core.control.routing import CERT_FAILED, Refusal, tls_is_required
from pgpool_core.errors import ConfigError, ConfigProblem
from pgpool_core.policy.facts import NOTHING, Facts
from pgpool_core.policy.hba import Address, Rule, Rules, Visitor, load_rules
from pgpool_core.policy.ident import IdentMaps, load_maps
from pgpool_core.policy.ldap import LdapOptions, parse_options

PEER: Final = "peer"
CERT: Final = "cert"
METHOD_NUMBERS: Final = {**{name: number for number, name in enumerate(AUTH_TYPES)}, PEER: len(AUTH_TYPES)}
"""The engine's numbers."""

NO_METHOD: Final = Refusal("28000", "no authentication method is found")
REJECTED: Final = Refusal("28000", "login rejected")
NO_CERTIFICATE: Final = Refusal("28000", CERT_FAILED)
NOT_THE_PEER: Final = Refusal("28000", "unix socket login rejected")


@attrs.frozen(kw_only=True)
class Access:
    """The rules in force; none with another auth_type."""

    rules: Rules = attrs.field(factory=Rules)
    maps: IdentMaps = attrs.field(factory=IdentMaps)
    ldap: LdapOptions | None = None
    """auth_type = ldap: how all passwords are checked."""
    asks_nobody: tuple[str, ...] = ()
    """Lines that depend on the roles of a user where nobody can be asked for them."""
    open_to_some: tuple[str, ...] = ()
    """Lines that let some others than this machine in as `auth_type` would not without `allow_open_auth`."""
    idle: tuple[str, ...] = ()
    """Lines that fit nobody."""

    def problems(self) -> tuple[str, ...]:
        """Lines that are left out."""
        return (*self.rules.problems, *self.maps.problems)

    def warnings(self) -> tuple[str, ...]:
        """What an operator ought to know about the files."""
        return (
            *(f"line left out: {text}" for text in self.problems()),
            *self.rules.refusing,
            *self.asks_nobody,
            *self.open_to_some,
            *self.idle,
        )

    def rule_for(self, visitor: Visitor, facts: Facts = NOTHING) -> Rule | None:
        """The line that decides.

        Raises:
            FactWanted: which one that is depends on what is not known.
        """
        return self.rules.find(visitor, own_interfaces, facts)

    def method(self, visitor: Visitor, uid: int | None, facts: Facts = NOTHING) -> str | LdapOptions | Refusal:
        """How a login is to be proved; "peer" or "cert" where the connection has proved it already.

        Raises:
            FactWanted: that depends on what is not known.
        """
        rule = self.rule_for(visitor, facts)
        if rule is None:
            return NO_METHOD
        if rule.method == "reject":
            return REJECTED
        if rule.clientcert and not self._certified(rule, visitor, facts):
            return NO_CERTIFICATE
        if rule.method == CERT:
            return CERT if self._certified(rule, visitor, facts) else NO_CERTIFICATE
        if rule.method != PEER:
            return rule.ldap or rule.method
        if self.maps.fits(rule.ident_map, system_user(uid), visitor.user, facts):
            return PEER
        text = f"ident map {rule.ident_map} cannot be matched" if rule.ident_map else "the system user has another name"
        logs.LOGGER.info("%s", logs.line("", text, {"user": visitor.user, "uid": uid, "line": str(rule)}))
        return NOT_THE_PEER

    def _certified(self, rule: Rule, visitor: Visitor, facts: Facts) -> bool:
        """Whether the client has shown a certificate that is enough for the line: with a map, its common name decides."""
        names = visitor.certificate
        if rule.clientcert == "verify-ca" and rule.method != CERT:
            fits = bool(names)
        elif rule.ident_map:
            fits = bool(names and names[0]) and self.maps.fits(rule.ident_map, names[0], visitor.user, facts)
        else:
            fits = visitor.user in names
        if not fits:
            text = (
                f"ident map {rule.ident_map} does not have a match" if rule.ident_map else "no certificate of that name"
            )
            fields = {"user": visitor.user, "certificate": names[0] if names else "none", "line": str(rule)}
            logs.LOGGER.info("%s", logs.line("", text, fields))
        return fits


def system_user(uid: int | None) -> str:
    """The name of a user of this machine; empty where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name if uid is not None else ""
    except KeyError:
        return ""


def address_of(text: str) -> Address:
    """An address as rules see it: an IPv4 one that came through an IPv6 socket is an IPv4 address.

    Raises:
        ValueError: it is none.
    """
    address = ipaddress.ip_address(text.partition("%")[0])
    return getattr(address, "ipv4_mapped", None) or address


def load_access(config: Config, *, strict: bool) -> Access:
    """Read the files of auth_type = hba.

    Args:
        strict: a line that cannot be understood is an error; else it is left out.

    Raises:
        ConfigError: a file is not named, or cannot be read; a line lets everybody in, and nothing says that this is wanted.
    """
    if config.auth_type == "ldap":
        return Access(ldap=_ldap_for_all(config))
    if config.auth_type != "hba":
        return Access()
    if not config.auth_hba_file:
        raise _error("auth_type = hba needs auth_hba_file, which is not set (auth_hba_file)", "auth_hba_file")
    key = "auth_hba_file"
    try:
        rules = load_rules(config.auth_hba_file)
        key = "auth_ident_file"
        maps = load_maps(config.auth_ident_file) if config.auth_ident_file else IdentMaps()
    except OSError as error:
        path = config.auth_hba_file if key == "auth_hba_file" else config.auth_ident_file
        raise _error(f"{key} {path}: cannot be read: {error.strerror or error} ({key})", key) from error
    nobody = not config.auth_user and not any(entry.auth_user for entry in config.databases.values())
    lines = [str(rule) for rule in rules.rules if rule.needs_roles] if nobody else []
    told = (f"{line}: membership in roles is looked up by auth_user, which is not set (auth_user)" for line in lines)
    if not is_installed():
        rules = _without_ldap(rules)
    reachable = ", ".join(open_addresses(config))
    open_lines = list(_open_lines(config, rules)) if reachable and not config.allow_open_auth else []
    wanted = f"and {reachable} is open to them; allow_open_auth = 1 says that this is wanted"
    access = Access(
        rules=rules,
        maps=maps,
        asks_nobody=tuple(told),
        open_to_some=tuple(f"{text} others, {wanted}" for rule, text in open_lines if not rule.is_for_everybody),
        idle=tuple(_idle_lines(config, rules)),
    )
    errors = [
        f"{text} whoever reaches listen_addr {reachable}: name private networks or another method, or set allow_open_auth = 1"
        " (auth_hba_file)"
        for rule, text in open_lines
        if rule.is_for_everybody
    ]
    errors += access.problems() if strict else ()
    if errors:
        raise ConfigError(ConfigProblem(text, section="pgbouncer", key="auth_hba_file") for text in errors)
    return access


def _open_lines(config: Config, rules: Rules) -> Iterator[tuple[Rule, str]]:
    """Lines that let others than this machine in as `auth_type` would not without `allow_open_auth`; what they do, without whom."""
    encrypted = tls_is_required(config)
    for rule in rules.rules:
        if not rule.is_for_others or (rule.kind == "hostssl" and config.client_tls_sslmode == "disable"):
            continue
        if rule.method == "trust" and not rule.clientcert:
            yield rule, f"{rule}: {rule.written} lets in, without any proof,"
        elif rule.method in ("plain", "ldap") and rule.kind != "hostssl" and not encrypted:
            yield rule, f"{rule}: {rule.written} takes unencrypted passwords from"


def _idle_lines(config: Config, rules: Rules) -> Iterator[str]:
    for rule in rules.rules:
        if rule.kind == "hostssl" and config.client_tls_sslmode == "disable":
            yield f"{rule}: hostssl fits nobody, since client_tls_sslmode = disable"
        elif rule.kind == "hostgssenc":
            yield f"{rule}: hostgssenc fits nobody, since there is no GSSAPI"


def _ldap_for_all(config: Config) -> LdapOptions:
    if not config.auth_ldap_options:
        raise _error(
            "auth_type = ldap needs auth_ldap_options, which is not set (auth_ldap_options)", "auth_ldap_options"
        )
    if not is_installed():
        raise _error(f"auth_type = ldap {INSTALL} (auth_type)", "auth_type")
    try:
        return parse_options(config.auth_ldap_options)
    except ValueError as error:
        raise _error(f"{error} (auth_ldap_options)", "auth_ldap_options") from None


def _without_ldap(rules: Rules) -> Rules:
    """Lines with ldap refuse whom they fit."""
    told = (f"{rule}: method ldap {INSTALL}; until then the line refuses" for rule in rules.rules if rule.ldap)
    refusing = tuple(
        attrs.evolve(rule, method="reject", problem=f"method ldap {INSTALL}") if rule.ldap else rule
        for rule in rules.rules
    )
    return attrs.evolve(rules, rules=refusing, refusing=(*rules.refusing, *told))


def _error(text: str, key: str) -> ConfigError:
    return ConfigError([ConfigProblem(text, section="pgbouncer", key=key)])
