"""Describe the calls about a job's review."""

from __future__ import annotations

from typing import Any, Literal

from retort.client.answers import Job, Review, ReviewImage
from retort.client.calls import OCTETS, Call, Listing, given, pages
from retort.client.job_calls import job_path
from retort.client.operations import Awaiting, AwaitingPart, Blocking, BlockingPart, call, listing


def _if_match(version: str | None) -> dict[str, str]:
    return {} if version is None else {"If-Match": f'"{version}"'}


class ReviewCalls:
    """Calls about the review of one job."""

    job_id: str

    def _path(self, part: str = "") -> str:
        return job_path(self.job_id, f"review{part and '/'}{part}")

    @call
    def get(self) -> Call[Review]:
        """Return the progress of the review."""
        return Call("GET", self._path())

    @listing
    def images(self, *, decided: bool | None = None, decided_since: str | None = None) -> Listing[ReviewImage]:
        """Yield the review's images with their boxes and decisions, in pages.

        The boxes are the teacher's; each next page is requested when it is needed.
        """
        return pages(self._path("images"), {"decided": decided, "decided_since": decided_since}, limit=200)

    @call
    def image(self, image: str) -> Call[ReviewImage]:
        """Return one image with its boxes, and what was decided about it."""
        return Call("GET", self._path(f"images/{image}"))

    @call
    def decide(self, /, image: str, decision: str, *, version: str | None = None, **about: Any) -> Call[ReviewImage]:
        """Accept, reject or edit an image of the review.

        To edit it, pass the new *boxes*; *about* may also name the *reviewer*. With the *version* of the image as you
        have seen it, nothing changes if somebody else has decided since.
        """
        body = {"json": {"decision": decision, **about}, "headers": _if_match(version)}
        return Call("PUT", self._path(f"images/{image}"), body)

    @call
    def withdraw(self, image: str, *, version: str | None = None) -> Call[ReviewImage]:
        """Open an image again, whatever was decided about it; *version* as for ``decide``."""
        return Call("DELETE", self._path(f"images/{image}"), {"headers": _if_match(version)})

    @call
    def picture(self, image: str) -> Call[bytes]:
        """Return the published copy of an image, a JPEG without boxes."""
        return Call("GET", job_path(self.job_id, f"artifacts/review/{image}.jpg"), reading="content")

    @call
    def complete(self, /, **how: Any) -> Call[Job]:
        """Complete the review and return the job; *rest* decides the open images."""
        return Call("POST", self._path("complete"), {"json": given(**how)})

    @call
    def export(self, form: str) -> Call[bytes]:
        """Return the review as a file in another tool's format."""
        return Call("GET", self._path("export"), {"params": {"format": form}}, "content")

    @call
    def take(
        self, form: str, data: bytes, *, reviewer: str | None = None, looked_at: Literal["changed", "all"] | None = None
    ) -> Call[Review]:
        """Import a file of boxes; return the progress of the review.

        The boxes in the file replace those of their images. *looked_at* ``all`` says that images with unchanged boxes
        were looked at too.
        """
        params = given(format=form, reviewer=reviewer, looked_at=looked_at)
        return Call("POST", self._path("import"), {"params": params, "content": data, "headers": OCTETS})


class ReviewClient(BlockingPart, ReviewCalls):
    """The review of a job."""

    def __init__(self, client: Blocking, job_id: str) -> None:
        super().__init__(client)
        self.job_id = job_id


class AsyncReviewClient(AwaitingPart, ReviewCalls):
    """The review of a job, for an event loop."""

    def __init__(self, client: Awaiting, job_id: str) -> None:
        super().__init__(client)
        self.job_id = job_id
