"""Where the bytes of artifacts are kept."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, from_url

from retort.errors import RetortError, TransientError

__all__ = ["BytesMissing", "Incoming", "Store", "StoreUnavailable", "Stored", "StoredObject", "signs"]

CHUNK_BYTES = 4 << 20
_PART_BYTES = 16 << 20
_COPIED_BYTES = 1 << 20
_SMALL_PART_BYTES = 5 << 20
"""The least that S3 takes; many such files are stored at a time."""
_SCHEMES = ("file", "s3", "gs", "az")
_KEY = re.compile(r"(sha256/[0-9a-f]{2}|saved/job_[0-9a-f]{32}/[0-9]+)/[0-9a-f]{64}")
_MARK = "database"
"""Object that says which database the store belongs to."""
_INCOMING = "incoming"
"""Folder of the parts that clients send to the store themselves."""
_SAVED = "saved"
"""Folder of what belongs to one attempt of one job, and goes with it."""


class StoreUnavailable(TransientError):
    """The artifact store cannot be reached or written."""

    code = "store_unavailable"


class BytesMissing(RetortError):
    """The store lacks bytes that the database lists."""

    code = "artifact_bytes_missing"


@dataclass(frozen=True, slots=True)
class Stored:
    """Key, SHA-256 and size of stored bytes."""

    key: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object as the store lists it; the time is the store's."""

    key: str
    size_bytes: int
    modified_at: float


@dataclass(frozen=True, slots=True)
class Incoming:
    """A part that a client has sent to the store itself."""

    path: str
    modified_at: float

    @property
    def upload_id(self) -> str:
        """The upload that it was sent for."""
        return self.path.split("/")[1]


