"""Answer predictions by a small process that keeps networks loaded."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import structlog
from retort.confinement import Mode, Policy, confined
from retort.db import predictions
from retort.db.models import PredictionRow
from retort.db.session import database_now
from retort.errors import RetortError, TransientError

from retort_worker.context import WorkerContext
from retort_worker.process import own_environment

PROGRAM = (sys.executable, "-m", "retort.predictor")
_LOOK_S = 0.25
_PATIENCE_S = 40.0
"""For one answer; the first one loads PyTorch and the network."""
_MOST_MEMORY = 6 << 30
"""That the process may ask for: PyTorch, two networks, and an image of 64 million pixels."""
_MOST_NETWORKS = 4
_LONGEST_ANSWER = 1 << 20
_log = structlog.get_logger()


class Runner:
    """The process that predicts, on the CPU, confined as far as the host allows.

    Args:
        folder: for images, networks and what libraries write; it is this worker's alone.
        command: the program.
        mode: how the program is confined.

    """

    def __init__(self, folder: Path, command: tuple[str, ...] = PROGRAM, *, mode: Mode = "best") -> None:
        self._folder = folder
        self._mode: Mode = mode
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, question: dict[str, Any]) -> dict[str, Any]:
        """Return the program's answer.

        Raises:
            TransientError: it has died, or does not answer; another is started for the next question.

        """
        process = self._running()
        assert process.stdin is not None
        try:
            process.stdin.write(json.dumps(question).encode() + b"\n")
            process.stdin.flush()
            return self._read(process)
        except (OSError, ValueError, TimeoutError) as error:
            self.close()
            raise TransientError(f"the program that predicts gave no answer: {error}", code="unavailable") from error

    def warm(self) -> None:
        """Start the process, unless there is one, and let it load PyTorch.

        Raises:
            TransientError: it has died, or does not answer.

        """
        if self._process is None or self._process.poll() is not None:
            self.ask({})

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.close()
            tmp = self._folder / "tmp"
            tmp.mkdir(parents=True, exist_ok=True)
            policy = Policy(
                read=(str(self._folder),), write=(str(tmp),), tmp=str(tmp), data_bytes=_MOST_MEMORY, mode=self._mode
            )
            self._process = subprocess.Popen(
                confined([*self._command, str(tmp / "ultralytics")], policy),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=tmp,
                start_new_session=True, env={**own_environment(), **_own(tmp)},
            )  # fmt: skip
        return self._process

    def _read(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        assert process.stdout is not None
        deadline, read = time.monotonic() + _PATIENCE_S, b""
        while not read.endswith(b"\n"):
            rest = deadline - time.monotonic()
            if rest <= 0 or not select.select([process.stdout], [], [], rest)[0]:
                msg = f"nothing within {_PATIENCE_S:g} s"
                raise TimeoutError(msg)
            some = os.read(process.stdout.fileno(), 65_536)
            if not some or len(read) > _LONGEST_ANSWER:
                msg = "it has ended"
                raise ValueError(msg)
            read += some
        answer: dict[str, Any] = json.loads(read)
        return answer


def _own(tmp: Path) -> dict[str, str]:
    return {"HOME": str(tmp), "TMPDIR": str(tmp), "CUDA_VISIBLE_DEVICES": "-1", "PYTHONUNBUFFERED": "1"}


class PredictionLoop:
    """Thread that answers images one after the other, as they come.

    Any number of workers may run such a thread at the same time.
    """

    def __init__(self, context: WorkerContext, command: tuple[str, ...] = PROGRAM) -> None:
        self._context = context
        self._folder = context.folder / "predictions" / context.worker.replace(":", "-")
        self.runner = Runner(self._folder, command, mode=context.settings.confinement)
        self._asked_at = time.monotonic()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="predictions", daemon=True)

    def start(self) -> None:
        """Start the thread, which ends with the process or ``stop``."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and its process."""
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        self._warm()
        while not self._stopped.is_set():
            try:
                while not self._stopped.is_set() and self.answer_one():
                    self._asked_at = time.monotonic()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look must come
                _log.warning("predicting failed", error=str(error))
            if time.monotonic() - self._asked_at > self._context.settings.predictor_idle_s:
                self.runner.close()
            self._stopped.wait(_LOOK_S)
        self.runner.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _warm(self) -> None:
        """Have the process ready before the first image comes, where it may be kept."""
        if self._context.settings.predictor_idle_s == 0:
            return
        try:
            self.runner.warm()
        except (RetortError, OSError) as error:
            _log.warning("the program that predicts is not ready", error=str(error))
        self._asked_at = time.monotonic()

    def answer_one(self) -> bool:
        """Answer the oldest image that waits; False where none does."""
        database = self._context.database
        with database.autocommit_read() as session:
            if not predictions.waits(session):
                return False
        with database.begin() as session:
            row = predictions.take(session, now=database_now(session))
        if row is None:
            return False
        answer = self._answer(row)
        with database.begin() as session:
            predictions.answer(session, row.id, answer)
        return True

    def _answer(self, row: PredictionRow) -> dict[str, Any]:
        image = self._folder / f"image-{row.id}"
        try:
            weights = self._weights(row.weights)
            image.write_bytes(row.image)
            return self.runner.ask({
                "weights": str(weights), "image": str(image), "imgsz": row.imgsz, "confidence": row.confidence,
            })  # fmt: skip
        except RetortError as error:
            return {"error": {"code": error.code, "message": error.message, "hint": error.hint}}
        finally:
            image.unlink(missing_ok=True)

    def _weights(self, key: str) -> Path:
        """Fetch a network, unless it is there; the few used last are kept."""
        path = self._folder / f"{key.rpartition('/')[2]}.pt"
        if not path.is_file():
            self._context.store.fetch(key, path)
        path.touch()
        kept = sorted(self._folder.glob("*.pt"), key=lambda one: one.stat().st_mtime, reverse=True)
        for old in kept[_MOST_NETWORKS:]:
            old.unlink()
        return path
