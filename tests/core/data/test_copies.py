"""Altered copies of an image are found, and other pictures of a fixed camera or of plain ground are none."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from retort.data import audit
from retort.data.copies import ImageViews, find_copies, find_duplicates, view_images

NUMBER = 6
SIZE = (320, 240)


def nothing() -> None:
    """Nobody waits for a sign of life."""


def scenery(rng: np.random.Generator) -> Image.Image:
    """Draw something like a landscape: large and small structure, with grain."""
    width, height = SIZE
    total = np.zeros((height, width, 3))
    for cells, weight in ((3, 70), (8, 40), (20, 22)):
        coarse = Image.fromarray(rng.integers(0, 255, (cells, cells + 1, 3), dtype=np.uint8))
        total += (np.asarray(coarse.resize(SIZE, Image.Resampling.BICUBIC), dtype=float) - 128) / 128 * weight
    return Image.fromarray(np.clip(total + 128 + rng.normal(0, 3, total.shape), 0, 255).astype(np.uint8))


def frames(ground: Image.Image, number: int, rng: np.random.Generator) -> list[Image.Image]:
    """Return what a fixed camera sees: the same ground, with other things on it at other places."""
    found = []
    for _ in range(number):
        frame = np.asarray(ground, dtype=float).copy()
        for _ in range(rng.integers(1, 4)):
            wide, high = rng.integers(14, 40, 2)
            x, y = rng.integers(0, SIZE[0] - wide), rng.integers(0, SIZE[1] - high)
            frame[y : y + high, x : x + wide] = rng.integers(0, 255, 3)
        found.append(Image.fromarray(np.clip(frame + rng.normal(0, 2, frame.shape), 0, 255).astype(np.uint8)))
    return found


def views(folder: Path, images: list[Image.Image]) -> ImageViews:
    folder.mkdir(parents=True)
    paths = [folder / f"{number:03d}.jpg" for number in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        image.convert("RGB").save(path, quality=88)
    return view_images(paths, nothing)


def encoded(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=40)
    return Image.open(io.BytesIO(buffer.getvalue()))


def boxed(image: Image.Image) -> Image.Image:
    canvas = Image.new("RGB", (image.width, image.width), (114, 114, 114))
    canvas.paste(image, (0, (image.width - image.height) // 2))
    return canvas


def cropped(image: Image.Image) -> Image.Image:
    return image.crop((40, 20, 40 + int(0.8 * image.width), 20 + int(0.8 * image.height)))


ALTERED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "encoded again": encoded,
    "halved": lambda image: image.resize((image.width // 2, image.height // 2)),
    "squeezed": lambda image: image.resize((200, 200)),
    "brightened": lambda image: ImageEnhance.Brightness(image).enhance(1.25),
    "darkened": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "turned by a quarter": lambda image: image.rotate(90, expand=True),
    "turned and mirrored": lambda image: ImageOps.mirror(image.rotate(270, expand=True)),
    "letterboxed": boxed,
    "cropped": cropped,
    "cropped, mirrored and encoded": lambda image: encoded(ImageOps.mirror(cropped(image))),
}


@pytest.fixture(scope="module")
def landscapes() -> list[Image.Image]:
    rng = np.random.default_rng(1)
    return [scenery(rng) for _ in range(2 * NUMBER)]


@pytest.mark.parametrize("how", ALTERED)
def test_a_copy_is_found_however_it_was_altered(tmp_path: Path, landscapes: list[Image.Image], how: str):
    originals = views(tmp_path / "val", landscapes[:NUMBER])
    altered = [ALTERED[how](image) for image in landscapes[:NUMBER]]

    found = find_copies(views(tmp_path / "new", altered), originals, nothing)

    assert found == {number: number for number in range(NUMBER)}


def test_an_image_whose_crop_or_padded_copy_is_measured_on_is_found_too(tmp_path: Path, landscapes: list[Image.Image]):
    for how in ("cropped", "letterboxed"):
        measured = views(tmp_path / how, [ALTERED[how](image) for image in landscapes[:3]])
        whole = views(tmp_path / f"{how} whole", landscapes[:5])
        assert find_copies(whole, measured, nothing) == {0: 0, 1: 1, 2: 2}


def test_other_images_are_no_copies(tmp_path: Path, landscapes: list[Image.Image]):
    originals, others = views(tmp_path / "val", landscapes[:NUMBER]), views(tmp_path / "new", landscapes[NUMBER:])

    assert find_copies(others, originals, nothing) == {}
    assert find_duplicates(others, range(NUMBER), nothing) == {}


@pytest.mark.parametrize("ground", ["road", "plain", "shaded"])
def test_thirty_frames_of_a_fixed_camera_are_thirty_images(tmp_path: Path, ground: str):
    """A fixed camera and plain ground make most of two frames the same: what differs decides."""
    rng = np.random.default_rng(2)
    shade = np.linspace(150, 210, SIZE[0])[None, :, None].repeat(SIZE[1], 0).repeat(3, 2)
    grounds = {"plain": Image.new("RGB", SIZE, (170, 170, 170)), "shaded": Image.fromarray(shade.astype(np.uint8))}
    seen = frames(grounds.get(ground) or scenery(rng), 34, rng)

    originals, others = views(tmp_path / "val", seen[:4]), views(tmp_path / "new", seen[4:])

    assert find_copies(others, originals, nothing) == {}
    assert find_duplicates(others, range(30), nothing) == {}
    copies = views(tmp_path / "copies", [encoded(ImageOps.mirror(frame)) for frame in seen[:4]])
    assert find_copies(copies, originals, nothing) == {number: number for number in range(4)}


def test_images_with_nothing_on_them_are_alike_and_broken_ones_are_told_apart(tmp_path: Path):
    plain = views(tmp_path / "plain", [Image.new("RGB", (40, 30), (level,) * 3) for level in (90, 200)])
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no more")
    deep = tmp_path / "deep.png"
    Image.fromarray((np.arange(64 * 64).reshape(64, 64) % 4096).astype(np.uint16)).save(deep)

    found = view_images([tmp_path / "broken.jpg", deep], nothing)

    assert find_copies(plain, plain, nothing) == {0: 0, 1: 0}
    assert find_duplicates(plain, (0, 1), nothing) == {1: 0}
    assert (found.unreadable, found.images) == ((tmp_path / "broken.jpg",), (deep,))
    assert found.looks[0].grey.std() > 10, "twelve bits in a file of sixteen are no plain image"
    assert find_copies(found, plain, nothing) == {}


def test_the_check_names_altered_copies_and_what_roboflow_made_from_one_original(
    tmp_path: Path, landscapes: list[Image.Image]
):
    names = {
        "images/train/a.jpg": landscapes[0], "images/train/b_jpg.rf.0123456789ab.jpg": landscapes[1],
        "images/val/mirrored.jpg": ImageOps.mirror(landscapes[0]),
        "images/val/b_jpg.rf.ba9876543210.jpg": landscapes[2], "images/val/other.jpg": landscapes[3],
    }  # fmt: skip
    for name, image in names.items():
        label = tmp_path / name.replace("images", "labels").replace(".jpg", ".txt")
        if "rf" in name:
            label = label.with_name(Path(name).stem + ".txt")
        for path in (tmp_path / name, label):
            path.parent.mkdir(parents=True, exist_ok=True)
        image.save(tmp_path / name)
        label.write_text("0 0.5 0.5 0.2 0.2\n")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [thing]\n")

    found = {finding.code: finding.places for finding in audit.check(str(tmp_path), [tmp_path]).findings}

    assert found["copied_image"] == ("images/val/mirrored.jpg ~ images/train/a.jpg",)
    assert found["same_original"] == ("images/val/b_jpg.rf.ba9876543210.jpg ~ images/train/b_jpg.rf.0123456789ab.jpg",)