class Store:
    """Content-addressed store: ``file:///folder``, ``s3://bucket/prefix``, ``gs://…`` or ``az://…``.

    A key is made from what it names, so putting twice is putting once, and no key is ever overwritten
    with other bytes. Credentials of remote stores come from their usual environment variables.

    Args:
        url: where the bytes lie.
        before_put: called with a key before it is looked whether its bytes are there already.

    """

    def __init__(self, url: str, *, before_put: Callable[[str], None] | None = None) -> None:
        self.url = url
        self._before_put = before_put
        with _as_store_unavailable(url):
            self._folder = _local_folder(url)
            self._store = _open(url)

    def put(self, path: Path, *, saved_by: tuple[str, int] | None = None) -> Stored:
        """Store the bytes of the file *path*.

        They are sent in parts, so that their size does not matter. With *saved_by*, a job and the number of its
        attempt, they are that attempt's alone: see ``delete_saved``.

        Raises:
            StoreUnavailable: nothing is visible under the key.
            OSError: *path* cannot be read.

        """
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size_bytes = file.tell()
        key = f"sha256/{sha256[:2]}/{sha256}" if saved_by is None else f"{_SAVED}/{saved_by[0]}/{saved_by[1]}/{sha256}"
        if self._before_put is not None and saved_by is None:
            self._before_put(key)
        if self.size(key) != size_bytes:
            with _as_store_unavailable(self.url):
                obstore.put(self._store, key, path, chunk_size=_PART_BYTES, max_concurrency=4)
        return Stored(key, sha256, size_bytes)

    def put_opened(self, file: IO[bytes], sha256: str, size_bytes: int) -> Stored:
        """Store an open file whose digest and size are known.

        Raises:
            StoreUnavailable: nothing is visible under the key.

        """
        key = f"sha256/{sha256[:2]}/{sha256}"
        if self._before_put is not None:
            self._before_put(key)
        if self.size(key) != size_bytes:
            file.seek(0)
            with _as_store_unavailable(self.url):
                if self._folder is None:
                    obstore.put(self._store, key, file, chunk_size=_SMALL_PART_BYTES, max_concurrency=1)
                else:
                    _copy(file, self._folder / key)
        return Stored(key, sha256, size_bytes)

    def link(self, upload_id: str, number: int, *, valid_s: float) -> str | None:
        """Return an address for a client's PUT; None for a local store.

        What is sent there is nothing until ``adopt`` has looked at it.
        """
        if self._folder is not None:
            return None
        with _as_store_unavailable(self.url):
            where = f"{_INCOMING}/{upload_id}/{number}"
            return str(obstore.sign(self._store, "PUT", where, timedelta(seconds=valid_s)))

    def adopt(self, upload_id: str, number: int, *, size_bytes: int) -> Stored | None:
        """Store a part sent to its ``link``; None where none was.

        It is moved to where its sender has no link to before it is read, so that nobody changes what was looked at.

        Raises:
            StoreUnavailable: try again later; what was sent may have to be sent again.

        """
        sent = f"{_INCOMING}/{upload_id}/{number}"
        moved = f"{sent}.{secrets.token_hex(16)}"
        try:
            with _as_store_unavailable(self.url):
                if int(obstore.head(self._store, sent)["size"]) != size_bytes:
                    obstore.delete(self._store, sent)
                    return None
                obstore.rename(self._store, sent, moved)
                digest = hashlib.sha256()
                for piece in obstore.get(self._store, moved).stream(min_chunk_size=CHUNK_BYTES):
                    digest.update(bytes(piece))
        except FileNotFoundError:
            return None
        sha256 = digest.hexdigest()
        key = f"sha256/{sha256[:2]}/{sha256}"
        if self._before_put is not None:
            self._before_put(key)
        with _as_store_unavailable(self.url):
            obstore.rename(self._store, moved, key)
        return Stored(key, sha256, size_bytes)

    def incoming(self) -> Iterator[list[Incoming]]:
        """Yield what clients have sent to the store themselves, in pages."""
        with _as_store_unavailable(self.url):
            for page in obstore.list(self._store, _INCOMING):
                yield [Incoming(str(one["path"]), one["last_modified"].timestamp()) for one in page]

    def drop_incoming(self, found: Sequence[Incoming]) -> None:
        """Delete what clients have sent themselves."""
        with _as_store_unavailable(self.url):
            if found:
                obstore.delete(self._store, [one.path for one in found])

    def size(self, key: str) -> int | None:
        """Return the size in bytes under *key*; None when nothing is there."""
        try:
            with _as_store_unavailable(self.url):
                return int(obstore.head(self._store, _checked(key))["size"])
        except FileNotFoundError:
            return None

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Return the bytes from *start* to *end* (exclusive), in chunks.

        A chunk has a few mebibytes. The first one is read at once, so that an error comes before anything is sent on.

        Raises:
            BytesMissing: nothing lies under *key*.
            StoreUnavailable: try again later.

        """
        size_bytes = self.size(key)
        if size_bytes is None:
            raise BytesMissing(f"nothing is stored under {key}", hint="look for a backup")
        end = size_bytes if end is None else min(end, size_bytes)
        if start >= end:
            return iter(())
        if self._folder is not None:
            return self._read_file(self._folder / _checked(key), start, end)
        with _as_store_unavailable(self.url):
            whole = obstore.get(self._store, _checked(key), options={"range": (start, end)})
            return self._pieces(whole.stream(min_chunk_size=CHUNK_BYTES))

    def presigned(self, key: str, expires_in_s: float) -> str | None:
        """Return a signed address of *key*; None where the store is a folder.

        Raises:
            StoreUnavailable: the store's credentials cannot sign.

        """
        if self._folder is not None:
            return None
        with _as_store_unavailable(self.url):
            return str(obstore.sign(self._store, "GET", _checked(key), timedelta(seconds=expires_in_s)))

    def fetch(self, key: str, path: Path) -> None:
        """Download the bytes under *key* to the file *path*, atomically.

        The file appears whole or not at all.

        Raises:
            BytesMissing: nothing lies under *key*, or what does is damaged.
            StoreUnavailable: try again later.

        """
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        digest = hashlib.sha256()
        pieces = self.read(key)
        try:
            with part.open("wb") as file:
                for piece in pieces:
                    digest.update(piece)
                    file.write(piece)
            if digest.hexdigest() != key.rpartition("/")[2]:
                raise BytesMissing(f"what is stored under {key} is damaged", hint="look for a backup")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)

    def saved_jobs(self) -> list[str]:
        """Return the ids of jobs with saved attempt files."""
        with _as_store_unavailable(self.url):
            found = obstore.list_with_delimiter(self._store, _SAVED)
        return [str(prefix).rpartition("/")[2] for prefix in found["common_prefixes"]]

    def delete_saved(self, job_id: str, attempt: int | None = None, *, but: Collection[str] = ()) -> None:
        """Delete the saved files of one attempt, or of all attempts.

        They are the job's; those under the keys *but* are kept.
        """
        folder = f"{_SAVED}/{job_id}" if attempt is None else f"{_SAVED}/{job_id}/{attempt}"
        with _as_store_unavailable(self.url):
            for page in obstore.list(self._store, folder):
                gone = [str(found["path"]) for found in page if found["path"] not in but]
                if gone:
                    obstore.delete(self._store, gone)

    def saved_keys(self, job_id: str) -> list[str]:
        """Return the keys of all that the job's attempts have saved."""
        with _as_store_unavailable(self.url):
            pages = obstore.list(self._store, f"{_SAVED}/{job_id}")
            return [str(found["path"]) for page in pages for found in page]

    def objects(self, part: int) -> Iterator[list[StoredObject]]:
        """Yield the content-addressed objects whose digests begin with the byte *part*, in pages."""
        with _as_store_unavailable(self.url):
            for page in obstore.list(self._store, f"sha256/{part:02x}"):
                found = [(str(one["path"]), int(one["size"]), one["last_modified"].timestamp()) for one in page]
                yield [StoredObject(*one) for one in found if _KEY.fullmatch(one[0])]

    def claim(self, mark: str) -> bool:
        """Mark an unmarked store; return whether it has this *mark*.

        What collects bytes that its database does not know must be sure that no other database does.
        """
        with _as_store_unavailable(self.url):
            with suppress(AlreadyExistsError):
                obstore.put(self._store, _MARK, mark.encode(), mode="create")
            return bytes(obstore.get(self._store, _MARK).bytes()) == mark.encode()

    def delete(self, keys: Sequence[str]) -> None:
        """Delete the bytes under *keys*; those that are not there are no error."""
        with _as_store_unavailable(self.url):
            if self._folder is not None:
                for key in keys:
                    (self._folder / _checked(key)).unlink(missing_ok=True)
            elif keys:
                obstore.delete(self._store, [_checked(key) for key in keys])

    def delete_parts(self, *, before: float) -> int:
        """Delete leftovers of broken uploads; return the number of files.

        They lie in a folder since before *before*; an object store deletes its by a rule of the bucket.
        """
        number = 0
        for path in self._folder.rglob("*#*") if self._folder is not None else ():
            with suppress(FileNotFoundError):
                if path.is_file() and path.stat().st_mtime < before:
                    path.unlink()
                    number += 1
        return number

    @property
    def folder(self) -> Path | None:
        """Folder of a store that is one; None of a remote store."""
        return self._folder

    def free_bytes(self) -> int | None:
        """Return the free bytes under a store that is a folder, or None."""
        return None if self._folder is None else shutil.disk_usage(self._folder).free

    def check(self) -> None:
        """Check the store: write and read a few bytes.

        Raises:
            StoreUnavailable: the store cannot be used.

        """
        with _as_store_unavailable(self.url):
            obstore.put(self._store, "check", b"retort")
            obstore.get(self._store, "check").bytes()

    def _read_file(self, path: Path, start: int, end: int) -> Iterator[bytes]:
        """Read plainly, which is several times as fast as through the store, and as near to sendfile as it gets."""
        with _as_store_unavailable(self.url):
            file = path.open("rb", buffering=0)

        def pieces() -> Iterator[bytes]:
            with _as_store_unavailable(self.url), file:
                file.seek(start)
                left = end - start
                while left > 0 and (piece := file.read(min(left, CHUNK_BYTES))):
                    left -= len(piece)
                    yield piece

        return pieces()

    def _pieces(self, stream: Any) -> Iterator[bytes]:
        with _as_store_unavailable(self.url):
            for piece in stream:
                yield bytes(piece)


