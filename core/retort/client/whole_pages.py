"""Put the charts' program into pages that were downloaded."""

from __future__ import annotations

from pathlib import Path

from retort import chart_program
from retort.chart_program import ProgramReference
from retort.client.calls import Call, Local, Steps
from retort.client.transport import ClientError

REPORT = "report.html"
"""Artifact that leaves the charts' program to the service."""


def completed(address: str, path: Path) -> Steps[None]:
    """Make the report at *path*, which came from *address*, whole.

    Where the service has been upgraded since, the page is drawn by the program of today.
    """
    reference: ProgramReference | None = yield Local(lambda: chart_program.reference_in(path.read_bytes()))
    if reference is None:
        return
    try:
        program: bytes = yield Call("GET", f"/static/{reference.file_name}", reading="content")
    except ClientError as error:
        if error.status is None:
            raise
        program = b""
    if reference.fits(program):
        yield Local(lambda: _write(path, chart_program.with_program(path.read_bytes(), program)))
        return
    content: bytes = yield Call("GET", address, {"params": {"self_contained": True}}, "content")
    yield Local(lambda: _write(path, content))


def _write(path: Path, content: bytes) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
