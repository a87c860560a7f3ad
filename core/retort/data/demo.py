"""Generate demo data from scikit-learn's bundled handwritten digits."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

NAMES = tuple("0123456789")
"""Class names, in order of their ids."""
VAL_SHARE = 0.25
"""Share of each class's scans that only validation scenes may use."""
DATA_YAML = """\
# Scenes of handwritten digits (scikit-learn's copy of the UCI scans), seed {seed}. Paths are relative to this file.
train: images/train
val: images/val
names:
{names}
"""

Scan = Any
"""One scan: uint8, 8x8, ink from 0 to 16."""


@dataclass(frozen=True, slots=True)
class DigitLabel:
    """A digit in a scene: class, and box in pixels.

    The box is left, top, right, bottom; the last two exclusive.
    """

    class_id: int
    box: tuple[int, int, int, int]

    def line(self, imgsz: int) -> str:
        """Format the digit as a line of a YOLO label file.

        It has class, centre, width and height as shares of the side *imgsz*.
        """
        left, top, right, bottom = self.box
        shares = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
        return " ".join([str(self.class_id), *(f"{share / imgsz:.6f}" for share in shares)])


def write(folder: Path, *, num_train: int = 320, num_val: int = 96, imgsz: int = 160, seed: int = 0) -> Path:
    """Write a demo dataset in YOLO layout; return its ``data.yaml``.

    It is byte for byte the same for the same arguments. Train and validation scenes share no scan. A scene depends on
    its split, number, size and seed only, so a larger set begins with the smaller one.

    Args:
        folder: where to; it must not exist yet, or be empty.
        num_train: training scenes, at least 1.
        num_val: validation scenes, at least 1.
        imgsz: side of the square scenes in pixels, from 64 to 1024.
        seed: any integer from 0.

    Raises:
        UserError: the folder holds something, a number is out of range, or scikit-learn is missing.

    """
    _check(folder, num_train, num_val, imgsz, seed)
    pools = dict(zip(("train", "val"), _split(seed), strict=True))
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    for number, (split, count) in enumerate((("train", num_train), ("val", num_val))):
        images, labels = part / "images" / split, part / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for index in range(count):
            picture, found = scene(pools[split], imgsz=imgsz, seed=(seed, number, index))
            picture.save(images / f"{split}-{index:05d}.jpg", quality=88)
            (labels / f"{split}-{index:05d}.txt").write_text("".join(f"{label.line(imgsz)}\n" for label in found))
    names = "\n".join(f'  {class_id}: "{name}"' for class_id, name in enumerate(NAMES))
    (part / "data.yaml").write_text(DATA_YAML.format(seed=seed, names=names))
    if folder.exists():
        folder.rmdir()
    part.rename(folder)
    return folder / "data.yaml"


def _check(folder: Path, num_train: int, num_val: int, imgsz: int, seed: int) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty", hint="name a new folder, or remove this one", code="folder_not_empty")
    if min(num_train, num_val) < 1:
        raise UserError("a dataset needs at least one training and one validation scene")
    if not 64 <= imgsz <= 1024:
        raise UserError(f"imgsz must lie between 64 and 1024, not {imgsz}")
    if seed < 0:
        raise UserError(f"seed must be 0 or more, not {seed}")


def _split(seed: int) -> tuple[list[list[Scan]], list[list[Scan]]]:
    """Deal the scans of each class into a training and a validation pool."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError("the demo data needs scikit-learn", hint='pip install "retort[demo]"') from error
    import numpy as np

    bundle: Any = load_digits()
    rng = np.random.default_rng([seed, 1797])
    train: list[list[Scan]] = []
    val: list[list[Scan]] = []
    for class_id in range(len(NAMES)):
        scans = bundle.images[bundle.target == class_id].astype("uint8")
        scans = scans[rng.permutation(len(scans))]
        cut = round(len(scans) * VAL_SHARE)
        train.append(list(scans[cut:]))
        val.append(list(scans[:cut]))
    return train, val


def scene(pool: list[list[Scan]], *, imgsz: int, seed: tuple[int, ...]) -> tuple[Image.Image, list[DigitLabel]]:
    """Compose one scene from the scans of *pool* (by class).

    Returned are the grey picture and its labels.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    paper = int(rng.integers(50, 206))
    canvas = _background(rng, imgsz, paper)
    canvas = _clutter(rng, canvas, paper)
    for _ in range(int(rng.integers(1, 5))):
        fragment = _fragment(rng, pool[rng.integers(len(pool))])
        height, width = fragment.shape
        left, top = (int(rng.integers(0, max(1, imgsz - side))) for side in (width, height))
        _stamp(canvas, fragment, left, top, _ink(rng, paper))
    labels: list[DigitLabel] = []
    for class_id, ink, left, top in _placements(rng, pool, imgsz):
        height, width = ink.shape
        box = (left, top, left + width, top + height)
        if all(_covered(box, other.box) <= 0.1 for other in labels):
            _stamp(canvas, ink, left, top, _ink(rng, paper))
            labels.append(DigitLabel(class_id, box))
    noise = rng.integers(-8, 9, canvas.shape) * int(rng.integers(0, 3)) / 2
    return _picture(canvas + noise), labels


