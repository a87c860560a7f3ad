"""TensorBoard: event files in one folder per role, and the archive of them."""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from retort.constants import HEATMAPS, Role
from retort.errors import TransientError
from retort.protocol.events import AnyEvent, ArtifactEvent, FailedEvent, FinishedEvent, MetricEvent
from retort.tracking.dispatcher import COMMAND
from retort.tracking.session import MAPS, TrackerConfig, figures, flat

ALIASES = {"train/kd/softmax_kl": "train/KL_loss"}
"""Metrics that are drawn under a second tag too: the name that the article's readers look for."""

_RGB = 3


class TensorBoard:
    """TensorBoard writer of event files; each attempt adds new files."""

    def __init__(self, config: TrackerConfig) -> None:
        # tensorboardX imports torch where it finds it, and needs none of it here.
        sys.modules.setdefault("torch", None)  # type: ignore[arg-type]
        from tensorboardX import summary
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.record_writer import RecordWriter

        self._summary, self._event, self._writer = summary, Event, RecordWriter
        self._config = config
        self._writers: dict[Role, Any] = {}
        self._at = 0.0

    def metric(self, event: MetricEvent) -> None:
        """Write the values of one step as one record."""
        self._at = event.at
        values = [(name, value) for name, value in event.values.items() if value is not None]
        values += [(ALIASES[name], value) for name, value in values if name in ALIASES]
        self._write(event.role, event.step, {"value": [{"tag": tag, "simple_value": value} for tag, value in values]})

    def artifact(self, event: ArtifactEvent) -> None:
        """Draw the maps of an epoch; other artifacts lie beside the event files."""
        if event.name.startswith(HEATMAPS):
            self._at = event.at
            about = event.metadata
            image = {"width": about["width"], "height": about["height"], "colorspace": _RGB}
            image["encoded_image_string"] = Path(event.path).read_bytes()
            self._write(event.role, about["epoch"], {"value": [{"tag": MAPS, "image": image}]})

    def end(self, event: AnyEvent) -> None:
        """Write the spec, and the final figures as hyperparameter results."""
        self._at = max(self._at, event.at)
        spec = yaml.safe_dump(self._config.spec, sort_keys=False, allow_unicode=True)
        self._text("spec", spec)
        self._text("tags", yaml.safe_dump(self._config.tags))
        if isinstance(event, FailedEvent):
            self._text("failure", f"{event.failure.code}: {event.failure.message}")
        if isinstance(event, FinishedEvent):
            self._finished(figures(event.result))
        for writer in self._writers.values():
            writer.close()

    def _finished(self, found: dict[str, float]) -> None:
        told = {name: value for name, value in flat(self._config.spec).items() if value is not None}
        for part in self._summary.hparams(told, found):
            self._write(Role.JOB, 0, part)
        self._write(Role.JOB, 0, {"value": [{"tag": name, "simple_value": found[name]} for name in sorted(found)]})

    def _text(self, tag: str, text: str) -> None:
        indented = "".join(f"    {line}\n" for line in text.splitlines())  # Markdown's way to leave it as it is
        self._write(Role.JOB, 0, self._summary.text(tag, indented))

    def _write(self, role: Role, step: int, summary: Any) -> None:
        if role not in self._writers:
            self._writers[role] = self._begun(role)
        record = self._event(wall_time=self._at, step=step, summary=summary)
        self._writers[role].write(record.SerializeToString())
        self._writers[role].flush()

    def _begun(self, role: Role) -> Any:
        folder = self._config.folder / role.value
        folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{int(self._at):010d}.retort.{self._config.attempt}"
        writer = self._writer(str(folder / name))
        writer.write(self._event(wall_time=self._at, file_version="brain.Event:2").SerializeToString())
        return writer


NAME = "tensorboard"
"""Under which a job's artifacts have it."""
MEDIA_TYPE = "application/zip"
_LONGEST_S = 120.0
_AT_A_TIME = threading.BoundedSemaphore(2)
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The same files make the same archive, whenever they are packed."""


def archive(config: TrackerConfig, events: Iterable[AnyEvent]) -> bytes:
    """Return a ZIP file of the TensorBoard files of *events*.

    The last of the events says how the run stands. The files are made by a process of their own, so that its libraries
    and its work stay out of this one. The same events make the same bytes.

    Raises:
        TransientError: others are being made; try again.

    """
    if not _AT_A_TIME.acquire(blocking=False):
        raise TransientError("other archives for TensorBoard are being made", hint="try again in a moment")
    try:
        with tempfile.TemporaryDirectory(prefix="retort-") as folder:
            lines = [config.model_copy(update={"folder": Path(folder)}), *events]
            _make("".join(f"{line.model_dump_json()}\n" for line in lines).encode())
            return _packed(Path(folder))
    finally:
        _AT_A_TIME.release()


def _make(lines: bytes) -> None:
    try:
        done = subprocess.run(COMMAND, input=lines, capture_output=True, timeout=_LONGEST_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise TransientError(f"the archive for TensorBoard was not made within {_LONGEST_S:g} s") from error
    if done.returncode:
        reason = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise TransientError(f"the archive for TensorBoard was not made: {reason}")


def _packed(folder: Path) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                file.writestr(zipfile.ZipInfo(path.relative_to(folder).as_posix(), _EPOCH), path.read_bytes())
    return buffer.getvalue()
