"""Where a review is worked on: a service's, or that of a run in a folder of this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from retort.errors import UserError
from retort.review import exchange
from retort.review.calls import Reviewing
from retort.review.decisions import Decision, Decisions, Verdict, still_open
from retort.review.pictures import REVIEW, Proposals
from retort.workdir import DECISIONS


class Desk(Protocol):
    """What can be done with a review, wherever it is."""

    def summary(self) -> dict[str, Any]:
        """Return how far it is."""

    def undecided(self) -> Iterator[str]:
        """Yield the images that nobody has decided about."""

    def decide(self, images: Sequence[str], verdict: Verdict, reviewer: str) -> None:
        """Accept or reject *images*."""

    def export(self, form: str) -> bytes:
        """Return a file for another tool."""

    def take(self, form: str, data: bytes, reviewer: str) -> dict[str, Any]:
        """Let the boxes in a file replace those of its images; return how far the review is then."""

    def complete(self, rest: Verdict | None, reviewer: str) -> str:
        """Complete it; return in words what comes next."""


class ServiceDesk:
    """The review of a job of a service."""

    def __init__(self, review: Reviewing) -> None:
        self._review = review

    def summary(self) -> dict[str, Any]:
        """Ask the service."""
        return self._review.get()

    def undecided(self) -> Iterator[str]:
        """Ask the service, page after page."""
        for image in self._review.images(decided=False):
            yield image["image"]

    def decide(self, images: Sequence[str], verdict: Verdict, reviewer: str) -> None:
        """Tell the service, one by one."""
        for image in images:
            self._review.decide(image, verdict, reviewer=reviewer)

    def export(self, form: str) -> bytes:
        """Fetch the file."""
        return self._review.export(form)

    def take(self, form: str, data: bytes, reviewer: str) -> dict[str, Any]:
        """Send the file."""
        return self._review.take(form, data, reviewer=reviewer)

    def complete(self, rest: Verdict | None, reviewer: str) -> str:
        """Let the service queue the job."""
        job = self._review.complete(rest=rest, reviewer=reviewer)
        return f"{job['id']} is {job['state']}"


class FolderDesk:
    """The review of a run that has ended in a folder of this machine to wait for it."""

    def __init__(self, workdir: Path) -> None:
        self._workdir = workdir.absolute()
        path = self._workdir / "artifacts" / REVIEW
        try:
            self._proposals = Proposals.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            hint = "name the folder of a run that waits for its review"
            raise UserError(f"{workdir} holds no review", hint=hint, code="review_not_found") from error

    def summary(self) -> dict[str, Any]:
        """Read the folder."""
        found = exchange.summary(self._proposals, self._decisions())
        return {"workdir": str(self._workdir), **found}

    def undecided(self) -> Iterator[str]:
        """Read the folder."""
        yield from still_open(self._proposals, self._decisions())

    def decide(self, images: Sequence[str], verdict: Verdict, reviewer: str) -> None:
        """Write it into the folder."""
        known = {picture.image for picture in self._proposals.pictures}
        if unknown := [image for image in images if image not in known]:
            hint = "retort review show lists them"
            raise UserError(f"this review has no image {unknown[0]!r}", hint=hint, code="image_not_found")
        self._keep(_decisions(images, verdict, reviewer))

    def export(self, form: str) -> bytes:
        """Make the file."""
        return exchange.form(form).write(exchange.album(self._proposals, self._decisions()))

    def take(self, form: str, data: bytes, reviewer: str) -> dict[str, Any]:
        """Read the file."""
        self._keep(exchange.imported(self._proposals, form, data, reviewer=reviewer, at=time.time()))
        return self.summary()

    def complete(self, rest: Verdict | None, reviewer: str) -> str:
        """Decide about the rest; the run goes on when it is started again."""
        remaining = list(self.undecided())
        if remaining and rest is None:
            hint = "decide about them, or say what becomes of the rest: --rest accept, or --rest reject"
            raise UserError(f"{len(remaining)} images are open: {remaining[0]} …", hint=hint, code="review_open")
        if rest is not None:
            self._keep(_decisions(remaining, rest, reviewer, seen=False))
        return f"the review is complete; start the run again: retort run SPEC --out {self._workdir}"

    def _decisions(self) -> dict[str, Decision]:
        return dict(Decisions.load(self._workdir / DECISIONS))

    def _keep(self, decisions: Sequence[Decision]) -> None:
        kept = self._decisions() | {decision.image: decision for decision in decisions}
        part = self._workdir / f"{DECISIONS}.part"
        part.write_text(Decisions(decisions=tuple(kept.values())).model_dump_json(indent=2))
        part.replace(self._workdir / DECISIONS)


def _decisions(images: Sequence[str], verdict: Verdict, reviewer: str, *, seen: bool = True) -> list[Decision]:
    at = time.time()
    return [Decision(image=image, decision=verdict, reviewer=reviewer, at=at, seen=seen) for image in images]
