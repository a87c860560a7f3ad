"""Datasets are read strictly: what is wrong is told with file and line, and nothing outside is opened."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from PIL import Image
from retort.data import audit, datasets
from retort.data.datasets import Dataset
from retort.data.labels import label_of, read_labels
from retort.errors import DataError

NAMES = ("cat", "dog")
ANYWHERE = (Path("/"),)


def add(root: Path, image: str, boxes: str | None = "0 0.5 0.5 0.2 0.2\n", color: int = 0) -> Path:
    path = root / image
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (32, 32), (color % 256, color // 256, 0)).save(path)
    if boxes is not None:
        label = label_of(root, path)
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text(boxes)
    return path


def describe(root: Path, **fields: object) -> Path:
    document = {"train": "images/train", "val": "images/val", "names": list(NAMES), **fields}
    path = root / "data.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in document.items() if value is not None}))
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set that is right in every way."""
    root = tmp_path / "set"
    for number in range(3):
        add(root, f"images/train/{number}.png", color=number)
    add(root, "images/train/background.png", boxes=None, color=10)
    for number in range(2):
        add(root, f"images/val/{number}.png", color=20 + number)
    describe(root)
    return root


def locate(root: Path) -> Dataset:
    return datasets.locate(str(root), ANYWHERE)


def refusal(root: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        locate(root)
    return caught.value


def test_a_data_set_is_found_by_its_folder_and_by_its_file(root: Path):
    found = locate(root)
    assert (found.num_train, found.num_val, found.names) == (4, 2, NAMES)
    assert found.root == root.resolve()
    assert datasets.locate(str(root / "data.yaml"), ANYWHERE) == found


def test_paths_are_relative_to_the_file_and_not_to_the_working_folder(root: Path, monkeypatch: pytest.MonkeyPatch):
    describe(root, path=".")
    monkeypatch.chdir("/")
    assert locate(root).num_train == 4


def test_path_may_lead_to_another_folder(root: Path):
    (root / "about").mkdir()
    shutil.move(describe(root, path=".."), root / "about" / "data.yaml")
    assert datasets.locate(str(root / "about"), ANYWHERE).root == root.resolve()


def test_a_relative_path_is_looked_for_in_the_operators_folders(root: Path, tmp_path: Path):
    assert datasets.locate(root.name, (tmp_path / "nothing", tmp_path)).num_val == 2


def test_names_may_be_numbered(root: Path):
    describe(root, names={0: "cat", 1: "dog"}, nc=2)
    assert locate(root).names == NAMES


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"names": {"0": "cat", "1": "dog"}, "nc": "2"}, NAMES),
        ({"nc": 2.0}, NAMES),
        ({"names": {1: "dog", "0": "cat"}}, NAMES),
        ({"names": ["\u0645\u06cc\u200c\u062e", "no\u00a0entry"]}, ("\u0645\u06cc\u200c\u062e", "no\u00a0entry")),
        ({"names": ["Car", "car"]}, ("Car", "car")),
        ({"names": [" car", True]}, (" car", "True")),
        ({"names": None, "nc": "2"}, ("class_0", "class_1")),
    ],
)
def test_names_that_ultralytics_takes_are_taken_as_they_are(
    root: Path, fields: dict[str, object], names: tuple[str, ...]
):
    describe(root, **fields)
    assert locate(root).names == names


def test_validation_and_an_empty_path_are_understood(root: Path):
    describe(root, val=None, validation="images/val", path="")
    found = locate(root)
    assert found.num_val == 2
    assert found.notes == ("data.yaml: validation is read as val",)


def test_valid_is_understood_and_a_split_in_capitals_is_named(root: Path):
    describe(root, val=None, valid="images/val")
    assert datasets.locate(str(root), [root]).notes[0] == "data.yaml: valid is read as val"

    describe(root, val=None, Val="images/val")
    with pytest.raises(DataError, match="val is missing") as told:
        datasets.locate(str(root), [root])
    assert told.value.hint == "write val for Val"


@pytest.mark.parametrize(
    ("fields", "hint"),
    [
        ({"train": "images\\train"}, "write / between folders, not a backslash"),
        ({"train": "images/train/0.png"}, "a folder of images, or a text file *.txt that lists them, is expected"),
        ({"names": ["cat", None]}, "write the name in quotes"),
        ({"names": ["cat", ["dog"]]}, "write the name in quotes"),
    ],
)
def test_a_field_that_cannot_be_meant_so_is_refused_with_what_would_be_right(
    root: Path, fields: dict[str, object], hint: str
):
    describe(root, **fields)
    with pytest.raises(DataError) as told:
        datasets.locate(str(root), [root])
    assert told.value.hint == hint


