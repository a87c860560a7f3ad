"""Make images, labels, links and other files of data sets that mislead or blow up their readers."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from malicious.cases import add
from malicious.sets import write_set
from PIL import Image

SIDE = 50_000


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">L", len(content)) + kind + content + struct.pack(">L", zlib.crc32(kind + content))


def png(width: int, height: int, *more: bytes) -> bytes:
    """A PNG of one bit whose head says so, with the rows of a picture of one colour."""
    row = b"\0" * (1 + (width + 7) // 8)
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(row * 1000) for _ in range(height // 1000)) + packer.flush()
    return head_of_png(width, height) + b"".join(more) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def head_of_png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2L5B", width, height, 1, 0, 0, 0, 0))


def saved(form: str, size: tuple[int, int] = (16, 16), **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (9, 9, 9)).save(buffer, form, **options)
    return buffer.getvalue()


def large_jpeg() -> bytes:
    """A JPEG whose head says 50,000 pixels a side."""
    data = saved("JPEG")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">2H", SIDE, SIDE) + data[at + 4 :]


def large_bmp(width: int = SIDE) -> bytes:
    data = saved("BMP")
    return data[:18] + struct.pack("<2l", width, SIDE) + data[26:]


def large_tiff() -> bytes:
    """A TIFF of one strip, packed, whose head says 50,000 pixels a side."""
    content = zlib.compress(b"\0" * 1000)
    tags = ((256, 4, SIDE), (257, 4, SIDE), (258, 3, 8), (259, 3, 8), (262, 3, 1), (273, 4, 8), (277, 3, 1),
            (278, 4, SIDE), (279, 4, len(content)))  # fmt: skip
    listed = b"".join(struct.pack("<2H2L", tag, kind, 1, value) for tag, kind, value in tags)
    body = content + b"\0" * (len(content) % 2)
    return b"II*\0" + struct.pack("<L", 8 + len(body)) + body + struct.pack("<H", len(tags)) + listed + b"\0" * 4


def large_webp() -> bytes:
    """A WebP whose canvas is as large as its form allows."""
    canvas = chunk_of_riff(b"VP8X", b"\x02\0\0\0" + (16383).to_bytes(3, "little") * 2)
    inner = saved("WEBP", lossless=True)[12:]
    body = b"WEBP" + canvas + inner
    return b"RIFF" + struct.pack("<L", len(body)) + body


def chunk_of_riff(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("<L", len(content)) + content


def large_avif() -> bytes:
    data = saved("AVIF")
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">2L", SIDE, SIDE) + data[at + 8 :]


def many_scans() -> bytes:
    """A progressive JPEG with its last pass again and again."""
    data = saved("JPEG", (2000, 2000), progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 3000 + b"\xff\xd9"


def thousands_of_pages() -> bytes:
    """A TIFF with the directory of its page again and again."""
    data = saved("TIFF")
    place = struct.unpack_from("<L", data, 4)[0]
    page = data[place : place + 2 + 12 * struct.unpack_from("<H", data, place)[0]]
    length = len(page) + 4
    begin = place + length
    places = [struct.pack("<L", begin + number * length) for number in range(50_000)] + [b"\0" * 4]
    return data[:place] + b"".join(page + one for one in places)


def many_pages() -> bytes:
    """A TIFF whose directory leads to itself."""
    data = bytearray(saved("TIFF"))
    place = struct.unpack_from("<L", data, 4)[0]
    number = struct.unpack_from("<H", data, place)[0]
    struct.pack_into("<L", data, place + 2 + 12 * number, place)
    return bytes(data)


IMAGES: dict[str, Callable[[], tuple[str, bytes]]] = {
    "a page of the web (CVE-2023-47115, CVE-2026-65986)": lambda: ("png", b"<html><script>alert(1)</script></html>"),
    "SVG with a script (CVE-2026-23516)": lambda: (
        "png", b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
    ),
    "PostScript, for which Pillow starts a program": lambda: (
        "jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n(%pipe%touch escape) (w) file\n"
    ),
    "a program": lambda: ("jpg", b"\x7fELF" + b"\0" * 200),
    "an archive": lambda: ("jpg", gzip.compress(b"\0" * 1000)),
    "FITS of gzip (GHSA-whj4-6x5x-4v2j)": lambda: (
        "tif", b"SIMPLE  =                    T".ljust(2880) + gzip.compress(b"\0" * (1 << 20))
    ),
    "a film": lambda: ("jpg", saved("GIF")),
    "a picture of Photoshop": lambda: ("png", b"8BPS\0\1" + b"\0" * 100),
    "nothing": lambda: ("png", b""),
    "a PNG of no size": lambda: ("png", head_of_png(0, 0)),
    "a PNG of any size": lambda: ("png", head_of_png(1 << 31, 1 << 31)),
    "a PNG with a text that unpacks to 64 MiB": lambda: (
        "png", png(16, 1000, chunk(b"zTXt", b"a\0\0" + zlib.compress(b"\0" * (64 << 20))))
    ),
    "a JPEG that is cut off": lambda: ("jpg", saved("JPEG", (64, 64))[:300]),
    "a TIFF in a circle of nothing": lambda: ("tif", b"II*\0" + struct.pack("<L", 4)),
    "a BMP of a negative size": lambda: ("bmp", large_bmp(-SIDE)),
    "a PNG cut within its head": lambda: ("png", png(16, 1000)[:20]),
}  # fmt: skip
BOMBS: dict[str, Callable[[], tuple[str, bytes]]] = {
    "a PNG of 50,000 pixels a side": lambda: ("png", png(SIDE, SIDE)),
    "a JPEG of 50,000 pixels a side": lambda: ("jpg", large_jpeg()),
    "a BMP of 50,000 pixels a side": lambda: ("bmp", large_bmp()),
    "a TIFF of 50,000 pixels a side": lambda: ("tif", large_tiff()),
    "a WebP of 16,383 pixels a side": lambda: ("webp", large_webp()),
    "an AVIF of 50,000 pixels a side": lambda: ("avif", large_avif()),
    "a TIFF of 50,000 pages": lambda: ("tif", thousands_of_pages()),
    "a JPEG of 3,000 passes": lambda: ("jpg", many_scans()),
}


def _pictured(make: Callable[[], tuple[str, bytes]]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        root = write_set(folder / "set")
        suffix, data = make()
        (root / f"images/train/evil.{suffix}").write_bytes(data)
        (root / "labels/train/evil.txt").write_text("0 0.5 0.5 0.5 0.5\n")
        return root

    return write


for _name, _make in IMAGES.items():
    add("data set", f"image, {_name}", _pictured(_make), harmless="text that unpacks" in _name)
for _name, _make in BOMBS.items():
    add("data set", f"image, {_name}", _pictured(_make), bomb=True)
add("data set", "image, a TIFF in a circle", _pictured(lambda: ("tif", many_pages())), harmless=True)


def _labelled(content: bytes | Callable[[Path], None]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        root = write_set(folder / "set")
        label = root / "labels/train/0.txt"
        if callable(content):
            label.unlink()
            content(label)
        else:
            label.write_bytes(content)
        return root

    return write


LABELS = {
    "numbers that are none": b"0 nan 0.5 0.5 0.5\n",
    "endless numbers": b"0 inf 0.5 0.5 0.5\n",
    "a class of any number": b"1e300 0.5 0.5 0.5 0.5\n",
    "a negative class": b"-1 0.5 0.5 0.5 0.5\n",
    "a program": b"import os; os.system('touch escape')\n",
    "a pickle": pickle.dumps({"a": 1}),
    "NUL": b"0 0.5\0 0.5 0.5 0.5\n",
    "bytes that are no text": b"\xff\xfe\xfd0 0.5\n",
    "an escape of a terminal": b"\x1b[2J 0.5 0.5 0.5 0.5\n",
    "a number of many digits": b"0 " + b"9" * 100_000 + b" 0.5 0.5 0.5\n",
    "one line of a million columns": b"0 " + b"0.5 " * 1_000_000,
    "two hundred thousand lines": b"0 0.5 0.5 0.5 0.5\n" * 200_000,
}
for _name, _content in LABELS.items():
    add("data set", f"label, {_name}", _labelled(_content))


def _long_line(label: Path) -> None:
    with label.open("wb") as file:
        file.truncate(1 << 30)


def _ten_million_lines(label: Path) -> None:
    lines = b"0 0.5 0.5 0.5 0.5\n" * 100_000
    with label.open("wb") as file:
        for _ in range(100):
            file.write(lines)


def _line_ends(label: Path) -> None:
    label.write_bytes(b"\v" * (15 << 20))


add("data set", "label, one line of a gigabyte", _labelled(_long_line), bomb=True)
add("data set", "label, ten million lines", _labelled(_ten_million_lines), bomb=True)
add("data set", "label, line ends alone", _labelled(_line_ends), bomb=True)


def _linked(place: str, target: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        root = write_set(folder / "set")
        (folder / "outside").mkdir(exist_ok=True)
        (root / place).unlink(missing_ok=True)
        (root / place).symlink_to(target)
        return root

    return write


for _name, _where in {
    "a label that is a link out": ("labels/train/0.txt", "/etc/passwd"),
    "an image that is a link out": ("images/train/0.png", "/etc/passwd"),
    "an image that is a link to a device": ("images/train/0.png", "/dev/zero"),
    "an image that is a link to itself": ("images/train/0.png", "0.png"),
    "a folder of images that is a link out": ("images/train/more", "/etc"),
    "a description that is a link out": ("data.yaml", "/etc/passwd"),
}.items():
    add("data set", _name, _linked(*_where), harmless="folder of images" in _name)


class Evil:
    """Touches a file when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch escape",)


def _beside(name: str, content: bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        root = write_set(folder / "set")
        (root / name).write_bytes(content)
        return root

    return write


PICKLED = pickle.dumps(Evil())
for _file in ("labels/train.cache", "labels/train/0.npy", "images/train/0.npy", "images/train/0.pt", "setup.py",
              "images/train/run.sh", "labels/train.pkl"):  # fmt: skip
    add("data set", f"a program or pickle beside the data, {_file}", _beside(_file, PICKLED), harmless=True)
