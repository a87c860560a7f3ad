"""The ASGI application and its OpenAPI document."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from anyio.to_thread import run_sync
from fastapi import FastAPI, Response
from fastapi.openapi.utils import get_openapi
from retort import __version__
from retort.access import PUBLIC
from retort.db import Database
from retort.db.quotas import default_limits
from retort.logs import LineLimit
from retort.settings import Settings
from retort.spec import schema, sweep_schema

from retort_api import errors, pages
from retort_api.deps import AppState, guarded, unguarded
from retort_api.errors import MEDIA_TYPE, NO_CONTENT, Problem
from retort_api.examples import Examples, by_operation
from retort_api.keyring import SESSION_COOKIE
from retort_api.metrics import ServiceMetrics
from retort_api.middleware import RequestMiddleware
from retort_api.notifier import QueueNotifier
from retort_api.origin import OriginMiddleware
from retort_api.pages import page_router, rendering
from retort_api.proxies import ProxyMiddleware
from retort_api.routes import ROUTERS
from retort_api.routes.events import NothingFollows
from retort_api.schemas.datasets import NewDataset
from retort_api.schemas.reviews import Complete, Decide
from retort_api.schemas.uploads import UploadAnnouncement, UploadFetch

DESCRIPTION = """\
A job trains a student detector from a teacher, and beside it an undistilled control, so that what the distillation
bought is known. Submit a spec, follow the job, fetch what it publishes.

