"""Define status codes and errors as application/problem+json (RFC 9457)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import structlog
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict
from retort.errors import DISK_FULL, RetortError, SpecError, TransientError, UserError
from retort.logs import LineLimit
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match

OK = 200
CREATED = 201
ACCEPTED = 202
NO_CONTENT = 204
PARTIAL_CONTENT = 206
NOT_MODIFIED = 304
TOO_MANY_REQUESTS = 429
SERVICE_UNAVAILABLE = 503
MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 2
"""When a client may repeat what failed because of the world."""

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_PLACE = re.compile(r"{[^}]*}")
_log = structlog.get_logger("retort.api")


class ProblemType(NamedTuple):
    """Status and title of one problem code."""

    status: int
    title: str


KINDS: dict[str, ProblemType] = {
    "bad_request": ProblemType(400, "The request cannot be understood"),
    "unreadable_body": ProblemType(400, "The body is not readable"),
    "cross_site": ProblemType(403, "A page of another site may change nothing here"),
    "host_not_allowed": ProblemType(421, "The service does not answer under this name"),
    "unauthorized": ProblemType(401, "The request needs a valid key"),
    "forbidden": ProblemType(403, "The key does not allow this"),
    "fetching_off": ProblemType(403, "Nothing is fetched by URL here"),
    "not_found": ProblemType(404, "There is nothing at this address"),
    "job_not_found": ProblemType(404, "There is no such job"),
    "sweep_not_found": ProblemType(404, "There is no such sweep"),
    "artifact_not_found": ProblemType(404, "The job has no such artifact"),
    "model_not_found": ProblemType(404, "There is no such registered model"),
    "upload_not_found": ProblemType(404, "There is no such upload"),
    "dataset_not_found": ProblemType(404, "There is no such dataset"),
    "link_invalid": ProblemType(404, "The download address is not valid"),
    "webhook_not_found": ProblemType(404, "There is no such webhook"),
    "delivery_not_found": ProblemType(404, "The webhook has no such delivery"),
    "worker_not_found": ProblemType(404, "There is no such worker"),
    "review_not_found": ProblemType(404, "The job has no review"),
    "image_not_found": ProblemType(404, "The review has no such image"),
    "key_not_found": ProblemType(404, "There is no such key"),
    "project_not_found": ProblemType(404, "There is no such project"),
    "method_not_allowed": ProblemType(405, "The address knows other methods"),
    "job_already_finished": ProblemType(409, "The job has already ended"),
    "sweep_already_finished": ProblemType(409, "The sweep has already ended"),
    "no_trial_succeeded": ProblemType(409, "The sweep has no best trial yet"),
    "key_ended": ProblemType(409, "The key has ended"),
    "login_refused": ProblemType(403, "The person may not come in"),
    "login_expired": ProblemType(410, "The login was not finished in time"),
    "login_unavailable": ProblemType(503, "The provider at which people log in is not available"),
    "link_used": ProblemType(403, "The link opens nothing any more"),
    "in_use": ProblemType(409, "Something still needs it"),
    "cannot_extend": ProblemType(409, "Epochs cannot be added to the job"),
    "wrong_state": ProblemType(409, "The job is not in a state for this"),
    "upload_conflict": ProblemType(409, "The upload stands otherwise"),
    "too_many_webhooks": ProblemType(409, "The project has as many webhooks as it may have"),
    "no_checkpoint": ProblemType(409, "The job has no network to predict with yet"),
    "review_open": ProblemType(409, "Images of the review are open"),
    "link_expired": ProblemType(410, "The download address has expired"),
    "version_conflict": ProblemType(412, "It has changed since"),
    "tus_version": ProblemType(412, "The version of tus is not understood"),
    "body_too_large": ProblemType(413, "The body is too large"),
    "unsupported_media_type": ProblemType(415, "The body's type is not understood"),
    "range_not_satisfiable": ProblemType(416, "The range lies outside the artifact"),
    "bad_parameter": ProblemType(422, "A parameter is wrong"),
    "bad_digest": ProblemType(422, "The bytes do not have the announced digest"),
    "bad_address": ProblemType(422, "The URL cannot be used"),
    "bad_spec": ProblemType(422, "The spec is wrong"),
    "bad_image": ProblemType(422, "The image cannot be looked at"),
    "bad_review": ProblemType(422, "The decision, or the file with labels, cannot be used"),
    "bad_data": ProblemType(422, "The dataset cannot be used"),
    "bad_model": ProblemType(422, "The weights cannot be used"),
    "idempotency_key_reused": ProblemType(422, "The idempotency key came with another body before"),
    "rate_limited": ProblemType(429, "Too much is asked for at a time"),
    "too_many_streams": ProblemType(429, "Too many jobs are followed at a time"),
    "quota_exceeded": ProblemType(429, "The project has as much of this as it may"),
    "bad_checksum": ProblemType(460, "The bytes do not have the announced checksum"),
    "internal": ProblemType(500, "The service made a mistake"),
    "artifact_bytes_missing": ProblemType(500, "The artifact's bytes are lost"),
    "unavailable": ProblemType(503, "Something that the service needs is not available"),
    "storage_full": ProblemType(507, "There is no room"),
    "too_many_predictions": ProblemType(429, "Too many images wait for their boxes"),
    "no_predictor": ProblemType(503, "No worker has looked at the image"),
    "database_unavailable": ProblemType(503, "The database is not available"),
    "store_unavailable": ProblemType(503, "The artifact store is not available"),
}


class Mistake(BaseModel):
    """One mistake in the request."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    path: str
    """Dotted path into the document, or the parameter after ``query``, ``path`` or ``header``."""
    detail: str
    hint: str | None


