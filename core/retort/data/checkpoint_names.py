"""Read a network's class names from its file, without torch and without running it."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

from retort import class_names

_LARGEST_PICKLE = 4 << 20
"""Of the objects in a checkpoint without their tensors; YOLO's have a tenth of that."""
_HOLDERS = ("ema", "model")
"""Where Ultralytics keeps the network, the averaged one first."""
_DETECTOR = "DetectionModel"
"""Ultralytics' class; what loads a network of another says so."""


class _Inert:
    """Stand in for an object of any class: keep its state, and do nothing."""

    fields: Any = None

    def __init__(self, *_: Any, **__: Any) -> None:
        """Take whatever an object is made from."""

    def __call__(self, *_: Any, **__: Any) -> _Inert:
        return self

    def __setstate__(self, state: Any) -> None:
        self.fields = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Forget an item of a mapping."""

    def append(self, value: Any) -> None:
        """Forget an item of a list."""

    def extend(self, values: Any) -> None:
        """Forget items of a list."""


class _InertUnpickler(pickle._Unpickler):  # noqa: SLF001 - the one in C reserves what a pickle asks for
    """Read a pickle's plain values; import and call nothing."""

    def find_class(self, _module: str, name: str) -> Any:
        return type(name, (_Inert,), {})

    def persistent_load(self, _pid: Any) -> Any:
        return None


def stored_names(file: Path) -> tuple[str, ...] | None:
    """Return the class names of the network in the weights *file*.

    They are in order; None where it tells none.     Nothing in it is run: objects are read as values.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            (entry,) = (one for one in archive.infolist() if one.filename.partition("/")[2] == "data.pkl")
            if entry.file_size > _LARGEST_PICKLE:
                return None
            with archive.open(entry) as stream:
                checkpoint = _InertUnpickler(stream).load()
    except Exception:  # noqa: BLE001 - a pickle of a stranger breaks in any way; what loads it says how
        return None
    return _names(checkpoint)


def _names(checkpoint: Any) -> tuple[str, ...] | None:
    held = [checkpoint.get(key) for key in _HOLDERS] if isinstance(checkpoint, dict) else []
    network = next((one for one in held if isinstance(one, _Inert)), None)
    fields = network.fields if network is not None and type(network).__name__ == _DETECTOR else None
    names = class_names.as_names(fields.get("names")) if isinstance(fields, dict) else {}
    return tuple(names.values()) if names and sorted(names) == list(range(len(names))) else None
