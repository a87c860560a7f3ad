"""Provide the dependencies of endpoints: one ``AppState`` per application."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Depends, Path, Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Query
from retort.db import Database, jobs, model_registry, sweeps
from retort.db.session import database_now
from retort.keeping import Keeper, open_store
from retort.model_ref import ModelRef
from retort.settings import Settings
from retort.storage import Store

from retort_api.batching import Batcher, ResponseCache
from retort_api.errors import BadParameter
from retort_api.metrics import ServiceMetrics
from retort_api.notifier import QueueNotifier
from retort_api.review_access import ReviewCache
from retort_api.spec_validation import Registry
from retort_api.streams import StreamHub

IDEMPOTENCY_KEY = r"^[!-~]{1,255}$"
OWNER = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$"
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
            with self.database.begin() as session:
                return jobs.submit_all(session, submissions, now=database_now(session))

        return Batcher(write)

    def digests(self, name: str) -> list[str]:
        """Return the digests of the models registered under *name*, newest first."""
        with self.database.read() as session:
            return [model.sha256 for model in model_registry.versions(session, name)]

    def classes(self, reference: ModelRef) -> list[str] | None:
        """Return the class names of a registered model; None where they are not known."""
        with self.database.read() as session:
            found = model_registry.find(session, reference)
            return None if found is None else found.classes

    @property
    def registry(self) -> Registry:
        """Return what specs are checked against."""
        return Registry(self.digests, self.classes)

    @cached_property
    def store(self) -> Store:
        """Artifact store, opened at first use.

        A store that is unreachable therefore stops nothing else.
        """
        return open_store(self.settings, self.database)

    @cached_property
    def keeper(self) -> Keeper:
        """Return what applies retention when it is asked for."""
        return Keeper(self.database, lambda: self.store, self.settings)


# These are coroutines so that FastAPI calls them where it is instead of sending each to a thread.
async def _state(request: Request) -> AppState:
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


async def _known_query(request: Request) -> None:
    """Refuse misspelt query parameters, which would otherwise do nothing without a word."""
    if not request.query_params:
        return
    parameters = get_flat_params(request.scope["route"].dependant)
    known = sorted(field.alias for field in parameters if isinstance(field.field_info, Query))
    for name in request.query_params:
        if name not in known:
            hint = f"known: {', '.join(known)}" if known else "this address takes none"
            raise BadParameter(f"query.{name}", "unknown parameter", hint=hint)


Serving = Annotated[AppState, Depends(_state)]
JobId = Annotated[str, Depends(_job_id)]
SweepId = Annotated[str, Depends(_sweep_id)]


class Router(APIRouter):
    """Routes under one tag that refuse unknown query parameters."""

    def __init__(self, tag: str) -> None:
        super().__init__(tags=[tag], dependencies=[Depends(_known_query)])

    def readable(self, path: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
        """Register an endpoint for GET, and for HEAD without documentation.

        HEAD is left out of the OpenAPI document because it is GET without a body.
        """

        def register(endpoint: Endpoint) -> Endpoint:
            self.get(path, **options)(endpoint)
            self.head(path, **{**options, "include_in_schema": False})(endpoint)
            return endpoint

        return register
