"""The console of a pooler, ours or PgBouncer's, as rows that tests look at."""

from __future__ import annotations

import types
from typing import Any, Self

import psycopg
from psycopg.rows import dict_row

from pgpool_core.testing import PoolerProcess

__all__ = ["Console"]


class Console:
    """One admin connection to `pooler`; it counts as a client of the database `pgbouncer`, and of nothing else."""

    def __init__(self, pooler: PoolerProcess, user: str = "admin") -> None:
        self._connection = psycopg.connect(
            pooler.url(user, "pgbouncer"),
            autocommit=True,
            row_factory=dict_row,
            prepare_threshold=None,  # that of PgBouncer speaks the simple protocol only
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        self._connection.close()

    def rows(self, command: str) -> list[dict[str, Any]]:
        """What `command`, such as "SHOW SERVERS", answers."""
        return self._connection.execute(command.encode()).fetchall()

    def cancel(self) -> None:
        """Ask for the end of the command that runs, as ^C in psql does."""
        self._connection.cancel()

    def close(self) -> None:
        """Leave."""
        self._connection.close()

    def run(self, command: str) -> str | None:
        """The command tag of a command that answers no rows, such as "RELOAD"."""
        return self._connection.execute(command.encode()).statusmessage

    def pool(self, user: str = "app", database: str = "app") -> dict[str, Any]:
        """The line of one pool in SHOW POOLS; empty while there is no such pool."""
        found = [row for row in self.rows("SHOW POOLS") if (row["user"], row["database"]) == (user, database)]
        return found[0] if found else {}

    def lists(self) -> dict[str, int]:
        """SHOW LISTS."""
        return {row["list"]: int(row["items"]) for row in self.rows("SHOW LISTS")}

    def waiting(self, user: str = "app", database: str = "app") -> int:
        """How many clients wait for a server."""
        return int(self.pool(user, database).get("cl_waiting", 0))
