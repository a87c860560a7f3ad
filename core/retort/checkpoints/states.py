"""Read tensors from outside, with the architecture that they name."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from retort import class_names
from retort.checkpoints import architecture_rows, converted, onnx_graph, tensor_rows
from retort.checkpoints.records import Flaw
from retort.checkpoints.tensor_rows import LENGTH, StoredTensor
from retort.constants import MODEL_NAMES
from retort.documents import DocumentLimits, parse_document
from retort.errors import ModelError, SpecError

ARCHITECTURE, NAMES = "retort.architecture", "retort.names"
"""Keys of the metadata by which a file says what it is; ``architecture`` and ``names`` do where they lack."""
HINT = (
    "a .safetensors or .onnx file of one of Ultralytics' detectors, which says in its metadata, or by architecture and "
    "names in the request, which network it is and what its classes are; or the .pt file that it comes from; detectors "
    "of other kinds can only teach, named in teacher.weights by a file of the model folder or, for retort run, by its "
    "path"
)
_LIMITS = DocumentLimits(most_bytes=1 << 20, most_values=20_000, most_depth=16)
_MOST_CLASSES = 10_000
_LONGEST_NAME = 200
_DESCRIPTION = re.compile(r"Ultralytics (YOLO[\w.-]{1,40}) model\b")
"""What Ultralytics writes into what it exports."""


@dataclass(frozen=True)
class State:
    """Tensors by name, and the network that they are of."""

    path: Path
    architecture: str | dict[str, Any]
    """By name, or as Ultralytics describes it."""
    names: tuple[str, ...]
    tensors: dict[str, StoredTensor]
    graph: onnx_graph.OnnxFile | None = None
    """What an ONNX file says beside; None for safetensors."""
    end2end: bool | None = None
    """Whether its boxes come from the head that needs no NMS, where the file says so."""


def is_state(path: Path) -> bool:
    """Return True if *path* is ONNX, or safetensors not converted here."""
    try:
        with path.open("rb") as file:
            begin = file.read(tensor_rows.BEGIN)
        if begin[-1:] == b"{":
            return tensor_rows.read(path)[0].get("format") != converted.FORMAT
    except (OSError, Flaw):
        return False
    return onnx_graph.begins_like_one(begin)


def names_network(metadata: Mapping[str, str]) -> bool:
    """Return True if a file's *metadata* name one of Ultralytics' YOLO networks."""
    named = metadata.get(ARCHITECTURE) or metadata.get("architecture")
    return bool(named or _DESCRIPTION.search(metadata.get("description", "")))


def read(path: Path) -> State:
    """Read and check the tensors, architecture and class names of *path*.

    Raises:
        Flaw: they are not there, or out of bounds.
        OSError: it cannot be read.

    """
    with path.open("rb") as file:
        begin = file.read(tensor_rows.BEGIN)
    if begin[-1:] == b"{":
        metadata, tensors = tensor_rows.read(path)
        graph = None
    else:
        graph = onnx_graph.read(path)
        metadata, tensors = graph.metadata, graph.tensors
    if not tensors:
        raise Flaw("it holds no tensors")
    end2end = {"True": True, "False": False}.get(metadata.get("end2end", ""))
    return State(path, _architecture(metadata), names_in(metadata), tensors, graph, end2end)


def _architecture(metadata: Mapping[str, str]) -> str | dict[str, Any]:
    given = metadata.get(ARCHITECTURE) or metadata.get("architecture")
    if not given:
        found = _DESCRIPTION.search(metadata.get("description", ""))
        given = found[1].lower() if found else ""
    if not given:
        raise Flaw("it does not say which network its tensors are of")
    return architecture(given)


def architecture(text: str) -> str | dict[str, Any]:
    """Return the network that *text* names or, as YAML, describes.

    Raises:
        Flaw: it is no known name, or describes what is not built.

    """
    if (name := text.strip().removesuffix(".yaml")) in MODEL_NAMES:
        return name
    if "\n" not in text and "{" not in text:
        raise Flaw(f"it is of the network {text[:60]!r}, which is none of Ultralytics' detectors")
    described = _document(text, "the description of its network")
    architecture_rows.check(described)
    scales = described.get("scales") or {}
    scale = described.get("scale", next(iter(scales), None))
    if scale is not None and scale not in scales:
        raise Flaw(f"its description has no scale {str(scale)[:20]!r}")
    kept = {key: described[key] for key in described if key != "yaml_file"}
    return kept if scale is None else {**kept, "scale": scale}


def names_in(metadata: Mapping[str, str]) -> tuple[str, ...]:
    """Return the class names in a file's *metadata*, in order.

    Raises:
        Flaw: there are none.

    """
    given = metadata.get(NAMES) or metadata.get("names")
    if not given:
        raise Flaw("it does not say the names of its classes")
    return class_list(_document(f"names: {given}", "the list of its classes").get("names"))


def class_list(given: Any) -> tuple[str, ...]:
    """Return class names in order.

    Raises:
        Flaw: they are none.

    """
    names = class_names.as_names(given)
    if not 0 < len(names) <= _MOST_CLASSES or sorted(names) != list(range(len(names))):
        raise Flaw(f"its classes are no list of 1 to {_MOST_CLASSES} names")
    if not all(0 < len(name) <= _LONGEST_NAME and name.isprintable() for name in names.values()):
        raise Flaw(f"a class in it has no printable name of at most {_LONGEST_NAME} characters")
    return tuple(names[number] for number in range(len(names)))


def _document(text: str, what: str) -> dict[str, Any]:
    try:
        found = parse_document(text, _LIMITS)
    except SpecError as error:
        raise Flaw(f"{what} cannot be read: {error.problems[0].message}") from error
    if not isinstance(found, dict):
        raise Flaw(f"{what} is no mapping")
    return found


def completed(path: Path, to: Path, name: str, *, architecture_text: str | None, names: Sequence[str]) -> None:
    """Write a copy of *path* to *to* that says which network it is.

    People call it *name*. The architecture and the class names go into its metadata.

    Raises:
        ModelError: it is no file that they can be put into, or one of them is none.

    """
    more = {ARCHITECTURE: architecture_text or "", NAMES: json.dumps(list(names)) if names else ""}
    more = {key: text for key, text in more.items() if text}
    try:
        if architecture_text:
            architecture(architecture_text)
        if names:
            class_list(list(names))
        _write_with(path, to, more)
    except Flaw as error:
        message = f"{name} cannot be given an architecture or names: {error}"
        raise ModelError(message, hint=HINT) from error


TEACHER = "retort.teacher"
"""Key of the metadata of a prepared teacher that is no YOLO: its class names and adapter, as JSON."""


def write_adapter(path: Path, to: Path, adapter: Mapping[str, Any]) -> None:
    """Write a copy of *path* to *to* with *adapter* in its metadata."""
    _write_with(path, to, {TEACHER: json.dumps(adapter)})


def teacher_in(path: Path) -> dict[str, Any] | None:
    """Return the adapter of a prepared teacher; None for any other file."""
    if not is_state(path):
        return None
    with path.open("rb") as file:
        rows = file.read(tensor_rows.BEGIN)[-1:] == b"{"
        if not _holds(file, TEACHER.encode()):  # sooner known than its fields are read
            return None
    try:
        metadata = tensor_rows.read(path)[0] if rows else onnx_graph.read(path, plain=False).metadata
        told = json.loads(metadata.get(TEACHER, "null"))
        return {**told, "names": list(class_list(told["names"]))} if isinstance(told, dict) else None
    except (Flaw, ValueError, KeyError):  # what opens it says what is wrong
        return None


def _holds(file: IO[bytes], wanted: bytes) -> bool:
    end = b""
    while part := file.read(1 << 20):
        if wanted in (whole := end + part):
            return True
        end = whole[-len(wanted) :]
    return False


def _write_with(path: Path, to: Path, more: Mapping[str, str]) -> None:
    with path.open("rb") as file:
        begin = file.read(tensor_rows.BEGIN)
    if begin[-1:] == b"{":
        _complete_rows(path, to, more)
    elif onnx_graph.begins_like_one(begin):
        shutil.copyfile(path, to)
        with to.open("ab") as copy:
            copy.write(onnx_graph.with_metadata(more))
    else:
        raise Flaw("a checkpoint says by itself which network it holds")


def _complete_rows(path: Path, to: Path, more: Mapping[str, str]) -> None:
    """Write safetensors with *more* metadata; the tensors stay as they are."""
    metadata, tensors = tensor_rows.read(path)
    with path.open("rb") as source, to.open("wb") as target:
        (length,) = LENGTH.unpack(source.read(LENGTH.size))
        start = LENGTH.size + length
        header: dict[str, Any] = {"__metadata__": {**metadata, **more}}
        for name, one in tensors.items():
            header[name] = {
                "dtype": one.kind, "shape": one.shape, "data_offsets": (one.begin - start, one.end - start),
            }  # fmt: skip
        content = json.dumps(header, separators=(",", ":")).encode()
        content += b" " * (-len(content) % 8)
        target.write(LENGTH.pack(len(content)) + content)
        source.seek(start)
        shutil.copyfileobj(source, target)