Every operation but the probes needs a key, `Authorization: Bearer rtt_…`, or the cookie of a browser that has logged
in; `x-required-scope` names what the key must allow. What belongs to another project is answered as if it were not
there. Everything that is refused is a problem document (RFC 9457) with a stable `code`.
"""
SERVERS: list[dict[str, str | Any]] = [
    {"url": "/", "description": "Where this document comes from."},
    {
        "url": "http://{host}:{port}",
        "description": "Where `retort up` and `python -m retort_api` listen; the settings name other places.",
        "variables": {"host": {"default": "127.0.0.1"}, "port": {"default": "8000"}},
    },
]
TAGS = {
    "jobs": "Submit a spec, and see where its job stands.",
    "advice": "Have candidate teachers measured beside the student before anything is trained.",
    "control": "What is wished of a job: cancel, stop, pause, resume, retry, extend, clone, another priority.",
    "following": "What happens to a job: events, the live stream of them, attempts and curves.",
    "artifacts": "What a job has published: weights, exports, the report.",
    "review": "People look at the teacher's pseudo-labels before a student learns from them.",
    "uploads": "Send large files in parts, resumably.",
    "datasets": "Bring datasets, which specs name by digest.",
    "models": "Registered weights, which specs name by digest.",
    "trash": "Delete jobs, sweeps, artifacts and models; restore them while the trash has them.",
    "keeping": "What is used, by whom, and what retention takes.",
    "sweeps": "Many jobs that differ in some fields of the spec, and the search for the best.",
    "webhooks": "Addresses that are told what happens to jobs.",
    "oversight": "For operators: who changed what, and how much each project may have.",
    "reference": "What a spec may say: JSON Schema and recipes.",
    "keys": "Who may do what: API keys, projects, and browsers that log in.",
    "health": "For those who run the service: liveness, readiness and Prometheus metrics.",
}
SECURITY: dict[str, Any] = {
    "key": {"type": "http", "scheme": "bearer", "description": "An API key: `retort keys create` makes one."},
    "session": {
        "type": "apiKey", "in": "cookie", "name": SESSION_COOKIE, "description": "A browser that has logged in.",
    },
}  # fmt: skip
_REF = "#/components/schemas/{model}"


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI document, made once per application."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title,
            version=app.version,
            summary=app.summary,
            description=DESCRIPTION,
            license_info=app.license_info,
            servers=SERVERS,
            tags=[{"name": name, "description": what} for name, what in TAGS.items()],
            routes=app.routes,
        )
        document["security"] = [{"key": []}, {"session": []}]
        document["components"]["securitySchemes"] = SECURITY
        document["components"]["schemas"] = dict(sorted(_schemas(document).items()))
        _complete(document, by_operation())
        _demand(document, app)
        app.openapi_schema = document
    return app.openapi_schema


def _schemas(document: dict[str, Any]) -> dict[str, Any]:
    schemas: dict[str, Any] = document["components"]["schemas"]
    schemas |= _with_parts("JobSpec", schema()) | _with_parts("AdviceSpec", schema("advise"))
    schemas |= _with_parts("EvaluateSpec", schema("evaluate"))
    schemas |= _with_parts("SweepSpec", sweep_schema())
    for model in (Problem, Decide, Complete, UploadAnnouncement, UploadFetch, NewDataset):
        schemas |= _with_parts(model.__name__, model.model_json_schema())
    return schemas


def _complete(document: dict[str, Any], examples: dict[str, Examples]) -> None:
    for methods in document["paths"].values():
        for operation in methods.values():
            _illustrate(operation, examples.pop(operation["operationId"], Examples()))
            for answer in operation["responses"].values():
                _put_stream_as_text(answer)
    assert not examples, f"examples of no operation: {sorted(examples)}"


def _demand(document: dict[str, Any], app: FastAPI) -> None:
    """Say of each operation whom it lets in."""
    for route in guarded(app.routes):
        for method in route.methods or ():
            operation = document["paths"].get(route.path_format, {}).get(method.lower())
            if operation is None:
                continue
            if route.demanded is PUBLIC:
                operation["security"] = [{}, *document["security"]]
                continue
            operation["x-required-scope"] = route.demanded
            for status, answer in errors.documented("unauthorized", "forbidden").items():
                operation["responses"].setdefault(str(status), answer)


def _illustrate(operation: dict[str, Any], examples: Examples) -> None:
    if examples.request is not None:
        for media in operation["requestBody"]["content"].values():
            media["example"] = examples.request
    for status, shown in examples.answers.items():
        content = operation["responses"][str(status)]["content"]
        media_type = MEDIA_TYPE if isinstance(shown, Problem) else "application/json"
        content[media_type] = {**content[media_type], "example": shown.model_dump(mode="json", by_alias=True)}


def _put_stream_as_text(answer: dict[str, Any]) -> None:
    """Describe a stream as OpenAPI 3.1 can: ``itemSchema``, which FastAPI writes, came with 3.2."""
    for media in answer.get("content", {}).values():
        if media.pop("itemSchema", None):
            media["schema"] = {"type": "string", "description": "Server-sent events; `data` of each is an `Event`."}


def _with_parts(name: str, document: dict[str, Any]) -> dict[str, Any]:
    """Move a JSON Schema and the definitions inside it to where OpenAPI keeps them."""
    parts: dict[str, Any] = document.pop("$defs", {})
    document.pop("$schema", None)
    return {part: _moved(content) for part, content in {**parts, name: document}.items()}


def _moved(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _moved(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item) for item in value]
    if isinstance(value, str) and value.startswith("#/$defs/"):
        return _REF.format(model=value.removeprefix("#/$defs/"))
    return value


def create_app(settings: Settings) -> FastAPI:
    """Return the API application for *settings*; nothing is opened yet.

    The database must have been migrated.
    """
    database = Database(
        settings.database_url, limits=default_limits(settings), max_queue_s=settings.max_queue_s
    )  # fmt: skip
    service = AppState(
        settings=settings,
        database=database,
        notifier=QueueNotifier(settings.broker_url),
        metrics=ServiceMetrics(database, settings),
        stopping=threading.Event(),
    )
    app = FastAPI(
        title="Retort",
        version=__version__,
        summary="Distils YOLO detectors, and proves what the distillation bought.",
        license_info={"name": "AGPL-3.0-only", "identifier": "AGPL-3.0-only"},
        lifespan=_lifespan,
        redirect_slashes=False,
        openapi_url=None,  # routes/pages.py has one that asks for a key
        docs_url=None,  # FastAPI's pages fetch their scripts from elsewhere; routes/pages.py has one that does not
        redoc_url=None,
    )
    app.state.service = service
    app.state.troubles = LineLimit(1)
    for router in (*ROUTERS, *pages.routers()):
        app.router.routes.extend(router.routes)  # included routers would each be searched twice, on every request
    if forgotten := list(unguarded(app.routes)):
        message = f"these routes do not say whom they let in (scope=): {', '.join(forgotten)}"
        raise RuntimeError(message)
    app.state.navigation = rendering.navigation(app)
    app.state.page_of_problem = rendering.page_of_problem
    errors.install(app)
    app.add_exception_handler(NothingFollows, lambda *_: Response(status_code=NO_CONTENT))
    app.add_middleware(OriginMiddleware, settings=settings, takes_form=page_router.form_paths(app.routes))
    app.add_middleware(RequestMiddleware, telemetry=service.metrics)
    app.add_middleware(ProxyMiddleware, trusted=settings.trusted_proxies)
    app.openapi = partial(describe, app)  # type: ignore[method-assign]
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: AppState = app.state.service
    yield
    service.stopping.set()
    await service.refusals.close()
    await service.keys.close()
    await run_sync(service.notifier.close)
    service.database.close()
