"""What the HTTP client can do with the review of one job."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Json = dict[str, Any]


class Reviewing:
    """A job's review on a service, reached by the client's *send*, which returns answers that are no refusals."""

    def __init__(self, send: Callable[..., Any], job_id: str) -> None:
        self._send = send
        self._home = f"/v1/jobs/{job_id}/review"

    def get(self) -> Json:
        """Return how far it is."""
        return self._json("GET", "")

    def images(self, *, decided: bool | None = None) -> Iterator[Json]:
        """Yield its images with the teacher's boxes and what was decided, page after page."""
        cursor: str | None = None
        while True:
            page = self._json("GET", "/images", params=_given(decided=decided, cursor=cursor, limit=200))
            yield from page["data"]
            cursor = page["next_cursor"]
            if not page["has_more"]:
                return

    def decide(self, image: str, decision: str, **about: Any) -> Json:
        """Accept, reject or edit (with *boxes*) an image; *about* may also name the *reviewer*."""
        return self._json("PUT", f"/images/{image}", json={"decision": decision, **about})

    def complete(self, **how: Any) -> Json:
        """Let the job go on with what was decided; *rest* says what becomes of open images. Return the job."""
        return self._json("POST", "/complete", json=_given(**how))

    def export(self, form: str) -> bytes:
        """Return it as a file in another tool's *form*."""
        content: bytes = self._send("GET", f"{self._home}/export", params={"format": form}).content
        return content

    def take(self, form: str, data: bytes, *, reviewer: str | None = None) -> Json:
        """Let the boxes in a file replace those of its images; return how far it is then."""
        return self._json("POST", "/import", params=_given(format=form, reviewer=reviewer), content=data)

    def _json(self, method: str, path: str, **request: Any) -> Json:
        answer: Json = self._send(method, self._home + path, **request).json()
        return answer


def _given(**params: Any) -> Json:
    return {name: value for name, value in params.items() if value is not None}
