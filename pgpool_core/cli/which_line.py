"""`pgpool-core check FILE --login USER@DATABASE`: which line of auth_hba_file decides about a login, without a pooler or a server."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from pgpool_core.config.model import Config
from pgpool_core.control.access import NO_METHOD, Access, load_access
from pgpool_core.control.inquiries import confirmed_name
from pgpool_core.control.interfaces import own_interfaces
from pgpool_core.errors import ConfigError
from pgpool_core.policy.facts import HOST, Facts, FactWanted
from pgpool_core.policy.hba import Rule, Visitor


@attrs.frozen
class Outcome:
    """A line that decides; None: there is none."""

    rule: Rule | None
    if_member: bool = False  # only for members of roles that it names: those after it decide about others

    def told(self, config: Config, user: str) -> str:
        """As one line for people."""
        if self.rule is None:
            return f"{NO_METHOD.text}: no line of {config.auth_hba_file} fits"
        text = f"{self.rule}: {self.rule.written}"
        for name, value in (("map", self.rule.ident_map), ("clientcert", self.rule.clientcert)):
            text += f" {name}={value}" if value else ""
        if self.refuses and self.rule.written != "reject":
            text += f", which refuses: {self.rule.problem or 'this version has no such method'}"
        if self.if_member:
            text += (
                f", if {user} is a member of a role that the line names: only a server knows that (--roles tells it)"
            )
        return text

    @property
    def refuses(self) -> bool:
        return self.rule is None or self.rule.method == "reject"


def outcomes(access: Access, visitor: Visitor, facts: Facts) -> Iterator[Outcome]:
    """The lines that may decide, in order; the last one does if no other has. The system's resolver is asked where a line needs it."""
    for rule in access.rules.rules:
        while True:
            try:
                fits = rule.fits(visitor, own_interfaces, facts)
            except FactWanted as wanted:
                if wanted.kind == HOST and visitor.address is not None:
                    facts = attrs.evolve(facts, host=confirmed_name(visitor.address))
                    continue
                yield Outcome(rule, if_member=True)
                break
            if fits:
                yield Outcome(rule)
                return
            break
    yield Outcome(None)


def tell_line(config: Config, visitor: Visitor, facts: Facts) -> int:
    """Print what auth_hba_file makes of one login: 0 when it may be tried, 1 when it is refused."""
    if config.auth_type != "hba":
        print(f"auth_type = {config.auth_type}: the same for all, auth_hba_file is not read")
        return 0
    try:
        access = load_access(config, strict=False)
    except ConfigError as error:
        print(f"error: {error}")
        return 1
    found = list(outcomes(access, visitor, facts))
    for outcome in found:
        print(outcome.told(config, visitor.user))
    return 1 if all(outcome.refuses for outcome in found) else 0