def _copy(file: IO[bytes], target: Path) -> None:
    """Copy *file* to *target*, which appears whole; a broken copy is one of those that ``delete_parts`` finds."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}#{os.getpid()}-{threading.get_ident()}")
    try:
        with part.open("wb") as copy:
            shutil.copyfileobj(file, copy, _COPIED_BYTES)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def signs(url: str) -> bool:
    """Return True for a store that signs addresses, to which clients can send."""
    return _local_folder(url) is None


def _local_folder(url: str) -> Path | None:
    parts = urlsplit(url)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def _open(url: str) -> Any:
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        hint = f"RETORT_STORE_URL must begin with one of {', '.join(f'{scheme}://' for scheme in _SCHEMES)}"
        raise StoreUnavailable(f"{parts.scheme or 'no scheme'}: unknown kind of artifact store", hint=hint)
    if (folder := _local_folder(url)) is not None:
        return LocalStore(folder, mkdir=True, automatic_cleanup=True)
    return from_url(url)


def _checked(key: str) -> str:
    if not _KEY.fullmatch(key):
        raise BytesMissing(f"{key!r} is not a key of this store")
    return key


@contextmanager
def _as_store_unavailable(url: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise
    except (BaseError, OSError) as error:
        scheme = urlsplit(url).scheme
        raise StoreUnavailable(f"the {scheme} artifact store failed: {str(error).partition(chr(10))[0]}") from error
