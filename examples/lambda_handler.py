"""A function that a platform calls once per event, such as AWS Lambda: what is global lives as long as the sandbox is warm.

The server connection stays open between events, and is opened anew where it was lost while the sandbox was frozen; the function itself
connects each time, to a unix socket that nobody else can enter, and needs no code for that.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import Any

import psycopg

import pgpool_core

stack = ExitStack()
proxy = stack.enter_context(
    pgpool_core.run_proxy_in_thread(
        os.environ["DATABASE_URL"],
        listen="unix",
        default_pool_size=1,  # a sandbox has one event at a time
        server_check_delay=5,  # after a freeze the server is asked first whether it is still there
    )
)


def handler(event: dict[str, Any], context: object) -> dict[str, Any]:
    with psycopg.connect(proxy.url) as connection:
        row = connection.execute("select %s::int * 7, pg_backend_pid()", (event["n"],)).fetchone()
    assert row is not None
    return {"answer": row[0], "server": row[1]}
