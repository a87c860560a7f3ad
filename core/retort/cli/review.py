"""``retort review``: see labels, decide, export and import; with a service or a folder."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

import typer
from pydantic import ValidationError

from retort.cli import completion, pages
from retort.cli.options import AsJson, Url, connect, emit, find, note, say
from retort.client.client import Client
from retort.client.reviews import ReviewClient
from retort.errors import UserError
from retort.files import atomic_write
from retort.protocol.workdir import DECISIONS
from retort.review import formats
from retort.review.formats import FORMS, LookedAt
from retort.review.models import (
    PICTURES,
    REVIEW,
    SOMEBODY,
    Decisions,
    ImageDecision,
    ImageVerdict,
    Picture,
    ReviewSet,
    Verdict,
    undecided,
)
from retort.review.sheet import Entry
from retort.review.sheet import sheet as draw_sheet
from retort.states import JobState


class ReviewBackend(Protocol):
    """Operations on a review, on a service or in a folder."""

    where: str
    """Arguments by which the commands find it."""

    def tell_page(self) -> None:
        """Note the address of its page, if it has one."""

    def summary(self) -> dict[str, Any]:
        """Return how far it is."""

    def undecided(self) -> Iterator[str]:
        """Yield the images that nobody has decided about."""

    def entries(self) -> Iterator[Entry]:
        """Yield all images with their boxes and decisions."""

    def decide(self, images: Sequence[str], verdict: Verdict, reviewer: str) -> None:
        """Accept or reject *images*."""

    def export(self, form: str) -> bytes:
        """Return a file for another tool."""

    def take(self, form: str, data: bytes, reviewer: str, looked_at: LookedAt) -> dict[str, Any]:
        """Let the boxes in a file replace those of its images; return how far the review is then."""

    def complete(self, rest: Verdict | None, reviewer: str) -> str:
        """Complete it; return in words what comes next."""


class HttpReview:
    """The review of a job of a service."""

    def __init__(self, client: Client, review: ReviewClient, job_id: str) -> None:
        self._review = review
        self._client = client
        self.where = job_id

    def tell_page(self) -> None:
        """Note the address of the job's page for reviews."""
        pages.tell(self._client, pages.job(self.where, "review"))

    def summary(self) -> dict[str, Any]:
        """Ask the service."""
        return {**self._review.get()}

    def undecided(self) -> Iterator[str]:
        """Ask the service, page after page."""
        for image in self._review.images(decided=False):
            yield image["image"]

    def entries(self) -> Iterator[Entry]:
        """Ask the service, and fetch each picture."""
        for found in self._review.images():
            shown = {name: found[name] for name in ("image", "file", "width", "height", "doubtful")}
            picture = Picture.model_validate({**shown, "kept": found["boxes"]})
            decided = found["decision"] and {name: found["decision"][name] for name in ("decision", "boxes")}
            verdict = ImageVerdict.model_validate(decided) if decided else None
            yield Entry(picture, verdict, self._review.picture(picture.image))

    def decide(self, images: Sequence[str], verdict: Verdict, reviewer: str) -> None:
        """Send each decision to the service."""
        for image in images:
            self._review.decide(image, verdict, reviewer=reviewer)

    def export(self, form: str) -> bytes:
        """Fetch the file."""
        return self._review.export(form)

    def take(self, form: str, data: bytes, reviewer: str, looked_at: LookedAt) -> dict[str, Any]:
        """Send the file."""
        return {**self._review.take(form, data, reviewer=reviewer, looked_at=looked_at)}

    def complete(self, rest: Verdict | None, reviewer: str) -> str:
        """Let the service queue the job."""
        job = self._review.complete(rest=rest, reviewer=reviewer)
        return f"{job['id']} is {job['state']}"


