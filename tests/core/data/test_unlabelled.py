"""Folders of unlabelled images are looked at as strictly as datasets, and labels there are never read."""

from __future__ import annotations

from pathlib import Path

import pytest
from core.data.test_datasets import add
from retort.data import unlabelled
from retort.errors import DataError
from retort.files import sha256_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        add(tmp_path / "more", f"{number}/x.png", boxes=None, color=number)
    return tmp_path / "more"


def test_images_are_found_at_every_depth_and_laid_out_apart_with_empty_labels(folder: Path, tmp_path: Path):
    (folder / "0/x.txt").write_text("0 0.5 0.5 2 2 nonsense\n")
    found = unlabelled.locate_unlabelled("more", (tmp_path,))
    assert [image.relative_to(folder).as_posix() for image in found.images] == ["0/x.png", "1/x.png", "2/x.png"]
    assert found.notes == ("unlabelled images: 1 text files beside them are not read",)
    images = unlabelled.overlay_unlabelled(found, tmp_path / "laid")
    assert [link.resolve() for link in sorted(images.iterdir())] == list(found.images)
    labels = sorted((tmp_path / "laid/labels/unlabelled").iterdir())
    assert [label.stem for label in labels] == [image.stem for image in sorted(images.iterdir())]
    assert all(label.read_text() == "" for label in labels)


def test_the_digest_is_of_names_and_content_and_not_of_the_place(folder: Path, tmp_path: Path):
    first = unlabelled.locate_unlabelled(str(folder), (tmp_path,)).digest
    moved = folder.rename(tmp_path / "moved")
    assert unlabelled.locate_unlabelled(str(moved), (tmp_path,)).digest == first
    (moved / "0/x.png").rename(moved / "0/y.png")
    renamed = unlabelled.locate_unlabelled(str(moved), (tmp_path,)).digest
    add(moved, "1/x.png", boxes=None, color=99)
    assert len({first, renamed, unlabelled.locate_unlabelled(str(moved), (tmp_path,)).digest}) == 3


def test_images_that_are_validation_images_too_are_left_out_and_counted(folder: Path, tmp_path: Path):
    same = sha256_of(add(tmp_path / "set", "images/val/0.png", color=1))
    found = unlabelled.locate_unlabelled(str(folder), (tmp_path,), held_out={same})
    assert found.num_shared == 1
    assert [image.relative_to(folder).as_posix() for image in found.images] == ["0/x.png", "2/x.png"]
    assert [seen.path for seen in found.records] == [str(image) for image in found.images]
    everything = {seen.digest for seen in found.records} | {same}
    with pytest.raises(DataError, match="every image in"):
        unlabelled.locate_unlabelled(str(folder), (tmp_path,), held_out=everything)


def refusal(path: Path, *data_dirs: Path) -> DataError:
    with pytest.raises(DataError) as caught:
        unlabelled.locate_unlabelled(str(path), data_dirs)
    return caught.value


def test_what_is_missing_or_outside_is_refused(folder: Path, tmp_path: Path):
    (tmp_path / "data").mkdir()
    for path in (tmp_path / "nowhere", folder / "0/x.png", folder):
        assert "no folder of unlabelled images" in refusal(path, tmp_path / "data").message
    assert str(tmp_path / "data") in str(refusal(folder, tmp_path / "data").hint)


def test_a_folder_without_images_is_refused(folder: Path, tmp_path: Path):
    (folder / "empty").mkdir()
    assert "no unlabelled images" in refusal(folder / "empty", tmp_path).message


def test_a_file_that_only_ends_like_an_image_is_left_out_and_told(folder: Path, tmp_path: Path):
    before = unlabelled.locate_unlabelled(str(folder), (tmp_path,)).images
    (folder / "0/broken.jpg").write_bytes(b"<html>")
    found = unlabelled.locate_unlabelled(str(folder), (tmp_path,))
    assert (found.images, found.use.num_unused) == (before, 1)
    assert "1 could not be read: 0/broken.jpg is not an image of a known kind" in found.use.sentence("unlabelled")


def test_a_link_out_of_the_folder_is_refused(folder: Path, tmp_path: Path):
    outside = add(tmp_path, "outside.png", boxes=None)
    (folder / "link.png").symlink_to(outside)
    assert "leads out of the folder" in refusal(folder, tmp_path).message
