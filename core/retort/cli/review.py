"""``retort review``: look at a teacher's labels, decide, and hand them to other tools and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from retort.cli.desk import Desk, FolderDesk, ServiceDesk
from retort.cli.options import AsJson, Url
from retort.cli.output import emit, note
from retort.cli.service import connect, find
from retort.errors import UserError
from retort.review.decisions import SOMEBODY, Verdict
from retort.review.formats import FORMS

app = typer.Typer(help="Review the labels that a teacher has given to images.", no_args_is_help=True)

Job = Annotated[str | None, typer.Argument(metavar="[JOB]", help="A job's id, or a unique part of it.")]
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
    typer.echo(_sentence(found))
    for image in remaining:
        typer.echo(image)


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
        typer.echo(str(path))


@app.command("import")
def import_(  # noqa: PLR0917 - typer gives each by name
    file: Annotated[Path, typer.Option("--from", help="What the other tool has written.")],
    job_id: Job = None,
    form: FormName = "coco",
    reviewer: Reviewer = SOMEBODY,
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
        _tell(desk.take(form, data, reviewer), as_json=as_json)


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
        typer.echo(said)


@contextmanager
def _at(job_id: str | None, workdir: Path | None, url: str | None) -> Iterator[Desk]:
    """Go to where the review is."""
    if (job_id is None) == (workdir is None):
        raise UserError("name either a job or a --workdir", hint="retort review show JOB", code="usage")
    if workdir is not None:
        yield FolderDesk(workdir)
        return
    assert job_id is not None
    with connect(url) as client:
        yield ServiceDesk(client.review(find(client, job_id)))


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
        _tell(desk.summary(), as_json=as_json)


def _tell(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit(found)
        return
    typer.echo(_sentence(found))
    if not found["num_open"]:
        note("nothing is open: retort review complete")


def _sentence(found: dict[str, Any]) -> str:
    return (
        f"{found['num_open']} of {found['num_images']} images are open; {found['num_accepted']} accepted, "
        f"{found['num_rejected']} rejected, {found['num_edited']} edited"
    )
