"""Unpack, check, normalise and pack a dataset, in a separate process."""

from __future__ import annotations

import argparse
import os
import sys
import tarfile
import threading
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import yaml
from PIL import Image, ImageDraw

from retort import images
from retort.archives.members import ArchiveLimits
from retort.data import audit, datasets, intake
from retort.data.archives import unpack_dataset
from retort.data.audit import AuditOptions, AuditReport
from retort.data.conversion.convert import ConversionOptions, convert, foreign_source
from retort.data.dataset_summary import DatasetFinding, DatasetSplit, DatasetSummary
from retort.data.datasets import Dataset
from retort.data.labels import label_of, read_labels
from retort.data.text_files import readable
from retort.errors import DataError
from retort.files import atomic_write
from retort.images import shown

OUTCOME = "summary.json"
CONTENT = "dataset.tar"
PREVIEWS = "previews"
_NUM_PREVIEWS = 6
_PREVIEW_PX = 480
_COLOURS = ("#ff3b30", "#34c759", "#0a84ff", "#ff9f0a", "#bf5af2", "#64d2ff")
_NUM_ENDINGS = 10
_DEEPEST = 2
"""Folders around the data set that archives may put there."""


def take_in(archive: Path, folder: Path, limits: ArchiveLimits) -> DatasetSummary:
    """Unpack and check *archive*; write the normalised dataset and previews into *folder*.

    The folder is new. The summary says what was found; with an error in it the dataset is refused.

    Raises:
        OSError: there is no room, or the folder cannot be written.

    """
    folder = folder.resolve()
    unpacked = folder / "unpacked"
    try:
        with readable():
            unpacked.mkdir(parents=True)
            passed = unpack_dataset(archive, unpacked, limits).left_out
            return _look_through(unpacked, folder, _of_other_kinds(passed))
    except DataError as error:
        return DatasetSummary.refused(error.code, _without(error.message, unpacked, folder), error.hint)


def _of_other_kinds(passed: Mapping[str, int]) -> tuple[str, ...]:
    """Tell the files of the archive that were not unpacked, by ending."""
    if not passed:
        return ()
    most = sorted(passed.items(), key=lambda item: (-item[1], item[0]))
    listed = ", ".join(f"{number:,} {shown(ending)}" for ending, number in most[:_NUM_ENDINGS])
    number, more = sum(passed.values()), ", …" if len(most) > _NUM_ENDINGS else ""
    return (
        f"{number:,} {'file' if number == 1 else 'files'} of the archive, of kinds that are not read: {listed}{more}",
    )


def _look_through(unpacked: Path, folder: Path, notes: tuple[str, ...]) -> DatasetSummary:
    root = _root(unpacked)
    if foreign_source(str(root), [unpacked]) is not None:
        converted = folder / "converted"
        made = convert(root, converted, [unpacked], ConversionOptions(link=True))
        root = converted
        notes = (*notes, f"annotations in {made.kind.upper()} form were converted", *made.notes)
    kept = intake.kept_file(folder, root)
    report = audit.check(str(root), [folder], AuditOptions(most_missing=1.0, kept=kept, whole_folder=True))
    summary = _summary(report, (*notes, *report.notes), root, folder)
    if not summary.ok:
        return summary
    dataset = datasets.locate(str(root), [folder], linked=[unpacked], kept=folder)
    normalised = folder / "normalised"
    _normalise(dataset, normalised)
    _preview(dataset, folder / PREVIEWS)
    _pack(normalised, folder / CONTENT)
    told = tuple(_without(note, root, folder) for note in dataset.notes)
    return summary.model_copy(update={"digest": dataset.digest, "notes": (*summary.notes, *told)})


def _root(unpacked: Path) -> Path:
    """Return the folder that holds the data set; archives differ in what they put around it."""
    here = unpacked
    for _ in range(_DEEPEST):
        if (here / "data.yaml").is_file() or foreign_source(str(here), [unpacked]) is not None:
            return here
        inside = sorted(path for path in here.iterdir() if path.is_dir())
        if len(inside) != 1 or any(path.is_file() for path in here.iterdir()):
            break
        here = inside[0]
    return here


