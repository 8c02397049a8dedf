"""A web service on trio: hypercorn takes the requests, `open_pool` asks PostgreSQL. `hypercorn --worker-class trio trio_site:app`."""

from __future__ import annotations

import json
import os

from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, HTTPScope, Scope

import pgpool_core

TABLE = "create table if not exists greetings (name text primary key, times int not null)"
GREET = """insert into greetings values ($1, 1) on conflict (name) do update set times = greetings.times + 1
    returning name, times"""


class Site:
    """An ASGI application: `/NAME` counts how often somebody was greeted."""

    def __init__(self) -> None:
        self._pool: pgpool_core.Pool | None = None

    async def __call__(self, scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._greet(scope, send)

    async def _live(self, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        """The pool lives from before the first request until after the last."""
        await receive()
        async with pgpool_core.open_pool(os.environ["DATABASE_URL"], max_size=5, name="greetings") as self._pool:
            await self._pool.execute(TABLE)
            await send({"type": "lifespan.startup.complete"})
            await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async def _greet(self, scope: HTTPScope, send: ASGISendCallable) -> None:
        assert self._pool is not None
        name = scope["path"].removeprefix("/") or "world"

        async def greet(connection: pgpool_core.Connection) -> pgpool_core.Record | None:
            return await connection.fetchrow(GREET, name)

        row = await self._pool.transaction(isolation="serializable", retries=10).run(greet)
        body = json.dumps(dict(row or {})).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": False})
        await send({"type": "http.response.body", "body": body, "more_body": False})


app = Site()
