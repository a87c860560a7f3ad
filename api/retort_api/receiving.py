"""Receive bodies of any size: to the disk, bounded, with their digest."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Self, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError
from retort.errors import DISK_FULL, TransientError, UserError
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from retort_api.errors import BadParameter, Mistake

BINARY = "application/octet-stream"
Model = TypeVar("Model", bound=BaseModel)
_WRITTEN_BYTES = 1 << 20
"""Written to the disk at a time: a thread is woken for each."""
_DIGEST = re.compile(r"sha-256\s*=\s*:([A-Za-z0-9+/=]{1,64}):")
_SHA256_BYTES = 32


class StorageFull(TransientError):
    """The disk is full, or too full for a file."""

    code = "storage_full"


class BadBody(UserError):
    """The body is not what the operation takes."""

    code = "bad_parameter"

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__(f"{mistakes[0].path}: {mistakes[0].detail}", hint=mistakes[0].hint)
        self.mistakes = mistakes


@dataclass(frozen=True, slots=True)
class Received:
    """A received body in a nameless file.

    The file goes with its closing, and with the process, however that ends.
    """

    file: IO[bytes]
    sha256: str
    size_bytes: int
    whole: bool = True
    """False where the client went away before its end."""

    @property
    def path(self) -> Path:
        """Path under which this process can open the file again."""
        return Path(f"/dev/fd/{self.file.fileno()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()


@contextmanager
def as_storage_full() -> Any:
    """Raise ``StorageFull`` where a file does not fit on the disk."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        hint = "the operator has to make room: retort prune, or a larger disk; what was sent so far is kept"
        raise StorageFull("the disk is full", hint=hint) from error


class Spool:
    """A nameless file that takes what is sent, and reckons its digest."""

    def __init__(self, folder: Path) -> None:
        with as_storage_full():
            folder.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = TemporaryFile(dir=folder)  # noqa: SIM115 - closed by who receives it
        self._digest = hashlib.sha256()
        self._waiting = bytearray()
        self.size_bytes = 0

    async def add(self, chunk: bytes) -> None:
        """Take a few more bytes."""
        self._waiting += chunk
        self.size_bytes += len(chunk)
        if len(self._waiting) >= _WRITTEN_BYTES:
            await run_in_threadpool(self._write)

    def take(self, piece: bytes) -> None:
        """Take bytes in a thread that may wait for the disk."""
        self._waiting += piece
        self.size_bytes += len(piece)
        self._write()

    def taken(self) -> Received:
        """Return what was taken."""
        return Received(self._file, self._digest.hexdigest(), self.size_bytes)

    async def end(self, *, whole: bool = True) -> Received:
        """Return what was taken."""
        await run_in_threadpool(self._write)
        return Received(self._file, self._digest.hexdigest(), self.size_bytes, whole)

    def close(self) -> None:
        """Drop what was taken."""
        self._file.close()

    def _write(self) -> None:
        with as_storage_full():
            self._digest.update(self._waiting)
            self._file.write(self._waiting)
            self._waiting.clear()
            self._file.flush()


async def receive(request: Request, folder: Path, limit: int) -> Received:
    """Receive the request's whole body of at most *limit* bytes.

    Raises:
        UserError: it is larger.
        StorageFull: the disk is.

    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large(limit)
    spool = Spool(folder)
    try:
        async for chunk in _bounded(request, limit):
            await spool.add(chunk)
        return await spool.end()
    except BaseException:
        spool.close()
        raise


async def _bounded(request: Request, limit: int) -> AsyncIterator[bytes]:
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        yield chunk


async def receive_pieces(request: Request, folder: Path, piece_bytes: int, limit: int) -> AsyncIterator[Received]:
    """Yield the body in pieces of *piece_bytes*.

    The last one is shorter. What came before the connection broke is yielded too.

    Raises:
        UserError: there is more than *limit* bytes.

    """
    spool = Spool(folder)
    cut = _Cut()
    try:
        async for chunk in cut.chunks(request, limit):
            rest = memoryview(chunk)
            while rest:
                taken = rest[: piece_bytes - spool.size_bytes]
                await spool.add(bytes(taken))
                rest = rest[len(taken) :]
                if spool.size_bytes == piece_bytes:
                    piece, spool = await spool.end(), Spool(folder)
                    yield piece
        if spool.size_bytes:
            piece, spool = await spool.end(whole=not cut.seen), Spool(folder)
            yield piece
    finally:
        spool.close()


class _Cut:
    """Whether the connection broke before the end of a body."""

    seen = False

    async def chunks(self, request: Request, limit: int) -> AsyncIterator[bytes]:
        try:
            async for chunk in _bounded(request, limit):
                yield chunk
        except ClientDisconnect:
            self.seen = True


def too_large(limit: int) -> UserError:
    """Return the refusal of a body of more than *limit* bytes."""
    return UserError(f"the body is larger than {limit} bytes", code="body_too_large")


async def read_model(request: Request, kind: type[Model], limit: int) -> Model:
    """Read a JSON body of at most *limit* bytes as a value of *kind*.

    Raises:
        UserError: it is larger, no JSON, or has a mistake.

    """
    named = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if named != "application/json":
        told = f"{named!r} is not understood" if named else "the request has no Content-Type"
        raise UserError(told, code="unsupported_media_type", hint="send Content-Type: application/json")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large(limit)
    data = b"".join([chunk async for chunk in _bounded(request, limit)])
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        mistakes = [
            Mistake(path=".".join(map(str, ("body", *one["loc"]))), detail=one["msg"], hint=None)
            for one in error.errors(include_url=False)[:_MOST_MISTAKES]
        ]
        if any(one["type"] == "json_invalid" for one in error.errors(include_url=False)):
            raise UserError(f"not valid JSON: {mistakes[0].detail}", code="unreadable_body") from error
        raise BadBody(tuple(mistakes)) from error


_MOST_MISTAKES = 20


def sha256_in(headers: Any) -> str | None:
    """Return the SHA-256 that Repr-Digest or Content-Digest (RFC 9530) announces, in hex.

    Raises:
        BadParameter: there is such a header without a SHA-256, or both differ.

    """
    found = {}
    for name in ("repr-digest", "content-digest"):
        if (given := headers.get(name)) is not None:
            found[name] = _sha256(name, given)
    if len(set(found.values())) > 1:
        raise BadParameter("header.repr-digest", "differs from Content-Digest", hint="send one of them")
    return next(iter(found.values()), None)


def _sha256(name: str, given: str) -> str:
    announced = _DIGEST.search(given)
    try:
        digest = base64.b64decode(announced[1], validate=True) if announced else b""
    except binascii.Error:
        digest = b""
    if len(digest) != _SHA256_BYTES:
        raise BadParameter(f"header.{name}", "holds no SHA-256", hint="sha-256=:BASE64:, as in RFC 9530")
    return digest.hex()