def test_a_description_by_another_name_is_pointed_to(root: Path):
    (root / "data.yaml").rename(root / "coco8.yml")
    with pytest.raises(DataError, match=r"no data\.yaml") as told:
        datasets.locate(str(root), [root])
    assert told.value.hint == "name the file itself, or call it data.yaml: coco8.yml is there"


def test_a_link_to_nothing_is_told_as_one(root: Path):
    (root / "images/train/far.png").symlink_to("/nowhere/far.png")
    with pytest.raises(DataError, match=r"far\.png is a link to /nowhere/far\.png, which is not there"):
        datasets.locate(str(root), [root])


def test_images_that_share_a_label_file_are_told_by_check_and_job(root: Path):
    shutil.copy(root / "images/train/0.png", root / "images/train/0.jpg")

    assert any("0.txt to 0.jpg and 0.png" in told for told in datasets.locate(str(root), [root]).warnings)
    found = {finding.code: finding for finding in audit.check(str(root), [root]).findings}
    assert found["shared_label"].places == ("labels/train/0.txt: 0.jpg and 0.png",)


def test_a_test_split_is_found_checked_and_laid_out(root: Path, tmp_path: Path):
    add(root, "images/test/0.png", color=30)
    describe(root, test="images/test")
    before = locate(root)
    assert (before.num_test, before.notes) == (1, ())
    overlay = datasets.overlay(before, tmp_path / "overlay")
    assert yaml.safe_load(overlay.read_text())["test"] == "images/test"
    assert (overlay.parent / "labels/test/0.txt").read_text() == "0 0.5 0.5 0.2 0.2\n"
    (root / "labels/test/0.txt").write_text("9 0.5 0.5 0.2 0.2\n")
    assert refusal(root).message.startswith("labels/test/0.txt:1: class 9")


@pytest.mark.parametrize("test", ["../test/images", "images/test", "../elsewhere"])
def test_a_test_split_that_is_not_there_or_has_no_labels_is_left_out_and_told(root: Path, test: str):
    add(root, "images/test/0.png", boxes=None, color=30)
    describe(root, test=test)
    found = locate(root)
    assert found.num_test == 0
    assert found.notes[0].startswith("data.yaml: test is ignored: ")


def test_a_file_too_large_to_be_a_description_is_not_read(root: Path):
    with (root / "data.yaml").open("wb") as file:
        file.truncate(1 << 30)
    assert "larger than 8 MiB" in refusal(root).message


def test_a_split_may_be_several_folders_or_a_list_of_images(root: Path):
    add(root, "images/more/0.png", color=99)
    (root / "val.txt").write_text("./images/val/1.png\n\nimages/more/0.png\n")
    describe(root, train=["images/train", "images/more"], val="val.txt")
    found = locate(root)
    assert found.num_train == 5
    assert [path.relative_to(found.root).as_posix() for path in found.val] == ["images/more/0.png", "images/val/1.png"]


def test_roboflows_way_of_writing_paths_is_understood(root: Path):
    describe(root, train="../images/train", val="../images/val", roboflow={"url": "x"})
    found = locate(root)
    assert found.num_train == 4
    assert found.notes == ("data.yaml: roboflow is ignored: it is not needed",)


def test_a_download_is_never_run_and_this_is_noted(root: Path):
    describe(root, download="import os; os.mkdir('/tmp/owned')", color="red")
    assert locate(root).notes == (
        "data.yaml: color is ignored: it is not a field that Retort knows",
        "data.yaml: download is ignored: it is never run",
    )


def test_labels_belong_to_the_last_folder_named_images_below_the_root():
    root = Path("/data/images/set")
    assert label_of(root, root / "images/a/images/b/1.x.jpg") == root / "images/a/labels/b/1.x.txt"
    assert label_of(root, root / "train/1.jpg") == root / "train/1.txt"


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("0 0.5 0.5 0.2", "4 columns where 5 are expected"),
        ("0 0.1 0.1 0.2 0.1 0.9", "6 columns where 5 are expected; is the last one a score"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.5", "8 columns where 5 are expected"),
        ("0 0.1 0.1 0.2 0.1 0.2 1.2", "outside 0..1"),
        ("cat 0.5 0.5 0.2 0.2", "not every column is a finite number"),
        ("0 nan 0.5 0.2 0.2", "not every column is a finite number"),
        ("2 0.5 0.5 0.2 0.2", "class 2 is not one of 0 to 1"),
        ("-1 0.5 0.5 0.2 0.2", "class -1 is not one of 0 to 1"),
        ("0.5 0.5 0.5 0.2 0.2", "class 0.5 is not one of 0 to 1"),
        ("0 16 16 8 8", "outside 0..1"),
        ("0 0.5 0.5 0.2 1.1", "outside 0..1"),
        ("0 0.5 0.5 0 0.2", "no area"),
    ],
)
def test_a_malformed_label_is_told_with_file_and_line(root: Path, line: str, complaint: str):
    (root / "labels/train/1.txt").write_text(f"0 0.5 0.5 0.2 0.2\n\n{line}\n{line}\n")
    error = refusal(root)
    assert error.message.startswith("labels/train/1.txt:3: ")
    assert complaint in error.message
    assert error.message.endswith("(and 1 more in this file)")
    assert "class centre_x" in str(error.hint)


