"""A WSGI application. It knows nothing of the pooler: a connection for each request is cheap."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import psycopg

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    with psycopg.connect(os.environ["DATABASE_URL"]) as connection:
        row = connection.execute("select pg_backend_pid()").fetchone()
    assert row is not None
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"worker {os.getpid()} server {row[0]}\n".encode()]
