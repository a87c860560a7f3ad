"""The demo data: the same for the same seed, well formed, and split without shared scans."""

from __future__ import annotations

import hashlib
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from retort.data import demo
from retort.data.datasets import locate
from retort.errors import UserError

EXAMPLE = Path(__file__).parents[3] / "examples" / "data" / "digits"


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("digits") / "set"
    demo.write(folder, num_train=60, num_val=20, imgsz=96)
    return folder


def test_the_committed_example_is_what_the_generator_writes(written: Path):
    assert contents(written) == contents(EXAMPLE)


def test_another_seed_gives_other_scenes(written: Path, tmp_path: Path):
    demo.write(tmp_path / "set", num_train=2, num_val=1, imgsz=96, seed=1)

    ours, theirs = contents(tmp_path / "set"), contents(written)
    assert not any(ours[name] == theirs[name] for name in ours)


def test_a_larger_set_begins_with_the_smaller_one(written: Path, tmp_path: Path):
    demo.write(tmp_path / "set", num_train=3, num_val=2, imgsz=96)

    assert contents(tmp_path / "set").items() <= contents(written).items()


def test_intake_takes_the_data_set_as_it_is(written: Path):
    found = locate(str(written), (Path("/"),))

    assert (found.num_train, found.num_val, found.names) == (60, 20, demo.NAMES)


def test_no_scan_is_in_both_splits_and_none_is_left_out():
    train, val = demo._split(0)
    pooled = [{scan.tobytes() for scans in pool for scan in scans} for pool in (train, val)]

    assert not pooled[0] & pooled[1]
    assert sum(len(scans) for pool in (train, val) for scans in pool) == 1797


def test_the_paths_in_the_description_are_relative(written: Path):
    description = yaml.safe_load((written / "data.yaml").read_text())

    assert description["train"] == "images/train"
    assert description["val"] == "images/val"
    assert "path" not in description


def test_every_box_lies_in_its_scene_and_holds_ink():
    pool, _ = demo._split(0)
    for index in range(20):
        picture, labels = demo.scene(pool, imgsz=160, seed=(0, 0, index))
        grey = np.asarray(picture, dtype=int)
        assert labels
        for label in labels:
            left, top, right, bottom = label.box
            assert 0 <= left < right <= 160
            assert 0 <= top < bottom <= 160
            inside = grey[top:bottom, left:right]
            assert inside.max() - inside.min() > 25


def test_digits_hardly_cover_each_other():
    pool, _ = demo._split(0)
    for index in range(20):
        _, labels = demo.scene(pool, imgsz=160, seed=(0, 0, index))
        for one, other in combinations(labels, 2):
            assert demo._covered(one.box, other.box) <= 0.1


def test_digits_come_in_several_sizes(written: Path):
    lines = [
        line.split() for path in (written / "labels" / "train").iterdir() for line in path.read_text().splitlines()
    ]
    heights = [float(height) * 96 for *_, height in lines]

    assert {int(line[0]) for line in lines} == set(range(10))
    assert min(heights) < 14
    assert max(heights) > 34


def test_scenes_are_grey_pictures_of_the_size_asked_for(written: Path):
    with Image.open(written / "images" / "val" / "val-00000.jpg") as picture:
        assert (picture.mode, picture.size) == ("L", (96, 96))


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")

    with pytest.raises(UserError, match="not empty"):
        demo.write(tmp_path, num_train=1, num_val=1)

    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_may_be_filled(tmp_path: Path):
    assert demo.write(tmp_path, num_train=1, num_val=1, imgsz=64).is_file()


@pytest.mark.parametrize("wrong", [{"num_train": 0}, {"num_val": 0}, {"imgsz": 32}, {"imgsz": 4096}, {"seed": -1}])
def test_numbers_out_of_range_are_refused(wrong: dict[str, int], tmp_path: Path):
    with pytest.raises(UserError):
        demo.write(tmp_path / "set", **{"num_train": 1, "num_val": 1, **wrong})
