"""Reach a service, and turn refused and unanswered requests into client errors."""

from __future__ import annotations

from typing import Any

import httpx2 as httpx

from retort import __version__
from retort.client import credentials
from retort.errors import RetortError

_BUSY = frozenset({429, 502, 503, 504})
"""Answers that a later try may better."""
NOTHING_FOLLOWS = 204
"""Status of a stream whose job has ended."""


class ClientError(RetortError):
    """The service refused, or could not be reached.

    *status* is None when no answer came.
    """

    def __init__(
        self, message: str, *, code: str, hint: str | None = None, problem: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.problem: dict[str, Any] = problem or {}
        """The service's problem document; empty when there is none."""
        self.status: int | None = self.problem.get("status")
        self.request_id: str | None = self.problem.get("request_id")
        self.retry_after_s: float | None = None
        """When the service says that it may be asked again."""
        self.retryable = bool(self.problem.get("retryable", self.status is None))


def connection(url: str, *, key: str | None, timeout_s: float) -> dict[str, Any]:
    """Return the options of an HTTP client that speaks to the service at *url*."""
    return {
        "base_url": url,
        "timeout": timeout_s,
        "headers": {"User-Agent": f"retort/{__version__}", **credentials.headers(url, key)},
        "follow_redirects": True,
        "trust_env": not credentials.is_loopback(httpx.URL(url).host),  # a proxy has no way to this machine
    }


def worth_repeating(error: Exception) -> bool:
    """Return True if the request may succeed when it is repeated."""
    return not isinstance(error, ClientError) or error.status in _BUSY


def unreachable(url: str, error: Exception) -> ClientError:
    """Return the error for a service that stayed unreachable."""
    if isinstance(error, ClientError):
        return error
    return ClientError(
        f"no answer from {url}: {error}", code="unreachable", hint="start the service (retort up), or name it: --url"
    )


def raise_problem(answer: httpx.Response) -> None:
    """Raise the problem that the service's answer describes.

    Raises:
        ClientError: it refused.

    """
    if answer.status_code >= 400:
        answer.read()
    raise_problem_of(answer)


def raise_problem_of(answer: httpx.Response) -> None:
    """Raise the problem that an answer describes, whose body is read.

    Raises:
        ClientError: the service refused.

    """
    if answer.status_code < 400:
        return
    try:
        problem = answer.json()
    except ValueError:
        problem = {}
    if not isinstance(problem, dict) or "code" not in problem:
        problem = {"title": f"{answer.status_code} {answer.reason_phrase}", "code": f"http_{answer.status_code}"}
    problem = {"status": answer.status_code, "request_id": answer.headers.get("X-Request-ID"), **problem}
    message = problem.get("detail") or problem.get("title") or f"status {answer.status_code}"
    error = ClientError(message, code=problem["code"], hint=problem.get("hint"), problem=problem)
    asked = answer.headers.get("Retry-After", "")
    error.retry_after_s = float(asked) if asked.isdecimal() else None
    raise error
