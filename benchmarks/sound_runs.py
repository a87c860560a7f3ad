"""Record the health metrics of sound distillations, and what the rules say of them.

    python benchmarks/sound_runs.py --json FILE [--data NAME=data.yaml ...] [--student n.pt --teacher s.pt]

Runs differ in data, size, what student and teacher begin with, and recipe. Runs that FILE has already are kept, so that
a broken-off recording goes on; ``--judge`` only judges them again. Without further data and weights the demo set is
recorded from random weights.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retort.training import environment

if __name__ == "__main__":
    environment.prepare(Path(tempfile.mkdtemp(prefix="retort-ultralytics-")))

sys.path.append(str(Path(__file__).resolve().parent))
from broken_runs import Listener, Sound, epochs_of, history, plan, teacher
from retort.constants import MAP
from retort.data import demo
from retort.spec import DistillationSpec, TrainingSpec
from retort.spec.distillation import RECIPES
from retort.training.config import RuleFinding
from retort.training.health.rules import RuleEngine, RuleInputs

SIZES = {"digits": 64, "bccd": 96, "ui": 96}
EPOCHS = 12


@dataclass(frozen=True)
class Run:
    """One sound run."""

    data: str
    start: str
    recipe: str
    images: int
    """Training images."""

    @property
    def name(self) -> str:
        """Its key in the file."""
        return f"{self.data}-{self.images}-{self.start}-{self.recipe}"


RUNS = [
    Run("digits", "random", "balanced", 128),
    Run("bccd", "pretrained", "balanced", 80),
    Run("bccd", "pretrained", "article", 48),
    Run("bccd", "pretrained", "native", 48),
    Run("bccd", "random", "balanced", 48),
    Run("digits", "pretrained", "balanced", 48),
    Run("ui", "pretrained", "balanced", 48),
    Run("bccd", "pretrained", "balanced", 16),
    Run("digits", "random", "article", 48),
    Run("digits", "random", "native", 48),
    Run("digits", "pretrained", "article", 48),
    Run("ui", "pretrained", "native", 48),
    Run("digits", "pretrained", "native", 48),
    Run("ui", "pretrained", "article", 48),
    Run("bccd", "random", "native", 48),
    Run("digits", "random", "balanced", 16),
    Run("ui", "random", "balanced", 48),
    Run("bccd", "random", "article", 48),
]


def subset(data_yaml: Path, folder: Path, images: int) -> Path:
    """Write a data set of some of *data_yaml*'s training and validation images, drawn by a fixed seed."""
    import yaml

    root, found = data_yaml.parent, yaml.safe_load(data_yaml.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    lines: dict[str, Any] = {"names": found["names"]}
    for split, most in (("train", images), ("val", 24)):
        source = root / found[split]
        chosen = sorted(path for path in source.iterdir() if path.suffix.lower() in {".jpg", ".jpeg", ".png"})
        random.Random(0).shuffle(chosen)  # noqa: S311 - a draw of images
        for path in chosen[:most]:
            labels = Path(str(path).replace("/images/", "/labels/")).with_suffix(".txt")
            for kind, content in (("images", path), ("labels", labels)):
                target = folder / kind / split / content.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(content.read_bytes())
        lines[split] = str(folder / "images" / split)
    (folder / "data.yaml").write_text(yaml.safe_dump(lines))
    return folder / "data.yaml"


def training(run: Run) -> TrainingSpec:
    """Return the training section of *run*: defaults, in a small size."""
    multiplier = RECIPES[run.recipe]["head_lr_multiplier"]
    return TrainingSpec(imgsz=SIZES[run.data], batch=8, nominal_batch=8, head_lr_multiplier=multiplier)


def record(run: Run, sources: dict[str, Path], weights: dict[str, Path | None], folder: Path) -> dict[str, Any]:
    """Train *run*; return its row. Teachers are kept in *folder*, one of each data set and start."""
    begun = time.perf_counter()
    data_yaml = prepare(run, sources, folder)
    kept = folder / f"teacher-{run.data}.pt"
    if not kept.exists():
        full = prepare(Run(run.data, run.start, run.recipe, max(r.images for r in RUNS if r.data == run.data)), sources,
                       folder)  # fmt: skip
        chosen = {"model": "yolov8s", "weights": weights["teacher"]} if weights["teacher"] else {}
        made = teacher(full, folder / run.name, epochs=16, training=training(Run(run.data, "", "native", 0)), **chosen)
        kept.write_bytes(made.read_bytes())
    listener = Listener()
    begin = weights["student"] if run.start == "pretrained" else None
    made_run = Sound(
        plan(data_yaml, folder / f"{run.name}-run", epochs=EPOCHS, training=training(run), weights=begin), listener,
        teacher=kept, distillation=DistillationSpec.model_validate({"recipe": run.recipe}),
    )  # fmt: skip
    try:
        made_run.train()
    finally:
        steps = -(-run.images // int(training(run).batch))
        made_run.close()
    told = listener.metrics.get(0, {})
    return {
        "run": run.name, "data": run.data, "images": run.images, "start": run.start, "recipe": run.recipe,
        "steps_per_epoch": steps, "teacher_map": told.get(MAP.replace("val/", "teacher/")),
        "history": history(listener), "seconds": round(time.perf_counter() - begun, 1),
    }  # fmt: skip


def judge(row: dict[str, Any]) -> list[RuleFinding]:
    """Return what the rules say of a recorded run, as they are now."""
    spec = DistillationSpec.model_validate({"recipe": row["recipe"]})
    run = Run(row["data"], row["start"], row["recipe"], row["images"])
    inputs = RuleInputs(row["teacher_map"], row["steps_per_epoch"], spec, training(run))
    engine = RuleEngine(inputs)
    told = enumerate(epochs_of(row["history"]), start=1)
    return [found for epoch, values in told for found in engine.update(epoch, values)]


def withdrawn(findings: Sequence[RuleFinding]) -> int:
    """Count the warnings that were later withdrawn."""
    return sum(1 for found in findings if found.verdict == "healthy")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Draw the verdicts for people."""
    lines = ["| run | teacher, student mAP50-95 | critical | withdrawn | findings |", "|---|---|---|---|---|"]
    for row in rows:
        found = judge(row)
        told = ", ".join(f"{one.rule} {one.verdict} @{one.epoch}" for one in found)
        critical = sum(1 for one in found if one.verdict == "critical")
        maps = f"{row['teacher_map'] or 0:.3f}, {row['history'][MAP][-1] or 0:.3f}"
        lines.append(f"| {row['run']} | {maps} | {critical} | {withdrawn(found)} | {told or '-'} |")
    return "\n".join(lines)


def prepare(run: Run, sources: dict[str, Path], folder: Path) -> Path:
    """Return the data set of *run*, written on first use."""
    target = folder / f"data-{run.data}-{run.images}"
    if (target / "data.yaml").exists():
        return target / "data.yaml"
    if run.data == "digits":
        return demo.write(target, num_train=run.images, num_val=24, imgsz=SIZES["digits"])
    return subset(sources[run.data], target, run.images)


def main() -> None:
    """Record what is missing, judge all, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--data", action="append", default=[], metavar="NAME=data.yaml", help="bccd=, ui=")
    parser.add_argument("--student", type=Path, help="pretrained YOLOv8n that students begin with")
    parser.add_argument("--teacher", type=Path, help="pretrained YOLOv8s that is fine-tuned to teach")
    parser.add_argument("--folder", type=Path, help="keeps data and teachers between recordings")
    parser.add_argument("--judge", action="store_true", help="train nothing")
    options = parser.parse_args()
    sources = {name: Path(path).resolve() for name, _, path in (one.partition("=") for one in options.data)}
    rows = json.loads(options.json.read_text())["runs"] if options.json.exists() else []
    weights = {"student": options.student, "teacher": options.teacher}
    with tempfile.TemporaryDirectory() as name:
        for run in [] if options.judge else RUNS:
            known = run.data == "digits" or run.data in sources
            if run.name in {row["run"] for row in rows} or not known or (run.start != "random" and not options.student):
                continue
            rows.append(record(run, sources, weights, options.folder or Path(name)))
            write(options.json, rows)
            print(table(rows[-1:]).splitlines()[-1], flush=True)
    print(table(rows))


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write the recording so far."""
    from provenance import provenance, write_json

    write_json(path, {"provenance": provenance(), "epochs": EPOCHS, "runs": rows})


if __name__ == "__main__":
    main()