class FolderReview:
    """The review of a run that has ended in a folder of this machine to wait for it."""

    def __init__(self, workdir: Path) -> None:
        self._workdir = workdir.absolute()
        self.where = f"--workdir {shlex.quote(str(workdir))}"
        path = self._workdir / "artifacts" / REVIEW
        try:
            self._proposals = ReviewSet.model_validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            hint = "name the folder of a run that waits for its review"
            raise UserError(f"{workdir} holds no review", hint=hint, code="review_not_found") from error

    def tell_page(self) -> None:
        """Say nothing: a folder has no page."""

    def summary(self) -> dict[str, Any]:
        """Read the folder."""
        found = formats.summary(self._proposals, self._decisions())
        return {"workdir": str(self._workdir), **found}

    def undecided(self) -> Iterator[str]:
        """Read the folder."""
        yield from undecided(self._proposals, self._decisions())

    def entries(self) -> Iterator[Entry]:
        """Read the folder."""
        decisions = self._decisions()
        for picture in self._proposals.pictures:
            path = self._workdir / "artifacts" / f"{PICTURES}{picture.image}.jpg"
            try:
                jpeg = path.read_bytes()
            except OSError as error:
                hint = "start the run again: it publishes the pictures anew"
                raise UserError(f"cannot read {path}: {error.strerror}", hint=hint, code="image_not_found") from error
            yield Entry(picture, decisions.get(picture.image), jpeg)

    def decide(self, images: Sequence[str], verdict: Verdict, reviewer: str) -> None:
        """Write it into the folder."""
        known = {picture.image for picture in self._proposals.pictures}
        if unknown := [image for image in images if image not in known]:
            hint = f"retort review show {self.where} lists them"
            raise UserError(f"this review has no image {unknown[0]!r}", hint=hint, code="image_not_found")
        self._keep(_decisions(images, verdict, reviewer))

    def export(self, form: str) -> bytes:
        """Make the file."""
        return formats.annotation_format(form).write(formats.annotated_images(self._proposals, self._decisions()))

    def take(self, form: str, data: bytes, reviewer: str, looked_at: LookedAt) -> dict[str, Any]:
        """Read the file."""
        imported = formats.import_decisions(
            self._proposals, form, data, reviewer=reviewer, at=time.time(), looked_at=looked_at
        )  # fmt: skip
        self._keep(imported.decisions)
        return {**self.summary(), "notes": imported.notes}

    def complete(self, rest: Verdict | None, reviewer: str) -> str:
        """Decide the open images; the run continues when restarted."""
        remaining = list(self.undecided())
        if remaining and rest is None:
            hint = f"decide about them, or: retort review complete {self.where} --rest accept (or reject)"
            raise UserError(f"{len(remaining)} images are open: {remaining[0]} …", hint=hint, code="review_open")
        if rest is not None:
            self._keep(_decisions(remaining, rest, reviewer, seen=False))
        return f"the review is complete; start the run again: retort run SPEC --out {self._workdir}"

    def _decisions(self) -> dict[str, ImageDecision]:
        return dict(Decisions.load(self._workdir / DECISIONS))

    def _keep(self, decisions: Sequence[ImageDecision]) -> None:
        kept = self._decisions() | {decision.image: decision for decision in decisions}
        part = self._workdir / f"{DECISIONS}.part"
        part.write_text(Decisions(decisions=tuple(kept.values())).model_dump_json(indent=2))
        part.replace(self._workdir / DECISIONS)


def _decisions(images: Sequence[str], verdict: Verdict, reviewer: str, *, seen: bool = True) -> list[ImageDecision]:
    at = time.time()
    return [ImageDecision(image=image, decision=verdict, reviewer=reviewer, at=at, seen=seen) for image in images]


app = typer.Typer(help="Review the labels that a teacher has given to images.", no_args_is_help=True)

Job = Annotated[
    str | None,
    typer.Argument(
        metavar="[JOB]",
        help="A job's name, or its id, or a unique part of that, or @last; none means the one that waits.",
        autocompletion=completion.jobs,
    ),
]
Workdir = Annotated[
    Path | None, typer.Option(help="Folder of a run that retort run has started, instead of a job of a service.")
]
FormName = Annotated[
    Literal["coco", "yolo", "cvat", "label_studio"], typer.Option("--format", help="Whose form the file has.")
]
Images = Annotated[
    list[str] | None, typer.Option("--image", metavar="NAME", help="May be repeated; none means all that are open.")
]
Reviewer = Annotated[str, typer.Option(help="Who has looked.")]
Rest = Annotated[Literal["accept", "reject"] | None, typer.Option(help="What becomes of the images that are open.")]


@app.callback()
def review() -> None:
    """Review the labels that a teacher has given to images."""


@app.command()
def show(job_id: Job = None, workdir: Workdir = None, url: Url = None, as_json: AsJson = False) -> None:
    """Show how far a review is, and which images are open."""
    with _at(job_id, workdir, url) as desk:
        found = desk.summary()
        remaining = list(desk.undecided())
        if as_json:
            emit({**found, "open": remaining})
            return
        say(_sentence(found))
        for image in remaining:
            say(image)
        desk.tell_page()
    if remaining:
        note(f"all images in one file: retort review sheet {desk.where}")


