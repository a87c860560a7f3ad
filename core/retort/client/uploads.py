"""Send files and folders in parts: resumable, with digests, nothing twice."""

from __future__ import annotations

import base64
import hashlib
import os
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from retort.client.answers import Part, Upload, UploadPartLink, UploadSummary
from retort.client.calls import OCTETS, Call, Json, Listing, Local, Pause, Progress, Steps, Together, given, pages
from retort.client.operations import AwaitingPart, BlockingPart, call, listing, steps
from retort.client.signed_parts import put_parts
from retort.client.transport import ClientError
from retort.data.archives import KINDS
from retort.errors import UserError

PATIENCE_S = 600.0
"""For one answer: the service stores a large file before it answers."""
_PART_BYTES = 8 << 20
_LEAST_GROUP_BYTES = 1 << 20
_MOST_PARTS = 20_000
_READ_BYTES = 1 << 20
_AT_A_TIME = 3
_LOOK_S = 0.5
_LINKS_AT_A_TIME = 64
"""They are used within minutes, and end after an hour."""
_TRIES = 2
"""So often nothing may get through to the object store."""
_MOST_GROUPS = 8_000
_CUT = 4
"""One of so many names ends a part, so that files which are added shift few of the cuts."""
_BLOCK_BYTES = 512
_END = bytes(2 * _BLOCK_BYTES)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Bytes as they are, or a range of a file's."""

    data: bytes = b""
    path: Path | None = None
    start: int = 0
    length: int = 0

    @property
    def size_bytes(self) -> int:
        return len(self.data) or self.length

    def read(self) -> Iterator[bytes]:
        if self.path is None:
            yield self.data
            return
        left = self.length
        with self.path.open("rb") as file:
            file.seek(self.start)
            while left and (chunk := file.read(min(left, _READ_BYTES))):
                left -= len(chunk)
                yield chunk
        if left:
            raise UserError(f"{self.path} became shorter while it was sent", hint="send it again")


_Part = tuple[_Piece, ...]


