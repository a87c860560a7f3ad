"""Everything that is wrong in a dataset is told at once, and nothing that is right."""

from __future__ import annotations

import hashlib
import os
import sys
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core.data.test_datasets import ANYWHERE, add, describe
from PIL import Image
from retort import images
from retort.data import audit, copies, datasets
from retort.data.audit import AuditReport
from retort.data.copies import ImageViews
from retort.data.text_files import readable
from retort.errors import DataError

PAIRS: dict[str, dict[int, int]] = {}
"""What the search for copies has answered, by the pictures that it was given."""


def seen(views: ImageViews) -> bytes:
    looks = (*views.looks, *views.bare.values())
    shown = [part.tobytes() for look in looks for part in look]
    return b"".join([repr(list(views.bare)).encode(), *shown])


@pytest.fixture(autouse=True)
def _searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # Most of these data sets hold the same pictures; to look for copies among them takes half a second.
    search = copies.find_copies

    def once(views: ImageViews, originals: ImageViews, *given: Any, **named: Any) -> dict[int, int]:
        key = hashlib.sha256(b"|".join([seen(views), seen(originals)])).hexdigest()
        if key not in PAIRS:
            PAIRS[key] = search(views, originals, *given, **named)
        return PAIRS[key]

    monkeypatch.setattr(copies, "find_copies", once)


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
    add(tmp_path, "images/train/background.png", boxes="", color=200)
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
    "not_an_image": (
        lambda root: [(root / f"images/val/{number}.png").write_bytes(b"hello, world") for number in range(7)],
        7,
        tuple(f"images/val/{number}.png is not an image of a known kind" for number in range(5)),
    ),
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
    assert told(root) == {"broken_image": ("error", 1, ("images/train/4.png is cut off (truncated)",))}
    Image.new("RGB", (9, 40)).save(root / "images/val/3.png")
    assert told(root)["small_image"][2] == ("images/val/3.png is 9 x 40 px; sides under 10 px are not trained on",)
    found = look(root).images["train"]
    assert found.sentence("train") == (
        "train: used 60 of 61 images, 1 could not be read: images/train/4.png is cut off (truncated)"
    )
    dataset = datasets.locate(str(root), ANYWHERE)
    assert (dataset.num_train, dataset.uses["train"]) == (60, found)


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
    "missing_labels": (
        lambda root: [(root / f"labels/val/{number}.txt").unlink() for number in range(2)],
        2,
        ("images/val/0.png", "images/val/1.png"),
    ),
    "polygons": (lambda root: label(root, "val/0", "0 0.1 0.1 0.3 0.1 0.3 0.4\n"), 1, ()),
    "utf16_label": (
        lambda root: (root / "labels/val/0.txt").write_text("0 0.5 0.5 0.2 0.2\n", encoding="utf-16"),
        1,
        (),
    ),
    "box_outside": (lambda root: label(root, "val/0", "0 0.9 0.5 0.5 0.2\n"), 1, ("labels/val/0.txt",)),
    "doubled_box": (lambda root: label(root, "val/0", 2 * "0 0.5 0.5 0.2 0.2\n"), 1, ("labels/val/0.txt",)),
    "tiny_box": (lambda root: label(root, "val/0", "0 0.5 0.5 0.2 0.05\n"), 1, ("labels/val/0.txt",)),
    "few_images": (lambda root: [(root / f"images/val/{number}.png").unlink() for number in range(20)], 1, ()),
    "class_without_boxes": (lambda root: describe(root, names=["cat", "dog", "cow"]), 1, ("cow",)),
    "rare_class": (
        lambda root: (describe(root, names=["cat", "dog", "cow"]), label(root, "train/0", "2 0.5 0.5 0.2 0.2\n")),
        1,
        ("cow: 1",),
    ),
    "near_names": (lambda root: describe(root, names=["Cat", "cat"]), 1, ("'Cat' and 'cat'",)),
    "unread_picture": (
        lambda root: (root / "images/val/8.gif").write_bytes(b"GIF89a"),
        1,
        ("images/val/8.gif",),
    ),
    "mac_attributes": (lambda root: (root / "images/val/._8.png").write_bytes(b"\0\5\x16\7"), 1, ()),
    "listed_twice": (
        lambda root: ((root / "list.txt").write_text(2 * "images/train/1.png\n"), describe(root, train="list.txt")),
        1,
        (),
    ),
    "deep_image": (
        lambda root: Image.fromarray(np.full((32, 32), 3000, np.uint16)).save(root / "images/val/7.png"),
        1,
        ("images/val/7.png",),
    ),
    "several_frames": (
        lambda root: Image.new("L", (32, 32)).save(
            root / "images/val/9.png", save_all=True, append_images=[Image.new("L", (32, 32), 9)]
        ),
        1,
        ("images/val/9.png",),
    ),
    "many_objects": (
        lambda root: label(root, "val/0", "".join(f"0 0.5 0.5 0.{n + 100} 0.2\n" for n in range(301))),
        1,
        ("images/val/0.png: 301",),
    ),
    "ignored_field": (lambda root: describe(root, download="rm -rf /"), 1, ()),
}


