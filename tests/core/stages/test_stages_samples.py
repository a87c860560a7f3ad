"""Sample pictures: boxes where they belong, in colours that can be told apart."""

from __future__ import annotations

import base64
import io
import math
from itertools import combinations
from pathlib import Path

import pytest
from PIL import Image
from retort.report import html as report_html
from retort.report.samples import COLORS, STYLES, DrawnBox, compare, draw, judged, row, truth


def opened(uri: str) -> Image.Image:
    head, _, body = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "x.png"
    Image.new("L", (200, 100), 128).save(path)
    return path


def test_labels_become_boxes_in_pixels(image: Path, tmp_path: Path):
    label = tmp_path / "x.txt"
    label.write_text("3 0.5 0.5 0.2 0.4\n\n")
    assert truth(image, label) == [
        DrawnBox((pytest.approx(80), pytest.approx(30), pytest.approx(120), pytest.approx(70)), 3)
    ]  # type: ignore[arg-type]
    assert truth(image, tmp_path / "missing.txt") == []


def test_boxes_are_drawn_at_their_place_in_their_colour(image: Path):
    picture = opened(draw(image, [DrawnBox((50, 25, 150, 75), 2)])).convert("RGB")
    assert picture.size == (400, 200)
    red, green, blue = picture.getpixel((100, 100))  # type: ignore[misc]  # on the left edge
    assert COLORS[2] == "#009E73"
    assert green > red + 40
    assert green > blue
    assert picture.getpixel((200, 100)) == pytest.approx((128, 128, 128), abs=12)


def test_boxes_that_are_inverted_or_outside_are_drawn_without_complaint(image: Path):
    marks = [
        DrawnBox((150, 75, 50, 25), 0, 0.5),
        DrawnBox((-50, -50, 500, 500), 1, 0.5),
        DrawnBox((0, 0, 0, 0), 1, 0.1),
    ]
    assert opened(draw(image, marks, ["a", "b"])).size == (400, 200)


def test_an_image_is_shown_as_its_camera_held_it(tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (200, 100)).save(tmp_path / "x.jpg", exif=exif)
    assert opened(draw(tmp_path / "x.jpg", [])).size == (200, 400)


def test_detections_are_counted_once_each_by_class_and_overlap():
    expected = [DrawnBox((0, 0, 10, 10), 0), DrawnBox((20, 20, 30, 30), 1)]
    found = [
        DrawnBox((0, 0, 10, 9), 0, 0.9),
        DrawnBox((0, 0, 10, 10), 0, 0.8),  # the same object again
        DrawnBox((20, 20, 30, 30), 0, 0.9),  # another class
        DrawnBox((20, 20, 30, 23), 1, 0.9),  # too little overlap
    ]
    assert compare(found, expected) == "1 of 2 found, 3 wrong"
    assert compare([], expected) == "0 of 2 found, 0 wrong"


def test_boxes_found_wrong_and_missed_are_told_apart():
    expected = [DrawnBox((0, 0, 10, 10), 0), DrawnBox((20, 20, 30, 30), 1)]
    found = [DrawnBox((0, 0, 10, 9), 0, 0.9), DrawnBox((20, 20, 30, 30), 0, 0.5)]

    assert [(mark.outcome, mark.box, mark.class_id) for mark in judged(found, expected)] == [
        ("found", (0, 0, 10, 9), 0), ("wrong", (20, 20, 30, 30), 0), ("missed", (20, 20, 30, 30), 1),
    ]  # fmt: skip


def lightness(color: str) -> float:
    red, green, blue = (int(color[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2


def test_found_wrong_and_missed_boxes_look_unlike_each_other_also_without_colour(image: Path):
    """Found, wrong and missed boxes differ in lightness and in the line, so that nobody needs to see hues."""
    for one, other in combinations(STYLES.values(), 2):
        light, dark = sorted((lightness(one.color), lightness(other.color)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) > 1.5
        assert (one.stroke, one.gap) != (other.stroke, other.gap)
    shares = {}
    for outcome, style in STYLES.items():
        picture = opened(draw(image, [DrawnBox((50, 25, 150, 75), 2, None, outcome)]))
        wanted = tuple(int(style.color[at : at + 2], 16) for at in (1, 3, 5))
        side = [picture.getpixel((x, 150)) for x in range(110, 290)]
        near = [pixel for pixel in side if math.dist(pixel, wanted) < 110]  # type: ignore[arg-type]
        shares[outcome] = len(near) / len(side)
    assert shares["found"] == 1
    assert shares["found"] > shares["wrong"] > shares["missed"] > 0.1


def test_files_under_samples_are_named_as_text_whatever_their_name(tmp_path: Path):
    """A file's name stands above its pictures, and no name is markup."""
    path = tmp_path / "<b>&\udcff.png"
    Image.new("L", (200, 100), 128).save(path)

    shown = row(path, [DrawnBox((50, 25, 150, 75), 0)], {"student": []}, ["cell"], None)
    template = report_html._environment().from_string("{{ file }}")

    assert shown.file == "<b>&\\xff.png"
    assert template.render(file=shown.file) == "&lt;b&gt;&amp;\\xff.png"
    assert [column.caption for column in shown.columns] == ["1 boxes", "0 of 1 found, 0 wrong"]
