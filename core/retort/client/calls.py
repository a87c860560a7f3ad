"""Describe requests apart from how they are sent, for both clients."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

Json = dict[str, Any]
Progress = Callable[[int, int], None]
"""Is called with the bytes done and the bytes there are."""
Answer = TypeVar("Answer")
Reading = Literal["json", "data", "content", "text", "nothing"]
"""What is wanted of an answer: its JSON, the list inside that is called ``data``, its bytes, its text, or nothing."""
OCTETS = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True, slots=True)
class Call(Generic[Answer]):
    """One request, and what is wanted of its answer."""

    method: str
    path: str
    options: Json = field(default_factory=dict)
    """As for the HTTP client: params, headers, json, content, timeout."""
    reading: Reading = "json"
    body: Callable[[], bytes] | None = None
    """Reads what is sent, each time that it is sent."""

    def read(self, answer: Any) -> Any:
        """Return what is wanted of the *answer*."""
        if self.reading == "data":
            return tuple(answer.json()["data"])
        if self.reading == "nothing":
            return None
        return answer.json() if self.reading == "json" else getattr(answer, self.reading)


@dataclass(frozen=True, slots=True)
class Pause:
    """Some time in which nothing is asked."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Together:
    """Requests of which some are under way at the same time."""

    calls: Sequence[Call[Any]]
    at_a_time: int
    ended: Callable[[int], None]
    """Is called with the place of each that was answered."""


@dataclass(frozen=True, slots=True)
class Fetch:
    """A download into a file, resumed and verified."""

    url: str
    path: Path
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Local:
    """Work on this machine's files, which may take a while."""

    do: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Found(Generic[Answer]):
    """One of the values of a list."""

    value: Answer


Step = Call[Any] | Pause | Together | Fetch | Local
Steps = Generator[Step, Any, Answer]
"""Yields what is to be done next, is sent what came of it, and returns the answer."""
Listing = Generator[Call[Any] | Found[Answer], Any, None]
"""Yields requests and the values that their answers hold."""


def pages(path: str, params: Mapping[str, Any] | None = None, *, limit: int = 100) -> Listing[Any]:
    """Read a list page by page."""
    cursor: str | None = None
    while True:
        page = yield Call("GET", path, {"params": given(**(params or {}), cursor=cursor, limit=limit)})
        yield from map(Found, page["data"])
        cursor = page["next_cursor"]
        if not page["has_more"]:
            return


def given(**params: Any) -> Json:
    """Return what is not None."""
    return {name: value for name, value in params.items() if value is not None}


def submission_key(chosen: str | None) -> dict[str, str]:
    """Name a submission, so that sending it twice makes one job."""
    return {"Idempotency-Key": chosen or uuid.uuid4().hex}


def submission(
    path: str,
    document: Mapping[str, Any],
    *,
    idempotency_key: str | None = None,
    labels: Mapping[str, str] | None = None,
    **params: Any,
) -> Call[Any]:
    """Submit a spec or a sweep."""
    told = [f"{key}={value}" for key, value in (labels or {}).items()]
    query = given(**params, label=told or None)
    options = {"json": dict(document), "params": query, "headers": submission_key(idempotency_key)}
    return Call("POST", path, options)