def _placements(
    rng: np.random.Generator, pool: list[list[Scan]], imgsz: int
) -> Iterator[tuple[int, NDArray[np.float64], int, int]]:
    """Draw digits one after the other: class, ink (0 to 1, cropped to what is written) and corner."""
    for _ in range(int(rng.integers(4, 11))):
        class_id = int(rng.integers(len(pool)))
        scan = pool[class_id][rng.integers(len(pool[class_id]))]
        ink = _written(rng, scan, max(10, int(rng.uniform(0.1, 0.42) * imgsz)))
        height, width = ink.shape
        if width < imgsz and height < imgsz:
            yield class_id, ink, int(rng.integers(0, imgsz - width)), int(rng.integers(0, imgsz - height))


def _written(rng: np.random.Generator, scan: Scan, size: int) -> NDArray[np.float64]:
    """Enlarge a scan to about *size* pixels of height, lean it a little, and crop it to its ink."""
    import numpy as np
    from PIL import Image

    width = max(8, round(size * rng.uniform(0.8, 1.1)))
    picture = Image.fromarray(np.pad(scan * 15, 1)).resize((width, round(size * 1.25)), Image.Resampling.BICUBIC)
    picture = picture.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC, expand=True)
    ink = np.clip(np.asarray(picture, dtype=np.float64) / 200, 0, 1)
    rows, columns = np.flatnonzero((ink > 0.25).any(1)), np.flatnonzero((ink > 0.25).any(0))
    return np.asarray(ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1])


def _fragment(rng: np.random.Generator, scans: list[Scan]) -> NDArray[np.float64]:
    """Cut a corner of a digit: it looks like writing, and is no digit."""
    ink = _written(rng, scans[rng.integers(len(scans))], int(rng.integers(14, 44)))
    height, width = (max(3, round(side * rng.uniform(0.3, 0.5))) for side in ink.shape)
    top, left = rng.integers(0, 2) * (ink.shape[0] - height), rng.integers(0, 2) * (ink.shape[1] - width)
    return ink[top : top + height, left : left + width]


def _ink(rng: np.random.Generator, paper: int) -> float:
    """Choose a grey that stands out from the *paper*: darker or lighter, faint or strong."""
    contrast = int(rng.integers(60, 160))
    darker = rng.random() < paper / 255
    return float(min(255, max(0, paper - contrast if darker else paper + contrast)))


def _background(rng: np.random.Generator, imgsz: int, paper: int) -> NDArray[np.float64]:
    """Grey paper with uneven light and grain."""
    import numpy as np
    from PIL import Image

    canvas = np.full((imgsz, imgsz), float(paper))
    for cells, strength in ((3, 25), (imgsz // 10, 8)):
        grid = rng.integers(0, 256, (cells, cells), dtype=np.uint8)
        texture = Image.fromarray(grid).resize((imgsz, imgsz), Image.Resampling.BICUBIC)
        canvas += (np.asarray(texture, dtype=np.float64) / 127.5 - 1) * strength
    return canvas


def _clutter(rng: np.random.Generator, canvas: NDArray[np.float64], paper: int) -> NDArray[np.float64]:
    """Draw strokes and blobs that are no digits."""
    import numpy as np
    from PIL import ImageDraw, ImageFilter

    picture = _picture(canvas)
    draw = ImageDraw.Draw(picture)
    side = len(canvas)
    for _ in range(int(rng.integers(0, 4))):
        points = [(int(x), int(y)) for x, y in rng.integers(0, side, (int(rng.integers(2, 4)), 2))]
        draw.line(points, fill=int(_ink(rng, paper)), width=int(rng.integers(1, 4)), joint="curve")
    for _ in range(int(rng.integers(0, 4))):
        x, y = rng.integers(0, side, 2).tolist()
        width, height = rng.integers(side // 20, side // 5, 2).tolist()
        fill = int(_ink(rng, paper)) if rng.random() < 0.5 else None
        draw.ellipse((x, y, x + width, y + height), fill=fill, outline=int(_ink(rng, paper)))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(0.6)), dtype=np.float64)


def _stamp(canvas: NDArray[np.float64], ink: NDArray[np.float64], left: int, top: int, grey: float) -> None:
    """Write *ink* (0 to 1) onto the canvas in place, its corner at (left, top)."""
    height, width = ink.shape
    area = canvas[top : top + height, left : left + width]
    area += (grey - area) * ink[: area.shape[0], : area.shape[1]]


def _covered(one: tuple[int, int, int, int], other: tuple[int, int, int, int]) -> float:
    """Return the share of the smaller box that the other one covers."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    return max(0, width) * max(0, height) / min(areas)


def _picture(canvas: NDArray[np.float64]) -> Image.Image:
    import numpy as np
    from PIL import Image

    return Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
