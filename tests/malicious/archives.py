"""Make archives that lead out, lie, overlap or blow up."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import stat
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

from malicious.cases import add

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LABEL = b"0 0.5 0.5 0.2 0.2\n"
PLAIN = "labels/a.txt"

NAMES = {
    "an absolute path (CVE-2007-4559)": "/retort-escape.txt",
    "a parent path (zip slip, CVE-2018-1002200)": "../escape.txt",
    "a parent path further in": "labels/../../escape.txt",
    "a parent path that ends inside": "../given/a.txt",
    "a parent path with backslashes": "..\\..\\escape.txt",
    "a mixed parent path": "labels\\../..\\escape.txt",
    "a drive": "C:\\escape.txt",
    "a drive without a slash": "C:escape.txt",
    "a share of Windows": "\\\\server\\share\\escape.txt",
    "a device path of Windows": "\\\\?\\C:\\escape.txt",
    "dots alone": "labels/.../a.txt",
    "dots and spaces alone": "labels/.. /a.txt",
    "a line end": "labels/a\nb.txt",
    "an escape of a terminal": "labels/\x1b[2Ja.txt",
    "a bell": "labels/\x07.txt",
    "a mark that turns the direction": "labels/\u202etxt.a.txt",
    "a line separator": "labels/a\u2028b.txt",
    "full-width dots and slash": "\uff0e\uff0e\uff0fescape.txt",
    "a two-dot leader": "\u2025/escape.txt",
    "full-width dots": "\uff0e\uff0e/escape.txt",
    "a full-width backslash": "..\uff3cescape.txt",
    "a letter with a slash in it": "labels/\u2100.txt",
    "an unassigned character": "labels/a\U000e0080.txt",
    "a device of Windows": "labels/con.txt",
    "a device of Windows with a stream": "labels/NUL:a.txt",
    "a numbered device": "labels/COM1.txt",
    "a numbered device in superscript": "labels/lpt\u00b9.txt",
    "a very long name": f"labels/{'a' * 300}.txt",
    "a long name of wide letters": f"labels/{chr(0x4E2D) * 90}.txt",
    "a very long path": "/".join(["abcdefgh" * 25] * 6) + "/a.txt",
    "a very deep path": "a/" * 40 + "a.txt",
    "an archive in it": "labels/more.zip",
    "a compressed tar in it": "more.tar.gz",
}
PAIRS = {
    "one name twice": (PLAIN, PLAIN),
    "names that differ in capital letters": ("labels/a.txt", "labels/A.txt"),
    "names that differ in a sharp s": ("labels/stra\u00dfe.txt", "labels/STRASSE.txt"),
    "names that differ in composition": ("labels/\u00e9.txt", "labels/e\u0301.txt"),
    "one name in two spellings": ("labels/a.txt", "labels/./a.txt"),
    "folders that differ in a dot at the end": ("labels/a.txt", "labels./b.txt"),
    "folders that differ in capital letters": ("labels/a.txt", "Labels/b.txt"),
    "a file and a folder of one name": ("labels/a.txt", "labels/a.txt/b.txt"),
    "a folder and a file of one name": ("labels/a.txt/b.txt", "labels/a.txt"),
    "a backslash and a slash": ("labels/a.txt", "labels\\a.txt"),
}
KINDS = {
    "a link": (tarfile.SYMTYPE, "../outside/secret.txt"),
    "an absolute link (CVE-2025-4138)": (tarfile.SYMTYPE, "/etc/passwd"),
    "a link to a folder (CVE-2025-4517)": (tarfile.SYMTYPE, "../" * 9),
    "a link of its own name": (tarfile.SYMTYPE, PLAIN),
    "a hard link (CVE-2025-4330)": (tarfile.LNKTYPE, "/etc/passwd"),
    "a hard link to what comes later": (tarfile.LNKTYPE, "labels/b.txt"),
    "a character device": (tarfile.CHRTYPE, ""),
    "a block device": (tarfile.BLKTYPE, ""),
    "a pipe": (tarfile.FIFOTYPE, ""),
    "a sparse file of GNU": (tarfile.GNUTYPE_SPARSE, ""),
    "a part of a further archive": (b"M", ""),
    "a list of folders": (b"D", ""),
    "an unknown kind": (b"Z", ""),
    "a long link name": (b"K", ""),
}


def tar_of(names: Iterable[str], content: bytes = LABEL) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as file:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def zip_of(names: Iterable[str], content: bytes = LABEL, method: int = zipfile.ZIP_DEFLATED, mode: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for number, name in enumerate(names):
            info = zipfile.ZipInfo(f"{number}")
            info.filename = name
            info.external_attr = mode << 16
            info.compress_type = method
            file.writestr(info, content)
    return buffer.getvalue()


def tar_with(kind: bytes, target: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        info = tarfile.TarInfo(PLAIN)
        info.type, info.linkname = kind, target
        file.addfile(info)
    return buffer.getvalue()


def block(name: bytes, size: bytes, kind: bytes = b"0") -> bytes:
    """A header of tar with any field, and its right checksum."""
    head = name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + size.ljust(12, b"\0") + b"00000000000\0"
    head += b" " * 8 + kind + b"\0" * 100 + b"ustar\00000"
    head = head.ljust(512, b"\0")
    return head[:148] + b"%06o\0 " % sum(head) + head[156:]


def octal(number: int) -> bytes:
    return b"%011o" % number


def pax(kind: bytes = b"x", **records: str) -> bytes:
    """A header of attributes, of one file or (g) of all."""
    lines = b""
    for key, value in records.items():
        body = f" {key.replace('__', '.')}={value}\n".encode()
        length = next(n for n in range(len(body), len(body) + 9) if n == len(str(n)) + len(body))
        lines += str(length).encode() + body
    return block(b"pax", octal(len(lines)), kind) + padded(lines)


def padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % 512)


END = b"\0" * 1024
FILE = block(PLAIN.encode(), octal(len(LABEL))) + padded(LABEL)

TARS = {
    "a negative size (CVE-2025-8194)": block(PLAIN.encode(), b"\xff" * 11 + b"\0") + END,
    "a negative size in octal": block(PLAIN.encode(), b"-0000000512") + END,
    "a size with a sign": block(PLAIN.encode(), b"+0000000022") + padded(LABEL) + END,
    "a size with underscores": block(PLAIN.encode(), b"0_000000022") + padded(LABEL) + END,
    "a size beyond the end": block(PLAIN.encode(), octal(4096)) + END,
    "a size of many bytes in binary": block(PLAIN.encode(), b"\x80" + b"\x7f" * 11) + END,
    "a negative size in a pax header (CVE-2025-8194)": pax(size="-512") + FILE + END,
    "a size in a pax header that is none": pax(size="1e3") + FILE + END,
    "a size in a pax header beyond the end": pax(size="99999999") + FILE + END,
    "a path in a pax header": pax(path="../escape.txt") + FILE + END,
    "an absolute path in a pax header": pax(path="/retort-escape.txt") + FILE + END,
    "a link in a pax header (CVE-2025-4330)": pax(linkpath="/etc/passwd") + block(b"a", octal(0), b"2") + END,
    "a sparse file in a pax header": pax(GNU__sparse__realsize="99999999999") + FILE + END,
    "a pax record of no length": block(b"pax", octal(16), b"x") + padded(b"0 path=../a.txt\n") + FILE + END,
    "a pax record that is too long": block(b"pax", octal(16), b"x") + padded(b"99 path=../a.tx\n") + FILE + END,
    "a pax record that is no text": block(b"pax", octal(14), b"x") + padded(b"14 path=\xff\xfea.\n") + FILE + END,
    "a path for all files": pax(b"g", path="labels/b.txt") + FILE + END,
    "a huge pax header": block(b"pax", octal(8_589_934_591), b"x") + END,
    "a huge long name": block(b"././@LongLink", octal(8_589_934_591), b"L") + END,
    "a long name that leads out": block(b"long", octal(14), b"L") + padded(b"../escape.txt\0") + FILE + END,
    "a long name and a folder (CVE-2025-13462)": block(b"long/", octal(5), b"L") + padded(b"a/b/\0")
    + block(b"x", octal(18), b"\0") + padded(LABEL) + END,
    "a long name without a file": block(b"long", octal(6), b"L") + padded(b"a.txt\0") + END,
    "headers without an end": pax(comment="a") * 40 + FILE + END,
    "a folder with content": block(b"labels/", octal(18), b"5") + padded(LABEL) + END,
    "a file with the name of a folder": block(b"labels/", octal(18), b"0") + padded(LABEL) + END,
    "a name that is no text": block(b"labels/\xff\xfe.txt", octal(18)) + padded(LABEL) + END,
    "no name": block(b"", octal(0)) + END,
    "a wrong checksum": FILE[:148] + b"000000\0 " + FILE[156:] + END,
    "no end": FILE,
    "an end in a file": FILE[:600],
    "a second archive behind the end": FILE + END + FILE + END,
    "a file that ends in a header": FILE + FILE[:100],
}  # fmt: skip


def patched(data: bytes, signature: bytes, place: int, value: bytes) -> bytes:
    at = data.index(signature) + place
    return data[:at] + value + data[at + len(value) :]


def overlapping() -> bytes:
    """Two entries of the directory that lead to the same bytes (CVE-2019-9674, CVE-2024-0450)."""
    data = zip_of([PLAIN, "labels/b.txt"])
    second = data.rindex(b"PK\1\2")
    return data[: second + 42] + struct.pack("<L", 0) + data[second + 46 :]


def nested_bytes() -> bytes:
    """A second local header within the first one's content, as in the bombs that overlap."""
    inner = zip_of(["labels/b.txt"], b"0" * 100, zipfile.ZIP_STORED)
    data = bytearray(zip_of([PLAIN, "labels/b.txt"], inner, zipfile.ZIP_STORED))
    second = data.rindex(b"PK\1\2")
    data[second + 42 : second + 46] = struct.pack("<L", data.index(inner))
    return bytes(data)


