"""Checkpoints from outside, judged by their shape: nothing in them is unpickled."""

from __future__ import annotations

import zipfile
from pathlib import Path

from retort.errors import ModelError

LARGEST_BYTES = 1 << 30
"""Of a weights file; the largest published ones have an eighth of that."""
_MOST_FILES = 100_000
_HINT = "a .pt file as Ultralytics saves it: torch.save's archive of a detection network"


def check(path: Path, name: str) -> None:
    """Insist that the file *path*, which people call *name*, is an archive as ``torch.save`` writes them.

    Raises:
        ModelError: it is not.

    """
    try:
        with zipfile.ZipFile(path) as archive:
            flaw = _flaw(archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{name} is not a PyTorch checkpoint, or it is cut off", hint=_HINT) from error
    if flaw is not None:
        raise ModelError(f"{name} is not a PyTorch checkpoint: {flaw}", hint=_HINT)


def _flaw(files: list[zipfile.ZipInfo]) -> str | None:
    """Return what tells the archive from torch's, which has one folder with a pickle and tensors, not compressed."""
    if len(files) > _MOST_FILES:
        return f"it holds {len(files)} files"
    folders = {file.filename.partition("/")[0] for file in files}
    inside = {file.filename.partition("/")[2] for file in files}
    if len(folders) != 1 or "data.pkl" not in inside:
        return "it does not hold one folder with a data.pkl"
    if any(part.startswith("code/") for part in inside):
        return "it is TorchScript"
    if any(".." in Path(file.filename).parts for file in files):
        return "a file in it leads out of its folder"
    if any(file.compress_type != zipfile.ZIP_STORED for file in files):
        return "it is compressed"
    return None
