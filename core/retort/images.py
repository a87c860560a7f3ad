"""Read images in one way: endings, orientation, bit depth and colour."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import itertools
import os
import shutil
import stat
import struct
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from retort.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

    Array = np.ndarray[Any, Any]

SUFFIXES = frozenset(
    ".avif .bmp .dng .heic .heif .jp2 .jpeg .jpg .mpo .png .tif .tiff .webp".split()  # noqa: SIM905 - a list of words
)
"""Endings of the image files that are used: those that the pinned Ultralytics looks for."""
UNREAD = frozenset(
    ".arw .cr2 .cr3 .exr .gif .hdr .ico .jfif .jpe .jxl .nef .orf .pbm .pcx .pfm .pgm .pnm .ppm .psd .raf .rw2 .svg "  # noqa: SIM905
    ".tga .j2k .jpf .jpx .apng .heics .raw".split()
)
"""Endings of pictures that are counted and told, but not used: Ultralytics does not look for them either."""
CONVERT = "save them as .jpg or .png"
"""What to do about them."""
SMALLEST_PX = 10
"""Ultralytics leaves smaller images out."""
MOST_PIXELS = 178_956_970
"""Pillow's own limit, above which a file may be an attack on the memory; an operator may ask for less."""
_MOST_BYTES = 1 << 30
_MOST_SCANS = 100
"""Passes of a JPEG, each of which decodes all of it again; programs write a dozen."""
_MOST_PAGES = 5000
"""Of a TIFF: Pillow takes ever longer over each further one."""
_HEAD_BYTES = 64
_OPENCV_LIMITS = {
    "OPENCV_IO_MAX_IMAGE_PIXELS": MOST_PIXELS, "OPENCV_IO_MAX_IMAGE_WIDTH": 1 << 20,
    "OPENCV_IO_MAX_IMAGE_HEIGHT": 1 << 20,
}  # fmt: skip
"""OpenCV reads them once, when it is loaded."""
RANGES = (8, 10, 12, 14, 16)
"""Bits that cameras and scanners fill of the 16 that a sample has."""
_OVERSHOOT = 1.0625
"""Lossy compression makes bright edges a little brighter than anything that was there."""
_HOT = 100_000
"""One of so many samples may be a hot pixel of the sensor."""
_TIFF = frozenset({".tif", ".tiff"})
_ORIENTATION = 274
_RAW = frozenset({32803, 34892})
"""PhotometricInterpretation of raw sensor data: a colour filter array, and linear raw."""


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Facts about an image file that was opened to its end."""

    digest: str = ""
    """SHA-256 in hex; empty where the file could not be read."""
    size_bytes: int = 0
    modified_ns: int = 0
    """When the file was changed last, before it was read."""
    changed_ns: int = 0
    """The same as the system has seen it, which nobody can set back."""
    width: int = 0
    """In pixels, turned as the camera said."""
    height: int = 0
    kind: str = ""
    """By its first bytes: ``jpeg``, ``png`` and so on."""
    frames: int = 1
    """Frames or pages; the first one is used."""
    brightest: int = 0
    """Largest sample of an image of 16 bits, but for a few hot pixels; 0 for one of 8."""
    plain: bool = False
    """Whether every program reads the same pixels from the file, so that it is used as it is."""
    problem: str = ""
    """Why it cannot be used; empty where it can."""

    @property
    def small(self) -> bool:
        """Whether it opens, and is too small to be trained on."""
        return 0 < min(self.width, self.height) < SMALLEST_PX


class _Unreadable(Exception):
    """The file is not an image that can be used."""


def can_open() -> bool:
    """Return True if this installation opens images: a client's alone need not."""
    with _LOADING:
        return all(importlib.util.find_spec(name) is not None for name in ("PIL", "cv2"))


_LOADING = threading.Lock()
"""OpenCV takes itself out of the modules while it is imported, and must not be looked for then."""


def _opencv() -> Any:
    with _LOADING:
        if "cv2" not in sys.modules:
            for name, value in _OPENCV_LIMITS.items():
                os.putenv(name, str(value))
        import cv2
    return cv2


