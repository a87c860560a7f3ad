"""The client sends files and folders in parts, goes on where it was stopped, and sends nothing twice."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from retort.client import Client
from retort.client.uploads import Content
from support.api_harness import listening
from support.identity import OPERATOR

MEBIBYTE = 1 << 20


@pytest.fixture
def client(sqlite_template: Path, tmp_path: Path) -> Iterator[Client]:
    (home := tmp_path / "service").mkdir()
    with listening(sqlite_template, home) as url, Client(url, key=OPERATOR) as client:
        yield client


@pytest.fixture(scope="module")
def images() -> dict[str, bytes]:
    return {f"images/train/{number:03}.png": os.urandom(MEBIBYTE // 4) for number in range(60)}


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def test_a_client_that_is_stopped_goes_on_where_it_was(client: Client, tmp_path: Path):
    path = tmp_path / "file.zip"
    path.write_bytes(os.urandom(40 * MEBIBYTE))
    seen: list[int] = []

    def stop(done: int, _: int) -> None:
        seen.append(done)
        if done >= 16 * MEBIBYTE:
            raise KeyboardInterrupt

    content = Content.of(path)
    with pytest.raises(KeyboardInterrupt):
        client.uploads.send(content, stop)
    assert seen[0] == 0
    again: list[int] = []
    upload = client.uploads.send(content, lambda done, _: again.append(done))
    assert again[0] >= 16 * MEBIBYTE, "what is there is not sent again"
    assert (upload["state"], upload["sha256"]) == ("complete", hashlib.sha256(path.read_bytes()).hexdigest())
    once_more = client.uploads.send(content)
    assert once_more["id"] == upload["id"]


def test_a_folder_is_a_tar_file_that_tells_names_and_contents_alone(tmp_path: Path):
    files = {"data.yaml": b"names: [a]\n", "images/large.bmp": os.urandom(20 * MEBIBYTE), "labels/\u00e4.txt": b""}
    left_out = {"labels/train.cache": b"x", ".git/config.txt": b"x", "best.pt": b"x"}
    content = Content.of(written(tmp_path, {**files, **left_out}))
    whole = b"".join(content.read(number) for number in range(1, len(content.parts) + 1))
    assert hashlib.sha256(whole).hexdigest() == content.sha256
    with tarfile.open(fileobj=io.BytesIO(whole)) as packed:
        members = {member.name: member for member in packed}
        assert set(members) == set(files)
        for name, member in members.items():
            file = packed.extractfile(member)
            assert file is not None
            assert (file.read(), member.mtime, member.uid, member.uname) == (files[name], 0, 0, "")


def test_a_folder_to_which_an_image_was_added_sends_little_more(tmp_path: Path, images: dict[str, bytes]):
    before = Content.of(written(tmp_path, images))
    after = Content.of(written(tmp_path, {"images/train/0005.png": os.urandom(1000)}))
    fresh = [
        sum(piece.size_bytes for piece in part)
        for digest, part in zip(after.digests, after.parts, strict=True)
        if digest not in before.digests
    ]
    assert 0 < sum(fresh) < after.size_bytes / 2


def test_a_circle_of_links_ends(tmp_path: Path):
    written(tmp_path / "data", {"data.yaml": b"x"})
    (tmp_path / "data" / "again").symlink_to(tmp_path / "data")
    assert len(Content.of(tmp_path / "data").parts) == 1
