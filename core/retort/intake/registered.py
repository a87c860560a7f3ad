"""The folder of registered models on one machine: what a worker has fetched, and what local runs have trained."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from retort.checksums import sha256_of
from retort.errors import ModelError
from retort.references import Reference

FOLDER = "registered"
"""Inside the model folder."""


def path(reference: Reference, model_dir: Path) -> Path:
    """Return where the model belongs."""
    return model_dir / FOLDER / reference.file_name


def intact(reference: Reference, model_dir: Path) -> bool:
    """Whether it is there, with the bytes that its digest stands for."""
    file = path(reference, model_dir)
    return file.is_file() and sha256_of(file) == reference.sha256


def resolve(reference: Reference, model_dir: Path) -> Path:
    """Return the path of the model in *model_dir*.

    Raises:
        ModelError: it is not there, or it is damaged.

    """
    file = path(reference, model_dir)
    if not file.is_file():
        raise ModelError(f"no model {reference} in {file.parent}", hint=_known(reference.name, file.parent))
    if sha256_of(file) != reference.sha256:
        raise ModelError(f"{file} is damaged: its SHA-256 is not the one in its name", hint="remove it; fetch it again")
    return file.resolve()


def add(name: str, file: Path, model_dir: Path) -> Reference:
    """Copy the weights *file* into *model_dir*, to be named from now on; doing so twice changes nothing."""
    reference = Reference(name, sha256_of(file))
    target = path(reference, model_dir)
    if not intact(reference, model_dir):
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", dir=target.parent) as folder:
            Path(shutil.copyfile(file, Path(folder) / target.name)).replace(target)
    return reference


def _known(name: str, folder: Path) -> str:
    found = sorted(file.stem.partition("@sha256-")[2] for file in folder.glob(f"{name}@sha256-*.pt"))
    if not found:
        return f"nothing is registered there by the name {name!r}"
    return f"known there by that name: {', '.join(f'sha256:{sha256}' for sha256 in found)}"
