"""How the server of one replication client is opened: the pool's target with that client's own startup parameters.

A physical walsender takes no SQL, so nothing can be set after its login; and `application_name` is what synchronous replication goes by.
Source: PostgreSQL docs, "Streaming Replication Protocol".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from pgpool_core.control.connect import ServerTarget

LOGICAL: Final = b"database"  # the value of `replication` that gives a walsender which takes SQL


def replication_kind(startup: Sequence[tuple[bytes, bytes]]) -> str:
    """What SHOW SERVERS says of a server that starts with `startup`, among it `replication`."""
    values = {name.lower(): value for name, value in startup}
    return "logical" if values[b"replication"] == LOGICAL else "physical"


def replication_target(target: ServerTarget, startup: Sequence[tuple[bytes, bytes]]) -> ServerTarget:
    """The target for a server that starts with `startup`, among it `replication`.

    What the client asks for goes before what its database entry sets; of a repeated name the last value counts, as in PostgreSQL.
    connect_query is left out where the server would refuse it: in physical replication.
    """
    own = {name.lower(): (name, value) for name, value in startup}
    entry = tuple((name, value) for name, value in target.parameters if name.lower() not in own)
    return attrs.evolve(
        target,
        parameters=(*entry, *own.values()),
        connect_query=target.connect_query if replication_kind(startup) == "logical" else b"",
    )
