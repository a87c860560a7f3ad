"""Time one training step: student alone, teacher alone, Ultralytics' native distillation, and ours, interleaved.

    python benchmarks/step.py --device cpu --teacher yolo11m --student yolov8n --imgsz 320 --batch 8 --json FILE

A step is forward, loss, backward and the optimizer's step on images that are already on the device. Every repeat times
all sides one after the other, so that a busy machine slows them alike; medians are compared. Past its first steps, each
of which measures, ours measures its balance of gradients in one step of ``EVERY``: those are timed apart and charged in
that proportion.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

from retort.training import environment

environment.prepare(Path(tempfile.mkdtemp(prefix="retort-step-")))

import torch  # noqa: E402
from provenance import provenance, write_json  # noqa: E402
from retort.spec import DistillationSpec  # noqa: E402
from retort.training import models  # noqa: E402
from retort.training.distillation.balancing import EVERY, FIRST_STEPS, GradientBalance  # noqa: E402
from retort.training.distillation.distiller import make_distiller  # noqa: E402
from ultralytics.cfg import get_cfg  # noqa: E402
from ultralytics.nn.distill_model import DistillationModel  # noqa: E402

NUM_CLASSES, BOXES_PER_IMAGE = 80, 8
NAMES = {index: f"class {index}" for index in range(NUM_CLASSES)}

Step = Callable[[], object]


def network(name: str, imgsz: int) -> Any:
    """Build a network with random weights, as upstream's trainer would hold it."""
    model = models.build(name, names=NAMES, weights=None, seed=0)
    model.args = get_cfg(overrides={"imgsz": imgsz})
    return model


def batch_of(size: int, imgsz: int, device: torch.device) -> dict[str, Any]:
    """Draw images and boxes."""
    draw = torch.Generator().manual_seed(0)
    count = size * BOXES_PER_IMAGE
    sides = 0.05 + 0.3 * torch.rand(count, 2, generator=draw)
    batch = {
        "img": torch.rand(size, 3, imgsz, imgsz, generator=draw),
        "cls": torch.randint(NUM_CLASSES, (count, 1), generator=draw).float(),
        "bboxes": torch.cat([sides / 2 + (1 - sides) * torch.rand(count, 2, generator=draw), sides], 1),
        "batch_idx": torch.arange(size).repeat_interleave(BOXES_PER_IMAGE).float(),
    }
    return {key: value.to(device) for key, value in batch.items()}


def training_step(model: Any, batch: dict[str, Any], device: torch.device) -> Step:
    """Return one whole step of *model*, in mixed precision on a GPU."""
    mixed = device.type == "cuda"
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1e-5, momentum=0.9)
    scaler = torch.amp.GradScaler("cuda", enabled=mixed)
    model.train()

    def step() -> None:
        with torch.autocast(device.type, dtype=torch.float16, enabled=mixed):
            loss, _ = model(batch)
        scaler.scale(loss.sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    return step


def sides(options: argparse.Namespace, device: torch.device) -> tuple[dict[str, Step], GradientBalance | None]:
    """Return what is timed, by name, and the balance whose measuring steps are charged apart."""
    batch = batch_of(options.batch, options.imgsz, device)
    student, teacher = (network(name, options.imgsz).to(device) for name in (options.student, options.teacher))
    last = torch.channels_last
    # Upstream puts channels last on CUDA, before it wraps: its teacher and projectors stay as they are.
    theirs = deepcopy(student).to(memory_format=last if device.type == "cuda" else torch.contiguous_format)
    native = DistillationModel(deepcopy(teacher), theirs)
    spec = DistillationSpec.model_validate({"recipe": options.recipe})
    ours = make_distiller(
        deepcopy(student).to(memory_format=last),
        teacher,
        spec,
        device=device,
        epochs=100,
        close_mosaic=0,
        seed=0,
        half=True,
    )
    assert ours.objective is not None
    assert ours.teacher is not None
    ours.objective.epoch = spec.schedule.warmup_epochs + 1
    upstream, asked = teacher.eval(), ours.teacher

    @torch.no_grad()
    def teacher_upstream() -> None:
        with torch.autocast(device.type, dtype=torch.float16, enabled=device.type == "cuda"):
            upstream(batch["img"])

    steps = {
        "student": training_step(deepcopy(student).to(memory_format=last), batch, device),
        "teacher_upstream": teacher_upstream,
        "teacher_ours": lambda: asked(batch["img"], reuse_buffers=True),
        "native": training_step(native, batch, device),
        "ours": training_step(ours, batch, device),
    }
    balance = ours.objective.balance
    return steps, balance if isinstance(balance, GradientBalance) else None


def timed(step: Step, device: torch.device) -> float:
    """Run it once; return its seconds, the device's included."""
    started = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def measure(options: argparse.Namespace, device: torch.device) -> dict[str, list[float]]:
    """Return the seconds of every repeat by side; ``ours_measuring`` are ours that measure the balance."""
    steps, balance = sides(options, device)
    for step in steps.values():
        for _ in range(options.warmup):
            step()
    if balance is not None:
        balance.restore({**balance.state(), "steps": FIRST_STEPS, "measured_at": FIRST_STEPS - 1}, device)
    taken: dict[str, list[float]] = {name: [] for name in (*steps, "ours_measuring")}
    for _ in range(options.repeats):
        for name, step in steps.items():
            if name == "ours" and balance is not None:
                balance.measure_next()
                taken["ours_measuring"].append(timed(step, device))
            taken[name].append(timed(step, device))
    return taken


def result_of(taken: dict[str, list[float]]) -> dict[str, Any]:
    """Return medians, their spread (quartiles), and the two ratios."""
    found: dict[str, Any] = {}
    for name, values in taken.items():
        if values:
            quartiles = statistics.quantiles(values, n=4)
            found[f"{name}_s"] = statistics.median(values)
            found[f"{name}_quartiles_s"] = [quartiles[0], quartiles[2]]
    found["ours_plain_s"] = found["ours_s"]
    extra = found.get("ours_measuring_s", found["ours_s"]) - found["ours_s"]
    found["ours_s"] += max(0.0, extra) / EVERY[1]
    found["ours_over_native"] = found["ours_s"] / found["native_s"]
    found["ours_over_bound"] = found["ours_s"] / (found["student_s"] + found["teacher_ours_s"])
    found["native_over_student"] = found["native_s"] / found["student_s"]
    found["teacher_upstream_over_ours"] = found["teacher_upstream_s"] / found["teacher_ours_s"]
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--teacher", default="yolo11m")
    parser.add_argument("--student", default="yolov8n")
    parser.add_argument("--recipe", default="balanced")
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--warmup", type=int, default=4, help="steps of each side that are not timed")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    device = torch.device(options.device)
    taken = measure(options, device)
    settings = {key: value for key, value in vars(options).items() if key != "json"}
    result = {**result_of(taken), "settings": settings, "threads": torch.get_num_threads(), **provenance()}
    for name in ("student", "teacher_upstream", "teacher_ours", "native", "ours"):
        low, high = result[f"{name}_quartiles_s"]
        print(f"{name:18s}{result[f'{name}_s']:8.4f} s   quartiles {low:.4f} to {high:.4f}")
    print(f"ours / native  {result['ours_over_native']:.3f}")
    print(f"ours / bound   {result['ours_over_bound']:.3f}   (bound: student step + our teacher's forward)")
    if options.json:
        write_json(options.json, result)


if __name__ == "__main__":
    main()
