"""Trainings killed several times against the same trainings left alone: accuracy, weights, and what each epoch saw.

    python benchmarks/resume.py --json benchmarks/results/resume.json

Without ``--data`` it draws digits. A teacher is trained first; then, for each seed, a student that starts from the same
weights (so that there is an accuracy to compare after few epochs) is distilled once without an interruption, and once
more with SIGKILL at random batches, each time in a new process that goes on from the folder.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from provenance import provenance, write_json
from retort.constants import MAP, MAP50, Role
from retort.data import demo
from retort.spec import DistillationSpec, TrainingSpec
from retort.training import environment
from retort.training.config import TrainCallback


class Diary(TrainCallback):
    """A watcher that kills its process when so much of the training is done."""

    def __init__(self, folder: Path, until: float | None) -> None:
        self.folder = folder
        self.until = until

    def metric(self, step: int, values: dict[str, float | None]) -> None:
        """Keep the number of each epoch told."""
        note(self.folder, "epochs", {"step": step, "map": values.get(MAP)})

    def checkpoint(self, epoch: int, path: Path, metrics: dict[str, float | None]) -> None:
        """Nothing to do."""

    def progress(self, fraction: float) -> None:
        """Die where it is time."""
        if self.until is not None and fraction >= self.until:
            os.kill(os.getpid(), signal.SIGKILL)

    def log(self, message: str, level: str = "info", **data: Any) -> None:  # noqa: ARG002 - the protocol's
        """Keep what is said."""
        note(self.folder, "said", {"level": level, "message": message})

    def health(self, finding: Any) -> None:
        """Keep a verdict."""
        note(self.folder, "health", {"rule": finding.rule, "verdict": finding.verdict})

    def stop_requested(self) -> bool:
        """Never."""
        return False


def note(folder: Path, kind: str, value: Any) -> None:
    """Append a line to a file beside *folder*."""
    with folder.with_suffix(f".{kind}").open("a") as file:
        file.write(json.dumps(value) + "\n")


def notes(folder: Path, kind: str) -> list[Any]:
    """Read what ``note`` wrote."""
    path = folder.with_suffix(f".{kind}")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def attempt(options: argparse.Namespace, folder: Path, *, seed: int, teacher: Path | None, until: float | None) -> int:
    """Train in a child that is forked before torch computes anything; return its exit code, negative for a signal."""
    from retort.training import config, trainer

    sys.stdout.flush()
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    class Observed(trainer.TrainingLoop):
        def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
            note(folder, "batches", [self.epoch, [Path(file).name for file in batch["im_file"]]])
            return super().preprocess_batch(batch)

    trainer.TrainingLoop = Observed  # type: ignore[misc] # a class in place of a class: `fit` takes it from there
    epochs = options.teacher_epochs if teacher is None else options.epochs
    training = TrainingSpec(
        epochs=epochs, imgsz=options.imgsz, batch=options.batch, nominal_batch=options.batch, seed=seed,
        close_mosaic=max(1, epochs // 5), checkpoint_every=epochs,
    )  # fmt: skip
    plan = config.TrainConfig(
        role=Role.TEACHER if teacher is None else Role.STUDENT, model=options.model, weights=teacher,
        data_yaml=options.data, epochs=epochs, training=training, folder=folder, device=options.device,
    )  # fmt: skip
    teaching: dict[str, Any] = {} if teacher is None else {"teacher": teacher, "distillation": DistillationSpec()}
    fitted = trainer.fit(plan, Diary(folder, until), **teaching)
    values = {"map": fitted.metrics[MAP], "map50": fitted.metrics[MAP50], "best_epoch": fitted.best_epoch}
    note(folder, "fitted", {**values, "weights": str(fitted.weights)})
    os._exit(0)


def orders(folder: Path, epochs: int) -> list[str]:
    """Return the order of batches in the last, complete showing of each epoch."""
    shown: dict[int, list[list[str]]] = {}
    for epoch, files in notes(folder, "batches"):
        shown.setdefault(epoch, []).append(files)
    size = min(len(batches) for batches in shown.values())  # of an epoch that no kill interrupted
    return [json.dumps(shown[epoch][-size:]) for epoch in range(epochs)]


def pair(options: argparse.Namespace, home: Path, seed: int, teacher: Path) -> dict[str, Any]:
    """Train once whole and once with kills, and compare."""
    whole, killed = home / f"whole-{seed}", home / f"killed-{seed}"
    stream = random.Random(seed)  # noqa: S311 - for dates of death, not for secrets
    kills = [(part + stream.uniform(0.1, 0.9)) / options.kills for part in range(options.kills)]
    assert attempt(options, whole, seed=seed, teacher=teacher, until=None) == 0
    ends = [attempt(options, killed, seed=seed, teacher=teacher, until=until) for until in (*kills, None)]
    assert ends == [-signal.SIGKILL] * options.kills + [0], ends
    num_batches = len(notes(killed, "batches"))
    assert attempt(options, killed, seed=seed, teacher=teacher, until=None) == 0
    shown = {folder: orders(folder, options.epochs) for folder in (whole, killed)}
    left, right = notes(whole, "fitted")[0], notes(killed, "fitted")[0]
    return {
        "seed": seed,
        "killed_at": [round(until, 3) for until in kills],
        "exit_codes": ends,
        "map50_95": {"whole": left["map"], "killed": right["map"]},
        "map50": {"whole": left["map50"], "killed": right["map50"]},
        "difference_points": 100 * (right["map"] - left["map"]),
        "best_epoch": {"whole": left["best_epoch"], "killed": right["best_epoch"]},
        "weights_equal": equal(Path(left["weights"]), Path(right["weights"])),
        "repeated_orders": sum(options.epochs - len(set(found)) for found in shown.values()),
        "same_orders_as_whole": shown[whole] == shown[killed],
        "batches": {"whole": len(notes(whole, "batches")), "killed": num_batches},
        "batches_after_completion": len(notes(killed, "batches")) - num_batches,
        "epochs_told": sorted({told["step"] for told in notes(killed, "epochs")}),
    }


def equal(ours: Path, theirs: Path) -> bool:
    """Return True if two published networks have the same weights to the last bit."""
    import torch
    from retort.training import models

    left, right = (models.load(path).state_dict() for path in (ours, theirs))
    return left.keys() == right.keys() and all(torch.equal(value, right[name]) for name, value in left.items())


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write the result here")
    parser.add_argument("--data", type=Path, help="data.yaml, or a folder that holds one; digits are drawn without it")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--teacher-epochs", type=int, default=30)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--model", default="yolov8n")
    parser.add_argument("--imgsz", type=int, default=96)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--num-train", type=int, default=320, help="digits scenes to draw")
    parser.add_argument("--device", default="cpu")
    return parser.parse_args()


def main() -> None:
    """Run all pairs and print the comparison."""
    options = parse()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        if options.data is None:
            options.data = demo.write(home / "digits", num_train=options.num_train, num_val=64, imgsz=options.imgsz)
        elif options.data.is_dir():
            options.data = options.data / "data.yaml"
        environment.prepare(home / "ultralytics")
        teacher = home / "teacher"
        assert attempt(options, teacher, seed=0, teacher=None, until=None) == 0
        weights = Path(notes(teacher, "fitted")[0]["weights"])
        # Networks are compared after the last fork: torch must not have computed before one.
        compared = {seed: run_in_child(options, home, seed, weights) for seed in range(options.seeds)}
    runs = list(compared.values())
    result = {"runs": runs, "summary": summary(runs), "provenance": provenance()}
    print(json.dumps(result["summary"], indent=2))
    if options.json:
        write_json(options.json, result)


def run_in_child(options: argparse.Namespace, home: Path, seed: int, teacher: Path) -> dict[str, Any]:
    """Compare one pair in a child of its own."""
    sys.stdout.flush()
    child = os.fork()
    answer = home / f"pair-{seed}.json"
    if child == 0:
        answer.write_text(json.dumps(pair(options, home, seed, teacher)))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    found: dict[str, Any] = json.loads(answer.read_text())
    return found


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Say what all pairs have in common."""
    return {
        "seeds": len(runs),
        "kills_per_run": len(runs[0]["killed_at"]),
        "lowest_map50_95": min(run["map50_95"]["whole"] for run in runs),
        "largest_difference_points": max(abs(run["difference_points"]) for run in runs),
        "goal_points": 1.0,
        "weights_equal": all(run["weights_equal"] for run in runs),
        "repeated_orders": sum(run["repeated_orders"] for run in runs),
        "batches_after_completion": sum(run["batches_after_completion"] for run in runs),
    }


if __name__ == "__main__":
    main()
