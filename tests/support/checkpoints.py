"""Make weights files of the shape that Ultralytics saves, without torch."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from typing import Any

from support.pickles import network, pickled


def checkpoint(names: Any = ("thing",), key: str = "model", note: str = "") -> bytes:
    """Return the bytes of a file with a network of these class names; *note* tells two of them apart."""
    names = dict(enumerate(names)) if isinstance(names, tuple) else names
    held = {"epoch": -1, "ema": None, key: network(names=names), "note": note}
    return archive(pickled(held))


def archive(data: bytes, storages: Mapping[str, bytes] | None = None, **more: bytes) -> bytes:
    """Return the bytes of a torch archive with this pickle."""
    buffer = io.BytesIO()
    tensors = {f"data/{key}": content for key, content in ({"0": bytes(16)} if storages is None else storages).items()}
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in {"data.pkl": data, **tensors, "version": b"3\n", **more}.items():
            file.writestr(zipfile.ZipInfo(f"best/{name}"), content)
    return buffer.getvalue()
