"""Register weights that are named by path, here or with a service."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeGuard

from retort import model_ref
from retort.cli.options import note
from retort.client.answers import Model
from retort.client.client import Client
from retort.constants import WEIGHTS_SUFFIXES
from retort.errors import ModelError, RetortError, SpecError, UserError
from retort.files import sha256_of
from retort.model_ref import Known, ModelRef
from retort.settings import Settings
from retort.spec import AnySpec
from retort.spec.references import complete

Registrar = Callable[[Path, str], str]
"""Takes a weights file and a name; returns the reference by which specs may name it."""


def is_path(value: object) -> bool:
    """Return True if *value* names a weights file by its path; a bare name means the model folder."""
    return _is_weights(value) and ("/" in value or "\\" in value)


def _is_weights(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value.lower().endswith(WEIGHTS_SUFFIXES)


def anchor_weights(document: Any, folders: Iterable[Path]) -> Any:
    """Return *document* with every weights path absolute: in the first of *folders* that has it, or the last.

    A bare name is a path where one of the *folders* has such a file, as other tools read it; else it means the model
    folder.
    """
    folders = tuple(folders)

    def absolute(text: str) -> str:
        candidates = [folder / Path(text).expanduser() for folder in folders]
        found = next((candidate for candidate in candidates if candidate.is_file()), None)
        if found is None and not is_path(text):
            return text
        return str((found or candidates[-1]).resolve())

    return _replaced(document, absolute, _is_weights)


def register_weights(document: Any, register: Registrar) -> Any:
    """Return *document* with every weights path replaced by the reference that *register* gives.

    Raises:
        UserError: there is no such file.
        ModelError: it holds no detector that can be used.

    """

    def registered(text: str) -> str:
        path = Path(text).expanduser()
        if not path.is_file():
            raise UserError(f"cannot read the weights {text}", hint="name a file of weights that is there")
        return register(path, name_for(path))

    return _replaced(document, registered, is_path)


def _replaced(value: Any, change: Callable[[str], str], applies: Callable[[object], bool]) -> Any:
    if isinstance(value, dict):
        return {_replaced(key, change, applies): _replaced(item, change, applies) for key, item in value.items()}
    if isinstance(value, list):
        return [_replaced(item, change, applies) for item in value]
    return change(value) if applies(value) else value


def name_for(path: Path) -> str:
    """Return the name under which the weights file *path* is registered.

    It is the file's own; Ultralytics calls its every training's best one best.pt, which the folder's name tells apart.
    """
    parts = [path.stem] if path.stem not in {"best", "last"} else [_folder(path), path.stem]
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join(part for part in parts if part)).strip("-._")[:80]
    return name if re.fullmatch(model_ref.NAME, name) else "weights"


def _folder(path: Path) -> str:
    """Return the folder of the training that *path* comes from: runs/detect/train3/weights/best.pt is train3's."""
    folder = path.resolve().parent
    return folder.parent.name if folder.name == "weights" else folder.name


def _insist_on_detector(path: Path) -> None:
    """Insist on a YOLO, or on a detector of another family, which can teach on this machine."""
    from retort.data import foreign_teachers, weights

    try:
        weights.check_checkpoint(path, str(path))
    except ModelError:
        if not foreign_teachers.can_teach(path):
            raise


def reference_only(path: Path, name: str) -> str:
    """Return the reference that the file would have, and register nothing."""
    _insist_on_detector(path)
    return str(ModelRef(name, sha256_of(path)))


def register_here(path: Path, name: str) -> str:
    """Copy the file into this machine's model folder."""
    from retort.data import weights

    _insist_on_detector(path)
    model_dir = Settings().model_dir
    assert model_dir is not None
    reference = str(weights.register(name, path, model_dir))
    note(f"{path} is {reference}")
    return reference


def check_classes(spec: AnySpec, files: Mapping[str, Path]) -> None:
    """Print which classes teachers do not know, as far as data and weights are on this machine.

    *files* are the weights that were named by path, by their references.

    Raises:
        SpecError: a teacher knows none of the classes, and has to know one.

    """
    from retort.data import teacher_names
    from retort.data.checkpoint_names import stored_names
    from retort.data.weights import registered_path

    model_dir = Settings().model_dir
    assert model_dir is not None

    def names_of(weights: str) -> tuple[str, ...] | None:
        reference = model_ref.parse(weights)
        kept = model_dir / weights if reference is None else registered_path(reference, model_dir)
        return stored_names(files.get(weights, kept))

    names = teacher_names.names_of_data(spec, [Path("/")], lambda _: None)
    if names is None:
        return
    if problems := teacher_names.mismatches(spec, names, names_of):
        raise SpecError(problems)
    for warning in teacher_names.warnings(spec, names, names_of):
        note(f"warning: {warning}")


def complete_here(document: Any) -> Any:
    """Return *document* with short digests written out by what this machine's model folder holds.

    Raises:
        SpecError: one names no model there, or several.

    """
    from retort.data.weights import registered_digests

    model_dir = Settings().model_dir
    assert model_dir is not None
    return complete(document, lambda name: registered_digests(name, model_dir))


def digests_with(client: Client) -> Known:
    """Return what asks the service for the digests of a model's name."""
    return lambda name: [model["sha256"] for model in registered_models(client, name)]


def registered_models(client: Client, name: str) -> tuple[Model, ...]:
    """Return what the service has registered by *name*, newest first; nothing where it knows no such name."""
    try:
        return client.model(name)
    except RetortError as error:
        if error.code != "model_not_found":
            raise
        return ()


def register_with(client: Client) -> Registrar:
    """Return what sends a file to the service, once."""
    from retort.data.weights import check_checkpoint

    def register(path: Path, name: str) -> str:
        check_checkpoint(path, str(path))  # before it travels
        digest = sha256_of(path)
        known = {model["sha256"]: model["reference"] for model in registered_models(client, name)}
        if digest not in known:
            note(f"sending {path}, {path.stat().st_size / 1e6:.1f} MB")
            known[digest] = client.register_model(path, name)["reference"]
        note(f"{path} is {known[digest]}")
        return str(known[digest])

    return register