ZIPS: dict[str, bytes] = {
    "a link": zip_of([PLAIN], b"../outside/secret.txt", mode=stat.S_IFLNK | 0o777),
    "a device": zip_of([PLAIN], mode=stat.S_IFCHR | 0o666),
    "a pipe": zip_of([PLAIN], mode=stat.S_IFIFO | 0o666),
    "a socket": zip_of([PLAIN], mode=stat.S_IFSOCK | 0o666),
    "a folder by its mode": zip_of([PLAIN], mode=stat.S_IFDIR | 0o755),
    "a folder with content": zip_of(["labels/"], LABEL),
    "no name": patched(zip_of(["wwxx"]), b"PK\1\2", 28, b"\0\0\4\0").replace(b"wwxx", b"ww\0\0"),
    "a NUL in a name": zip_of(["labels/a.txtXevil"]).replace(b"a.txtXevil", b"a.txt\0evil"),
    "entries that overlap (CVE-2024-0450)": overlapping(),
    "an entry within another one": nested_bytes(),
    "another name in the entry": patched(zip_of([PLAIN]), b"PK\3\4", 30, b"labels/b.txt"),
    "encrypted": patched(patched(zip_of([PLAIN]), b"PK\1\2", 8, b"\1\0"), b"PK\3\4", 6, b"\1\0"),
    "compressed by bzip2": zip_of([PLAIN], method=zipfile.ZIP_BZIP2),
    "compressed by LZMA": zip_of([PLAIN], method=zipfile.ZIP_LZMA),
    "an unknown method": patched(zip_of([PLAIN]), b"PK\1\2", 10, b"\x63\0"),
    "a size that is too small": patched(zip_of([PLAIN], LABEL * 99), b"PK\1\2", 24, struct.pack("<L", 10)),
    "a size that is too large": patched(zip_of([PLAIN]), b"PK\1\2", 24, struct.pack("<L", 0xFFFFFFF0)),
    "a wrong checksum": patched(zip_of([PLAIN]), b"PK\1\2", 16, b"abcd"),
    "a place beyond the end": patched(zip_of([PLAIN]), b"PK\1\2", 42, struct.pack("<L", 0x7FFFFFFF)),
    "no directory": zip_of([PLAIN])[:60],
    "a directory of any size": patched(zip_of([PLAIN]), b"PK\5\6", 12, struct.pack("<L", 0xFFFFFFF0)),
    "a directory that begins before the file": patched(zip_of([PLAIN]), b"PK\5\6", 16, struct.pack("<L", 0xFFFF)),
    "a damaged directory": patched(zip_of([PLAIN]), b"PK\1\2", 0, b"PK\1\3"),
    "too many files": zip_of(f"labels/{number}.txt" for number in range(1001)),
    "cut off": zip_of([PLAIN] * 1)[:-10],
}
STREAMS: dict[str, bytes] = {
    "gzip that is cut off": gzip.compress(FILE + END)[:-12],
    "gzip with a wrong checksum": gzip.compress(FILE + END)[:-8] + b"\0" * 8,
    "gzip with something behind it": gzip.compress(FILE + END) + b"evil",
    "xz that is damaged": lzma.compress(FILE + END)[:-20] + b"\0" * 20,
    "bzip2 that is cut off": bz2.compress(FILE + END)[:-4],
    "zstd that is cut off": zstd.compress(FILE + END)[:-4],
    "zstd with a window of gigabytes": b"\x28\xb5\x2f\xfd\x00\xa8" + b"\0" * 20,
    "gzip of gzip": gzip.compress(gzip.compress(FILE + END)),
    "gzip of no tar": gzip.compress(b"not a tar" * 100),
    "no archive": b"MZ this is no archive",
    "nothing": b"",
    "an archive behind a program": b"MZ" + b"\0" * 510 + zip_of([PLAIN]),
    "7z": b"7z\xbc\xaf\x27\x1c" + b"\0" * 600,
    "rar": b"Rar!\x1a\x07\x01\0" + b"\0" * 600,
    "random bytes": random.Random(7).randbytes(4096),
}


