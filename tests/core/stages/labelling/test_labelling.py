"""What the stages around pseudo-labels do, piece by piece: looks, samples, figures, doubts about labels."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from core.review.test_review_decisions import LEFT, RIGHT, box, picture, scored
from PIL import Image
from retort.labelling import duplicates, quality
from retort.labelling.duplicates import ImageHashes
from retort.review.models import Picture
from retort.spec import PseudoLabelsSpec


def spec(**wanted: Any) -> PseudoLabelsSpec:
    return PseudoLabelsSpec(path="x", **wanted)


def nothing() -> None:
    pass


def scene(path: Path, seed: int) -> Path:
    """Smooth blobs, as photographs have."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 255, (9, 12, 3), dtype=np.uint8))
    small.resize((320, 240), Image.Resampling.BICUBIC).save(path)
    return path


def altered(source: Path, target: Path, how: str) -> Path:
    with Image.open(source) as image:
        if how == "compressed":
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=40)
            target.write_bytes(buffer.getvalue())
        elif how == "halved":
            image.resize((160, 120)).save(target)
        else:
            image.point(lambda value: min(255, int(value * 1.1) + 8)).save(target)
    return target


def looks(*images: Path) -> ImageHashes:
    return duplicates.hash_images(images, nothing)


@pytest.mark.parametrize("how", ["compressed", "halved", "brightened"])
def test_a_copy_is_known_however_it_was_altered_and_other_images_are_not(tmp_path: Path, how: str):
    originals = [scene(tmp_path / f"{seed}.png", seed) for seed in range(12)]
    copies = [altered(path, tmp_path / f"copy-{path.stem}.jpg", how) for path in originals[:6]]
    assert duplicates.nearest(looks(*copies), looks(*originals), nothing) == {index: index for index in range(6)}
    assert duplicates.duplicates_of(looks(*originals), range(12), nothing) == {}


def test_of_images_that_look_alike_the_first_is_kept(tmp_path: Path):
    first, other = scene(tmp_path / "a.png", 1), scene(tmp_path / "b.png", 2)
    again, third = (altered(first, tmp_path / f"{name}.jpg", "halved") for name in ("c", "d"))
    assert duplicates.duplicates_of(looks(first, other, again, third), range(4), nothing) == {2: 0, 3: 0}
    assert duplicates.duplicates_of(looks(first, other, again, third), [1, 2, 3], nothing) == {3: 2}


def test_even_surfaces_are_alike_only_where_nothing_is_on_them(tmp_path: Path):
    paths = []
    for name, mark in (("plain", None), ("left", (0, 0, 40, 40)), ("right", (55, 20, 90, 70))):
        image = Image.new("L", (100, 100), 200)
        if mark:
            image.paste(0, mark)
        paths.append(tmp_path / f"{name}.png")
        image.save(paths[-1])
    assert duplicates.duplicates_of(looks(*paths), range(3), nothing) == {}
    Image.new("L", (50, 50), 90).save(tmp_path / "grey.png")
    assert duplicates.duplicates_of(looks(paths[0], tmp_path / "grey.png"), range(2), nothing) == {1: 0}