def test_a_label_may_be_off_by_the_rounding_of_its_tool_and_begin_with_a_mark(root: Path):
    (root / "labels/train/1.txt").write_text("\ufeff1 0.5 0.5 1.000001 1.0\r\n")
    assert locate(root).num_train == 4


def test_boxes_beside_polygons_stay_boxes(root: Path):
    (root / "labels/train/1.txt").write_text("0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.35 0.1 0.35 0.4\n")
    boxes = read_labels(root / "labels/train/1.txt", 2, root).boxes
    assert [tuple(box) for box in boxes] == [
        pytest.approx((0, 0.5, 0.5, 0.2, 0.2)),
        pytest.approx((1, 0.225, 0.25, 0.25, 0.3)),
    ]


def test_a_label_that_is_not_text_is_refused(root: Path):
    (root / "labels/train/1.txt").write_bytes(b"\x80\x04\x95\xff")
    assert "labels/train/1.txt is not a text file" in refusal(root).message


def test_a_split_without_any_box_is_refused_and_says_where_it_looked(root: Path):
    shutil.rmtree(root / "labels/val")
    assert refusal(root).message.endswith(f"labels were looked for in {root.resolve()}/labels/val")


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"train": None}, "train must name a folder"),
        ({"val": 3}, "val must name a folder"),
        ({"train": "images/trian"}, "there is no folder"),
        ({"names": None}, "names must list the classes"),
        ({"names": ["cat", "cat"]}, "two classes are named 'cat'"),
        ({"names": {0: "cat", 2: "dog"}}, "without gaps"),
        ({"names": ["cat", "d\x07g"]}, "not a short printable text"),
        ({"nc": 3}, "nc is 3, but 2 names"),
        ({"nc": "two"}, "nc must be a whole number, not 'two'"),
        ({"names": ["cat", "d\u202eg"]}, "not a short printable text"),
        ({"names": ["cat", "\u200c"]}, "not a short printable text"),
        ({"names": {"x": "cat"}}, "without gaps"),
        ({"path": "nowhere"}, "there is no folder"),
        ({"path": 7}, "path must be a text"),
        ({"kpt_shape": [17, 3]}, "kpt_shape belongs to another task"),
        ({"channels": 10}, "channels must be 3"),
    ],
)
def test_a_wrong_description_says_which_field(root: Path, fields: dict[str, object], complaint: str):
    describe(root, **fields)
    error = refusal(root)
    assert complaint in error.message
    assert error.message.startswith(str(root.resolve() / "data.yaml"))
    assert error.code == "bad_data"


@pytest.mark.parametrize(
    "text", ["- a\n- b\n", "train: [", "train: a\ntrain: b\n", "!!python/object/apply:os.getcwd []"]
)
def test_a_file_that_is_no_mapping_is_refused(root: Path, text: str):
    (root / "data.yaml").write_text(text)
    assert str(root.resolve() / "data.yaml") in refusal(root).message


def test_a_missing_data_set_says_where_one_may_lie(tmp_path: Path):
    with pytest.raises(DataError, match="no dataset at nowhere") as caught:
        datasets.locate("nowhere", (tmp_path,))
    assert str(tmp_path) in str(caught.value.hint)
    with pytest.raises(DataError, match=r"no data\.yaml in"):
        datasets.locate(str(tmp_path), (tmp_path,))


def test_a_data_set_outside_the_operators_folders_is_not_there(root: Path, tmp_path: Path):
    (tmp_path / "allowed").mkdir()
    (tmp_path / "allowed/link").symlink_to(root)
    for path in (str(root), str(tmp_path / "allowed/link"), "../set"):
        with pytest.raises(DataError, match="no data"):
            datasets.locate(path, (tmp_path / "allowed",))


def test_path_must_not_lead_out_of_the_operators_folders(root: Path):
    describe(root, path="/")
    with pytest.raises(DataError, match="path leads to /"):
        datasets.locate(str(root), (root,))


@pytest.mark.parametrize("outside", ["/etc", "/nowhere-at-all", "/proc/1", "../nowhere"])
def test_path_tells_nothing_about_which_folders_there_are_outside(root: Path, outside: str):
    describe(root, path=outside)
    with pytest.raises(DataError, match="path leads to /") as caught:
        datasets.locate(str(root), (root,))
    assert str(caught.value.hint).startswith("leave it out")


