"""Event files for TensorBoard made at one go from curves that are on record, as one archive."""

from __future__ import annotations

import io
import subprocess
import tempfile
import threading
import zipfile
from collections.abc import Iterable
from pathlib import Path

from retort.errors import WorldError
from retort.events import AnyEvent
from retort.tracking.feed import COMMAND
from retort.tracking.opening import Opening

NAME = "tensorboard"
"""Under which a job's artifacts have it."""
MEDIA_TYPE = "application/zip"
_LONGEST_S = 120.0
_AT_A_TIME = threading.BoundedSemaphore(2)
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The same files make the same archive, whenever they are packed."""


def archive(opening: Opening, events: Iterable[AnyEvent]) -> bytes:
    """Return a ZIP file of what TensorBoard shows of *events*, the last of which says how the run stands.

    The files are made by a process of their own, so that its libraries and its work stay out of this one. The same
    events make the same bytes.

    Raises:
        WorldError: others are being made; try again.

    """
    if not _AT_A_TIME.acquire(blocking=False):
        raise WorldError("other archives for TensorBoard are being made", hint="try again in a moment")
    try:
        with tempfile.TemporaryDirectory(prefix="retort-") as folder:
            lines = [opening.model_copy(update={"folder": Path(folder)}), *events]
            _make("".join(f"{line.model_dump_json()}\n" for line in lines).encode())
            return _packed(Path(folder))
    finally:
        _AT_A_TIME.release()


def _make(lines: bytes) -> None:
    try:
        done = subprocess.run(COMMAND, input=lines, capture_output=True, timeout=_LONGEST_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise WorldError(f"the archive for TensorBoard was not made within {_LONGEST_S:g} s") from error
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise WorldError(f"the archive for TensorBoard was not made: {reason}")


def _packed(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH), path.read_bytes())
    return buffer.getvalue()
