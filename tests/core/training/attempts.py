"""Attempts at one training, each a process of its own that kills itself where it is told: ``attempts.py FILE``."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from retort.training.config import TrainCallback

HERE = Path(__file__)
"""As a script it is told by a JSON file: plan, teacher, distillation, and folder and death of each attempt."""


def main() -> None:
    """Import once, then fork: an attempt costs no start of torch, which must not have computed before."""
    told = json.loads(Path(sys.argv[1]).read_text())
    from retort.training import environment

    environment.prepare(Path(told["config_dir"]))
    from retort.training import trainer

    ends = []
    for attempt in told["attempts"]:
        child = os.fork()
        if child == 0:
            live(trainer, told, attempt)
            os._exit(0)
        ends.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    sys.stdout.write(json.dumps(ends))


def live(trainer: Any, told: dict[str, Any], attempt: dict[str, Any]) -> None:
    """One attempt: ``die`` names the batch to die after, counted in this process, or the state to die in writing.

    With the batch it may name a state that is to be saved by then. ``extends`` names the folder of a training that this
    one adds epochs to, and after which epochs it and those before it have ended.
    """
    from retort.constants import Role
    from retort.spec import DistillationSpec, TrainingSpec

    folder, die = Path(attempt["folder"]), attempt.get("die")
    parent, ends = attempt.get("extends", (None, []))
    if parent is not None and not folder.exists():
        for kind in ("states", "weights"):
            shutil.copytree(Path(parent) / kind, folder / kind)
    epochs = attempt.get("epochs", told["epochs"])
    plan = trainer.TrainConfig(
        role=Role.STUDENT, model=told["model"], weights=None, data_yaml=Path(told["data_yaml"]), epochs=epochs,
        training=TrainingSpec.model_validate({**told["training"], "epochs": epochs}), folder=folder, device="cpu",
        extended=tuple(ends),
    )  # fmt: skip
    if die and "writing" in die:
        threading.Thread(target=die_writing, args=(folder / "states", die["writing"]), daemon=True).start()

    class Observed(trainer.TrainingLoop):
        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            note(folder, "batches", self.epoch, sorted_of=[Path(file).name for file in batch["im_file"]])
            return super().preprocess_batch(batch)

    trainer.TrainingLoop = Observed
    teaching = {}
    if told["teacher"]:
        teaching = {"teacher": Path(told["teacher"]), "distillation": DistillationSpec(**told["distillation"])}
    fitted = trainer.fit(plan, Diary(folder, die), **teaching)
    note(folder, "fitted", fitted.epochs, best=fitted.best_epoch, metrics=fitted.metrics, weights=str(fitted.weights))


class Diary(TrainCallback):
    """A watcher that writes everything down, and dies after the batch it is told."""

    def __init__(self, folder: Path, die: dict[str, Any] | None) -> None:
        self.folder = folder
        self.left = die["batches"] if die and "batches" in die else -1
        self.saved_epoch = die.get("saved") if die else None

    def metric(self, step: int, values: dict[str, float | None]) -> None:
        note(self.folder, "metrics", step, **values)

    def checkpoint(self, epoch: int, path: Path, metrics: dict[str, float | None]) -> None:
        note(self.folder, "checkpoints", epoch, path=str(path), **metrics)

    def progress(self, fraction: float) -> None:  # noqa: ARG002
        self.left -= 1
        if self.left == 0:
            while self.saved_epoch is not None and not state_file(self.folder, self.saved_epoch).exists():
                time.sleep(0.0005)  # it is being saved in a thread
            os.kill(os.getpid(), signal.SIGKILL)

    def log(self, message: str, level: str = "info", **data: Any) -> None:
        note(self.folder, "said", 0, message=message, level=level, **data)

    def saved(self, epoch: int) -> None:
        note(self.folder, "saved", epoch, whole=state_file(self.folder, epoch).exists())

    def health(self, finding: Any) -> None:
        note(self.folder, "health", finding.epoch, rule=finding.rule, verdict=finding.verdict)

    def stop_requested(self) -> bool:
        return False


def state_file(folder: Path, epoch: int) -> Path:
    return folder / "states" / f"{epoch:05d}.state"


def note(folder: Path, kind: str, step: int, **values: Any) -> None:
    """Append a line to a file beside the folder, in one write."""
    with folder.with_suffix(f".{kind}").open("a") as file:
        file.write(json.dumps([step, values]) + "\n")


def die_writing(states: Path, number: int) -> None:
    """Die as soon as bytes of the state of this number are in a file that has not got its name yet."""
    while True:
        for part in states.glob(f".{number:05d}.state.*.part"):
            if part.stat().st_size > 1_000_000:
                os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.0005)


def notes(folder: Path, kind: str) -> list[tuple[int, dict[str, Any]]]:
    """Read what ``note`` wrote."""
    path = folder.with_suffix(f".{kind}")
    return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


if __name__ == "__main__":
    main()
