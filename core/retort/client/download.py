"""Download a file resumably and verify its SHA-256."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from retort.client.transport import ClientError
from retort.errors import TransientError
from retort.files import sha256_of


def promised_sha256(headers: Mapping[str, str]) -> str:
    """Return the SHA-256 of a whole file from the response headers.

    It is read from Repr-Digest (RFC 9530), else from an ETag that holds a digest.

    Raises:
        TransientError: there is none, so what arrives could not be verified.

    """
    if found := re.search(r"sha-256=:([A-Za-z0-9+/=]+):", headers.get("Repr-Digest", "")):
        return base64.b64decode(found[1]).hex()
    if found := re.search(r"[0-9a-f]{64}", headers.get("ETag", "")):
        return found[0]
    raise TransientError("the service does not say what the file's SHA-256 is", code="no_digest")


def damaged(path: Path) -> ClientError:
    """Return the error for a file whose digest is not the promised one."""
    return ClientError(f"{path.name} arrived damaged", code="digest_mismatch", hint="download it again")


@dataclass(frozen=True, slots=True)
class Partial:
    """A partly downloaded file with a known SHA-256."""

    path: Path
    """Where the whole file goes."""
    sha256: str
    size_bytes: int
    etag: str

    @classmethod
    def promised(cls, path: Path, headers: Mapping[str, str]) -> Self:
        """Return the download that the headers of a HEAD request describe.

        The folder of *path* is created.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        return cls(path, promised_sha256(headers), int(headers["Content-Length"]), headers.get("ETag", ""))

    @property
    def part(self) -> Path:
        """Path of the partly downloaded file.

        The SHA-256 is in its name, so that two versions of a file never mix.
        """
        return self.path.with_name(f".{self.path.name}.{self.sha256[:12]}.part")

    @property
    def present(self) -> int:
        """Number of bytes downloaded so far."""
        return self.part.stat().st_size if self.part.exists() else 0

    @property
    def missing(self) -> bool:
        """Whether bytes of the file are still missing.

        True also for an empty file that was not created yet.
        """
        return not self.part.exists() or self.present < self.size_bytes

    def request_headers(self) -> dict[str, str]:
        """Return headers that request the rest of the unchanged file."""
        headers = {"Accept-Encoding": "identity"}
        if self.present:
            headers |= {"Range": f"bytes={self.present}-", "If-Range": self.etag}
        return headers

    def receive(self, status: int, chunks: Iterable[bytes]) -> Iterator[int]:
        """Append the response (206), or restart; yield the size per chunk.

        Every status other than 206 restarts.
        """
        with self.part.open("ab" if status == 206 else "wb") as file:
            for chunk in chunks:
                file.write(chunk)
                yield file.tell()

    def finish(self) -> bool:
        """Move the file into place if its digest is right.

        A file with a wrong digest is deleted. Return whether the digest was right.
        """
        if sha256_of(self.part) != self.sha256:
            self.part.unlink()
            return False
        self.part.replace(self.path)
        return True
