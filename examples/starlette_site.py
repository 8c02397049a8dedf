"""A web service of Starlette with SQLAlchemy and asyncpg: `hypercorn starlette_site:app`, or any other ASGI server.

The pooler lives as long as the application. The engine has no pool of its own (NullPool): there is one already.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypedDict

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import pgpool_core


class State(TypedDict):
    """What requests find in `request.state`."""

    engine: AsyncEngine
    proxy: pgpool_core.AsyncioProxy


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[State]:
    async with pgpool_core.open_proxy_asyncio(os.environ["DATABASE_URL"], default_pool_size=5) as proxy:
        engine = create_async_engine(proxy.url_for("sqlalchemy+asyncpg"), poolclass=NullPool)
        yield {"engine": engine, "proxy": proxy}
        await engine.dispose()


async def squares(request: Request) -> JSONResponse:
    engine: AsyncEngine = request.state.engine
    async with engine.connect() as connection:
        query = text("select n * n from generate_series(1, :last) n").bindparams(last=int(request.query_params["last"]))
        return JSONResponse([row[0] for row in await connection.execute(query)])


async def statistics(request: Request) -> JSONResponse:
    proxy: pgpool_core.AsyncioProxy = request.state.proxy
    totals = (await proxy.statistics()).overall.totals
    return JSONResponse({"transactions": totals.xacts, "logins": totals.client_logins})


app = Starlette(routes=[Route("/squares", squares), Route("/statistics", statistics)], lifespan=lifespan)
