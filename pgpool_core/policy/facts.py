"""What rules may have to know of a login that it does not bring along: the roles of its user, the name of its address.

Either has to be asked for elsewhere. So a rule is tried with what is known, and says which fact it wants only where all else of it fits.
Source: PostgreSQL docs, "The pg_hba.conf File": `+` in front of a name, samerole, host names.
"""

from __future__ import annotations

from typing import Final

import attrs

ROLES: Final = "roles"
HOST: Final = "host"


class FactWanted(Exception):
    """A line cannot be decided without a fact, ROLES or HOST."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


@attrs.frozen(kw_only=True)
class Facts:
    """What has been found out about a login; None: nobody has asked yet."""

    roles: frozenset[str] | None = None
    """The user, and the roles that it is a member of, directly or not."""
    host: str | None = None
    """The name of the address, which has this address; empty where there is none."""

    def is_member(self, role: str) -> bool:
        """Whether the user is, or is a member of, `role`.

        Raises:
            FactWanted: nobody has asked yet.
        """
        if self.roles is None:
            raise FactWanted(ROLES)
        return role in self.roles

    def is_at(self, host: str) -> bool:
        """Whether the address has this name; one that begins with a dot is the end of the names that fit.

        Raises:
            FactWanted: nobody has asked yet.
        """
        if self.host is None:
            raise FactWanted(HOST)
        name, wanted = self.host.lower(), host.lower()
        return name.endswith(wanted) if wanted.startswith(".") else name == wanted


NOTHING: Final = Facts()
