"""Distillations broken on purpose, and what the rules of health say of each."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retort.training import environment

if __name__ == "__main__":
    environment.prepare(Path(tempfile.mkdtemp(prefix="retort-ultralytics-")))

from retort.constants import MAP, Role
from retort.errors import Diverged, NotDistilling
from retort.losses.class_logits import ClassLogits
from retort.losses.softmax_kl import SoftmaxKL
from retort.spec import DistillationSpec, TrainingSpec
from retort.training import models
from retort.training.config import RuleFinding, TrainCallback, TrainConfig
from retort.training.health.checks import LivenessChecks
from retort.training.health.metrics import network
from retort.training.health.monitor import Monitor
from retort.training.trainer import TrainingLoop, fit

TRAINING = TrainingSpec(
    imgsz=64, batch=8, nominal_batch=8, optimizer="AdamW", lr=0.002, head_lr_multiplier=1.0, close_mosaic=1000,
    checkpoint_every=1000,
)  # fmt: skip
EPOCHS, TEACHER_EPOCHS = 12, 30
STEADY = {"warmup_epochs": 0, "decay": "none", "floor": 0.0, "stop_with_mosaic": False}
HEALTHY = DistillationSpec.model_validate({"schedule": STEADY})


@dataclass
class Listener(TrainCallback):
    """Writes down what a training says."""

    metrics: dict[int, dict[str, float | None]] = field(default_factory=dict)
    findings: list[RuleFinding] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def metric(self, step: int, values: dict[str, float | None]) -> None:
        """Keep the values of an epoch."""
        self.metrics[step] = values

    def health(self, finding: RuleFinding) -> None:
        """Keep a verdict."""
        self.findings.append(finding)

    def checkpoint(self, epoch: int, path: Path, metrics: dict[str, float | None]) -> None:
        """Need no checkpoint."""

    def progress(self, fraction: float) -> None:
        """Need no progress."""

    def log(self, message: str, level: str = "info", **_: Any) -> None:
        """Keep what a person may want to know."""
        self.said.append(f"{level}: {message}")

    def stop_requested(self) -> bool:
        """Never stop."""
        return False


class Unchecked(LivenessChecks):
    """A contract that lets everything pass, so that the rules have to find it."""

    def start(self, model: Any, optimizer: Any) -> None:
        """Let it pass."""

    def first_batch(self, model: Any, batch: dict[str, Any]) -> None:
        """Let it pass."""

    def epoch(self, model: Any, items: Any) -> None:
        """Let it pass."""


class Sound(TrainingLoop):
    """A training as it should be, with or without the contract."""

    checked = True

    def watch_over(self) -> Monitor:
        """Watch with the contract, or without."""
        return Monitor(self, None if self.checked else Unchecked(network(self.model)))


class TeacherInTrainMode(Sound):
    """The teacher normalises by the statistics of each batch."""

    def set_model_attributes(self) -> None:
        """Put the unfolded network in the teacher's place, in train mode."""
        super().set_model_attributes()
        assert self.teacher_weights is not None
        unfolded = models.load(self.teacher_weights).to(self.device).train()
        asked = self.model.teacher
        asked.model = unfolded.requires_grad_(requires_grad=False).to(dtype=asked.dtype)


class FrozenProjector(Sound):
    """The projectors are not in the optimizer."""

    def build_optimizer(self, model: Any, *args: Any, **kwargs: Any) -> Any:
        """Take them out."""
        built = super().build_optimizer(model, *args, **kwargs)
        projectors = {id(parameter) for parameter in model.projectors.parameters()}
        for group in built.param_groups:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in projectors]
        return built


@dataclass(frozen=True)
class Case:
    """One way to break a run, and the rules of which one must name it."""

    how: str
    named_by: tuple[str, ...]
    trainer: type[Sound] = Sound
    spec: DistillationSpec = HEALTHY
    training: TrainingSpec = TRAINING
    renamed: bool = False
    """The teacher's class names stand in another order than its weights know them."""


def softened(loss: Any) -> DistillationSpec:
    """Distil with one class term alone, made past the validation of specs."""
    return HEALTHY.model_copy(update={"losses": (loss,)})


