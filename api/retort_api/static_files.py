"""Keep the files of the pages, named by the digest of all of them."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent / "static"
MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
_VERSION_LENGTH = 12


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One file, and the same compressed."""

    media_type: str
    content: bytes
    compressed: bytes


@cache
def files() -> dict[str, StaticFile]:
    """Return all files by their paths."""
    paths = (path for path in sorted(ROOT.rglob("*")) if path.suffix in MEDIA_TYPES)
    return {path.relative_to(ROOT).as_posix(): _read(path) for path in paths}


def _read(path: Path) -> StaticFile:
    content = path.read_bytes()
    return StaticFile(MEDIA_TYPES[path.suffix], content, gzip.compress(content, 9, mtime=0))


@cache
def version() -> str:
    """Return what changes with any of the files."""
    whole = hashlib.sha256()
    for name, file in files().items():
        whole.update(f"{name}\n{len(file.content)}\n".encode() + file.content)
    return whole.hexdigest()[:_VERSION_LENGTH]


def address(name: str) -> str:
    """Return the address of a file, which may be kept for ever."""
    assert name in files(), f"there is no file {name} among the pages' files"
    return f"/static/{version()}/{name}"