def _file_parts(path: Path) -> list[_Part]:
    size = path.stat().st_size
    part = max(_PART_BYTES, -(-size // _MOST_PARTS))
    return [(_Piece(path=path, start=at, length=min(part, size - at)),) for at in range(0, size, part)]


def _folder_parts(folder: Path) -> list[_Part]:
    """Cut a folder, as a tar file of what datasets are read from, into parts that hold whole files where they can."""
    found = sorted(_files(folder), key=lambda item: item[0])
    if not found:
        raise UserError(f"{folder} holds no image, label or description", hint="name the folder of a dataset")
    parts: list[_Part] = []
    group: list[_Piece] = []
    least = max(_LEAST_GROUP_BYTES, sum(path.stat().st_size for _, path in found) // _MOST_GROUPS)
    most = max(_PART_BYTES, 2 * least)
    for name, path in found:
        pieces = _packed(name, path)
        size = _size(pieces)
        if group and _size(group) + size > most:
            parts.append(tuple(group))
            group = []
        if size > most:
            parts += _split(pieces)
            continue
        group += pieces
        if _size(group) >= least and zlib.crc32(name.encode(errors="surrogateescape")) % _CUT == 0:
            parts.append(tuple(group))
            group = []
    return [*parts, (*group, _Piece(_END))]


def _size(pieces: Sequence[_Piece]) -> int:
    return sum(piece.size_bytes for piece in pieces)


def _packed(name: str, path: Path) -> list[_Piece]:
    """Return a file as a tar file has it; nothing but name and content is told."""
    about = tarfile.TarInfo(name)
    about.size, about.mode = path.stat().st_size, 0o644
    head = about.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    padding = bytes(-about.size % _BLOCK_BYTES)
    content = [_Piece(path=path, length=about.size)] if about.size else []
    return [_Piece(head), *content, *([_Piece(padding)] if padding else [])]


def _split(pieces: Sequence[_Piece]) -> Iterator[_Part]:
    """Cut a large file; its head goes before and its padding behind."""
    head, content, *padding = pieces
    assert content.path is not None
    part = max(_PART_BYTES, -(-content.length // (_MOST_PARTS // 4)))
    starts = range(0, content.length, part)
    for at in starts:
        one = _Piece(path=content.path, start=at, length=min(part, content.length - at))
        yield (*([head] if at == 0 else []), one, *(padding if at == starts[-1] else []))


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files that datasets are read from, by their names in *folder*; links are followed, circles left."""
    seen = set()
    for here, inside, names in os.walk(folder, followlinks=True):
        real = Path(here).resolve()
        if real in seen:
            inside.clear()
            continue
        seen.add(real)
        inside[:] = [name for name in inside if not name.startswith(".")]
        for name in names:
            path = Path(here) / name
            if path.suffix.lower() in KINDS and not name.startswith(".") and path.is_file():
                yield path.relative_to(folder).as_posix(), path


@dataclass(frozen=True, slots=True)
class Content:
    """Parts of a file or folder, with the digests of parts and whole."""

    name: str
    parts: tuple[_Part, ...]
    digests: tuple[str, ...]
    sha256: str

    @classmethod
    def of(cls, path: Path, progress: Progress | None = None) -> Content:
        """Read the file or folder *path* once, for its digests.

        Raises:
            UserError: it is not there, or empty.

        """
        if not path.exists():
            raise UserError(f"cannot read {path}: it is not there", hint="name a file or a folder")
        parts = _folder_parts(path) if path.is_dir() else _file_parts(path)
        if not parts:
            raise UserError(f"{path} is empty", hint="name a file that holds something")
        total = sum(map(_size, parts))
        whole, digests, done = hashlib.sha256(), [], 0
        for part in parts:
            digest = hashlib.sha256()
            for piece in part:
                for chunk in piece.read():
                    digest.update(chunk)
                    whole.update(chunk)
            digests.append(digest.hexdigest())
            done += _size(part)
            if progress:
                progress(done, total)
        name = path.resolve().name or "folder"
        return cls(f"{name}.tar" if path.is_dir() else name, tuple(parts), tuple(digests), whole.hexdigest())

    @property
    def size_bytes(self) -> int:
        """Size of the whole."""
        return sum(map(_size, self.parts))

    def announcement(self) -> Json:
        """Return the body of the request that begins the upload."""
        parts = [
            {"sha256": digest, "size_bytes": _size(part)} for digest, part in zip(self.digests, self.parts, strict=True)
        ]
        shown = self.name.encode(errors="replace").decode()[:200]
        plain = "".join(character if character.isprintable() else "_" for character in shown).replace("\\", "_")
        return {"size_bytes": self.size_bytes, "sha256": self.sha256, "name": plain or "file", "parts": parts}

    def read(self, number: int) -> bytes:
        """Return the bytes of a part, from 1."""
        return b"".join(chunk for piece in self.parts[number - 1] for chunk in piece.read())


def sent(content: Content, progress: Progress | None = None) -> Steps[Upload]:
    """Send what the service lacks of *content*; return the complete upload."""
    upload: Upload = yield Call("POST", "/v1/uploads", {"json": content.announcement()})
    signed = upload.get("links", {}).get("signed")
    if signed:
        upload = yield from _taken_over(upload)
    missing = [] if upload["state"] == "complete" else list(upload["missing"])
    done = content.size_bytes - sum(_size(content.parts[number - 1]) for number in missing)

    def ended(number: int) -> None:
        nonlocal done
        done += _size(content.parts[number - 1])
        if progress:
            progress(done, content.size_bytes)

    if progress:
        progress(done, content.size_bytes)
    if upload["state"] == "complete":
        return upload
    if signed:
        missing = yield from _to_bucket(signed, missing, content, ended)
    puts = [_put(upload["id"], number, content) for number in missing]
    yield Together(puts, _AT_A_TIME, lambda place: ended(missing[place]))
    complete: Upload = yield _completed(upload["id"])
    return complete


def fetched(upload: Upload, progress: Progress | None = None) -> Steps[Upload]:
    """Wait until an upload is fetched by URL, or cannot be."""
    while upload["state"] == "open":
        yield Pause(_LOOK_S)
        upload = yield Call("GET", f"/v1/uploads/{upload['id']}")
        if progress and upload["size_bytes"]:
            progress(upload["received_bytes"], upload["size_bytes"])
    failure = upload.get("failure")
    if failure is not None:
        raise ClientError(failure["message"], code=failure["code"], hint=failure["hint"])
    return upload


def _taken_over(upload: Upload) -> Steps[Upload]:
    """Have the service look at what an earlier call sent to the object store; return the upload."""
    try:
        found: Upload = yield _completed(upload["id"])
    except ClientError:
        found = yield Call("GET", f"/v1/uploads/{upload['id']}")
    return found


def _to_bucket(
    address: str, missing: Sequence[int], content: Content, ended: Callable[[int], None]
) -> Steps[list[int]]:
    """Send parts to the object store; return those that have to go through the service."""
    left, idle = list(missing), 0
    while left and idle < _TRIES:
        links: tuple[UploadPartLink, ...] = yield Call("POST", address, {"params": {"first": left[0]}}, reading="data")
        wanted = frozenset(left[:_LINKS_AT_A_TIME])
        urls = {one["number"]: one["url"] for one in links if one["number"] in wanted}
        there = yield Local(partial(put_parts, urls, content.read, ended, at_a_time=_AT_A_TIME))
        left = [number for number in left if number not in there]
        idle = 0 if there else idle + 1
    return left


def _put(upload_id: str, number: int, content: Content) -> Call[Part]:
    digest = base64.b64encode(bytes.fromhex(content.digests[number - 1])).decode()
    headers = {**OCTETS, "Repr-Digest": f"sha-256=:{digest}:"}
    path = f"/v1/uploads/{upload_id}/parts/{number}"
    return Call("PUT", path, {"headers": headers}, body=partial(content.read, number))


def _completed(upload_id: str) -> Call[Upload]:
    return Call("POST", f"/v1/uploads/{upload_id}/complete", {"timeout": PATIENCE_S})


class UploadCalls:
    """Calls about uploads."""

    @steps
    def send(self, content: Content, progress: Progress | None = None) -> Steps[Upload]:
        """Send what the service lacks of *content*; return the complete upload.

        A later call goes on where an earlier one was interrupted.
        """
        return sent(content, progress)

    @call
    def complete(self, upload_id: str) -> Call[Upload]:
        """Have the whole checked; return the upload."""
        return _completed(upload_id)

    @call
    def get(self, upload_id: str) -> Call[Upload]:
        """Return an upload, with the parts that are there and those that are missing."""
        return Call("GET", f"/v1/uploads/{upload_id}")

    @listing
    def list(self) -> Listing[UploadSummary]:
        """Yield the uploads, newest first, page after page."""
        return pages("/v1/uploads")

    @call
    def fetch(self, url: str, *, sha256: str | None = None) -> Call[Upload]:
        """Have the service fetch a file by https; return the upload."""
        return Call("POST", "/v1/uploads/fetch", {"json": given(url=url, sha256=sha256)})

    @steps
    def wait(self, upload_id: str, progress: Progress | None = None) -> Steps[Upload]:
        """Return an upload that is fetched by URL once it is there.

        Raises:
            ClientError: it could not be fetched.

        """
        upload: Upload = yield Call("GET", f"/v1/uploads/{upload_id}")
        upload = yield from fetched(upload, progress)
        return upload

    @call
    def links(self, upload_id: str) -> Call[tuple[UploadPartLink, ...]]:
        """Return where the missing parts can be put into the object store."""
        return Call("POST", f"/v1/uploads/{upload_id}/links", reading="data")

    @call
    def delete(self, upload_id: str) -> Call[None]:
        """Drop an upload."""
        return Call("DELETE", f"/v1/uploads/{upload_id}", reading="nothing")


class UploadClient(BlockingPart, UploadCalls):
    """Uploads to a service."""


class AsyncUploadClient(AwaitingPart, UploadCalls):
    """Uploads to a service, from an event loop."""
