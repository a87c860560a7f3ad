"""Everything that is wrong in a dataset is told at once, and nothing that is right."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from core.data.test_datasets import ANYWHERE, add, describe
from PIL import Image
from retort.data import audit, datasets
from retort.data.audit import AuditReport
from retort.errors import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set that is right in every way, and large enough."""
    for number in range(60):
        for split in ("train", "val"):
            add(
                tmp_path,
                f"images/{split}/{number}.png",
                f"{number % 2} 0.5 0.5 0.2 0.2\n",
                number + 60 * (split == "val"),
            )
    add(tmp_path, "images/train/background.png", boxes=None, color=200)
    describe(tmp_path)
    return tmp_path


def look(root: Path) -> AuditReport:
    return audit.check(str(root), ANYWHERE)


def told(root: Path) -> dict[str, tuple[str, int, tuple[str, ...]]]:
    return {finding.code: (finding.severity, finding.number, finding.places) for finding in look(root).findings}


def test_of_a_good_data_set_there_is_nothing_to_tell(root: Path):
    found = look(root)
    assert found.ok
    assert found.findings == ()
    assert found.names == ("cat", "dog")
    assert found.splits == {"train": audit.Split(61, 1, (30, 30)), "val": audit.Split(60, 0, (30, 30))}


def label(root: Path, name: str, text: str) -> None:
    (root / "labels" / f"{name}.txt").write_text(text)


ERRORS: dict[str, tuple[Callable[[Path], object], int, tuple[str, ...]]] = {
    "malformed_label": (
        lambda root: (label(root, "train/0", "7 0 0 1 1\n0 0.5 0.5 0.2 0.2\n1 2\n"), label(root, "val/3", "x\n")),
        3,
        (
            "labels/train/0.txt:1: class 7 is not one of 0 to 1",
            "labels/train/0.txt:3: 2 columns where 5 are expected",
            "labels/val/3.txt:1: 1 columns where 5 are expected",
        ),
    ),
    "not_an_image": (lambda root: (root / "images/val/1.png").write_bytes(b"hello, world"), 1, ("images/val/1.png",)),
    "no_images": (lambda root: describe(root, val="labels/val"), 1, ()),
    "no_boxes": (lambda root: [path.unlink() for path in (root / "labels/val").iterdir()], 1, ()),
    "description": (lambda root: describe(root, names=None), 1, ()),
}


@pytest.mark.parametrize("code", ERRORS)
def test_what_a_job_would_refuse_is_an_error(root: Path, code: str):
    spoil, number, places = ERRORS[code]
    spoil(root)
    assert told(root)[code] == ("error", number, places)
    assert not look(root).ok
    with pytest.raises(DataError):
        datasets.locate(str(root), ANYWHERE)


def test_an_image_that_is_cut_off_is_an_error(root: Path):
    path = root / "images/train/4.png"
    Image.effect_noise((64, 64), 50).save(path)
    path.write_bytes(path.read_bytes()[:1500])
    assert told(root) == {"broken_image": ("error", 1, ("images/train/4.png",))}


DOUBTS: dict[str, tuple[Callable[[Path], object], int, tuple[str, ...]]] = {
    "shared_image": (
        lambda root: (root / "images/val/2.png").write_bytes((root / "images/train/5.png").read_bytes()),
        1,
        ("images/val/2.png = images/train/5.png",),
    ),
    "doubled_image": (
        lambda root: (root / "images/val/2.png").write_bytes((root / "images/val/0.png").read_bytes()),
        1,
        ("images/val/2.png = images/val/0.png",),
    ),
    "label_without_image": (
        lambda root: (label(root, "val/gone", ""), label(root, "val/classes", "cat\ndog\n")),
        1,
        ("labels/val/gone.txt",),
    ),
    "doubled_box": (lambda root: label(root, "val/0", 2 * "0 0.5 0.5 0.2 0.2\n"), 1, ("labels/val/0.txt",)),
    "tiny_box": (lambda root: label(root, "val/0", "0 0.5 0.5 0.2 0.05\n"), 1, ("labels/val/0.txt",)),
    "few_images": (lambda root: [(root / f"images/val/{number}.png").unlink() for number in range(20)], 40, ()),
    "class_without_boxes": (lambda root: describe(root, names=["cat", "dog", "cow"]), 1, ("cow",)),
    "rare_class": (
        lambda root: (describe(root, names=["cat", "dog", "cow"]), label(root, "train/0", "2 0.5 0.5 0.2 0.2\n")),
        1,
        ("cow: 1",),
    ),
    "near_names": (lambda root: describe(root, names=["Cat", "cat"]), 1, ("'Cat' and 'cat'",)),
    "ignored_field": (lambda root: describe(root, download="rm -rf /"), 1, ()),
}


@pytest.mark.parametrize("code", DOUBTS)
def test_what_a_job_would_take_is_a_warning(root: Path, code: str):
    spoil, number, places = DOUBTS[code]
    spoil(root)
    assert told(root)[code] == ("warning", number, places)
    assert look(root).ok
    datasets.locate(str(root), ANYWHERE)


def test_of_many_places_the_first_are_shown(root: Path):
    for number in range(20):
        label(root, f"train/{number}", "x\n")
    severity, number, places = told(root)["malformed_label"]
    assert (severity, number, len(places)) == ("error", 20, 5)


def test_errors_come_first(root: Path):
    label(root, "val/gone", "")
    label(root, "train/0", "x\n")
    assert [finding.severity for finding in look(root).findings] == ["error", "warning"]


def test_where_nothing_opens_images_that_is_said(root: Path, monkeypatch: pytest.MonkeyPatch):
    find_spec = audit.importlib.util.find_spec
    monkeypatch.setattr(audit.importlib.util, "find_spec", lambda name: None if name == "PIL" else find_spec(name))
    assert "PIL" in sys.modules
    assert told(root)["images_not_opened"][:2] == ("warning", 121)