def corners(x: float, y: float, width: float, height: float) -> str:
    return f"{x - width / 2} {y - height / 2} {x + width / 2} {y + height / 2}"


def left_upper(x: float, y: float, width: float, height: float) -> str:
    return f"{x - width / 2} {y - height / 2} {width} {height}"


@pytest.mark.parametrize(("written", "told"), [(corners, "corners x1 y1 x2 y2"), (left_upper, "left upper corner")])
def test_boxes_given_as_corners_or_by_their_left_upper_corner_are_doubted(
    root: Path, written: Callable[..., str], told: str
):
    for number in range(60):
        for split in ("train", "val"):
            box = written(0.15 + 0.01 * number, 0.8 - 0.01 * number, 0.28, 0.2)
            label(root, f"{split}/{number}", f"{number % 2} {box}\n")
    (found,) = [finding for finding in look(root).findings if finding.code == "box_outside"]
    assert told in found.hint
    assert any(told in warning for warning in datasets.locate(str(root), ANYWHERE).warnings)


def test_boxes_in_the_right_form_are_not_doubted(root: Path):
    for number in range(60):
        x, y = 0.3 + 0.0068 * number, 0.7 - 0.0068 * number
        label(root, f"train/{number}", f"{number % 2} {x} {y} 0.6 0.6\n")
    assert told(root) == {}


ELSEWHERE: dict[str, Callable[[Path, str], Path]] = {
    "another ending": lambda root, name: root / f"labels/{name}.TXT",
    "another folder": lambda root, name: root / f"annotations/{name}.txt",
    "both endings": lambda root, name: root / f"labels/{name}.png.txt",
    "a folder with a capital letter": lambda root, name: root / f"Labels/{name}.txt",
    "beside the image": lambda root, name: root / f"images/{name}.txt",
}


@pytest.mark.parametrize("kind", ELSEWHERE)
def test_labels_that_are_missing_because_they_are_elsewhere_are_found_and_refused(root: Path, kind: str):
    for number in range(12):
        there = ELSEWHERE[kind](root, f"train/{number}")
        there.parent.mkdir(parents=True, exist_ok=True)
        (root / f"labels/train/{number}.txt").rename(there)
    (found,) = [finding for finding in look(root).findings if finding.code == "missing_labels"]
    assert found.severity == "error"
    assert found.message.startswith("12 of 61 images of train have no label file: that of images/train/0.png is looked")
    assert found.places[0].endswith(ELSEWHERE[kind](root, "train/0").relative_to(root).as_posix())
    assert "move or rename" in found.hint
    with pytest.raises(DataError, match=r"is looked for at labels/train/0\.txt, and there is"):
        datasets.locate(str(root), ANYWHERE, most_missing=0.5)
    assert datasets.locate(str(root), ANYWHERE, most_missing=1).warnings


def test_labels_whose_accents_a_mac_took_apart_are_found(root: Path):
    for number in range(2):
        image, label = root / f"images/train/{number}.png", root / f"labels/train/{number}.txt"
        image.rename(image.with_name(unicodedata.normalize("NFC", f"\u00e9{number}.png")))
        label.rename(label.with_name(unicodedata.normalize("NFD", f"\u00e9{number}.txt")))

    assert any("e\u03010.txt" in place for place in told(root)["missing_labels"][2])


def test_labels_of_other_images_of_the_same_name_are_not_taken_for_missing_ones(root: Path):
    for number in range(12):
        (root / f"labels/train/{number}.txt").unlink()
        add(root, f"images/test/{number}.png", color=300 + number)  # a split that data.yaml does not name
    assert told(root)["missing_labels"][:2] == ("warning", 12)


def test_nested_images_whose_labels_lie_in_one_flat_folder_are_told(root: Path):
    for number in range(40):
        image = root / f"images/train/night/{number}.png"
        image.parent.mkdir(exist_ok=True)
        (root / f"images/train/{number}.png").rename(image)
    assert told(root)["missing_labels"][0] == "error"
    assert "labels/train/0.txt" in told(root)["missing_labels"][2][0]


def test_most_images_without_a_label_file_are_no_background_unless_it_is_said(root: Path):
    for number in range(40):
        (root / f"labels/train/{number}.txt").unlink()
    with pytest.raises(
        DataError, match="40 of 61 images of train have no label file: they count as background"
    ) as caught:
        datasets.locate(str(root), ANYWHERE, most_missing=0.5)
    assert "data.max_missing_labels: 1" in str(caught.value.hint)
    assert told(root)["missing_labels"][0] == "error"
    assert datasets.locate(str(root), ANYWHERE, most_missing=1).num_train == 61