@app.command()
def sheet(
    job_id: Job = None,
    out: Annotated[Path, typer.Option(help="File to write.")] = Path("review.html"),
    workdir: Workdir = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Write all images with their boxes as one page for any browser."""
    with _at(job_id, workdir, url) as desk:
        found = desk.summary()
        about = found["job_id"] if "job_id" in found else Path(found["workdir"]).name
        page = draw_sheet(f"Review of {about}", found["classes"], desk.entries()).encode()
    try:
        atomic_write(out, page)
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}", hint="name a file with --out") from error
    if as_json:
        emit({"path": str(out), "num_images": found["num_images"], "size_bytes": len(page)})
    else:
        say(str(out))


@app.command()
def export(  # noqa: PLR0917 - typer gives each by name
    job_id: Job = None,
    form: FormName = "coco",
    out: Annotated[Path | None, typer.Option(help="File to write.", show_default="review-FORMAT.…")] = None,
    workdir: Workdir = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Write the images' boxes as a file for another tool."""
    path = out or Path(f"review-{form}{FORMS[form].suffix}")
    with _at(job_id, workdir, url) as desk:
        data = desk.export(form)
    path.write_bytes(data)
    if as_json:
        emit({"path": str(path), "format": form, "size_bytes": len(data)})
    else:
        say(str(path))


@app.command("import")
def import_(  # noqa: PLR0917 - typer gives each by name
    file: Annotated[Path, typer.Option("--from", help="What the other tool has written.")],
    job_id: Job = None,
    form: FormName = "coco",
    reviewer: Reviewer = SOMEBODY,
    looked_at: Annotated[
        Literal["changed", "all"],
        typer.Option(help="Whether images with unchanged boxes were looked at; Label Studio's file says so itself."),
    ] = "changed",
    workdir: Workdir = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Take another tool's boxes: they replace those of the images in its file."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {file}: {error.strerror}", hint="name the file with --from") from error
    with _at(job_id, workdir, url) as desk:
        _tell(desk.take(form, data, reviewer, looked_at), desk.where, as_json=as_json)


@app.command()
def accept(  # noqa: PLR0917 - typer gives each by name
    job_id: Job = None,
    images: Images = None,
    reviewer: Reviewer = SOMEBODY,
    workdir: Workdir = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Accept the teacher's boxes on images that somebody has looked at."""
    _decide("accept", images, reviewer, job_id=job_id, workdir=workdir, url=url, as_json=as_json)


@app.command()
def reject(  # noqa: PLR0917 - typer gives each by name
    job_id: Job = None,
    images: Images = None,
    reviewer: Reviewer = SOMEBODY,
    workdir: Workdir = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Leave images out of the training that somebody has looked at."""
    _decide("reject", images, reviewer, job_id=job_id, workdir=workdir, url=url, as_json=as_json)


@app.command()
def complete(  # noqa: PLR0917 - typer gives each by name
    job_id: Job = None,
    rest: Rest = None,
    reviewer: Reviewer = SOMEBODY,
    workdir: Workdir = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Complete a review: the job goes on with what was decided."""
    with _at(job_id, workdir, url) as desk:
        said = desk.complete(rest, reviewer)
        found = desk.summary()
    if as_json:
        emit(found)
    else:
        say(said)


@contextmanager
def _at(job_id: str | None, workdir: Path | None, url: str | None) -> Iterator[ReviewBackend]:
    """Go to where the review is."""
    if job_id is not None and workdir is not None:
        raise UserError("name either a job or a --workdir", hint="retort review show JOB", code="usage")
    if workdir is not None:
        yield FolderReview(workdir)
        return
    with connect(url) as client:
        found = find(client, job_id) if job_id is not None else _only_waiting(client)
        yield HttpReview(client, client.review(found), found)


def _only_waiting(client: Client) -> str:
    """Return the one job of the service that waits for its review."""
    waiting = [job["id"] for job in islice(client.list(state=JobState.AWAITING_REVIEW), 6)]
    if len(waiting) == 1:
        return str(waiting[0])
    if not waiting:
        hint = "name the folder of a run with --workdir, or a job: retort ls"
        raise UserError("no job of the service waits for a review", hint=hint, code="review_not_found")
    shown = ", ".join(waiting[:5]) + (", …" if len(waiting) > 5 else "")
    raise UserError(f"several jobs wait for a review: {shown}", hint="name one of them", code="usage")


def _decide(
    verdict: Verdict,
    images: list[str] | None,
    reviewer: str,
    *,
    job_id: str | None,
    workdir: Path | None,
    url: str | None,
    as_json: bool,
) -> None:
    with _at(job_id, workdir, url) as desk:
        desk.decide(images or list(desk.undecided()), verdict, reviewer)
        _tell(desk.summary(), desk.where, as_json=as_json)


def _tell(found: dict[str, Any], where: str, *, as_json: bool) -> None:
    if as_json:
        emit(found)
        return
    for told in found.get("notes", ()):
        note(told)
    say(_sentence(found))
    if not found["num_open"]:
        note(f"nothing is open: retort review complete {where}")


def _sentence(found: dict[str, Any]) -> str:
    return (
        f"{found['num_open']} of {found['num_images']} images are open; {found['num_accepted']} accepted, "
        f"{found['num_rejected']} rejected, {found['num_edited']} edited; {found['num_looked_at']} were looked at"
    )