@pytest.mark.parametrize("source", ["..", "../other", "/etc"])
def test_a_split_must_not_lead_out_of_the_data_set(root: Path, source: str):
    (root.parent / "other").mkdir()
    describe(root, train=source)
    assert "out of" in refusal(root).message


def test_a_linked_folder_must_not_lead_out_of_the_data_set(root: Path):
    (root.parent / "other").mkdir()
    (root / "images/link").symlink_to(root.parent / "other")
    describe(root, train="images/link")
    assert "out of" in refusal(root).message


def test_a_linked_image_must_not_lead_out_of_the_data_set(root: Path):
    outside = add(root.parent, "secret.png", boxes=None)
    (root / "images/train/9.png").symlink_to(outside)
    assert "leads out of the dataset's folder" in refusal(root).message


def test_a_linked_label_must_not_lead_out_of_the_data_set(root: Path):
    outside = root.parent / "labels.txt"
    outside.write_text("0 0.5 0.5 0.2 0.2\n")
    (root / "labels/train/background.txt").symlink_to(outside)
    assert "labels/train/background.txt leads out" in refusal(root).message


def test_a_listed_image_that_is_missing_is_told_with_its_line(root: Path):
    (root / "val.txt").write_text("images/val/0.png\nimages/val/7.png\n")
    describe(root, val="val.txt")
    assert f"{root.resolve()}/val.txt:2: no image" in refusal(root).message


def test_a_file_that_only_claims_to_be_an_image_is_refused(root: Path):
    (root / "images/train/9.jpg").write_bytes(b"<html>not found</html>")
    assert "9.jpg is not an image" in refusal(root).message


def test_a_folder_without_images_is_refused(root: Path):
    shutil.rmtree(root / "images/val")
    (root / "images/val").mkdir()
    assert "no images for val" in refusal(root).message


def test_the_digest_is_that_of_the_content_and_not_of_the_place(root: Path, tmp_path: Path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(root, copy)
    assert locate(copy).digest == locate(root).digest


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "labels/val/0.txt").write_text("1 0.5 0.5 0.2 0.2\n"),
        lambda root: add(root, "images/val/0.png", color=200),
        lambda root: (root / "labels/train/background.txt").write_text(""),
        lambda root: describe(root, names=["dog", "cat"]),
        lambda root: (root / "images/train/2.png").rename(root / "images/train/3.png"),
    ],
)
def test_the_digest_changes_with_everything_that_matters(root: Path, change: Callable[[Path], object]):
    before = locate(root).digest
    change(root)
    assert locate(root).digest != before


def test_validation_images_that_are_also_training_images_are_counted(root: Path):
    shutil.copy(root / "images/train/0.png", root / "images/val/same.png")
    assert locate(root).num_shared == 1


def test_the_overlay_gives_images_of_one_name_a_label_each(root: Path, tmp_path: Path):
    add(root, "images/train/a/x.png", "0 0.1 0.1 0.1 0.1\n", color=50)
    add(root, "images/train/b/X.PNG", "1 0.9 0.9 0.1 0.1\n", color=51)
    add(root, "images/train/b/x.bmp", boxes=None, color=52)
    found = locate(root)
    description = yaml.safe_load(datasets.overlay(found, tmp_path / "overlay").read_text())
    assert description == {
        "path": str(tmp_path / "overlay"),
        "train": "images/train",
        "val": "images/val",
        "names": {0: "cat", 1: "dog"},
        "digest": found.digest,
    }
    images = sorted((tmp_path / "overlay/images/train").iterdir())
    assert {image.resolve() for image in images} == {image.resolve() for image in found.train}
    assert len({image.stem.lower() for image in images}) == len(images) == 7
    for image in images:
        label = tmp_path / "overlay/labels/train" / f"{image.stem}.txt"
        original = label_of(found.root, image.resolve())
        assert label.exists() == original.exists()
        assert not label.exists() or label.read_text() == original.read_text()


def test_the_overlay_leaves_pickles_and_programs_behind_and_the_users_folder_untouched(root: Path, tmp_path: Path):
    for name in ("labels/train.cache", "images/train/0.npy", "images/train/run.sh"):
        (root / name).write_bytes(b"cos\nsystem\n")
    before = {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
    overlay = datasets.overlay(locate(root), tmp_path / "overlay").parent
    assert {path.suffix for path in overlay.rglob("*") if path.is_file()} == {".png", ".txt", ".yaml"}
    assert before == {path: path.lstat().st_mtime_ns for path in root.rglob("*")}
