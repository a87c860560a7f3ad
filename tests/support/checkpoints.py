"""Make weights files of the shape that Ultralytics saves, without torch."""

from __future__ import annotations

import io
import pickle
import zipfile
from typing import Any


class DetectionModel:
    """Hold what a saved network tells of itself; nothing that reads names may import it."""

    def __init__(self, names: Any) -> None:
        self.names = names


def checkpoint(names: Any, key: str = "model") -> bytes:
    """Return the bytes of a file with a network of these class names."""
    return pickled(pickle.dumps({"epoch": -1, "ema": None, key: DetectionModel(names)}))


def pickled(data: bytes) -> bytes:
    """Return the bytes of a torch archive with this pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in (("data.pkl", data), ("data/0", b"")):
            file.writestr(zipfile.ZipInfo(f"best/{name}"), content)
    return buffer.getvalue()
