"""Open weights files as description and tensors."""

from __future__ import annotations

import zipfile
from pathlib import Path

from retort.checkpoints import converted, reader, rtdetr, states, tensor_rows
from retort.checkpoints.archive import TorchArchive, open_archive
from retort.checkpoints.coding import Description, ValueDecoder
from retort.checkpoints.description import NotADetector, Tensors, describe, state_tensors
from retort.checkpoints.records import Flaw
from retort.errors import ModelError

FOLDED = "folded"
"""Argument of a network whose normalisation is folded into its weights, so that it can only teach."""
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


def open_tensors(path: Path, name: str) -> tuple[TorchArchive, Tensors, dict[str, str]]:
    """Read the tensors of a state dict, or of an RT-DETR, without running it.

    It is in the .pt file that people call *name*. Beside them stands what the file says of their network.

    Raises:
        ModelError: it holds no mapping of names to tensors.

    """
    archive = open_layout(path, name)
    try:
        held = reader.read(archive)
        found, metadata = rtdetr.taken_out(held) or (state_tensors(held), {})
        tensors = Tensors(found)
        tensors.insist_on(archive.size_bytes)
    except Exception as error:  # whatever a stranger's file provokes: it is refused, and nothing of it was run
        raise refused(name, error) from error
    return archive, tensors, metadata


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
            return file.read(tensor_rows.BEGIN)[-1:] == b"{"
    except OSError:
        return False


def damage_in(weights: Path) -> str | None:
    """Return what has changed in a checked archive since it was written, or None.

    Tensors are read without a look at their checksums. Other files have none.
    """
    if is_converted(weights) or states.is_state(weights):
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


def open_state(path: Path, name: str) -> states.State:
    """Read tensors from outside, in the file that people call *name*.

    Raises:
        ModelError: they are none, or it is not said what they are of.

    """
    try:
        return states.read(path)
    except Exception as error:  # whatever a stranger's file provokes
        raise refused_state(name, error) from error


def refused_state(name: str, error: Exception) -> ModelError:
    """Return what to say of the tensors from outside in the file *name*."""
    return ModelError(f"weights file {name} cannot be loaded: {error}", hint=states.HINT)


def is_folded(described: Description) -> bool:
    """Return True if the network's normalisation was folded into its weights, as exports do."""
    arguments = ValueDecoder().decoded(described.arguments)
    return isinstance(arguments, dict) and arguments.get(FOLDED) is True


def names_of(described: Description) -> object:
    """Return the class names of a network, as its file has them."""
    return ValueDecoder().decoded(described.layers[0].attributes.get("names"))