CASES: dict[str, Case] = {
    "healthy": Case("not at all", ()),
    "teacher_in_train_mode": Case("teacher.train(), not folded", ("teacher_not_frozen",), TeacherInTrainMode),
    "learning_rate_x100": Case(
        "lr 0.2 for 0.002", ("loss_exploding",), training=TRAINING.model_copy(update={"lr": 0.2})
    ),
    "temperature_20": Case(
        "class_logits at T = 20, which specs refuse", ("background_dominates",),
        spec=softened(ClassLogits.model_construct(weight=0.8, temperature=20.0, beta=1.0)),
    ),
    "softmax_at_20": Case(
        "softmax_kl at T = 20", ("background_dominates",), spec=softened(SoftmaxKL(weight=0.8, temperature=20.0))
    ),
    "frozen_projector": Case("projectors left out of the optimizer", ("projector_frozen",), FrozenProjector),
    "mismatched_classes": Case("the teacher's class names permuted", ("classes_mismatched",), renamed=True),
}  # fmt: skip


def plan(
    data_yaml: Path,
    folder: Path,
    *,
    epochs: int,
    training: TrainingSpec = TRAINING,
    model: str = "yolov8n",
    weights: Path | None = None,
) -> TrainConfig:
    """Return the plan of one training of *model* in *folder*, from *weights* or from random ones."""
    return TrainConfig(
        role=Role.STUDENT, model=model, weights=weights, data_yaml=data_yaml, epochs=epochs, training=training,
        folder=folder, device="cpu",
    )  # fmt: skip


def teacher(data_yaml: Path, folder: Path, *, epochs: int = TEACHER_EPOCHS, **chosen: Any) -> Path:
    """Train a teacher that knows what it sees; *chosen* are further arguments of ``plan``."""
    return fit(plan(data_yaml, folder / "teacher", epochs=epochs, **chosen), Listener()).weights


def renamed(weights: Path, target: Path) -> Path:
    """Publish *weights* under class names that stand one place further."""
    model = models.load(weights)
    names = list(model.names.values())
    models.publish(model, target, names=dict(enumerate([*names[1:], names[0]])), imgsz=model.args["imgsz"])
    return target


def run(
    case: Case,
    weights: Path,
    data_yaml: Path,
    folder: Path,
    *,
    checked: bool,
    epochs: int = EPOCHS,
    begin: Path | None = None,
    imgsz: int = TRAINING.imgsz,
) -> Listener:
    """Train one case to its end, or to where it diverges; the student begins with *begin*.

    Raises:
        NotDistilling: the contract is *checked*, and broken.

    """
    listener = Listener()
    if case.renamed:
        weights = renamed(weights, folder / "renamed.pt")
    training = case.training.model_copy(update={"imgsz": imgsz})
    made = case.trainer(
        plan(data_yaml, folder, epochs=epochs, training=training, weights=begin), listener,
        teacher=weights, distillation=deepcopy(case.spec),
    )  # fmt: skip
    made.checked = checked
    try:
        made.train()
    except Diverged:
        pass
    finally:
        made.close()
    return listener


def named(case: Case, findings: Sequence[RuleFinding]) -> RuleFinding | None:
    """Return the first and worst finding that names what was broken."""
    return max(
        (f for f in findings if f.rule in case.named_by and f.verdict != "healthy"),
        key=lambda f: f.verdict == "critical",
        default=None,
    )


def broken_contract(case: Case, weights: Path, data_yaml: Path, folder: Path, **chosen: Any) -> str | None:
    """Return what the contract says at the start, if anything; *chosen* are further arguments of ``run``."""
    try:
        run(case, weights, data_yaml, folder, checked=True, epochs=1, **chosen)
    except NotDistilling as error:
        return error.message
    return None


@dataclass(frozen=True)
class Start:
    """What teacher and student begin with, and on which images."""

    name: str
    student: Path | None = None
    teacher: Path | None = None
    teacher_model: str = "yolov8n"
    data: Path | None = None
    imgsz: int = TRAINING.imgsz