class Problem(BaseModel):
    """Why a request was refused (RFC 9457)."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    type: str
    """``urn:retort:problem:`` and the code; docs/api-errors.md explains each."""
    title: str
    status: int
    detail: str
    instance: str
    code: str
    """Stable: programs decide by this."""
    hint: str | None
    """What to do about it."""
    errors: tuple[Mistake, ...]
    retryable: bool
    """Whether the same request may succeed later."""
    request_id: str


class BadParameter(UserError):
    """A parameter of the request is wrong."""

    code = "bad_parameter"

    def __init__(self, path: str, message: str, *, hint: str | None = None) -> None:
        super().__init__(f"{path}: {message}", hint=hint)
        self.mistakes = (Mistake(path=path, detail=message, hint=hint),)


def install(app: FastAPI) -> None:
    """Answer every expected error of *app* with a problem document.

    The middleware answers the unexpected ones.
    """
    app.add_exception_handler(RetortError, _problem)
    app.add_exception_handler(RequestValidationError, _refuse_parameters)
    app.add_exception_handler(HTTPException, _refuse_address)


def documented(*codes: str) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses for problem *codes* and for unexpected errors."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        kind = KINDS[code]
        known = found.get(kind.status)
        description = f"{known['description']}; `{code}`: {kind.title}" if known else f"`{code}`: {kind.title}"
        found[kind.status] = {"description": description, **_CONTENT}
    return {**found, "default": {"description": "Any other problem", **_CONTENT}}


_CONTENT = {"content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}}


def answer(
    request: Request,
    code: str,
    detail: str,
    *,
    hint: str | None = None,
    mistakes: tuple[Mistake, ...] = (),
    kind: ProblemType | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return the problem *code* as a response."""
    kind = kind or KINDS[code]
    retryable = kind.status in {TOO_MANY_REQUESTS, SERVICE_UNAVAILABLE}
    problem = Problem(
        type=f"urn:retort:problem:{code}",
        title=kind.title,
        status=kind.status,
        detail=detail,
        instance=request.url.path,
        code=code,
        hint=hint,
        errors=mistakes,
        retryable=retryable,
        request_id=request.state.request_id,
    )
    shown: Response | None = request.app.state.page_of_problem(request, problem)
    if shown is not None:
        shown.headers.update({**_again(retryable), **(headers or {})})
        return shown
    # What a user sent may hold halves of surrogate pairs, which have no UTF-8.
    body = json.dumps(problem.model_dump(mode="python"), ensure_ascii=False).encode(errors="replace")
    return Response(body, kind.status, {**_again(retryable), **(headers or {})}, MEDIA_TYPE)


