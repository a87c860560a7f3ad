"""A worker keeps registered datasets within a bound, whole or not at all, and none goes that a job holds."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from retort.access import DEFAULT_OWNER, DEFAULT_PROJECT
from retort.data.registered_datasets import FOLDER, folder_of, is_fetched
from retort.dataset_ref import DatasetRef
from retort.db import datasets, uploads
from retort.db.datasets import DatasetFile
from retort.db.session import database_now
from retort.errors import DataError
from retort.files import PRIVATE_UMASK
from retort.storage import Store
from retort_worker.dataset_cache import DatasetCache
from support.worker_harness import House

SIZE = 100_000


def registered(house: House, name: str) -> str:
    """Put a dataset of about SIZE bytes into store and database; return its reference."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as packed:
        for member, data in (("data.yaml", b"names: [a]\n"), ("images/train/x.bin", name.encode() * SIZE)):
            about = tarfile.TarInfo(member)
            about.size = len(data[:SIZE])
            packed.addfile(about, io.BytesIO(data[:SIZE]))
    path = house.home / f"{name}.tar"
    path.write_bytes(buffer.getvalue())
    stored = Store(house.settings.store_url).put(path)
    with house.database.begin() as session:
        now = database_now(session)
        new = uploads.NewUpload(project=DEFAULT_PROJECT, owner=DEFAULT_OWNER, size_bytes=1, sha256="0" * 64)
        row = uploads.create(session, new, now=now)
        uploads.complete(session, row.id, "0" * 64, now=now)
        upload = uploads.get(session, row.id, None)
        session.refresh(upload)
        datasets.create(session, project=row.project, owner=row.owner, name=name, upload=upload, now=now)
    with house.database.begin() as session:
        now = database_now(session)
        claimed = datasets.claim(session, worker="w", now=now, lease_s=60)
        assert claimed is not None
        content = DatasetFile(stored.key, stored.sha256, stored.size_bytes)
        assert datasets.finish(session, claimed, {}, content, (), now=now)
    return str(DatasetRef(name, stored.sha256))


def digest(reference: str) -> str:
    return reference.rpartition(":")[2]


@pytest.fixture
def cache(small_house: House, tmp_path: Path) -> DatasetCache:
    assert small_house.home == tmp_path
    return DatasetCache(tmp_path / "cache", most_bytes=int(2.5 * SIZE))


def test_the_least_recently_used_goes_and_none_that_is_held(small_house: House, cache: DatasetCache, tmp_path: Path):
    store, folder = Store(small_house.settings.store_url), tmp_path / "cache"
    first, second, third = (registered(small_house, name) for name in "abc")
    held = cache.hold(first, small_house.database, store)
    assert held is not None
    os.utime(held.name, (1, 1))  # used longest ago, and still in use
    for reference in (second, third):
        lock = cache.hold(reference, small_house.database, store)
        assert lock is not None
        lock.close()
    assert [is_fetched(digest(one), folder) for one in (first, second, third)] == [True, False, True]
    held.close()
    os.utime(held.name, (1, 1))
    lock = cache.hold(second, small_house.database, store)
    assert lock is not None
    lock.close()
    assert [is_fetched(digest(one), folder) for one in (first, second, third)] == [False, True, True]


def test_what_is_fetched_is_as_private_as_all_that_the_worker_writes(
    small_house: House, cache: DatasetCache, tmp_path: Path
):
    before = os.umask(PRIVATE_UMASK)
    try:
        lock = cache.hold(registered(small_house, "a"), small_house.database, Store(small_house.settings.store_url))
    finally:
        os.umask(before)
    assert lock is not None
    lock.close()
    found = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert len(found) >= 2
    assert [path.name for path in found if path.stat().st_mode & PRIVATE_UMASK] == []


def test_what_a_killed_worker_held_may_go(small_house: House, cache: DatasetCache, tmp_path: Path):
    store, folder = Store(small_house.settings.store_url), tmp_path / "cache"
    first = registered(small_house, "a")
    lock = cache.hold(first, small_house.database, store)
    assert lock is not None
    code = (
        "import fcntl, sys, time\n"
        "file = open(sys.argv[1], 'ab'); fcntl.flock(file, fcntl.LOCK_SH); print('held', flush=True); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, lock.name], stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    lock.close()
    cache.make_room(10 * SIZE)
    assert is_fetched(digest(first), folder)
    other.kill()
    other.communicate()
    cache.make_room(10 * SIZE)
    assert not is_fetched(digest(first), folder)


def test_damaged_bytes_are_told_and_leave_nothing(small_house: House, cache: DatasetCache, tmp_path: Path):
    reference = registered(small_house, "a")
    sha256 = digest(reference)
    (small_house.home / "artifacts" / "sha256" / sha256[:2] / sha256).write_bytes(b"x" * 1000)
    with pytest.raises(DataError, match="damaged"):
        cache.hold(reference, small_house.database, Store(small_house.settings.store_url))
    assert not folder_of(sha256, tmp_path / "cache").exists()
    assert sorted(path.suffix for path in (tmp_path / "cache" / FOLDER).iterdir()) == [".lock"]


def test_what_is_not_registered_is_told(small_house: House, cache: DatasetCache):
    unknown = str(DatasetRef("a", hashlib.sha256(b"").hexdigest()))
    with pytest.raises(DataError, match="there is no dataset"):
        cache.hold(unknown, small_house.database, Store(small_house.settings.store_url))