UNREADABLE: dict[str, Callable[[Path], object]] = {
    "a list in Latin-1": lambda root: (
        (root / "val.txt").write_bytes("images/val/Jos\u00e9.png\n".encode("latin-1")),
        describe(root, val="val.txt"),
    ),
    "a label in Latin-1": lambda root: (root / "labels/val/0.txt").write_bytes(b"0 0.5 0.5 0.2 0.2 \xe9\n"),
    "a description in Latin-1": lambda root: (root / "data.yaml").write_bytes(b"names: [Caf\xe9]\n"),
    "a description of zeros": lambda root: (root / "data.yaml").write_bytes(b"\0" * 100),
    "a name that is too long": lambda root: describe(root, train="x" * 300),
    "a list with a name that is too long": lambda root: (
        (root / "val.txt").write_text("images/val/" + "x" * 300 + ".png\n"),
        describe(root, val="val.txt"),
    ),
    "links in a circle": lambda root: (
        (root / "images/loop").symlink_to(root / "images/loop"),
        describe(root, train="images/loop/x"),
    ),
    "a folder for a label": lambda root: (
        (root / "labels/val/0.txt").unlink(),
        (root / "labels/val/0.txt").mkdir(),
    ),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_the_check_never_raises_whatever_cannot_be_read(root: Path, kind: str):
    UNREADABLE[kind](root)
    assert look(root).findings


@pytest.mark.parametrize("kind", [kind for kind in UNREADABLE if kind != "a folder for a label"])
def test_what_cannot_be_read_is_the_users_to_mend(root: Path, kind: str):
    UNREADABLE[kind](root)
    with pytest.raises(DataError) as caught, readable():
        datasets.locate(str(root), ANYWHERE)
    assert caught.value.hint


def test_lists_and_labels_in_utf_16_are_read(root: Path, tmp_path: Path):
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"):
        (root / "val.txt").write_text("images/val/0.png\nimages/val/1.png\n", encoding=encoding)
        (root / "labels/val/0.txt").write_text("1 0.5 0.5 0.25 0.2\n", encoding=encoding)
        describe(root, val="val.txt")
        found = datasets.locate(str(root), ANYWHERE)
        assert found.num_val == 2
        laid = datasets.overlay(found, tmp_path / encoding).parent / "labels/val/0.txt"
        assert laid.read_text(encoding="utf-8-sig").split() == ["1", "0.5", "0.5", "0.25", "0.2"]


def test_data_that_must_not_be_read_is_told_with_the_user_who_may_not(root: Path):
    (root / "images").chmod(0)
    before = os.geteuid()
    try:
        if before == 0:
            os.seteuid(65534)
        with pytest.raises(DataError, match=r"Permission denied \(the process runs as user") as caught, readable():
            datasets.locate(str(root), ANYWHERE)
        assert "chmod" in str(caught.value.hint)
        assert not look(root).ok
    finally:
        os.seteuid(before)
        (root / "images").chmod(0o755)


@pytest.mark.parametrize("code", DOUBTS)
def test_what_a_job_would_take_is_a_warning(root: Path, code: str):
    spoil, number, places = DOUBTS[code]
    spoil(root)
    assert told(root)[code] == ("warning", number, places)
    assert look(root).ok
    datasets.locate(str(root), ANYWHERE)


def test_a_whole_folder_tells_by_kind_what_belongs_to_no_split(root: Path):
    for number in range(10):
        add(root, f"unlabelled/{number}.png", boxes=None, color=number)
    label(root, "other", "0 0.5 0.5 0.2 0.2\n")
    (root / "labels/extra").mkdir()
    label(root, "extra/7", "")
    (root / "README.txt").write_text("thanks")
    (root / ".git").mkdir()
    (root / ".git/index.png").write_bytes(b"hidden")
    found = audit.check(str(root), ANYWHERE, audit.AuditOptions(whole_folder=True))
    assert {one.code: (one.severity, one.number, one.places) for one in found.findings} == {
        "image_without_split": ("warning", 10, tuple(f"unlabelled/{number}.png" for number in range(5))),
        "label_without_split": ("warning", 2, ("labels/extra/7.txt", "labels/other.txt")),
    }
    assert "pseudo_labels.path" in found.findings[0].hint
    assert found.notes == ("1 file of other kinds, not read: README.txt",)
    assert look(root).findings == (), "a job has no say in what else lies in the folder"


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
    find_spec = images.importlib.util.find_spec
    monkeypatch.setattr(images.importlib.util, "find_spec", lambda name: None if name == "PIL" else find_spec(name))
    assert "PIL" in sys.modules
    assert told(root)["images_not_opened"][:2] == ("warning", 121)