def shown(path: Path | str) -> str:
    """Return a path as UTF-8 text, with all other bytes spelled out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def read(path: Path, bits: int = 16) -> Array:
    """Return the pixels of an image, uint8 (H, W, 3), BGR.

    It is turned as its camera said, as training sees it; transparency is dropped, and of several frames or pages the
    first is taken. Of 16 bits the upper 8 of the lowest *bits* are kept.

    Raises:
        DataError: it cannot be read; the message says why.

    """
    with _told(path):
        data = path.read_bytes()
        return _to_eight(_decode(data, kind_of(data))[0], bits)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Name the file in what goes wrong with it."""
    try:
        yield
    except ImportError as error:
        raise DataError("this installation opens no images", hint="install retort[train]") from error
    except OSError as error:
        raise DataError(f"{shown(path)} cannot be read: {error.strerror or error}") from error
    except _Unreadable as error:
        hint = "leave the data alone while a job runs on it; retort data check names files that cannot be used"
        raise DataError(f"{shown(path)} {error}", hint=hint) from error


def size_of(path: Path) -> tuple[int, int]:
    """Return width and height of an image as `read` turns it.

    Only an image that some program may turn is decoded; of others the head tells.

    Raises:
        DataError: it cannot be read.

    """
    with _told(path):
        data = path.read_bytes()
        kind = kind_of(data)
        try:
            with _open(data, kind) as image:
                size = image.size if _is_upright(image) else None
        except _DAMAGE as error:
            raise _Unreadable("is damaged: it cannot be opened") from error
        if size is None:
            height, width = _decode(data, kind)[0].shape[:2]
            return width, height
        return size


def _is_upright(image: Image.Image) -> bool:
    """Return True if no program turns an image.

    Programs that find an orientation do not agree on where it may stand (EXIF, XMP, text) and in which form, and some
    turn a TIFF while they open it.
    """
    return bool(image.getexif().get(_ORIENTATION, 1) == 1)


def picture(path: Path, bits: int = 16) -> Image.Image:
    """Return an image as `read` does, to be drawn on.

    Raises:
        DataError: it cannot be read.

    """
    from PIL import Image

    return Image.fromarray(read(path, bits)[..., ::-1].copy())


def preview(path: Path, side: int) -> tuple[tuple[int, int], Image.Image]:
    """Return the size of an image and a picture of it for looking at.

    It is decoded no larger than *side* pixels need. Deep images are stretched to their own range.

    Raises:
        DataError: it cannot be read.

    """
    from PIL import Image

    try:
        with path.open("rb") as head:
            kind = kind_of(head.read(_HEAD_BYTES))
        # By the reader of that kind alone: Pillow has others, which start programs or fetch files.
        with Image.open(path, formats=[_PILLOW[kind]]) as file:
            if file.width * file.height > MOST_PIXELS:
                raise DataError(f"{shown(path)} {_pixels(MOST_PIXELS)}")
            if _is_upright(file) and not getattr(file, "default_image", False):
                size = file.size
                file.draft("RGB", (2 * side, 2 * side))
                return size, _stretched(file).convert("RGB")
    except (OSError, SyntaxError, ValueError, KeyError, Image.DecompressionBombError):
        pass  # others may read it
    whole = picture(path)
    return whole.size, whole


def _stretched(image: Image.Image) -> Image.Image:
    """Return an image in 8 bits, from its darkest to its brightest sample."""
    import numpy as np
    from PIL import Image

    if not image.mode.startswith(("I", "F")):
        return image
    levels = np.asarray(image, dtype=np.float32)
    low, high = float(levels.min()), float(levels.max())
    return Image.fromarray(((levels - low) * (255 / max(high - low, 1e-6))).astype(np.uint8))


def examine(
    path: Path, known: Mapping[str, ImageFacts] = MappingProxyType({}), most_pixels: int = MOST_PIXELS
) -> ImageFacts:
    """Open an image to its end, and say what it is.

    Of an image that could be used, and whose digest is *known*, the answer is taken from there. One of more than
    *most_pixels* by its head is not decoded. An installation that `can_open` none looks at the first bytes only.
    """
    try:
        before = path.stat()
        if not stat.S_ISREG(before.st_mode):
            return ImageFacts(problem="is no regular file")
        if before.st_size > _MOST_BYTES:
            return ImageFacts(size_bytes=before.st_size, problem=f"is larger than {_MOST_BYTES >> 30} GiB")
        data = path.read_bytes()
    except OSError as error:
        return ImageFacts(problem=f"cannot be opened: {(error.strerror or str(error)).lower()}")
    digest = hashlib.sha256(data).hexdigest()
    found = known.get(digest)
    if found is None or found.problem:  # what could not be read may be by now: another package is installed
        found = _facts(data, most_pixels)
    if found.width * found.height > most_pixels and not found.problem:
        found = replace(found, problem=_pixels(most_pixels))
    return replace(
        found, digest=digest, size_bytes=len(data), modified_ns=before.st_mtime_ns, changed_ns=before.st_ctime_ns
    )


