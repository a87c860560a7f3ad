"""Provide the dependencies of endpoints: one ``AppState`` per application."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path as Folder
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Path, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from fastapi.routing import APIRoute
from retort import access
from retort.access import ANY_KEY, Admission, Forbidden, Principal, Scope, Unauthorized
from retort.dataset_ref import DatasetRef
from retort.db import Database, Session, audit, datasets, jobs, model_registry, predictions, sweeps
from retort.db.session import database_now
from retort.errors import UserError
from retort.keeping import Keeper, open_store
from retort.model_ref import ModelRef
from retort.settings import Settings
from retort.storage import Store
from starlette.routing import BaseRoute
from starlette.types import Receive, Send
from starlette.types import Scope as ScopeMap

from retort_api.audit import RefusalLog, act_of, address_of, keep_outcome
from retort_api.batching import Batcher, ResponseCache
from retort_api.disk_budget import DiskBudget
from retort_api.errors import BadParameter, leaves
from retort_api.keyring import KeyRing
from retort_api.links import LinkSigner
from retort_api.metrics import ServiceMetrics
from retort_api.notifier import QueueNotifier
from retort_api.origin import SAFE_METHODS
from retort_api.provider import Provider
from retort_api.proxies import vouched
from retort_api.queue_view import QueueView
from retort_api.rates import RateLimits
from retort_api.review_access import ReviewCache
from retort_api.spec_validation import Registry
from retort_api.streams import StreamHub

IDEMPOTENCY_KEY = r"^[!-~]{1,255}$"
OWNER = rf"^{access.NAME}$"
_JOB_ID = re.compile(r"job_[0-9a-f]{32}")
_SWEEP_ID = re.compile(r"swp_[0-9a-f]{32}")
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


@dataclass(frozen=True)
class AppState:
    """State shared by the endpoints of one application."""

    settings: Settings
    database: Database
    notifier: QueueNotifier
    metrics: ServiceMetrics
    stopping: threading.Event
    """Set when the server begins to shut down: streams end."""
    responses: ResponseCache = field(default_factory=ResponseCache)
    reviews: ReviewCache = field(default_factory=ReviewCache)

    @cached_property
    def streams(self) -> StreamHub:
        """Hub of the streams of events."""
        most, each = self.settings.max_streams, self.settings.max_streams_each
        return StreamHub(self.database, self.stopping, most=most, most_each=each)

    @cached_property
    def rates(self) -> RateLimits:
        """How often each may ask."""
        return RateLimits(self.settings)

    @cached_property
    def keys(self) -> KeyRing:
        """Who may come in."""
        return KeyRing(self.database, self.settings.home)

    @cached_property
    def refusals(self) -> RefusalLog:
        """Refused requests on their way to the audit log."""
        return RefusalLog(self.database)

    @cached_property
    def provider(self) -> Provider:
        """Where people log in."""
        if not self.settings.oidc_issuer:
            hint = "the operator names one in RETORT_OIDC_ISSUER"
            raise UserError("this service has no provider to log in at", hint=hint, code="not_found")
        return Provider(self.settings)

    @cached_property
    def disk(self) -> DiskBudget:
        """Room for what is submitted and sent."""
        return DiskBudget(self.settings, self.database, lambda: self.store)

    def read(self, caller: Principal) -> AbstractContextManager[Session]:
        """Open a read-only transaction that sees what *caller* may see."""
        return self.database.read(project=caller.reach)

    def begin(self, caller: Principal) -> AbstractContextManager[Session]:
        """Open a write transaction that reaches what *caller* may reach."""
        return self.database.begin(project=caller.reach)

    @cached_property
    def versions(self) -> Batcher[str, jobs.JobVersion]:
        """Batcher that reads the versions of jobs by job id."""

        def look(job_ids: Sequence[str]) -> Sequence[jobs.JobVersion | Exception]:
            with self.database.autocommit_read() as session:
                found = jobs.versions(session, job_ids)
            return [found.get(job_id) or jobs.JobNotFound(f"there is no job {job_id}") for job_id in job_ids]

        return Batcher(look)

    @cached_property
    def submissions(self) -> Batcher[jobs.Submission, jobs.SubmittedJob]:
        """Batcher that writes job submissions."""

        def write(submissions: Sequence[jobs.Submission]) -> Sequence[jobs.SubmittedJob | Exception]:
            with audit.acting(None), self.database.begin() as session:  # each says itself who submits it
                return jobs.submit_all(session, submissions, now=database_now(session))

        return Batcher(write)

    @property
    def spool(self) -> Folder:
        """Folder of the bodies that are being received."""
        return self.settings.home / "spool"

    def registry(self, project: str) -> Registry:
        """Return what specs of a project are checked against: what is registered in it."""

        def digests(name: str) -> list[str]:
            with self.database.read(project=project) as session:
                return [model.sha256 for model in model_registry.versions(session, name)]

        def classes(reference: ModelRef) -> list[str] | None:
            with self.database.read(project=project) as session:
                found = model_registry.find(session, reference)
                return None if found is None else found.classes

        def brought(name: str) -> list[str]:
            with self.database.read(project=project) as session:
                return datasets.digests(session, project, name)

        def classes_of_data(reference: DatasetRef) -> tuple[str, ...] | None:
            with self.database.read(project=project) as session:
                return datasets.classes(session, reference, project)

        return Registry(digests, classes, brought, classes_of_data)

    @cached_property
    def predictions(self) -> Batcher[str, dict[str, Any] | None]:
        """Batcher that reads the answers of predictions; None where there is none yet."""

        def look(ids: Sequence[str]) -> Sequence[dict[str, Any] | Exception | None]:
            with self.database.autocommit_read() as session:
                found = predictions.answers(session, ids)
            return [found.get(prediction_id) for prediction_id in ids]

        return Batcher(look)

    @cached_property
    def links(self) -> LinkSigner:
        """Signer of download addresses."""
        return LinkSigner(self.settings.home, self.settings.link_secret.get_secret_value())

    @cached_property
    def store(self) -> Store:
        """Artifact store, opened at first use.

        A store that is unreachable therefore stops nothing else.
        """
        return open_store(self.settings, self.database)

    @cached_property
    def queue(self) -> QueueView:
        """Return the queue as it stood a moment ago."""
        return QueueView(self.database, within_s=self.settings.lease_s)

    @cached_property
    def keeper(self) -> Keeper:
        """Return what applies retention when it is asked for."""
        return Keeper(self.database, lambda: self.store, self.settings)


# These are coroutines so that FastAPI calls them where it is instead of sending each to a thread.
async def serving(request: Request) -> AppState:
    """Return the state of the application that *request* is for."""
    service: AppState = request.app.state.service
    return service


def is_job_id(value: str) -> bool:
    """Return True if *value* has the shape of a job id.

    Other values never reach the database.
    """
    return _JOB_ID.fullmatch(value) is not None


async def _job_id(job_id: Annotated[str, Path(description="Such as `job_01985a3e7b0c7d4e8f1a2b3c4d5e6f70`.")]) -> str:
    if not is_job_id(job_id):
        raise jobs.JobNotFound(f"there is no job {job_id}")
    return job_id


async def _sweep_id(
    sweep_id: Annotated[str, Path(description="Such as `swp_01985a3e7b0c7d4e8f1a2b3c4d5e6f70`.")],
) -> str:
    if not _SWEEP_ID.fullmatch(sweep_id):
        raise sweeps.SweepNotFound(f"there is no sweep {sweep_id}")
    return sweep_id


Serving = Annotated[AppState, Depends(serving)]
JobId = Annotated[str, Depends(_job_id)]
SweepId = Annotated[str, Depends(_sweep_id)]


def without_query(dependant: Dependant) -> Dependant:
    """Return *dependant* without the query parameters that have a default.

    Python fills the same defaults in, where FastAPI works for a tenth of a request on looking for what was not sent.
    """
    needed = [one for one in dependant.query_params if one.field_info.is_required() or one.field_info.default_factory]
    return replace(dependant, query_params=needed, dependencies=[without_query(one) for one in dependant.dependencies])


class GuardedRoute(APIRoute):
    """Route that authorises a request by its scope before reading the body."""

    demanded: Scope | Admission | None = None
    """None where it was forgotten: the application does not start."""
    any_query = False
    """Whether unknown query parameters pass."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what answers a request that is let in."""
        answer = super().get_route_handler()
        bare = copy(self)
        bare.dependant = without_query(self.dependant)
        answer_bare = APIRoute.get_route_handler(bare)

        async def handler(request: Request) -> Response:
            if not request.scope["query_string"]:
                return await answer_bare(request)
            if not self.any_query:
                self._refuse_unknown(request.query_params)
            return await answer(request)

        return handler

    def _refuse_unknown(self, given: Iterable[str]) -> None:
        """Refuse misspelt query parameters, which would otherwise do nothing without a word."""
        for name in given:
            if name not in self._known_query:
                known = ", ".join(self._known_query)
                hint = f"known: {known}" if known else "this address takes none"
                raise BadParameter(f"query.{name}", "unknown parameter", hint=hint)

    @cached_property
    def _known_query(self) -> list[str]:
        return sorted(one.alias for one in get_flat_params(self.dependant) if isinstance(one.field_info, Query))

    async def handle(self, scope: ScopeMap, receive: Receive, send: Send) -> None:
        """Find out who asks, and answer or refuse."""
        assert self.demanded is not None, "the application would not have started"
        service: AppState = scope["app"].state.service
        principal = await self._admitted(service, scope, ANY_KEY if isinstance(self.demanded, Scope) else self.demanded)
        scope.setdefault("state", {})["principal"] = principal
        service.rates.count(principal, scope)
        if principal is None or scope["method"] in SAFE_METHODS:
            if principal is not None:
                principal.demand(self.demanded)
            await super().handle(scope, receive, send)
            return
        act = act_of(principal, self.name, scope)
        try:
            principal.demand(self.demanded)
        except Forbidden as error:
            await service.refusals.add(act, error.code)
            raise
        with audit.acting(act):
            await super().handle(scope, receive, keep_outcome(send, service.refusals, act))

    async def _admitted(self, service: AppState, scope: ScopeMap, demanded: Scope | Admission) -> Principal | None:
        """Return who asks, by a trusted proxy, a key or a session."""
        try:
            named = vouched(scope, service.settings)
            if named is None:
                return await service.keys.admit(scope, demanded)
        except Unauthorized as error:
            service.rates.count_failure(error, address_of(scope))
            raise
        return named


