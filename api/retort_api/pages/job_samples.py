"""Show the pictures of a job's report: truth, found, wrong and missed boxes."""

from __future__ import annotations

import base64
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from html.parser import HTMLParser
from threading import Lock
from typing import Annotated

from fastapi import Path, Query, Request, Response
from fastapi.responses import HTMLResponse
from retort.access import Principal, Scope
from retort.db import artifacts, jobs
from retort.db.artifacts import ArtifactNotFound
from retort.db.models import ArtifactRow
from retort.errors import UserError
from retort.spec.samples import SAMPLES, EpochSamples

from retort_api.deps import AppState, Caller, JobId, Serving
from retort_api.errors import OK
from retort_api.file_response import FILE_POLICY, REPORT
from retort_api.pages.job_documents import document
from retort_api.pages.job_head import show
from retort_api.pages.job_sample_epochs import sample_epochs
from retort_api.pages.page_router import PageRouter

router = PageRouter()

LARGEST_REPORT = 32 << 20
MOST_PICTURES = 400
_PICTURE = re.compile(r"data:image/jpeg;base64,([A-Za-z0-9+/]+={0,2})")
_HEADERS = {"Content-Security-Policy": FILE_POLICY, "Cache-Control": "private, max-age=3600"}
OUTCOMES = (
    ("found", "found: a label of the same class is there"),
    ("wrong", "wrong: no such label, or one found before"),
    ("missed", "missed: a label that was not found"),
)
"""As the report draws them: an unbroken blue line, a red one of long strokes, a yellow one of short strokes."""


@dataclass(frozen=True, slots=True)
class SamplePicture:
    """One picture with the boxes of one source."""

    number: int
    """Place among the report's pictures."""
    title: str
    caption: str
    jpeg: bytes


@dataclass(slots=True)
class SampleRow:
    """One image, as truth and networks see it."""

    file: str
    pictures: list[SamplePicture] = field(default_factory=list)


@dataclass(slots=True)
class SampleGroup:
    """Images that were chosen for one reason."""

    title: str
    rows: list[SampleRow] = field(default_factory=list)


class ReportReader(HTMLParser):
    """Take the pictures out of a report, and nothing else of it.

    Only JPEG pictures inside the page are taken; all text is text.
    """

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[SampleGroup] = []
        self.legend: list[str] = []
        self.pictures = 0
        self._title = ""
        self._heading = ""
        self._file: str | None = None
        self._inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note headings and file names, and take pictures."""
        given = {name: value or "" for name, value in attrs}
        if tag == "h3":
            self._inside, self._heading = "h3", ""
        elif tag == "h2":
            self._heading, self._file = "", None
        elif tag == "p" and given.get("class") == "file":
            self._inside, self._file = "file", ""
        elif tag == "img" and self._file is not None:
            self._take(given.get("src", ""), given.get("alt", ""))

    def handle_endtag(self, tag: str) -> None:
        """End a heading or a file name."""
        if tag in {"h3", "p"}:
            if self._inside == "file" and self._file is not None:
                self._begin(self._file.strip())
            self._inside = ""

    def handle_data(self, data: str) -> None:
        """Collect the text of headings and file names."""
        if self._inside == "h3":
            self._heading += data
        elif self._inside == "file" and self._file is not None:
            self._file += data

    def _begin(self, file: str) -> None:
        if not self.groups or self.groups[-1].title != self._heading:
            self.groups.append(SampleGroup(self._heading))
        self.groups[-1].rows.append(SampleRow(file))

    def _take(self, source: str, about: str) -> None:
        found = _PICTURE.fullmatch(source)
        if found is None or self.pictures >= MOST_PICTURES or not self.groups:
            return
        row = self.groups[-1].rows[-1]
        title, _, caption = about.removeprefix(f"{row.file}: ").partition(", ")
        try:
            jpeg = base64.b64decode(found[1], validate=True)
        except ValueError:
            return
        row.pictures.append(SamplePicture(self.pictures, title, caption, jpeg))
        self.pictures += 1


class SampleCache:
    """Keep what the latest reports held: a report of a digest never changes."""

    def __init__(self, most: int = 8) -> None:
        self._most, self._lock = most, Lock()
        self._kept: OrderedDict[str, list[SampleGroup]] = OrderedDict()

    def of(self, service: AppState, row: ArtifactRow) -> list[SampleGroup]:
        """Return the pictures of a report."""
        with self._lock:
            if row.sha256 in self._kept:
                self._kept.move_to_end(row.sha256)
                return self._kept[row.sha256]
        reader = ReportReader()
        if row.size_bytes <= LARGEST_REPORT:
            reader.feed(b"".join(service.store.read(row.key)).decode("utf-8", "replace"))
        with self._lock:
            self._kept[row.sha256] = reader.groups
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return reader.groups


_CACHE = SampleCache()


@router.page("/jobs/{job_id}/samples", scope=Scope.JOBS_READ)
def show_samples(
    request: Request,
    service: Serving,
    caller: Caller,
    job_id: JobId,
    epoch: Annotated[int | None, Query(ge=0, le=1_000_000)] = None,
) -> HTMLResponse:
    """Show validation images with what each network made of them."""
    groups = sample_groups(service, caller, job_id)
    over = sample_epochs(document(service, caller, job_id, SAMPLES, EpochSamples), epoch)
    return show(
        request, service, caller, job_id, "samples", "job_samples.html", groups=groups, outcomes=OUTCOMES, over=over
    )


@router.page("/jobs/{job_id}/samples/{number}", scope=Scope.JOBS_READ)
def send_picture(
    service: Serving, caller: Caller, job_id: JobId, number: Annotated[int, Path(ge=0, lt=MOST_PICTURES)]
) -> Response:  # fmt: skip
    """Send one picture of the report."""
    for group in sample_groups(service, caller, job_id):
        for row in group.rows:
            for picture in row.pictures:
                if picture.number == number:
                    return Response(picture.jpeg, OK, _HEADERS, "image/jpeg")
    raise UserError(f"the report of job {job_id} has no picture {number}", code="not_found")


def sample_groups(service: AppState, caller: Principal, job_id: str) -> list[SampleGroup]:
    """Return the pictures of the job's report; none before it has one."""
    with service.read(caller) as session:
        jobs.get(session, job_id)
        try:
            row = artifacts.named(session, job_id, REPORT)
        except ArtifactNotFound:
            return []
    return [] if row.deleted_at is not None else _CACHE.of(service, row)
