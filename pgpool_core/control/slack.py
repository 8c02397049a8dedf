"""Memory that logins have left free, and when it goes back to the system.

A login needs a kB or two, which is free when it is over. The next one takes it again, so there is nothing to do while clients come
and go; but thousands that come at once leave it lying between what stays, and no C library gives that back by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

BURST: Final = 256  # connections since the last time: less is not worth looking through the memory
FEW: Final = 16  # logins that may still be going on: somebody is always late, and may be for ever


class Slack:
    """Looks from time to time; `trim` is called twice after each burst, when it is over: control has log lines to write by then.

    Args:
        connections: how many there have ever been.
        logins: how many are going on.
    """

    def __init__(self, connections: Callable[[], int], logins: Callable[[], int], trim: Callable[[], object]) -> None:
        self._connections, self._logins, self._trim = connections, logins, trim
        self._seen = self._trimmed = connections()
        self._again = False

    def look(self) -> bool:
        """Trim where enough have come since the last time, none since the last look, and their logins are over.

        Returns whether the next look should come soon.
        """
        seen = self._connections()
        is_quiet = seen == self._seen
        self._seen = seen
        is_due = seen - self._trimmed >= BURST and self._logins() < FEW
        if is_quiet and (is_due or self._again):
            self._again = is_due
            self._trimmed = seen
            self._trim()
        return self._again or seen - self._trimmed >= BURST
