"""Prepare teachers that are no YOLO: ONNX graphs, RT-DETRs, torchvision's state dicts."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from retort.checkpoints import onnx_graph, opening, rtdetr, states, tensor_rows
from retort.checkpoints.records import Flaw
from retort.confinement import Mode, Part
from retort.data.converted_weights import (
    FOLDER,
    ConvertedWeights,
    convert,
    forget_unused,
    is_intact,
    note_of,
    reading,
    run_confined,
)
from retort.errors import ModelError
from retort.files import atomic_write, sha256_of
from retort.spec.adapter import TeacherAdapter

NAMES_HINT = "an adapter that names its classes in order (teacher.adapter, or adapters): names: [cat, dog]"
_TORCHVISION = ("roi_heads.box_predictor.cls_score.weight", "head.classification_head.")
"""What the names of tensors of torchvision's detectors begin with."""


def prepare(
    source: Path,
    adapter: TeacherAdapter | None,
    model_dir: Path,
    *,
    mode: Mode = "best",
    without: tuple[Part, ...] = (),
) -> ConvertedWeights:
    """Convert the weights *source* of a teacher, or return what was converted before.

    A YOLO becomes a network that can be compared layer by layer. What is none is checked and copied, with its class
    names and the *adapter* in its metadata: such a file says by itself what a run has to know.

    Raises:
        ModelError: it is neither, or does not say the names of its classes.
        TransientError: the process could not be confined as the operator demands.

    """
    if not is_foreign(source) and (adapter is None or not _is_onnx(source)):
        try:
            return convert(source, model_dir, mode=mode, without=without)
        except ModelError:
            if states.is_state(source) or not _teaches_by_boxes(source, model_dir, mode, without):
                raise
    digest, name = sha256_of(source), _file_name(source)
    told = (adapter or TeacherAdapter()).model_dump(mode="json", exclude_defaults=True)
    key = sha256(f"{digest} {json.dumps(told, sort_keys=True)}".encode()).hexdigest()
    target = model_dir / FOLDER / key / name
    if not is_intact(target):
        forget_unused(model_dir / FOLDER)
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", dir=target.parent) as folder:
            rows = source
            if not states.is_state(source):
                run_confined(
                    reading(source, source.name, mode, without, "state"), source, rows := Path(folder) / "rows"
                )
            states.write_adapter(
                rows, part := Path(folder) / target.name, {**told, "names": _names(rows, source.name, told)}
            )
            part_digest = sha256_of(part)
            part.replace(target)
            atomic_write(note_of(target), part_digest.encode())
    os.utime(target.parent)
    return ConvertedWeights(target, digest)


def is_foreign(source: Path) -> bool:
    """Return True if *source* is a detector of another family.

    It is ONNX or safetensors that name none of Ultralytics' YOLO networks; or a graph that names one and has more in
    it than the network, such as NMS, so that it cannot be taken apart.
    """
    if not states.is_state(source):
        return False
    try:
        if _is_onnx(source):
            return not states.names_network(onnx_graph.read(source, plain=False).metadata) or not _is_plain(source)
        metadata, tensors = tensor_rows.read(source)
    except (Flaw, OSError):
        return False  # what converts it says what is wrong
    return not states.names_network(metadata) and _is_torchvision(tensors)


def can_teach(source: Path) -> bool:
    """Return True if *source* is a detector of another family, also a .pt file.

    Its bytes are read, by opcodes where it is one; nothing in them is run.
    """
    if states.is_state(source):
        return is_foreign(source)
    try:
        _, tensors, metadata = opening.open_tensors(source, source.name)
    except ModelError:
        return False
    return _is_known(metadata, tensors.found)


def _metadata(source: Path) -> dict[str, str]:
    """Return what *source* says of itself; the whole file is checked."""
    return dict(onnx_graph.read(source, plain=False).metadata if _is_onnx(source) else tensor_rows.read(source)[0])


def _file_name(source: Path) -> str:
    """Return what a prepared file is called: a registered one has the suffix .pt, whatever it is."""
    return source.with_suffix(".onnx").name if states.is_state(source) and _is_onnx(source) else source.name


def _is_onnx(source: Path) -> bool:
    with source.open("rb") as file:
        return onnx_graph.begins_like_one(file.read(tensor_rows.BEGIN))


def _is_plain(source: Path) -> bool:
    """Return True if an ONNX graph is of a network alone."""
    try:
        onnx_graph.read(source)
    except Flaw:
        return False
    return True


def _is_known(metadata: Mapping[str, str], tensors: object) -> bool:
    """Return True if a .pt file's *metadata* or the names of its *tensors* are those of a family that teaches."""
    return rtdetr.ARCHITECTURE in metadata or _is_torchvision(tensors)


def _is_torchvision(names: object) -> bool:
    return any(str(name).startswith(_TORCHVISION) for name in names)  # type: ignore[attr-defined]


def _teaches_by_boxes(source: Path, model_dir: Path, mode: Mode, without: tuple[Part, ...]) -> bool:
    """Return True if *source* is a .pt file of an RT-DETR, or with the state dict of one of torchvision's detectors."""
    with TemporaryDirectory(prefix=".", dir=model_dir) as folder:
        try:
            run_confined(reading(source, source.name, mode, without, "state"), source, rows := Path(folder) / "rows")
            metadata, tensors = tensor_rows.read(rows)
            return _is_known(metadata, tensors)
        except (ModelError, Flaw):
            return False


def _names(source: Path, name: str, told: dict[str, object]) -> list[str]:
    """Return the classes that the adapter or the file names.

    Raises:
        ModelError: neither does, or the file cannot be read.

    """
    try:
        metadata, given = _metadata(source), told.get("names")
        return list(states.class_list(given) if given else states.names_in(metadata))
    except (Flaw, OSError) as error:
        raise ModelError(f"{name} cannot teach: {error}", hint=NAMES_HINT) from error
