"""Resolve the names that annotation tools give to images."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Collection, Iterator
from urllib.parse import parse_qs, unquote, urlsplit

_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".avif", ".heic", ".jp2")
UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-(?=.)")
"""What Label Studio puts before the names of files that are uploaded."""
_ROBOFLOW = re.compile(r"^(?P<stem>.+?)(_(jpe?g|png|bmp|tiff?|webp))?\.rf\.[0-9A-Za-z_-]{6,64}$", re.IGNORECASE)
_IN_QUERY = ("d", "fileuri", "filename", "file", "path", "key")
"""Where an address names its file: local files, and presigned ones, of Label Studio; and what others use."""


def image_of(name: str) -> str:
    """Return the picture that a file name or address means.

    Folders, endings and what signs an address do not matter.
    """
    return next(_plain_names(name), name)


def resolve(names: Collection[str], known: Collection[str]) -> str | None:
    """Return the one of *known* that some of *names* means, or None."""
    for variants in (_plain_names, _tool_names):
        for name in names:
            for variant in variants(name):
                if variant in known:
                    return variant
    return None


def _plain_names(name: str) -> Iterator[str]:
    """Yield what an address or path ends with, without its ending and as it is."""
    for target in targets(name.strip()):
        last = target.replace("\\", "/").rstrip("/").rpartition("/")[2]
        if last:
            yield without_suffix(last)
            yield last


def targets(name: str) -> Iterator[str]:
    """Yield the paths in an address.

    That is the file that its query names, or the address's path; what is no address is a path itself.
    """
    if "?" in name or "://" in name:
        try:
            parts = urlsplit(name)
        except ValueError:
            return
        query = parse_qs(parts.query)
        for key in _IN_QUERY:
            for value in query.get(key, ()):
                yield _decoded(value) if key == "fileuri" else value
        yield unquote(parts.path)
    else:
        yield name
        if "%" in name:
            yield unquote(name)


def _decoded(value: str) -> str:
    """Return an address that Label Studio has packed to be resolved or signed."""
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return value


def _tool_names(name: str) -> Iterator[str]:
    """Yield names without what Label Studio puts before, and Roboflow behind them."""
    for plain in _plain_names(name):
        bare = UPLOAD_PREFIX.sub("", plain)
        yield bare
        for one in (plain, bare):
            if (made := _ROBOFLOW.match(one)) is not None:
                yield made["stem"]
                yield UPLOAD_PREFIX.sub("", made["stem"])


def without_suffix(name: str) -> str:
    """Return the name of a file without the ending of images."""
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in _SUFFIXES else name
