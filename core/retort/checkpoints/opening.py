"""Open weights files as description and tensors."""

from __future__ import annotations

import zipfile
from pathlib import Path

from retort.checkpoints import converted, reader
from retort.checkpoints.archive import TorchArchive, open_archive
from retort.checkpoints.coding import Description, ValueDecoder
from retort.checkpoints.description import NotADetector, Tensors, describe
from retort.checkpoints.records import Flaw
from retort.errors import ModelError

SUFFIXES = (".pt", converted.SUFFIX)
"""Of files that weights may come in."""
HINT = (
    "an Ultralytics detection checkpoint with its network, as training saves it: not damaged, not TorchScript; "
    "a state dict alone does not say which network it belongs to"
)
_DETECTOR_HINT = "a detector with a Detect head: YOLOv3, v5, v6, v8, v9, v10, YOLO11, YOLO12 or YOLO26"


def open_checkpoint(path: Path, name: str) -> tuple[TorchArchive, Description, Tensors]:
    """Read the .pt file that people call *name* without running it.

    Raises:
        ModelError: it is none, or holds what no checkpoint of a detector has.

    """
    archive = open_layout(path, name)
    try:
        described, tensors = describe(reader.read(archive))
        tensors.insist_on(archive.size_bytes)
    except Exception as error:  # whatever a stranger's file provokes: it is refused, and nothing of it was run
        raise refused(name, error) from error
    return archive, described, tensors


def open_layout(path: Path, name: str) -> TorchArchive:
    """Check the archive that people call *name*, and read its pickle.

    Raises:
        ModelError: it is none, or not as torch writes them.

    """
    try:
        return open_archive(path)
    except (Flaw, OSError) as error:
        raise ModelError(f"{name} is not a PyTorch checkpoint: {error}", hint=HINT) from error


def refused(name: str, error: Exception) -> ModelError:
    """Return what to say of the file *name*."""
    if isinstance(error, NotADetector):
        return ModelError(f"{name} is not a detection network: {error}", hint=_DETECTOR_HINT)
    return ModelError(f"weights file {name} cannot be loaded: {error}", hint=HINT)


def is_converted(path: Path) -> bool:
    """Return True if *path* begins as safetensors do."""
    try:
        with path.open("rb") as file:
            return file.read(converted.BEGIN)[-1:] == b"{"
    except OSError:
        return False


def damage_in(weights: Path) -> str | None:
    """Return what has changed in a checked archive since it was written, or None.

    Tensors are read without a look at their checksums. A converted file has none.
    """
    if is_converted(weights):
        return None
    try:
        with zipfile.ZipFile(weights) as file:
            changed = file.testzip()
    except (zipfile.BadZipFile, EOFError, RuntimeError) as error:
        return str(error)
    return None if changed is None else f"{changed} in it has another checksum"


def check(path: Path, name: str) -> Description:
    """Insist on loadable weights and return the network's description.

    Raises:
        ModelError: they cannot.

    """
    if not is_converted(path):
        return open_checkpoint(path, name)[1]
    try:
        return converted.read(path)[0]
    except (Flaw, OSError, MemoryError) as error:
        raise refused(name, error) from error


def names_of(described: Description) -> object:
    """Return the class names of a network, as its file has them."""
    return ValueDecoder().decoded(described.layers[0].attributes.get("names"))