def _summary(report: AuditReport, notes: Sequence[str], root: Path, folder: Path) -> DatasetSummary:
    findings = [
        DatasetFinding(
            severity=one.severity, code=one.code, message=_without(one.message, root, folder),
            hint=_without(one.hint, root, folder), number=one.number,
            places=tuple(_without(place, root, folder) for place in one.places),
        )
        for one in report.findings
    ]  # fmt: skip
    splits = {split: DatasetSplit(**asdict(counted)) for split, counted in report.splits.items()}
    return DatasetSummary(names=report.names, splits=splits, findings=tuple(findings), notes=tuple(notes))


def _without(text: str, *folders: Path) -> str:
    """Leave out where on this machine the files were looked at."""
    for folder in folders:
        text = text.replace(f"{folder}{os.sep}", "").replace(str(folder), "the archive")
    return text


def _normalise(dataset: Dataset, target: Path) -> None:
    """Lay the data set out as every registered one is: no path of this machine, no file that nobody reads."""
    description = datasets.overlay(dataset, target)
    splits = [split for split in ("train", "val", "test") if (target / "images" / split).is_dir()]
    plain = {**{split: f"images/{split}" for split in splits}, "names": dict(enumerate(dataset.names))}
    description.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), encoding="utf-8")


def _pack(folder: Path, target: Path) -> None:
    """Pack *folder*; the same content always gives the same bytes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as packed:
        for path in files:
            member = tarfile.TarInfo(path.relative_to(folder).as_posix())
            member.size, member.mode = path.stat().st_size, 0o644
            with path.open("rb") as file:
                packed.addfile(member, file)


def _preview(dataset: Dataset, folder: Path) -> None:
    """Write small pictures of some images, with their boxes; nothing of the file but its pixels is kept."""
    folder.mkdir()
    step = max(1, len(dataset.train) // _NUM_PREVIEWS)
    for number, image in enumerate(dataset.train[::step][:_NUM_PREVIEWS], start=1):
        _, small = images.preview(image, _PREVIEW_PX)
        small.thumbnail((_PREVIEW_PX, _PREVIEW_PX))
        _draw(dataset, image, small).save(folder / f"{number}.jpg", quality=80)


def _draw(dataset: Dataset, image: Path, small: Image.Image) -> Image.Image:
    picture = small.convert("RGB")
    pencil = ImageDraw.Draw(picture)
    for box in read_labels(label_of(dataset.root, image), len(dataset.names), dataset.root).boxes:
        x, y, width, height = box.centre_x, box.centre_y, box.width, box.height
        corners = [
            (x - width / 2) * picture.width, (y - height / 2) * picture.height,
            (x + width / 2) * picture.width, (y + height / 2) * picture.height,
        ]  # fmt: skip
        pencil.rectangle(corners, outline=_COLOURS[box.class_id % len(_COLOURS)], width=2)
    return picture


def _die_with_parent() -> None:
    """End when the standard input does: the worker holds its other end, and dies however it dies."""

    def watch() -> None:
        sys.stdin.buffer.read()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(arguments: Sequence[str] | None = None) -> int:
    """Take in what the worker names; write the summary last."""
    parser = argparse.ArgumentParser(prog="python -m retort.data.dataset_intake", description=__doc__)
    parser.add_argument("archive", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--most-bytes", type=int, required=True)
    parser.add_argument("--most-files", type=int, required=True)
    given = parser.parse_args(arguments)
    _die_with_parent()
    limits = ArchiveLimits(most_bytes=given.most_bytes, most_files=given.most_files)
    summary = take_in(given.archive, given.folder, limits)
    atomic_write(given.folder / OUTCOME, summary.model_dump_json().encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
