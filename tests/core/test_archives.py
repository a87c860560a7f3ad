"""Archives as people make them are unpacked whole, whatever packed them, and all others leave nothing."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retort.archives.members import ArchiveLimits
from retort.data.archives import unpack_dataset
from retort.errors import DISK_FULL, DataError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FILES = {
    "data.yaml": b"names: [a]\n",
    "images/train/0001.JPG": os.urandom(3000),
    "images/train/Zürich Straße 12.30.png": b"\x89PNG",
    "images/train/中文.webp": b"RIFF",
    "images/val/empty.bmp": b"",
    "labels/train/0001.txt": b"0 0.5 0.5 0.2 0.2\n" * 500,
    f"labels/train/{'n' * 150}.txt": b"",
    f"{'deep/' * 20}a.xml": b"<annotation/>",
}
BESIDE = {"README.md": b"#", "labels/train.cache": b"\x80", "__MACOSX/._a.jpg": b"", "images/train/._0001.JPG": b"",
          ".DS_Store": b"", "a.py": b"", "LICENSE": b""}  # fmt: skip


def zipped(files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, *, folders: bool = True) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in files.items():
            if folders and "/" in name and f"{name.rpartition('/')[0]}/" not in file.namelist():
                file.writestr(zipfile.ZipInfo(f"{name.rpartition('/')[0]}/"), b"")
            file.writestr(name, content)
    return buffer.getvalue()


def tarred(files: dict[str, bytes], form: int = tarfile.PAX_FORMAT, **more: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, pax_headers=more or None) as file:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(content), 1.5
            file.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def streamed() -> bytes:
    """A ZIP file whose sizes stand behind the files, as programs write that cannot go back."""

    class Forward(io.RawIOBase):
        def __init__(self) -> None:
            self.data = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: bytes) -> int:  # type: ignore[override]
            self.data += data
            return len(data)

    forward = Forward()
    with zipfile.ZipFile(forward, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in FILES.items():
            with file.open(name, "w", force_zip64=True) as member:
                member.write(content)
    return bytes(forward.data)


PACKED: dict[str, Callable[[], bytes]] = {
    "zip": lambda: zipped(FILES | BESIDE),
    "zip, stored": lambda: zipped(FILES | BESIDE, zipfile.ZIP_STORED, folders=False),
    "zip, streamed, of 64 bits": streamed,
    "zip with a comment": lambda: zipped(FILES)[:-2] + b"\5\0hello",
    "zip, names of Windows": lambda: zipped({name.replace("/", "\\"): FILES[name] for name in FILES}, folders=False),
    "tar, pax": lambda: tarred(FILES | BESIDE),
    "tar, GNU": lambda: tarred(FILES | BESIDE, tarfile.GNU_FORMAT),
    "tar with a comment for all": lambda: tarred(FILES, comment="a commit"),
    "tar.gz": lambda: gzip.compress(tarred(FILES)),
    "tar.gz of several parts": lambda: gzip.compress(tarred(FILES)[:5000]) + gzip.compress(tarred(FILES)[5000:]),
    "tar.bz2": lambda: bz2.compress(tarred(FILES)),
    "tar.xz": lambda: lzma.compress(tarred(FILES)),
    "tar.zst": lambda: zstd.compress(tarred(FILES)),
    "tar, with dots before": lambda: tarred({f"./{name}": content for name, content in FILES.items()}),
}  # fmt: skip


@pytest.mark.parametrize("case", PACKED)
def test_what_people_pack_comes_out_as_it_went_in(tmp_path: Path, case: str):
    (tmp_path / "archive").write_bytes(PACKED[case]())
    (tmp_path / "target").mkdir()

    found = unpack_dataset(tmp_path / "archive", tmp_path / "target")

    came = {path.relative_to(tmp_path / "target").as_posix(): path for path in (tmp_path / "target").rglob("*")}
    assert {name: path.read_bytes() for name, path in came.items() if path.is_file()} == FILES
    assert {file.path: (file.size_bytes, file.sha256) for file in found.files} == {
        name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in FILES.items()
    }
    assert not found.left_out or found.left_out[".cache"] == 1


@pytest.mark.skipif(shutil.which("tar") is None, reason="there is no tar")
@pytest.mark.parametrize("form", ["gnu", "pax", "ustar"])
def test_what_tar_itself_writes_is_read(tmp_path: Path, form: str):
    for name in ("labels/a.txt", "images/b.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(b"0 0.5 0.5 0.2 0.2\n")
    command = ["tar", f"--format={form}", "-czf", tmp_path / "a.tgz", "-C", tmp_path, "set"]
    subprocess.run(command, check=True)
    (tmp_path / "target").mkdir()

    found = unpack_dataset(tmp_path / "a.tgz", tmp_path / "target")

    assert sorted(file.path for file in found.files) == ["set/images/b.png", "set/labels/a.txt"]


@pytest.mark.parametrize(
    "limits",
    [
        ArchiveLimits(most_files=5), ArchiveLimits(most_bytes=5000), ArchiveLimits(most_file_bytes=5000),
        ArchiveLimits(most_depth=4), ArchiveLimits(longest_name=100), ArchiveLimits(longest_path=90),
        ArchiveLimits(most_ratio=0.5, free_bytes=0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("case", ["zip", "tar.gz", "tar.zst"])
def test_each_limit_holds_in_each_form(tmp_path: Path, case: str, limits: ArchiveLimits):
    (tmp_path / "archive").write_bytes(PACKED[case]())
    (tmp_path / "target").mkdir()

    with pytest.raises(DataError) as caught:
        unpack_dataset(tmp_path / "archive", tmp_path / "target", limits)

    assert caught.value.hint
    assert list((tmp_path / "target").iterdir()) == []


def test_a_full_disk_is_no_fault_of_the_archive(tmp_path: Path):
    (tmp_path / "archive").write_bytes(PACKED["tar.gz"]())
    (tmp_path / "target").mkdir()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            unpack_dataset(tmp_path / "archive", tmp_path / "target")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno in DISK_FULL
    assert list((tmp_path / "target").iterdir()) == []


NAMES = st.text(st.characters(codec="utf-8") | st.sampled_from("./\\:aA\0"), min_size=1, max_size=12)


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
@settings(max_examples=60)
@given(st.lists(NAMES, min_size=1, max_size=4), st.sampled_from(["zip", "tar"]))
def test_whatever_files_are_called_they_land_inside_or_nowhere(names: list[str], form: str):
    files = {f"{name}.txt": b"x" for name in names}
    try:
        data = zipped(files, folders=False) if form == "zip" else tarred(files)
    except (UnicodeEncodeError, ValueError, IndexError):  # no name for an archive; zipfile trips over a leading NUL
        return
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        (place / "a").write_bytes(data)
        (place / "target").mkdir()
        try:
            found = unpack_dataset(place / "a", place / "target")
        except DataError:
            assert list((place / "target").iterdir()) == []
            return
        inside = [path for path in (place / "target").rglob("*") if path.is_file()]
        assert len(inside) == len(found.files)
        assert sorted(path.name for path in place.iterdir()) == ["a", "target"]