def plain_name(stem: str, image: Path, facts: ImageFacts) -> str:
    """Return the file name of *image* in a job's folder; copies are PNG."""
    return f"{stem}{image.suffix.lower()}" if _as_it_is(image, facts) else f"{stem}.png"


def lay(image: Path, facts: ImageFacts, target: Path, bits: int) -> None:
    """Link *image* as *target*, or write a PNG of what `read` gives.

    It is linked where every program reads the same pixels from it.
    """
    if _as_it_is(image, facts):
        _place(image, target)
        return
    cv2 = _opencv()
    done, data = cv2.imencode(".png", read(image, bits), [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert done, target
    target.write_bytes(data.tobytes())


def _place(image: Path, target: Path) -> None:
    """Link *image* as *target*, or copy it where Ultralytics would change the file itself.

    It writes anew what it takes for a broken JPEG, through the link: one with bytes behind its end. The copy ends where
    the image does, so its pixels are the same and nobody writes to either.
    """
    with image.open("rb") as file:
        first = file.read(2)
        file.seek(-2, os.SEEK_END)
        whole = first != b"\xff\xd8" or file.read() == b"\xff\xd9"
    if whole:
        target.symlink_to(image)
        return
    data = image.read_bytes()
    target.write_bytes(data[: jpeg_end(data)])
    shutil.copystat(image, target)


def bits_of(brightest: int) -> int:
    """Return the bits that samples up to *brightest* fill."""
    return next((bits for bits in RANGES if brightest < (1 << bits) * _OVERSHOOT), RANGES[-1])


def _as_it_is(image: Path, facts: ImageFacts) -> bool:
    # By the ending, not by the content, upstream reads a TIFF in another way than the rest.
    return facts.plain and (facts.kind == "tiff") == (image.suffix.lower() in _TIFF)


def kind_of(data: bytes) -> str:
    """Return the format by a file's first bytes, or an empty text."""
    for kind, first in _FIRST:
        if data.startswith(first):
            return kind
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[4:8] == b"ftyp":
        return "avif" if data[8:12] in {b"avif", b"avis"} or b"avif" in data[16:40] else "heif"
    return ""


_FIRST = (
    ("jpeg", b"\xff\xd8\xff"),
    ("png", b"\x89PNG\r\n\x1a\n"),
    ("bmp", b"BM"),
    ("tiff", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")),
    ("jp2", (b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")),
)


def _pixels(most: int) -> str:
    return f"has more than {most / 1e6:.4g} million pixels; cut it into tiles"


def _facts(data: bytes, most_pixels: int) -> ImageFacts:
    kind = kind_of(data)
    if not can_open():
        return ImageFacts(kind=kind, problem="" if kind else _UNKNOWN)
    try:
        head = _opened(data, kind, most_pixels)
        pixels, usual = _decode(data, kind)
    except _Unreadable as error:
        return ImageFacts(kind=kind, problem=str(error))
    height, width = pixels.shape[:2]
    deep = pixels.dtype.itemsize > 1
    small = min(height, width) < SMALLEST_PX
    whole = kind == "jpeg" and jpeg_end(data) is not None
    once = head.frames == 1 and not head.turned
    same = {"jpeg": whole, "png": not head.turned, "bmp": True, "webp": True, "tiff": usual and once}
    alike = head.size in {None, (width, height)}
    return ImageFacts(
        width=width,
        height=height,
        kind=kind,
        frames=1 if kind == "jpeg" else head.frames,  # what phones put behind a photograph is none of its frames
        brightest=_brightest(pixels) if deep else 0,
        plain=not deep and alike and same.get(kind, False),
        problem=f"is {width} x {height} px; sides under {SMALLEST_PX} px are not trained on" if small else "",
    )


def _brightest(pixels: Array) -> int:
    """Return the largest sample, but for as many as may be hot pixels; at least 1."""
    import numpy as np

    samples = pixels.ravel()
    hot = samples.size // _HOT
    return max(int(np.partition(samples, samples.size - 1 - hot)[samples.size - 1 - hot]), 1)


class _Head(NamedTuple):
    """What Pillow says of an image."""

    frames: int
    turned: bool
    """Whether it says that the image is to be turned or mirrored."""
    size: tuple[int, int] | None
    """Width and height, turned as Pillow's programs do, which find orientations that others do not; None: unknown."""


def _opened(data: bytes, kind: str, most_pixels: int) -> _Head:
    """Open an image whole in Pillow, which notices what is cut off."""
    if kind == "jpeg" and _num_scans(data) > _MOST_SCANS:
        raise _Unreadable(f"has more than {_MOST_SCANS} passes; save it again")
    if kind == "tiff" and _num_pages(data) > _MOST_PAGES:
        raise _Unreadable(f"has more than {_MOST_PAGES} pages; save each as an image")
    turned = _tiff_turned(data) if kind == "tiff" else False
    try:
        with _open(data, kind, most_pixels) as image:
            size = image.size
            image.load()
            if kind == "tiff":
                return _Head(int(getattr(image, "n_frames", 1)), turned, None)
            orientation = image.getexif().get(_ORIENTATION, 1)
            frames = int(getattr(image, "n_frames", 1))
            return _Head(frames, orientation != 1, size[::-1] if orientation in {5, 6, 7, 8} else size)
    except _DAMAGE as error:
        text = str(error).lower()
        if kind in {"tiff", "jp2"} and "pixel mode" in text:  # of samples that Pillow does not know, others do
            return _Head(1, turned, None)
        cut = "truncated" in text or isinstance(error, EOFError)
        raise _Unreadable("is cut off (truncated)" if cut else "is damaged: it cannot be opened") from error


_DAMAGE = (
    OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, ArithmeticError, AssertionError, AttributeError,
    NameError, RuntimeError, struct.error,
)  # fmt: skip
"""What Pillow's readers raise on files that are damaged."""
_PILLOW = {
    "jpeg": "JPEG", "png": "PNG", "bmp": "BMP", "webp": "WEBP", "tiff": "TIFF", "jp2": "JPEG2000", "avif": "AVIF",
    "heif": "HEIF",
}  # fmt: skip


def _open(data: bytes, kind: str, most_pixels: int = MOST_PIXELS) -> Image.Image:
    """Open an image with the reader of its kind alone: Ultralytics puts another function for Pillow's `open`."""
    from PIL import Image

    if not kind:
        raise _Unreadable(_UNKNOWN if data else _EMPTY)
    if kind == "heif":
        _register_heif()
    Image.init()
    if _PILLOW[kind] not in Image.OPEN:
        raise _Unreadable(f"is {_PILLOW[kind]}, which Pillow cannot read here; save it as .jpg or .png")
    try:
        image = Image.OPEN[_PILLOW[kind]][0](io.BytesIO(data), "")
    except Image.DecompressionBombError as error:  # some readers look at the size themselves
        raise _Unreadable(_pixels(most_pixels)) from error
    if image.width * image.height > most_pixels:
        raise _Unreadable(_pixels(most_pixels))
    return image


def _register_heif() -> None:
    try:
        from pi_heif import register_heif_opener
    except ImportError as error:
        raise _Unreadable(f"is HEIC, {_NO_HEIF}") from error
    register_heif_opener()


_NO_HEIF = (
    "and pi-heif is not installed: run pip install pi-heif where runs and workers are installed, or convert: "
    "magick mogrify -format jpg *.heic"
)


def _num_pages(data: bytes) -> int:
    """Return the number of a TIFF's directories, as far as they lead to each other."""
    order = "<" if data.startswith(b"II") else ">"
    large = b"+" in data[2:4]  # BigTIFF
    count, link, entry = ("Q", "Q", 20) if large else ("H", "L", 12)
    seen: set[int] = set()
    try:
        (place,) = struct.unpack_from(f"{order}{link}", data, 8 if large else 4)
        while place and place not in seen and len(seen) <= _MOST_PAGES:
            seen.add(place)
            (number,) = struct.unpack_from(f"{order}{count}", data, place)
            (place,) = struct.unpack_from(f"{order}{link}", data, place + (8 if large else 2) + entry * number)
    except struct.error:
        pass
    return len(seen)


def _tiff_turned(data: bytes) -> bool:
    """Return whether a TIFF's first page is to be turned; refuse one without a set meaning as an image of 8 bits."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    head = data[:16] if data[2:3] == b"+" or data[3:4] == b"+" else data[:8]
    try:
        tags = ImageFileDirectory_v2(head)
        file = io.BytesIO(data)
        file.seek(tags.next)
        tags.load(file)
        photometric, preview = tags.get(262), tags.get(254, 0) & 1 and 50706 in tags
        samples, bits = {*_tuple(tags.get(339, 1))}, max(_tuple(tags.get(258, 1)))
        planes, apart = tags.get(277, 1), tags.get(284, 1) == 2
    except _DAMAGE as error:
        raise _Unreadable("is damaged: its directory cannot be read") from error
    if photometric in _RAW or preview:
        raise _Unreadable("holds raw data of a camera's sensor; develop it, and save it as .jpg or .png")
    if 3 in samples:
        raise _Unreadable(_FLOAT)
    if samples - {1, 4} or bits > 16:
        raise _Unreadable(_LONG)
    if planes > 4 or (planes == 2 and apart):
        raise _Unreadable(f"has {planes} bands; save three of them, or one, as an image")
    if bits > 8 and apart and planes > 1:  # OpenCV takes such bands for pixels, without a word
        raise _Unreadable("has 16 bits and its bands one after the other (planar); save it with the bands interleaved")
    return tags.get(_ORIENTATION, 1) not in {0, 1}


def _tuple(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


_EMPTY = "is empty"
_UNKNOWN = "is not an image of a known kind"
_FLOAT = "has floating-point samples, which have no set range; save it with 8 or 16 bits"
_LONG = "has samples that are signed or longer than 16 bits; save it with 8 or 16 bits"


def _decode(data: bytes, kind: str) -> tuple[Array, bool]:
    """Return the pixels (H, W, 3), BGR, uint8 or uint16, and whether OpenCV decodes them."""
    import numpy as np

    cv2 = _opencv()
    if kind in {"", "avif", "heif"}:
        return _by_pillow(data, kind), False
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
    except cv2.error as error:
        raise _Unreadable("is damaged, or larger than can be decoded") from error
    if pixels is None and kind in {"jp2", "tiff"}:  # OpenCV knows fewer colours and compressions
        return _by_pillow(data, kind), False
    if pixels is None:
        raise _Unreadable("is damaged: it cannot be decoded")
    if pixels.dtype not in {np.dtype(np.uint8), np.dtype(np.uint16)}:
        raise _Unreadable(_FLOAT if pixels.dtype.kind == "f" else _LONG)
    return pixels, True


def _by_pillow(data: bytes, kind: str) -> Array:
    import numpy as np
    from PIL import ImageOps

    try:
        with _open(data, kind) as image:
            if kind == "tiff" and max(_tuple(getattr(image, "tag_v2", {}).get(258, 1))) > 8:
                raise _Unreadable("is damaged, or compressed in a way that is not read with 16 bits")
            rgb = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except _DAMAGE as error:
        raise _Unreadable("is damaged: it cannot be decoded") from error
    return np.ascontiguousarray(rgb[..., ::-1])


def _to_eight(pixels: Array, bits: int) -> Array:
    import numpy as np

    if pixels.dtype == np.uint8:
        return pixels
    return (np.minimum(pixels, (1 << bits) - 1) >> (bits - 8)).astype(np.uint8)


def jpeg_end(data: bytes) -> int | None:
    """Return the end of a JPEG's own image.

    None where it is cut off, or no JPEG. Cameras and phones write further images, films or padding behind it.
    """
    if not data.startswith(b"\xff\xd8"):
        return None
    for place, marker in _markers(data):
        if marker == 0xD9:
            return place + 2
    return None


def _num_scans(data: bytes) -> int:
    if data.count(b"\xff\xda") <= _MOST_SCANS:
        return 0
    inside = itertools.takewhile(lambda found: found[1] != 0xD9, _markers(data))
    return sum(marker == 0xDA for _, marker in inside)


def _markers(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield place and code of each marker; those within a segment's content do not count."""
    place = 2
    while (place := data.find(b"\xff", place)) >= 0 and place + 1 < len(data):
        marker = data[place + 1]
        if marker == 0xFF:  # filling
            place += 1
        elif marker in {0x00, 0x01} or 0xD0 <= marker <= 0xD7:  # within compressed data
            place += 2
        else:
            yield place, marker
            place += 2 if marker in {0xD8, 0xD9} else 2 + int.from_bytes(data[place + 2 : place + 4])
