"""The application: settings in, ASGI out."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from anyio.to_thread import run_sync
from fastapi import FastAPI
from fastapi.routing import APIRoute
from retort import __version__
from retort.db import Database
from retort.settings import Settings

from retort_api import errors, openapi
from retort_api.bell import Bell
from retort_api.deps import Service
from retort_api.middleware import Observed
from retort_api.routes import ROUTERS
from retort_api.telemetry import Telemetry


def create_app(settings: Settings) -> FastAPI:
    """Return the service for *settings*; the database must have been migrated. Nothing is opened yet."""
    database = Database(settings.database_url)
    service = Service(
        settings=settings,
        database=database,
        bell=Bell(settings.broker_url),
        telemetry=Telemetry(database),
        stopping=threading.Event(),
    )
    app = FastAPI(
        title="Retort",
        version=__version__,
        summary="Distils YOLO detectors, and proves what the distillation bought.",
        license_info={"name": "AGPL-3.0-only", "identifier": "AGPL-3.0-only"},
        lifespan=_lifespan,
        redirect_slashes=False,
        docs_url=None,  # FastAPI's pages fetch their scripts from elsewhere; routes/pages.py has one that does not
        redoc_url=None,
        generate_unique_id_function=_operation_id,
    )
    app.state.service = service
    for router in ROUTERS:
        app.include_router(router)
    errors.install(app)
    app.add_middleware(Observed, telemetry=service.telemetry)
    app.openapi = partial(openapi.describe, app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    yield
    service.stopping.set()
    await run_sync(service.bell.close)
    service.database.close()


def _operation_id(route: APIRoute) -> str:
    return route.name