def main() -> None:
    """Break every run, print the table of verdicts, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--student", type=Path, help="pretrained YOLOv8n: every run again, begun from these weights")
    parser.add_argument("--teacher", type=Path, help="pretrained YOLOv8s that is fine-tuned to teach them")
    parser.add_argument("--data", type=Path, help="data.yaml for those, of which 32 images are taken; else rectangles")
    options = parser.parse_args()
    root = Path(__file__).resolve().parents[1]
    sys.path += [str(root / "tests"), str(root / "benchmarks")]
    from core.training.pictures import draw
    from provenance import provenance, write_json
    from sound_runs import subset

    starts = [Start("random")]
    if options.student and options.teacher:
        size = 96 if options.data else TRAINING.imgsz
        starts.append(Start("pretrained", options.student, options.teacher, "yolov8s", options.data, size))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for start in starts:
            folder = Path(name) / start.name
            if start.data is None:
                data_yaml = draw(folder / "data", num_train=32, num_val=8)
            else:
                data_yaml = subset(start.data.resolve(), folder / "data", 32)
            training = TRAINING.model_copy(update={"imgsz": start.imgsz})
            weights = teacher(data_yaml, folder, model=start.teacher_model, weights=start.teacher, training=training)
            for key in CASES:
                rows.append(judged(key, weights, data_yaml, folder, epochs=options.epochs, start=start))
                print(table(rows[-1:]).splitlines()[-1], flush=True)
                if options.json:
                    write_json(options.json, {"provenance": provenance(), "epochs": options.epochs, "runs": rows})
    print(table(rows))


def judged(key: str, weights: Path, data_yaml: Path, folder: Path, *, epochs: int, start: Start) -> dict[str, Any]:
    """Run one case without the contract and for one epoch with it, and sum up."""
    case, begun = CASES[key], time.perf_counter()
    chosen: dict[str, Any] = {"begin": start.student, "imgsz": start.imgsz}
    listener = run(case, weights, data_yaml, folder / key, checked=False, epochs=epochs, **chosen)
    found = named(case, listener.findings)
    last = listener.metrics.get(max(listener.metrics, default=0), {})
    return {
        "run": key,
        "begun from": start.name,
        "broken": case.how,
        "rule": found and found.rule,
        "verdict": found.verdict if found else "healthy" if not case.named_by else "missed",
        "epoch": found and found.epoch,
        "message": found and found.message,
        "contract": broken_contract(case, weights, data_yaml, folder / f"{key}-checked", **chosen),
        "all": [[f.rule, f.verdict, f.epoch, f.message] for f in listener.findings],
        "mAP50-95": last.get(MAP),
        "health": {name: value for name, value in last.items() if name.startswith("health/")},
        "history": history(listener),
        "seconds": round(time.perf_counter() - begun, 1),
    }


def history(listener: Listener) -> dict[str, list[float | None]]:
    """Return what the rules looked at, by metric and epoch, to be judged again without training."""
    told = [values for epoch, values in sorted(listener.metrics.items()) if epoch > 0]
    names = sorted({name for values in told for name in values if _seen(name)})
    return {name: [_short(values.get(name)) for values in told] for name in names}


def epochs_of(columns: Mapping[str, Sequence[float | None]]) -> list[dict[str, float | None]]:
    """Return each epoch of a recorded history; what was not finite is left out but for the loss."""
    number = max(map(len, columns.values()), default=0)
    return [
        {name: values[epoch] for name, values in columns.items() if values[epoch] is not None or name == "train/loss"}
        for epoch in range(number)
    ]


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def _seen(name: str) -> bool:
    return name.startswith(("health/", "train/")) or name in {MAP, "lr/weight"}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Draw the verdicts for people."""
    lines = [
        "| run | begun from | broken how | rule | verdict | epoch | liveness contract | other findings |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        others = ", ".join(
            f"{rule} {verdict} @{epoch}" for rule, verdict, epoch, _ in row["all"] if rule != row["rule"]
        )
        shown = [row["run"], row["begun from"], row["broken"], row["rule"] or "-", row["verdict"], row["epoch"] or "-"]
        lines.append("| " + " | ".join(map(str, [*shown, row["contract"] or "holds", others or "-"])) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
