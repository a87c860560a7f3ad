"""Open the doors that strangers' bytes come in by, as the service does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from malicious.cases import DOORS, door
from retort.addresses import resolve_public
from retort.archives.members import ArchiveLimits
from retort.data import audit, datasets
from retort.data.archives import unpack_dataset
from retort.data.conversion.convert import convert
from retort.data.text_files import readable
from retort.errors import DataError
from retort.review import formats
from retort.spec import parse_document, parse_spec

PUBLIC = "93.184.215.14"
LIMITS = ArchiveLimits(most_files=1000, most_bytes=256 << 20, most_file_bytes=128 << 20)


@door("archive")
def archive(path: Path, target: Path) -> None:
    unpack_dataset(path, target, LIMITS)


@door("data set")
def dataset(root: Path, target: Path) -> None:
    """Look through it as `retort data check` does, then lay it out as a job does."""
    found = audit.check(str(root), [root.parent])
    with readable():
        located = datasets.locate(str(root), [root.parent], unusable_share=0)
    errors = [finding for finding in found.findings if finding.severity == "error"]
    if errors:
        raise DataError(errors[0].message, hint=errors[0].hint)
    datasets.overlay(located, target / "data")


@door("annotations")
def annotations(source: Path, target: Path) -> None:
    convert(source, target / "made", [source.parent])


@door("document")
def document(text: str | bytes, _: Path) -> None:
    parse_spec(parse_document(text))


def _review(form: str) -> Any:
    def take(data: bytes, _: Path) -> None:
        formats.FORMS[form].read(data, ("RBC", "WBC"))

    return take


for _form in formats.FORMS:
    door(f"review {_form}")(_review(_form))


@door("address")
def address(url: str, _: Path) -> None:
    resolve_public(url, lookup=lambda *_: [PUBLIC])


@door("host behind a name")
def host(found: list[str], _: Path) -> None:
    resolve_public("https://data.example.org/a.zip", lookup=lambda *_: found)


__all__ = ["DOORS"]