async def calling(request: Request) -> Principal:
    """Return who asks."""
    principal: Principal | None = request.state.principal
    assert principal is not None, "public routes have no caller"
    return principal


async def _anybody(request: Request) -> Principal | None:
    principal: Principal | None = request.state.principal
    return principal


Caller = Annotated[Principal, Depends(calling)]
"""Who asks, on every route that is not public."""
Anybody = Annotated[Principal | None, Depends(_anybody)]
"""Who asks on a public route; None for strangers."""


class Router(APIRouter):
    """Routes under one tag that name their scopes and refuse unknown query parameters.

    Args:
        tag: what they are about.
        any_query: let unknown ones pass, where others than clients write the address.

    """

    def __init__(self, tag: str, *, any_query: bool = False) -> None:
        super().__init__(tags=[tag], route_class=GuardedRoute, generate_unique_id_function=attrgetter("name"))
        self._any_query = any_query

    def add_api_route(
        self, path: str, endpoint: Callable[..., Any], *, scope: Scope | Admission | None = None, **options: Any
    ) -> None:
        """Register an endpoint for those who have *scope*."""
        super().add_api_route(path, endpoint, **options)
        route = self.routes[-1]
        assert isinstance(route, GuardedRoute)
        route.demanded = scope
        route.any_query = self._any_query

    def _register(self, methods: list[str], path: str, options: dict[str, Any]) -> Callable[[Endpoint], Endpoint]:
        def register(endpoint: Endpoint) -> Endpoint:
            self.add_api_route(path, endpoint, methods=methods, **options)
            return endpoint

        return register

    def get(self, path: str, *, scope: Scope | Admission, **options: Any) -> Callable[[Endpoint], Endpoint]:  # type: ignore[override]
        """Register an endpoint for GET."""
        return self._register(["GET"], path, {"scope": scope, **options})

    def head(self, path: str, *, scope: Scope | Admission, **options: Any) -> Callable[[Endpoint], Endpoint]:  # type: ignore[override]
        """Register an endpoint for HEAD."""
        return self._register(["HEAD"], path, {"scope": scope, **options})

    def post(self, path: str, *, scope: Scope | Admission, **options: Any) -> Callable[[Endpoint], Endpoint]:  # type: ignore[override]
        """Register an endpoint for POST."""
        return self._register(["POST"], path, {"scope": scope, **options})

    def put(self, path: str, *, scope: Scope | Admission, **options: Any) -> Callable[[Endpoint], Endpoint]:  # type: ignore[override]
        """Register an endpoint for PUT."""
        return self._register(["PUT"], path, {"scope": scope, **options})

    def patch(self, path: str, *, scope: Scope | Admission, **options: Any) -> Callable[[Endpoint], Endpoint]:  # type: ignore[override]
        """Register an endpoint for PATCH."""
        return self._register(["PATCH"], path, {"scope": scope, **options})

    def delete(self, path: str, *, scope: Scope | Admission, **options: Any) -> Callable[[Endpoint], Endpoint]:  # type: ignore[override]
        """Register an endpoint for DELETE."""
        return self._register(["DELETE"], path, {"scope": scope, **options})

    def options(self, path: str, *, scope: Scope | Admission, **options: Any) -> Callable[[Endpoint], Endpoint]:  # type: ignore[override]
        """Register an endpoint for OPTIONS."""
        return self._register(["OPTIONS"], path, {"scope": scope, **options})

    def readable(self, path: str, *, scope: Scope | Admission, **options: Any) -> Callable[[Endpoint], Endpoint]:
        """Register an endpoint for GET, and for HEAD without documentation.

        HEAD is left out of the OpenAPI document because it is GET without a body.
        """

        def register(endpoint: Endpoint) -> Endpoint:
            self.get(path, scope=scope, **options)(endpoint)
            self.head(path, scope=scope, **{**options, "include_in_schema": False})(endpoint)
            return endpoint

        return register


def guarded(routes: Iterable[BaseRoute]) -> Iterator[GuardedRoute]:
    """Yield the routes that declare a scope."""
    yield from (one for one in leaves(routes) if isinstance(one, GuardedRoute) and one.demanded is not None)


def unguarded(routes: Iterable[BaseRoute]) -> Iterator[str]:
    """Yield the addresses of all other routes."""
    for route in leaves(routes):
        if not isinstance(route, GuardedRoute) or route.demanded is None:
            yield f"{type(route).__name__} {getattr(route, 'path', route)}"