def zeros(size: int) -> bytes:
    """A gzip stream of so many zeros, made of one of 16 MiB again and again."""
    return gzip.compress(b"\0" * (16 << 20), mtime=0) * (size >> 24)


def ten_gigabytes(folder: Path) -> Path:
    """10 MB of gzip that hold a file of 10 GB."""
    path = folder / "bomb.tar.gz"
    path.write_bytes(gzip.compress(block(PLAIN.encode(), b"\x80" + (10 << 30).to_bytes(11))) + zeros(10 << 30))
    return path


def many_files(folder: Path) -> Path:
    """Files of 64 KiB each, none of which is too large, in one stream."""
    path = folder / "bomb.tar.gz"
    ones = b"".join(block(b"labels/%d.txt" % number, octal(1 << 16)) + b"\0" * (1 << 16) for number in range(1100))
    path.write_bytes(gzip.compress(ones, 1))
    return path


def zip_bomb(folder: Path) -> Path:
    """A ZIP file of 25 files of 100 MB each."""
    path = folder / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as file, file.open(PLAIN, "w") as member:
        for _ in range(100):
            member.write(b"0" * (1 << 20))
    data = path.read_bytes()
    start, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    content = data[:start]
    entry = data[start:end]
    parts = [content.replace(b"labels/a", b"labels/%c" % (97 + n), 1) for n in range(25)]
    places = [entry.replace(b"labels/a", b"labels/%c" % (97 + n)) for n in range(25)]
    listed = b"".join(
        one[:42] + struct.pack("<L", len(content) * number) + one[46:] for number, one in enumerate(places)
    )
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 25, 25, len(listed), len(content) * 25, 0)
    path.write_bytes(b"".join(parts) + listed + tail)
    return path


