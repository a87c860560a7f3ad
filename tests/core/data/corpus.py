"""Image files as cameras, phones, scanners and editors write them, sound and damaged."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

Expected = Literal["read", "refuse", "either"]
"""``either``: a decoder may still make something of it, and then all paths must make the same."""
HEIGHT, WIDTH = 48, 64
ORIENTATION = 274


@dataclass(frozen=True)
class ImageCase:
    """A file, and what is expected of it."""

    name: str | bytes
    data: bytes
    expected: Expected = "read"
    scene: np.ndarray[Any, Any] | None = None
    """RGB, roughly as people see it; None where that is not checked."""


def scene(seed: int = 0) -> Image.Image:
    """Smooth colours, which lossy formats keep, and a bright corner, which tells all orientations apart."""
    rng = np.random.default_rng(seed)
    small = rng.integers(20, 180, (3, 4, 3), dtype=np.uint8)
    smooth = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    smooth[:14, :22] = (250, 200, 60)
    return Image.fromarray(smooth)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def opencv(suffix: str, pixels: np.ndarray[Any, Any]) -> bytes:
    done, data = cv2.imencode(suffix, pixels)
    assert done
    return data.tobytes()


KINDS = {
    "jpg": "JPEG", "png": "PNG", "bmp": "BMP", "tif": "TIFF", "webp": "WEBP", "avif": "AVIF", "jp2": "JPEG2000",
    "mpo": "MPO",
}  # fmt: skip
GREY, PALETTE = {"L", "LA", "1"}, {"P", "1"}


def colours() -> Iterator[ImageCase]:
    """Every kind in every colour mode that it can hold."""
    for ending, kind in KINDS.items():
        for mode in ("RGB", "L", "LA", "P", "RGBA", "RGBX", "CMYK", "1", "YCbCr", "LAB"):
            image = scene().convert("RGB") if mode == "LAB" else scene()
            try:
                data = encoded(image.convert(mode), kind)
            except (OSError, ValueError, KeyError):
                continue  # this kind cannot hold it
            plain = image.convert("L").convert("RGB") if mode in GREY else image
            told = None if mode in PALETTE or mode in {"CMYK", "LAB", "RGBX"} else np.asarray(plain)
            yield ImageCase(f"{ending}-{mode}.{ending}", data, "either" if mode == "LAB" else "read", told)


def orientations() -> Iterator[ImageCase]:
    """Every orientation of every kind that holds one; labels belong to the turned image."""
    for ending, kind in KINDS.items():
        for number in range(1, 9):
            exif = Image.Exif()
            exif[ORIENTATION] = number
            if kind in {"BMP", "JPEG2000"}:
                continue
            data = encoded(scene(number), kind, exif=exif)
            marked = scene(number)
            marked.getexif()[ORIENTATION] = number
            turned = ImageOps.exif_transpose(marked)
            yield ImageCase(f"turned-{number}-{ending}.{ending}", data, "read", np.asarray(turned))


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
)


def disputed() -> Iterator[ImageCase]:
    """Orientations that stand where some programs look and others do not, or in a form that some do not know."""
    image, exif = scene(70), Image.Exif()
    exif[ORIENTATION] = 6
    for ending in ("jpg", "webp"):
        yield ImageCase(f"xmp.{ending}", encoded(image, KINDS[ending], xmp=XMP), "read", np.asarray(image))
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    yield ImageCase("xmp.png", encoded(image, "PNG", pnginfo=info), "read", np.asarray(image))
    info = PngInfo()
    raw = exif.tobytes()
    info.add_text("Raw profile type exif", f"\nexif\n{len(raw):8}\n{raw.hex()}\n")
    yield ImageCase("text.png", encoded(image, "PNG", pnginfo=info), "read", np.asarray(image))
    png, chunk = encoded(image, "PNG"), b"eXIf" + raw.removeprefix(b"Exif\0\0")
    framed = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    yield ImageCase("behind.png", png[:-12] + framed + png[-12:])
    for name, kind, number in (("byte", 1, 6), ("long", 4, 6), ("none", 3, 0), ("nine", 3, 9), ("text", 2, 54)):
        entry = struct.pack("<HHII", ORIENTATION, kind, 2 if kind == 2 else 1, number)
        head = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + entry + bytes(4)
        yield ImageCase(f"exif-{name}.jpg", encoded(image, "JPEG", exif=head))


def variants() -> Iterator[ImageCase]:
    """Forms that decoders treat apart."""
    image, plain = scene(20), np.asarray(scene(20))
    for name, options in {
        "progressive": {"progressive": True}, "subsampled": {"subsampling": 2}, "full": {"subsampling": 0},
        "low": {"quality": 30}, "restarts": {"restart_marker_rows": 1}, "profile": {"icc_profile": b"\0" * 200},
    }.items():  # fmt: skip
        yield ImageCase(f"jpeg-{name}.jpg", encoded(image, "JPEG", **options), "read", plain)
    jpeg = encoded(image, "JPEG")
    for name, more in {
        "zeros": bytes(64),
        "second": jpeg,
        "text": b"MotionPhoto_Data",
        "film": b"\0\0\0\x18ftypmp42",
    }.items():
        yield ImageCase(f"behind-{name}.jpg", jpeg + more, "read", plain)
    for compression in ("raw", "tiff_lzw", "tiff_deflate", "packbits", "jpeg", "tiff_adobe_deflate", "zstd"):
        for mode in ("RGB", "L"):
            data = encoded(image.convert(mode), "TIFF", compression=compression)
            yield ImageCase(f"{compression}-{mode}.tiff", data, "read", np.asarray(image.convert(mode).convert("RGB")))
    yield ImageCase("large-offsets.tif", encoded(image, "TIFF", big_tiff=True), "read", plain)
    yield ImageCase("fax.tif", encoded(image.convert("1"), "TIFF", compression="group4"))
    yield ImageCase("pages.tif", encoded(image, "TIFF", save_all=True, append_images=[scene(21)] * 2), "read", plain)
    grey = image.convert("L")
    pages = encoded(grey, "TIFF", save_all=True, append_images=[scene(21).convert("L")] * 2)
    yield ImageCase("grey-pages.tif", pages, "read", np.asarray(grey.convert("RGB")))
    for ending, kind in {"png": "PNG", "webp": "WEBP", "avif": "AVIF"}.items():
        data = encoded(image, kind, save_all=True, append_images=[scene(22)], duration=100)
        yield ImageCase(f"animated.{ending}", data, "read", plain)
    for bits in (1, 2, 4, 8):
        yield ImageCase(f"palette-{bits}.png", encoded(image.quantize(2**bits), "PNG", bits=bits))
    yield ImageCase("clear.png", encoded(image.quantize(16), "PNG", transparency=0))
    yield ImageCase("lossless.webp", encoded(image, "WEBP", lossless=True), "read", plain)
    yield ImageCase("half-clear.webp", encoded(image.convert("RGBA"), "WEBP", lossless=True, exact=True), "read", plain)
    yield ImageCase("swapped.tif", tiff(plain, order=">"), "read", plain)
    yield ImageCase("strips.tif", tiff(plain), "read", plain)
    yield ImageCase("planar.tif", tiff(plain, apart=True), "read", plain)
    yield ImageCase(
        "negative.tif", tiff(255 - np.asarray(grey), photometric=0), "read", np.asarray(grey.convert("RGB"))
    )


def names() -> Iterator[ImageCase]:
    """Endings that do not fit or are written large, and names that tools stumble over."""
    image, plain = scene(30), np.asarray(scene(30))
    made = {ending: encoded(image, kind) for ending, kind in KINDS.items()}
    for inside, ending in [
        ("png", "jpg"), ("jpg", "png"), ("webp", "jpg"), ("tif", "jpg"), ("avif", "jpg"), ("jpg", "tif"),
        ("bmp", "png"),
        ("jp2", "jpg"), ("jpg", "webp"), ("png", "heic"), ("jpg", "avif"), ("tif", "dng"), ("jpg", "dng"),
        ("mpo", "jpg"),
        ("png", "tiff"), ("jpg", "jp2"), ("webp", "mpo"),
    ]:  # fmt: skip
        yield ImageCase(f"{inside}-as.{ending}", made[inside], "read", plain)
    for ending in ("JPG", "Jpeg", "PNG", "TIFF", "WebP", "BMP", "AVIF"):
        kind = {"jpeg": "jpg", "tiff": "tif"}.get(ending.lower(), ending.lower())
        yield ImageCase(f"large.{ending}", made[kind], "read", plain)
    for stem in (
        "a b", "é", "图像", "🐱", "a#b", "100%", "a.b.c", "-dash", "it's", '"quoted"', "[1]", "a*b",
        "tab\t", "line\nend",
        "x" * 240, "ü" * 100, "images", "back\\slash",
    ):  # fmt: skip
        yield ImageCase(f"{stem}.png", made["png"], "read", plain)
    for raw in (b"latin-\xe9.png", b"\xff\xfe.jpg", b"cut-\xe2\x82.tif"):
        ending = raw.rpartition(b".")[2].decode()
        yield ImageCase(raw, made[ending], "read", plain)


def deep(bits: int) -> Iterator[ImageCase]:
    """Samples of 16 bits of which the lowest *bits* are filled."""
    image = scene(40)
    rgb = np.asarray(image)
    grey = np.asarray(image.convert("L"))
    scale = (1 << bits) - 1

    def spread(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        found: np.ndarray[Any, Any] = np.round(pixels.astype(np.float64) / pixels.max() * scale).astype(np.uint16)
        return found

    shown = np.round(rgb / rgb.max() * 255).astype(np.uint8)
    shown_grey = np.repeat(np.round(grey / grey.max() * 255).astype(np.uint8)[..., None], 3, axis=2)
    for ending in ("png", "tif", "jp2"):
        yield ImageCase(f"deep-rgb.{ending}", opencv(f".{ending}", spread(rgb[..., ::-1])), "read", shown)
        yield ImageCase(f"deep-grey.{ending}", opencv(f".{ending}", spread(grey)), "read", shown_grey)
    alpha = np.dstack([spread(rgb[..., ::-1]), np.full((HEIGHT, WIDTH), scale, np.uint16)])
    yield ImageCase("deep-alpha.png", opencv(".png", alpha), "read", shown)
    yield ImageCase("deep-pillow.png", encoded(Image.fromarray(spread(grey)), "PNG"), "read", shown_grey)
    yield ImageCase("deep-pillow.tif", encoded(Image.fromarray(spread(grey)), "TIFF"), "read", shown_grey)
    yield ImageCase("deep-swapped.tif", tiff(spread(rgb), order=">"), "read", shown)
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    data = encoded(Image.fromarray(spread(grey)), "TIFF", exif=exif)
    yield ImageCase("deep-turned.tif", data, "read", np.rot90(shown_grey, -1))


def damaged() -> Iterator[ImageCase]:
    """Files that are cut off, emptied, replaced by text or changed in the middle."""
    for ending, kind in KINDS.items():
        data = encoded(scene(50), kind)
        for share in (0.02, 0.3, 0.6, 0.9):
            lossy = ending in {"jp2", "avif", "webp", "mpo", "tif"} and share > 0.02
            yield ImageCase(f"cut-{share}.{ending}", data[: int(len(data) * share)], "either" if lossy else "refuse")
        yield ImageCase(f"last.{ending}", data[:-2], "refuse" if ending == "jpg" else "either")
        yield ImageCase(f"empty.{ending}", b"", "refuse")
        yield ImageCase(f"text.{ending}", b"<html><title>404</title></html>" * 20, "refuse")
        yield ImageCase(f"zeros.{ending}", bytes(3000), "refuse")
        middle = bytearray(data)
        middle[len(data) // 2 : len(data) // 2 + 24] = bytes(24)
        yield ImageCase(f"hole.{ending}", bytes(middle), "either")
        yield ImageCase(f"head.{ending}", data[:4] + bytes(12) + data[16:], "refuse" if ending == "png" else "either")


def refused() -> Iterator[ImageCase]:
    """Files without a set meaning as an image of 8 bits, or of a size that cannot be trained on."""
    plain = np.asarray(scene(60))
    for name, pixels in {
        "float": plain.astype(np.float32) / 255, "double": plain.astype(np.float64), "half": plain.astype(np.float16),
        "signed": plain.astype(np.int16), "long": plain.astype(np.uint32), "signed-long": plain.astype(np.int32),
        "signed-byte": (plain // 2).astype(np.int8),
    }.items():  # fmt: skip
        yield ImageCase(f"{name}.tif", tiff(pixels), "refuse")
        yield ImageCase(f"{name}-grey.tif", tiff(pixels[..., 0]), "refuse")
    yield ImageCase("pillow-float.tif", encoded(scene().convert("F"), "TIFF"), "refuse")
    yield ImageCase("pillow-long.tif", encoded(scene().convert("I"), "TIFF"), "refuse")
    yield ImageCase("mosaic.dng", tiff(plain[..., 0].astype(np.uint16), photometric=32803), "refuse")
    yield ImageCase("linear.dng", tiff(plain.astype(np.uint16), photometric=34892), "refuse")
    yield ImageCase("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(400), "refuse")
    yield ImageCase("planar-16.tif", tiff(plain.astype(np.uint16) * 257, apart=True), "refuse")
    for planes in (5, 8):
        bands = np.repeat(plain[..., :1], planes, axis=2)
        yield ImageCase(f"bands-{planes}.tif", tiff(bands), "refuse")
    for width, height in ((9, 40), (40, 9), (1, 1), (9, 9)):
        yield ImageCase(f"small-{width}-{height}.png", encoded(scene().resize((width, height)), "PNG"), "refuse")
    yield ImageCase("smallest.png", encoded(scene().resize((10, 10)), "PNG"))
    huge = bytearray(encoded(scene(), "PNG"))
    huge[16:24] = struct.pack(">II", 200_000, 200_000)
    yield ImageCase("huge.png", bytes(huge), "refuse")
    bmp = bytearray(encoded(scene(), "BMP"))
    bmp[18:26] = struct.pack("<ii", 100_000, 100_000)
    yield ImageCase("huge.bmp", bytes(bmp), "refuse")
    yield ImageCase("huge.tif", tiff(plain, size=(300_000, 300_000)), "refuse")


GROUPS: dict[str, Callable[[], Iterator[ImageCase]]] = {
    "colours": colours,
    "orientations": orientations,
    "disputed": disputed,
    "variants": variants,
    "names": names,
    **{f"{bits} bits": lambda bits=bits: deep(bits) for bits in (8, 10, 12, 14, 16)},  # type: ignore[misc]
    "damaged": damaged,
    "refused": refused,
}


def write(cases: list[ImageCase], folder: Path) -> dict[Path, ImageCase]:
    """Write the files of a group."""
    folder.mkdir(parents=True)
    found = {}
    for case in cases:
        path = Path(os.fsdecode(os.path.join(os.fsencode(folder), os.fsencode(case.name))))  # noqa: PTH118 - bytes
        path.write_bytes(case.data)
        found[path] = case
    return found


def tiff(
    pixels: np.ndarray[Any, Any],
    *,
    order: Literal["<", ">"] = "<",
    photometric: int | None = None,
    size: tuple[int, int] | None = None,
    apart: bool = False,
) -> bytes:
    """Write a TIFF of one strip, or of one for each plane, with any kind of samples, in either order of bytes."""
    planes = 1 if pixels.ndim == 2 else pixels.shape[2]
    rows_of = np.moveaxis(pixels, 2, 0) if apart else pixels
    data = rows_of.astype(pixels.dtype.newbyteorder(order)).tobytes()
    strips = planes if apart else 1
    height, width = size or pixels.shape[:2]
    bits, form = pixels.dtype.itemsize * 8, {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    tags = [(256, 4, [width]), (257, 4, [height]), (258, 3, [bits] * planes), (259, 3, [1]),
            (262, 3, [(2 if planes == 3 else 1) if photometric is None else photometric]), (273, 4, [0] * strips),
            (277, 3, [planes]), (278, 4, [height]), (279, 4, [len(data) // strips] * strips),
            (284, 3, [2 if apart else 1]), (339, 3, [form] * planes)]  # fmt: skip
    start = 8 + 2 + 12 * len(tags) + 4
    extra, rows = b"", []
    for tag, kind, values in tags:
        packed = struct.pack(f"{order}{len(values)}{'H' if kind == 3 else 'I'}", *values)
        if len(packed) > 4:
            extra, packed = extra + packed, struct.pack(f"{order}I", start + len(extra))
        rows.append([tag, kind, len(values), packed.ljust(4, b"\0")])
    places = [start + len(extra) + 4 * strips * apart + number * len(data) // strips for number in range(strips)]
    rows[5][3] = struct.pack(f"{order}I", start + len(extra)) if apart else struct.pack(f"{order}I", places[0])
    extra += struct.pack(f"{order}{strips}I", *places) if apart else b""
    entries = b"".join(struct.pack(f"{order}HHI", *row[:3]) + row[3] for row in rows)
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return head + struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + extra + data
