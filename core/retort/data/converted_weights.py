"""Convert weights once in a confined process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from retort.checkpoints import REFUSED, converted, opening, states
from retort.checkpoints.records import Flaw
from retort.confinement import UNCONFINED, Mode, Part, Policy, confined
from retort.errors import ModelError, TransientError
from retort.files import atomic_write, sha256_of

FOLDER = "converted"
"""Inside the model folder: one folder for each digest of a file that was converted.

What lies in it has the source's name, by which people know it, and is told from a .pt file by its first bytes.
"""
_CPU_S = 120
_TIMEOUT_S = 300
_MEMORY_BYTES = 768 << 20
"""Address space of a conversion, beside the file's own size."""
_HEADER_BYTES = 32 << 20
_TORCH_BYTES = 3 << 30
"""What PyTorch takes by itself, with room for one answer."""
_COPIES, _WIDER = 24, 8
"""Tensors in memory, and in the checkpoint, by bytes of a file whose numbers may be of one byte each."""
_KEPT_S = 30 * 86_400
"""For so long after its last use a converted file is kept; to convert it again costs a second."""
_ENVIRONMENT = {"PATH": os.defpath, "LANG": "C.UTF-8"}
"""All that a conversion is told: no key, no address, no home."""


class ConvertedWeights(NamedTuple):
    """A network as it is trained from, and the file that it comes from."""

    path: Path
    source_sha256: str


def convert(source: Path, model_dir: Path, *, mode: Mode = "best", without: tuple[Part, ...] = ()) -> ConvertedWeights:
    """Convert the weights *source*, or return what was converted before.

    A file that has been converted already is returned as it is, once its description is checked.

    Raises:
        ModelError: nothing can be made of it, within bounds.
        TransientError: the process could not be confined as the operator demands.

    """
    digest = sha256_of(source)
    if opening.is_converted(source) and not states.is_state(source):
        opening.check(source, source.name)
        return ConvertedWeights(source, digest)
    target = model_dir / FOLDER / digest / source.name
    if not is_intact(target):
        forget_unused(model_dir / FOLDER)
        _make(source, target, mode, without)
    os.utime(target.parent)
    return ConvertedWeights(target, digest)


def is_intact(target: Path) -> bool:
    """Return True if *target* is as it was converted."""
    note = note_of(target)
    return target.is_file() and note.is_file() and note.read_text("ascii", "replace") == sha256_of(target)


def note_of(target: Path) -> Path:
    """Return where the digest of *target* is noted."""
    return target.with_name(f"{target.name}.sha256")


def _make(source: Path, target: Path, mode: Mode, without: tuple[Part, ...]) -> None:
    """Convert *source* in a process of its own, check what it wrote, and move that into place."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", dir=target.parent) as folder:
        part = Path(folder) / target.name
        checkpoint = source
        if states.is_state(source):
            opening.open_state(source, source.name)
            run_confined(
                _rebuilding(source, Path(folder), mode, without), source, checkpoint := Path(folder) / "checkpoint.pt"
            )
        if (damage := _damage(checkpoint, source.name)) is not None:
            raise ModelError(f"weights file {source.name} is damaged: {damage}", hint="copy or fetch it again")
        run_confined(reading(checkpoint, source.name, mode, without), source, part)
        try:
            converted.read(part)
        except Flaw as error:
            raise ModelError(f"weights file {source.name} was converted wrongly: {error}", hint=opening.HINT) from error
        digest = sha256_of(part)
        part.replace(target)
        atomic_write(note_of(target), digest.encode())


def _damage(source: Path, name: str) -> str | None:
    """Return what has changed in the archive *source*; its layout is checked first."""
    opening.open_layout(source, name)
    return opening.damage_in(source)


def reading(source: Path, name: str, mode: Mode, without: tuple[Part, ...], *more: str) -> list[str]:
    """Return the command that reads a checkpoint by opcode.

    *more* are arguments of the program.
    """
    size = source.stat().st_size
    policy = Policy(
        read=(str(source.resolve()),),
        memory_bytes=_MEMORY_BYTES + size,
        cpu_s=_CPU_S,
        file_bytes=size + _HEADER_BYTES,
        mode=mode,
        without=without,
    )
    return confined([sys.executable, "-I", "-m", "retort.checkpoints", str(source.resolve()), name, *more], policy)


def _rebuilding(source: Path, folder: Path, mode: Mode, without: tuple[Part, ...]) -> list[str]:
    """Return the command that puts tensors from outside into the network that they name."""
    size = source.stat().st_size
    own = folder / "own"
    own.mkdir()
    policy = Policy(
        read=(str(source.resolve()),),
        write=(str(own),),
        tmp=str(own),
        data_bytes=_TORCH_BYTES + _COPIES * size,
        cpu_s=_CPU_S,
        file_bytes=_WIDER * size + _HEADER_BYTES,
        mode=mode,
        without=without,
    )
    program = [sys.executable, "-I", "-m", "retort.training.foreign_weights"]
    return confined([*program, str(source.resolve()), source.name, str(own)], policy)


def run_confined(command: list[str], source: Path, to: Path) -> None:
    """Run a confined *command* on *source*, and write what it says to *to*.

    Raises:
        ModelError: it refuses the file, or does not end within bounds.
        TransientError: it could not be confined as the operator demands.

    """
    with to.open("wb") as out:
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.PIPE, env=_ENVIRONMENT, cwd="/",
                timeout=_TIMEOUT_S, start_new_session=True, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            raise _unfinished(source, f"it took more than {_TIMEOUT_S} s") from error
        out.flush()
        os.fsync(out.fileno())
    if done.returncode == 0:
        return
    told = done.stderr.decode(errors="replace")
    if done.returncode == UNCONFINED:
        raise TransientError(f"weights cannot be converted: {told.strip()}", code="unconfined")
    if done.returncode == REFUSED:
        message, hint = json.loads(told.splitlines()[-1])
        raise ModelError(message, hint=hint)
    raise _unfinished(source, f"its process ended with {done.returncode}")


def _unfinished(source: Path, why: str) -> ModelError:
    return ModelError(f"weights file {source.name} cannot be converted within bounds: {why}", hint=opening.HINT)


def forget_unused(folder: Path) -> None:
    """Remove what no run has asked for in a month."""
    oldest = time.time() - _KEPT_S
    for one in folder.glob("*"):
        if one.is_dir() and one.stat().st_mtime < oldest:
            shutil.rmtree(one, ignore_errors=True)