def xz_bomb(folder: Path) -> Path:
    path = folder / "bomb.tar.xz"
    path.write_bytes(lzma.compress(FILE) + lzma.compress(b"\0" * (64 << 20), preset=0) * 20)
    return path


def zstd_bomb(folder: Path) -> Path:
    path = folder / "bomb.tar.zst"
    path.write_bytes(zstd.compress(FILE) + zstd.compress(b"\0" * (64 << 20)) * 100)
    return path


def bzip2_bomb(folder: Path) -> Path:
    path = folder / "bomb.tar.bz2"
    path.write_bytes(bz2.compress(FILE) + bz2.compress(b"\0" * (16 << 20)) * 500)
    return path


def directory_bomb(folder: Path) -> Path:
    """A ZIP file with a million entries in its directory, all of one file."""
    path = folder / "bomb.zip"
    data = zip_of(["a.txt"])
    start, end = data.index(b"PK\1\2"), data.index(b"PK\5\6")
    listed = data[start:end] * 1_000_000
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, len(listed), start, 0)
    path.write_bytes(data[:start] + listed + tail)
    return path


def _written(name: str, make: Callable[[], bytes]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(make())
        return path

    return write


for _name, _path in NAMES.items():
    add("archive", f"{_name}, zip", _written("a.zip", lambda path=_path: zip_of([PLAIN.replace("a", "z"), path])))
    add("archive", f"{_name}, tar", _written("a.tar", lambda path=_path: tar_of([PLAIN.replace("a", "z"), path])))
for _name, _paths in PAIRS.items():
    add("archive", f"{_name}, zip", _written("a.zip", lambda paths=_paths: zip_of(paths)))
    add("archive", f"{_name}, tar", _written("a.tar", lambda paths=_paths: tar_of(paths)))
for _name, _kind in KINDS.items():
    add("archive", f"{_name}, tar", _written("a.tar", lambda kind=_kind: tar_with(*kind)))
for _name, _data in (*TARS.items(), *STREAMS.items()):
    add("archive", f"{_name}, stream", _written("a.tar", lambda data=_data: data))
for _name, _data in ZIPS.items():
    add("archive", f"{_name}, file of zip", _written("a.zip", lambda data=_data: data))
    if "folder" not in _name and "too many" not in _name and "compressed" not in _name:
        add("review yolo", f"{_name}, zip", lambda _, data=_data: data)
for _bomb in (ten_gigabytes, many_files, zip_bomb, xz_bomb, zstd_bomb, bzip2_bomb, directory_bomb):
    add("archive", _bomb.__name__.replace("_", " "), _bomb, bomb=True)