def _again(retryable: bool) -> dict[str, str]:
    return {"Retry-After": str(RETRY_AFTER_S)} if retryable else {}


def internal(request: Request, error: BaseException | None = None) -> Response:
    """Return the answer to an unexpected error; the log has the details.

    The log names them under the request's id. A full disk is none of ours.
    """
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        hint = "the operator has to make room: retort prune, or a larger disk"
        return answer(request, "storage_full", "the service's disk is full", hint=hint)
    return answer(request, "internal", "the service made a mistake", hint="quote the request_id when reporting this")


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, RetortError)
    kind = KINDS.get(error.code)
    if kind is None:
        fallback = "bad_request" if isinstance(error, UserError) else "unavailable"
        kind = KINDS[fallback if isinstance(error, UserError | TransientError) else "internal"]
    if kind.status >= KINDS["internal"].status:
        _log_trouble(request, error)
    mistakes: tuple[Mistake, ...] = getattr(error, "mistakes", ())
    if isinstance(error, SpecError):
        mistakes = tuple(Mistake(path=p.path, detail=p.message, hint=p.hint) for p in error.problems)
    headers = getattr(error, "headers", None)
    return answer(
        request, error.code, error.message, hint=error.hint, mistakes=mistakes, kind=kind, headers=headers
    )  # fmt: skip


def _log_trouble(request: Request, error: RetortError) -> None:
    """Log what is not available once in a minute for each code: every poll meets it."""
    limit: LineLimit = request.app.state.troubles
    if (left_out := limit.passed(error.code)) is not None:
        more = {"left_out": left_out} if left_out else {}
        _log.warning("unavailable", code=error.code, error=error.message, exc_info=error.__cause__, **more)


async def _refuse_parameters(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    mistakes = tuple(
        Mistake(path=".".join(str(part) for part in item["loc"]), detail=item["msg"].removeprefix("Input "), hint=None)
        for item in error.errors()
    )
    return answer(request, "bad_parameter", f"{mistakes[0].path}: {mistakes[0].detail}", mistakes=mistakes)


async def _refuse_address(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == KINDS["not_found"].status:
        return answer(request, "not_found", f"there is nothing at {request.url.path}")
    if error.status_code == KINDS["method_not_allowed"].status:
        allowed = _allowed(request)
        detail = f"{request.url.path} does not know {request.method}"
        return answer(request, "method_not_allowed", detail, hint=f"it knows {allowed}", headers={"Allow": allowed})
    kind = ProblemType(error.status_code, "The request is refused")
    return answer(request, "bad_request", str(error.detail), kind=kind, headers=error.headers)


def _allowed(request: Request) -> str:
    """Return every method that the address knows; of several paths that it fits, those of the most literal."""
    known: dict[str, set[str]] = {}
    for route in leaves(request.app.router.routes):
        if isinstance(route, APIRoute) and route.matches(request.scope)[0] is not Match.NONE:
            known.setdefault(route.path_format, set()).update(route.methods or ())
    nearest = max(known, key=lambda path: len(_PLACE.sub("", path)), default="")
    return ", ".join(method for method in _METHODS if method in known.get(nearest, ()))


def leaves(routes: Iterable[BaseRoute]) -> Iterator[BaseRoute]:
    """Yield the routes of an application, also those of the routers that it includes."""
    for route in routes:
        included: APIRouter | None = getattr(route, "original_router", None)
        if included is None:
            yield route
        else:
            yield from leaves(included.routes)
