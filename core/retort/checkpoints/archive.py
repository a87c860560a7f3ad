"""Open a checkpoint's archive and check its layout."""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from retort.checkpoints.records import Flaw, Storage

LARGEST_PICKLE = 8 << 20
"""Bytes of the objects without their tensors; YOLO's largest have a tenth of that."""
_MOST_FILES = 20_000
_START = b"PK\x03\x04"
_ONNX = b"\x08"
"""The first field of an ONNX file, its version."""
_END = struct.Struct("<4s4H2LH")
"""The record with which an archive ends."""
_LOCAL = struct.Struct("<4s5H3L2H")
_SMALL = {"version", "byteorder", ".format_version", ".storage_alignment", ".data/serialization_id"}
"""Files beside the pickle and the storages, of a few bytes each."""
_LARGEST_SMALL = 64
_TENSOR = re.compile(r"data/(0|[1-9][0-9]{0,8})")


@dataclass(frozen=True)
class TorchArchive:
    """Checked archive: its pickle, and where the storages lie."""

    path: Path
    pickle: bytes
    storages: dict[str, zipfile.ZipInfo]
    size_bytes: int

    def place_of(self, storage: Storage) -> int:
        """Return where the bytes of *storage* begin in the file."""
        found = self.storages[storage.key]
        with self.path.open("rb") as file:
            file.seek(found.header_offset)
            parts = _LOCAL.unpack(file.read(_LOCAL.size))
        return found.header_offset + _LOCAL.size + int(parts[-2]) + int(parts[-1])


def open_archive(path: Path) -> TorchArchive:
    """Check the archive *path*, and read its pickle.

    Raises:
        Flaw: it is none, or not as torch writes them.
        OSError: it cannot be read.

    """
    size = path.stat().st_size
    _check_ends(path, size)
    try:
        with zipfile.ZipFile(path) as archive:
            files = archive.infolist()
            if len(files) > _MOST_FILES:
                raise Flaw(f"it holds {len(files)} files")
            inside = _inside(files)
            _check_entries(inside, size)
            _check_apart(files, archive.start_dir)
            for name in _SMALL & inside.keys():
                _check_small(name, archive.read(inside[name]))
            content = archive.read(inside["data.pkl"])
    except (zipfile.BadZipFile, RuntimeError, ValueError, EOFError, struct.error) as error:
        if isinstance(error, Flaw):
            raise
        told = "it is damaged" if "CRC" in str(error) else "its archive cannot be read"
        raise Flaw(f"{told}: {error}") from error
    storages = {name.partition("/")[2]: one for name, one in inside.items() if _TENSOR.fullmatch(name)}
    return TorchArchive(path, content, storages, size)


def _check_ends(path: Path, size: int) -> None:
    """Insist that the file is one archive from its first byte to its last."""
    with path.open("rb") as file:
        first = file.read(len(_START))
        file.seek(max(0, size - _END.size))
        last = file.read(_END.size)
    if first[:2] in {b"\x80\x02", b"\x80\x04", b"\x80\x05"}:
        raise Flaw("it is a pickle without an archive, as torch wrote them before 1.6")
    if first[:1] == _ONNX:
        raise Flaw("it does not begin as an archive; if it is ONNX, send the .pt file that it was exported from")
    if first != _START:
        raise Flaw("it does not begin as an archive")
    if len(last) < _END.size or _END.unpack(last)[0] != b"PK\x05\x06":
        raise Flaw("it does not end as an archive: it is cut off, or something follows")


def _inside(files: Iterable[zipfile.ZipInfo]) -> dict[str, zipfile.ZipInfo]:
    """Return the entries by their names in the one folder."""
    found: dict[str, zipfile.ZipInfo] = {}
    folders = set()
    for one in files:
        folder, _, name = one.filename.partition("/")
        folders.add(folder)
        if name in found:
            raise Flaw(f"it holds {name[:80]!r} twice")
        found[name] = one
    if len(folders) != 1 or "data.pkl" not in found:
        raise Flaw("it does not hold one folder with a data.pkl")
    return found


def _check_entries(inside: dict[str, zipfile.ZipInfo], size: int) -> None:
    """Insist on the files that torch writes, as they lie there: not compressed, encrypted or larger than the whole."""
    if any(name.startswith("code/") or name == "constants.pkl" for name in inside):
        raise Flaw("it is TorchScript")
    for name, one in inside.items():
        if name != "data.pkl" and name not in _SMALL and not _TENSOR.fullmatch(name):
            raise Flaw(f"it holds {name[:80]!r}, which no checkpoint has")
        if one.compress_type != zipfile.ZIP_STORED or one.compress_size != one.file_size:
            raise Flaw("it is compressed")
        if one.flag_bits & 0x1:
            raise Flaw("it is encrypted")
        if name in _SMALL and one.file_size > _LARGEST_SMALL:
            raise Flaw(f"its file {name} has {one.file_size} bytes")
    if (largest := inside["data.pkl"].file_size) > LARGEST_PICKLE:
        raise Flaw(f"its data.pkl has {largest} bytes; at most {LARGEST_PICKLE} are read")
    if (total := sum(one.file_size for one in inside.values())) > size:
        raise Flaw(f"its files have {total} bytes together, and itself {size}")


def _check_apart(files: Iterable[zipfile.ZipInfo], end: int) -> None:
    """Insist that no two entries share bytes."""
    before = 0
    for one in sorted(files, key=lambda one: one.header_offset):
        if one.header_offset < before:
            raise Flaw("two of its files lie on the same bytes")
        before = one.header_offset + _LOCAL.size + len(one.filename.encode()) + one.file_size
    if before > end:
        raise Flaw("one of its files reaches into the list of files")


def _check_small(name: str, content: bytes) -> None:
    if name == "byteorder" and content != b"little":
        raise Flaw(f"its numbers are in the byte order {content[:20]!r}, and only little is read")
    if name == "version" and content.strip() not in {b"2", b"3"}:
        raise Flaw(f"its archive has the version {content[:20]!r}, and only 3 is read")
