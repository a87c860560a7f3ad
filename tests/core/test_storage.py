"""Bytes go in once by their content, come out in pieces, and never from anywhere else."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from retort.storage import BytesMissing, Store, Stored, StoreUnavailable
from support.db_harness import at_once

MEBIBYTE = 1 << 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "a folder" / "artifacts"


@pytest.fixture
def store(folder: Path) -> Store:
    return Store(folder.as_uri())


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More than two upload parts, and no round number of pieces."""
    path = tmp_path_factory.mktemp("big") / "big.bin"
    path.write_bytes(os.urandom(40 * MEBIBYTE + 13))
    return path


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_file_is_stored_under_its_digest(store: Store, folder: Path, tmp_path: Path):
    path = tmp_path / "x"
    path.write_bytes(b"retort")
    sha256 = hashlib.sha256(b"retort").hexdigest()
    stored = store.put(path)
    assert stored == Stored(f"sha256/{sha256[:2]}/{sha256}", sha256, 6)
    assert files(folder) == [stored.key]
    assert b"".join(store.read(stored.key)) == b"retort"
    assert store.size(stored.key) == 6


def test_an_empty_file_is_a_file(store: Store, tmp_path: Path):
    (tmp_path / "x").touch()
    stored = store.put(tmp_path / "x")
    assert (store.size(stored.key), list(store.read(stored.key))) == (0, [])


def test_a_big_file_goes_in_by_parts_and_comes_out_in_pieces(store: Store, folder: Path, big: Path):
    stored = store.put(big)
    pieces = list(store.read(stored.key))
    assert max(map(len, pieces)) <= 4 * MEBIBYTE
    assert b"".join(pieces) == big.read_bytes()
    assert files(folder) == [stored.key], "no part is left behind"


@pytest.mark.parametrize(
    ("start", "end"), [(0, 1), (5, 5), (100, MEBIBYTE + 100), (41943050, None), (41943050, 10**12), (10**12, None)]
)
def test_a_range_is_read_like_a_slice(store: Store, big: Path, start: int, end: int | None):
    stored = store.put(big)
    assert b"".join(store.read(stored.key, start, end)) == big.read_bytes()[start:end]


def test_bytes_that_are_there_are_not_written_again(store: Store, folder: Path, big: Path):
    stored = store.put(big)
    before = (folder / stored.key).stat()
    assert store.put(big) == stored
    after = (folder / stored.key).stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_stored_file_of_another_size_is_written_again(store: Store, folder: Path, big: Path):
    stored = store.put(big)
    (folder / stored.key).write_bytes(b"cut off")
    store.put(big)
    assert store.size(stored.key) == big.stat().st_size


def test_the_same_file_put_by_many_at_once_is_whole(store: Store, folder: Path, big: Path):
    assert len(set(at_once(lambda _number: store.put(big), 6))) == 1
    (key,) = files(folder)
    assert hashlib.sha256((folder / key).read_bytes()).hexdigest() == key.rpartition("/")[2]


def test_a_put_that_is_killed_leaves_nothing_under_the_key(folder: Path, big: Path):
    script = """
import os, sys, threading, time
from pathlib import Path
from retort.storage import Store
folder = Path(sys.argv[1])
def watch():
    while not any(path.is_file() for path in folder.rglob("*")):
        time.sleep(0)
    os.kill(os.getpid(), 9)
store = Store(folder.as_uri())
threading.Thread(target=watch).start()
store.put(Path(sys.argv[2]))
"""
    done = subprocess.run([sys.executable, "-c", script, folder, big], check=False)
    assert done.returncode == -9
    whole = hashlib.sha256(big.read_bytes()).hexdigest()
    store = Store(folder.as_uri())
    assert store.size(f"sha256/{whole[:2]}/{whole}") in {None, big.stat().st_size}
    assert store.size(store.put(big).key) == big.stat().st_size


@pytest.mark.parametrize(
    "key",
    [
        "../secret",
        "sha256/../../secret",
        "/etc/passwd",
        "sha256/aa/" + "a" * 63 + "/",
        "check",
        "",
        "SHA256/aa/" + "a" * 64,
    ],
)
def test_a_key_that_the_store_did_not_make_is_refused(store: Store, folder: Path, key: str):
    folder.mkdir(parents=True, exist_ok=True)
    (folder.parent / "secret").write_bytes(b"secret")
    with pytest.raises(BytesMissing):
        store.read(key)
    with pytest.raises(BytesMissing):
        store.size(key)


def test_bytes_that_are_missing_are_reported_before_anything_is_read(store: Store):
    key = "sha256/aa/" + "a" * 64
    assert store.size(key) is None
    with pytest.raises(BytesMissing):
        store.read(key)


def test_a_file_that_cannot_be_read_is_not_the_stores_fault(store: Store, tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        store.put(tmp_path / "absent")


def test_a_store_that_works_passes_its_check_and_one_that_does_not_says_so(store: Store, folder: Path):
    store.check()
    store.check()
    for path in folder.rglob("*"):
        path.unlink()
    folder.rmdir()
    folder.write_bytes(b"a file in the way")
    with pytest.raises(StoreUnavailable) as caught:
        store.check()
    assert caught.value.retryable
    with pytest.raises(StoreUnavailable):
        store.put(Path(__file__))
    with pytest.raises(StoreUnavailable):
        Store((folder / "below").as_uri())


@pytest.mark.parametrize("url", ["nonsense://x", "plain", "memory:///", "http://host/x"])
def test_a_url_that_names_no_store_is_refused(url: str):
    with pytest.raises(StoreUnavailable):
        Store(url)


def test_a_url_of_an_object_store_is_understood_without_reaching_it():
    assert Store("s3://bucket/prefix").url == "s3://bucket/prefix"


def saved(store: Store, path: Path, content: bytes, job: int, attempt: int) -> str:
    path.write_bytes(content)
    return store.put(path, saved_by=(f"job_{job:032x}", attempt)).key


def test_what_an_attempt_saves_is_its_own_and_goes_when_it_says_so(store: Store, folder: Path, tmp_path: Path):
    path = tmp_path / "state"
    old, new, others = (saved(store, path, content, 1, 1) for content in (b"1", b"2", b"3"))
    later, stranger = saved(store, path, b"1", 1, 2), saved(store, path, b"1", 2, 1)
    assert len({old, later, stranger}) == 3
    store.delete_saved(f"job_{1:032x}", 1, but={new, others})
    assert files(folder) == sorted([new, others, later, stranger])
    assert sorted(store.saved_jobs()) == [f"job_{1:032x}", f"job_{2:032x}"]
    store.delete_saved(f"job_{1:032x}")
    assert files(folder) == [stranger]
    store.delete_saved(f"job_{2:032x}")
    assert store.saved_jobs() == []


def test_a_file_is_fetched_whole_or_not_at_all(store: Store, folder: Path, big: Path, tmp_path: Path):
    key = store.put(big, saved_by=(f"job_{1:032x}", 1)).key
    target = tmp_path / "new" / "big.bin"
    store.fetch(key, target)
    assert target.read_bytes() == big.read_bytes()
    with (folder / key).open("r+b") as file:
        file.write(b"something else")
    with pytest.raises(BytesMissing, match="damaged"):
        store.fetch(key, tmp_path / "damaged.bin")
    store.delete_saved(f"job_{1:032x}")
    with pytest.raises(BytesMissing):
        store.fetch(key, tmp_path / "gone.bin")
    assert {path.name for path in tmp_path.iterdir()} == {"new", "a folder"}
