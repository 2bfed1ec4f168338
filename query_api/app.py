"""Puts the query API together from its parts."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles
from fastapi_offline import FastAPIOffline

from query_api import routes, routes_health, routes_live, routes_power
from query_api.metrics import LOOK_AGE
from query_api.parts import Parts
from query_api.problems import add_problem_handlers


def create_app(parts: Parts) -> FastAPI:
    """Return an application that answers from ``parts`` and runs their background."""
    app = FastAPIOffline(
        title="Litmus query API",
        description="Results, live and past, and the ledger that proves them.",
        lifespan=_lifespan,
        redoc_url=None,
    )
    app.state.parts = parts
    LOOK_AGE.set_function(lambda: parts.snapshots.age_s(parts.clock_ms()))
    app.include_router(routes.router, tags=["results"])
    app.include_router(routes_live.router, tags=["live"])
    app.include_router(routes_power.router, tags=["planning"])
    app.include_router(routes_health.router, tags=["operation"])
    app.mount("/static", StaticFiles(directory=routes_health.PAGE), name="static")
    add_problem_handlers(app)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    parts: Parts = app.state.parts
    parts.live.open(asyncio.get_running_loop())
    for one in parts.background:
        one.start()
    try:
        yield
    finally:
        for one in reversed(parts.background):
            await asyncio.to_thread(one.stop)
        parts.live.close()
        await asyncio.to_thread(parts.history.close)