def test_what_cannot_be_opened_is_told_apart_and_sizes_are_as_a_camera_was_held(tmp_path: Path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(scene(tmp_path / "whole.png", 1).read_bytes()[:500])
    turned = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(turned, exif=exif)
    found = looks(broken, turned)
    assert (found.unreadable, found.images, found.sizes) == ((broken,), (turned,), ((20, 40),))
    assert duplicates.nearest(looks(broken), looks(turned), nothing) == {}


def crowd() -> list[Picture]:
    """A hundred pictures: one in ten has a rare class, and scores go from 0.5 to 1."""
    found = []
    for number in range(100):
        name = "WBC" if number % 10 == 0 else "RBC"
        boxes = (scored(box(name), 0.5 + number / 200),)
        found.append(picture(image=f"i{number:03d}").model_copy(update={"kept": boxes}))
    return found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_sample_has_classes_and_scores_in_the_shares_of_the_whole(seed: int):
    drawn = quality.select_for_review(crowd(), spec(review="sample", sample=20), seed)
    assert len(drawn) == len({one.image for one in drawn}) == 20
    assert Counter(one.kept[0].name for one in drawn) == {"RBC": 18, "WBC": 2}
    low = sum(one.kept[0].score < 0.75 for one in drawn)
    assert 9 <= low <= 11


def test_a_sample_is_the_same_for_the_same_seed_and_moves_with_another():
    samples = [
        [one.image for one in quality.select_for_review(crowd(), spec(review="sample", sample=7), seed)]
        for seed in (0, 0, 5)
    ]
    assert samples[0] == samples[1] != samples[2]
    assert samples[0] == sorted(samples[0])


def test_every_picture_has_the_same_chance():
    counted = Counter(
        one.image
        for seed in range(400)
        for one in quality.select_for_review(crowd(), spec(review="sample", sample=10), seed)
    )
    assert len(counted) == 100
    assert 15 <= min(counted.values()) <= max(counted.values()) <= 70  # 40 each, on average


def test_all_are_those_to_train_on_and_those_without_labels_and_a_sample_is_of_the_former():
    pictures = [picture(LEFT, image="used"), picture(image="empty", left_out="empty")]
    pictures += [picture(LEFT, image=reason, left_out=reason) for reason in ("validation", "training", "duplicate")]
    assert [one.image for one in quality.select_for_review(pictures, spec(review="all"), 0)] == ["empty", "used"]
    assert [one.image for one in quality.select_for_review(pictures, spec(review="sample"), 0)] == ["used"]
    assert quality.select_for_review(pictures[1:], spec(review="sample"), 0) == ()


def test_labels_doubts_and_what_means_nothing_are_parted_by_class():
    boxes = tuple(
        scored(box(name), score) for name, score in (("RBC", 0.7), ("WBC", 0.79), ("WBC", 0.8), ("RBC", 0.29))
    )
    kept, doubtful = quality.split_by_threshold(boxes, spec(per_class={"RBC": 0.7}))
    assert [(one.name, one.score) for one in kept] == [("RBC", 0.7), ("WBC", 0.8)]
    assert [(one.name, one.score) for one in doubtful] == [("WBC", 0.79)]
    assert quality.split_by_threshold(boxes, spec(ignore_from=None))[1] == ()


def test_figures_count_what_is_trained_on():
    pictures = [
        picture(LEFT, RIGHT, image="a", doubtful=(box("WBC"),)),
        picture(LEFT, image="b", left_out="validation"),
        picture(image="c", left_out="empty"),
    ]
    found = quality.figures(pictures, spec(), ("RBC", "WBC"), 1)
    assert (found.num_images, found.num_used, found.num_boxes, found.num_doubtful) == (4, 1, 2, 1)
    assert found.left_out.model_dump() == {"validation": 1, "training": 0, "duplicate": 0, "empty": 1, "unreadable": 1}
    assert found.per_class["RBC"].num_images == 1
    assert (found.per_class["RBC"].histogram[18], sum(found.histogram)) == (2, 3)


def test_agreement_is_with_the_labels_that_are_there(tmp_path: Path):
    (tmp_path / "a.txt").write_text("0 0.2 0.25 0.4 0.5\n1 0.5 0.5 0.2 0.2\n")
    (tmp_path / "empty.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    (tmp_path / "copy.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    pictures = [
        picture(LEFT, RIGHT, image="a"),
        picture(image="empty", left_out="empty"),
        picture(LEFT, image="copy", left_out="duplicate"),
        picture(LEFT, image="unlabelled"),
    ]
    found = quality.agreement(pictures, tmp_path, ("RBC", "WBC"))
    assert found is not None
    assert found.num_images == 2
    assert (found.precision.right, found.precision.total) == (1, 2)
    assert (found.recall.right, found.recall.total) == (1, 3)
    assert quality.agreement(pictures[3:], tmp_path, ("RBC", "WBC")) is None


def test_labels_that_reach_out_of_the_image_are_cut_and_dots_are_dropped(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("0 0.1 0.5 0.4 0.2\n0 0.5 0.5 0.0000001 0.2\n")
    (found,) = quality.truth(path, ("RBC",))
    assert (found.x1, found.x2) == (0.0, 0.3)
    assert quality.truth(tmp_path / "none.txt", ("RBC",)) == ()


def test_labels_that_are_missing_doubtful_or_there_twice_are_told_apart():
    sure, unsure = scored(LEFT, 0.9), scored(box(y1=0.6, y2=0.9), 0.5)
    swapped = scored(box("WBC", x1=0.6, x2=1.0), 0.95)
    labels = [box(y1=0.61, y2=0.9), RIGHT, box(x1=0.601, x2=1.0), box("WBC", y1=0.9, y2=1.0)]
    found = quality.suspect("a", (swapped, sure, unsure), labels, spec())
    assert found.missing == (sure,)
    assert [(one.name, one.instead) for one in found.doubtful] == [("RBC", "WBC"), ("RBC", "WBC"), ("WBC", None)]
    assert found.duplicate == (labels[2],)


def test_labels_that_the_teacher_sees_too_raise_no_doubt():
    found = quality.suspect("a", (scored(LEFT, 0.9), scored(RIGHT, 0.4)), [LEFT, RIGHT], spec())
    assert (found.missing, found.doubtful, found.duplicate) == ((), (), ())
