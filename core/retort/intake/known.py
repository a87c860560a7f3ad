"""Known data sets by name: from the operator's folder, else fetched into it, whole or not at all."""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from retort.errors import DataError
from retort.intake import catalogue
from retort.intake.catalogue import Known
from retort.intake.conversion import convert
from retort.intake.fetching import Fetched, fetch
from retort.intake.unpacking import Room, unpack


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a data set that is here came from."""

    name: str
    folder: Path
    archives: Mapping[str, str]
    """SHA-256 by file name."""
    notes: tuple[str, ...]
    """What the job's owner should know of it."""


def resolve(name: str, folder: Path, *, fetch_missing: bool) -> Origin:
    """Return the known data set *name* in the operator's *folder*, fetching it where that is allowed and needed.

    Raises:
        DataError: no such set is known, it is not there and may not be fetched, or its bytes are wrong.
        FetchError: it could not be downloaded.

    """
    known = catalogue.find(name)
    home = folder / known.name
    if not (home / "data.yaml").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{known.name}.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (home / "data.yaml").is_file():  # no other process was faster
                _make(known, folder, home, allowed=fetch_missing)
    return _origin(known, folder, home)


def here(known: Known, folder: Path) -> bool:
    """Whether it need not be fetched."""
    return (folder / known.name / "data.yaml").is_file()


def announcement(name: str | None, folder: Path | None) -> str | None:
    """Return what there is to say before the data set is made; None where none is meant, or it is here."""
    known = catalogue.CATALOGUE.get((name or "").lower())
    if known is None or folder is None or here(known, folder):
        return None
    return f"the data set {known.name} is not here yet: it is fetched ({known.size}) and laid out first"


def _make(known: Known, folder: Path, home: Path, *, allowed: bool) -> None:
    if home.exists():
        raise DataError(f"{home} is not a data set that was fetched", hint="put a data.yaml there, or move it away")
    archives = folder / "archives"
    given = {archive.file for archive in known.archives if (archives / archive.file).is_file()}
    pins = _pins(known, folder)
    found = [fetch(archive, archives, pins, allowed=allowed) for archive in known.archives]
    ours = [fetched.path for fetched in found if fetched.path.name not in given]  # the rest is somebody else's
    part = folder / f"{known.name}.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        _lay_out(known, found, part)
        _remember(known, folder, found)
        (part / "data").rename(home)
    except DataError:
        for path in ours:  # not what it should be, whatever it is
            path.replace(path.with_name(f"{path.name}.refused"))
        raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    for path in ours:
        path.unlink()


def _lay_out(known: Known, found: list[Fetched], part: Path) -> None:
    unpacked, target = part / "unpacked", part / "data"
    unpacked.mkdir(parents=True)
    room = Room(known.most_files, known.largest_bytes)
    for archive in found:
        unpack(archive.path, unpacked, room)
    train, val = convert(known, unpacked, target)
    description = {"train": train, "val": val, "names": dict(enumerate(known.names))}
    (target / "data.yaml").write_text(yaml.safe_dump(description, sort_keys=False))


def _pins(known: Known, folder: Path) -> dict[str, str]:
    return {file: about["sha256"] for file, about in _record(known, folder).items()}


def _record(known: Known, folder: Path) -> dict[str, Any]:
    """Return what is remembered of the archives; it outlives the data set, so that another edition is noticed."""
    try:
        record: dict[str, Any] = json.loads((folder / f"{known.name}.json").read_bytes())
    except FileNotFoundError:
        return {}
    return record


def _remember(known: Known, folder: Path, found: list[Fetched]) -> None:
    urls = {archive.file: archive.url for archive in known.archives}
    record = {
        fetched.path.name: {"url": urls[fetched.path.name], "sha256": fetched.sha256, "checked": fetched.checked}
        for fetched in found
    }
    path = folder / f"{known.name}.json"
    part = path.with_name(f"{path.name}.part")
    part.write_text(json.dumps(record | _record(known, folder), indent=2))  # what was first stays
    part.replace(path)


def _origin(known: Known, folder: Path, home: Path) -> Origin:
    record = _record(known, folder)
    notes = tuple(
        f"data set {known.name}: {file}, sha256 {about['sha256']}, checked against {about['checked']}"
        for file, about in record.items()
    )
    return Origin(
        name=known.name,
        folder=home,
        archives={file: about["sha256"] for file, about in record.items()},
        notes=notes or (f"data set {known.name}: put there by hand",),
    )
