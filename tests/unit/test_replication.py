"""How the server of one replication client is opened, and who hears of it when that fails."""

from __future__ import annotations

import pytest

from pgpool_core.control.connect import ServerTarget
from pgpool_core.control.replication import replication_target

TARGET = ServerTarget(
    hosts=("127.0.0.1",),
    dbname=b"app",
    user=b"app",
    parameters=((b"client_encoding", b"UTF8"), (b"timezone", b"UTC")),
    connect_query=b"select 1",
)


def test_the_client_goes_before_its_database_entry() -> None:
    startup = [(b"replication", b"database"), (b"TimeZone", b"CET"), (b"options", b"-c work_mem=1MB")]
    target = replication_target(TARGET, startup)
    assert target.parameters == ((b"client_encoding", b"UTF8"), *startup)
    assert (target.dbname, target.user) == (b"app", b"app")


def test_the_last_of_a_repeated_name_counts() -> None:
    target = replication_target(TARGET, [(b"replication", b"true"), (b"replication", b"database")])
    assert target.parameters[-1] == (b"replication", b"database")
    assert len(target.parameters) == 3


@pytest.mark.parametrize(("how", "query"), [(b"database", b"select 1"), (b"true", b""), (b"1", b"")])
def test_connect_query_is_for_servers_that_take_sql(how: bytes, query: bytes) -> None:
    assert replication_target(TARGET, [(b"replication", how)]).connect_query == query
