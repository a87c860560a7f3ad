"""Train for some epochs as a job does, and look at the steps: times, kernels, and host synchronizations by line.

    python benchmarks/gpu_loop.py --device cuda --sides ours,native --json FILE

Loader, copies, colors, step and optimizer are all in it, unlike in step.py. Sides: ``ours``; ``native``, Ultralytics'
own distillation; ``control``, our student without a teacher; ``loose``, ours without deterministic algorithms;
``compiled``, ours with ``training.compile``. ``loose+compiled`` is both.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
import traceback
import warnings
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from gpu_parts import SCRATCH, arguments, leave, pictures, recorder
from retort.training import environment

environment.prepare(SCRATCH / "ultralytics")

import torch  # noqa: E402
import ultralytics.engine.trainer as engine  # noqa: E402
from random_teacher import make_opinionated  # noqa: E402
from retort.constants import Role  # noqa: E402
from retort.data.demo import NAMES  # noqa: E402
from retort.spec import DistillationSpec, TrainingSpec  # noqa: E402
from retort.spec.hardware import Optimisation  # noqa: E402
from retort.training import models, trainer  # noqa: E402
from retort.training.compiling import CompiledLayers  # noqa: E402
from retort.training.config import TrainCallback, TrainConfig  # noqa: E402
from torch._C._autograd import DeviceType  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402
from ultralytics.models.yolo.detect import DetectionTrainer  # noqa: E402

SIDES = ("ours", "native", "control", "compiled", "loose")
WARMUP, WATCHED = 3, 2
"""Steps that are not timed, and steps whose synchronizations are collected."""
MOST_LINES = 40


class Steps:
    """Times the steps of a trainer by its callbacks, profiles some of them, and collects where two of them wait."""

    def __init__(self, cuda: bool, first: int, profiled: int) -> None:
        self.cuda, self.first, self.last = cuda, first, first + profiled
        self.starts: list[float] = []
        self.ends: list[float] = []
        self.epochs: list[int] = []
        self.waits: Counter[str] = Counter()
        self.profiler: Any = None
        self.wall_s = 0.0
        self.moments: list[tuple[str, float]] = []
        """Of the epochs: when each began, had trained, and had been validated and kept."""

    def attach(self, run: Any) -> None:
        """Listen to the trainer *run*, before its own callbacks."""
        run.callbacks["on_train_epoch_start"].append(lambda _: self.epochs.append(len(self.ends)))
        run.callbacks["on_train_batch_start"].insert(0, lambda _: self._begin())
        run.callbacks["on_train_batch_end"].append(lambda _: self._end())
        for event in ("on_train_epoch_start", "on_train_epoch_end", "on_val_start", "on_val_end", "on_fit_epoch_end"):
            run.callbacks[event].append(partial(self._note, event))
        warnings.simplefilter("always")
        warnings.showwarning = self._heard

    def figures(self, batch: int) -> dict[str, Any]:
        """Return what was found; the first steps, the watched ones and those at an epoch's edge are not timed."""
        unlike = {*range(WARMUP), *range(self.first - 1, self.last + WATCHED + 1)}
        unlike |= {step + more for step in self.epochs for more in (0, 1)}
        timed = [step for step in range(1, len(self.ends)) if step not in unlike]
        found: dict[str, Any] = {"steps": len(timed)}
        if timed:
            step_s = statistics.median(self.ends[step] - self.ends[step - 1] for step in timed)
            wait_s = statistics.median(self.starts[step] - self.ends[step - 1] for step in timed)
            found |= {"step_ms": round(step_s * 1e3, 2), "images_per_s": round(batch / step_s, 1)}
            found["data_wait_ms"] = round(wait_s * 1e3, 2)
            waited = sum(self.starts[step] - self.ends[step - 1] for step in timed)
            found["loader_stall"] = round(waited / sum(self.ends[step] - self.ends[step - 1] for step in timed), 4)
        first = zip(self.starts[:5], self.ends[:5], strict=False)
        found["first_steps_s"] = [round(end - start, 3) for start, end in first]
        return {**found, **shares(self.moments), **self._device(), **self._profile()}

    def _note(self, event: str, _: Any) -> None:
        self.moments.append((event, time.perf_counter()))

    def _begin(self) -> None:
        step = len(self.ends)
        if step == self.first:
            self._synchronize()
            kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.cuda else [])]
            self.profiler = profile(activities=kinds)
            self.profiler.__enter__()
            self.wall_s = time.perf_counter()
        if self.cuda and self.last <= step < self.last + WATCHED:
            torch.cuda.set_sync_debug_mode("warn")
        self.starts.append(time.perf_counter())

    def _end(self) -> None:
        if self.cuda:
            torch.cuda.set_sync_debug_mode("default")
        self.ends.append(time.perf_counter())
        if len(self.ends) == self.last:
            self._synchronize()
            self.wall_s = time.perf_counter() - self.wall_s
            self.profiler.__exit__(None, None, None)

    def _synchronize(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()

    def _heard(self, message: Any, category: Any, filename: str, lineno: int, *_: Any, **__: Any) -> None:  # noqa: ARG002
        """Count a warning of a synchronization under the two innermost lines of ours or upstream's."""
        if "synchroniz" not in str(message):
            return
        frames = [
            f"{Path(frame.filename).parent.name}/{Path(frame.filename).name}:{frame.lineno}"
            for frame in reversed(traceback.extract_stack())
            if "/retort/" in frame.filename or "/ultralytics/" in frame.filename
        ]
        self.waits[" <- ".join(frames[:2]) or f"{Path(filename).name}:{lineno}"] += 1

    def _device(self) -> dict[str, Any]:
        if not self.cuda:
            return {}
        return {
            "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 2),
            "reserved_gib": round(torch.cuda.max_memory_reserved() / 2**30, 2),
            "watched_steps": WATCHED,
            "host_syncs": self.waits.total(),
            "host_syncs_by_line": dict(self.waits.most_common(MOST_LINES)),
        }

    def _profile(self) -> dict[str, Any]:
        """Print the dearest kernels and host operations of the profiled steps; return how busy the device was."""
        if self.profiler is None or len(self.ends) < self.last:
            return {}
        table = self.profiler.key_averages().table(sort_by="self_cpu_time_total", row_limit=14)
        print("\n".join(line[:150] for line in table.splitlines()))
        profiled = self.last - self.first
        found = {"profiled_steps": profiled, "wall_ms": round(self.wall_s * 1e3, 1)}
        kernels = [event for event in self.profiler.events() if event.device_type == DeviceType.CUDA]
        if not kernels:
            return found
        print_dearest(kernels, profiled)
        busy_s = union_us([(kernel.time_range.start, kernel.time_range.end) for kernel in kernels]) / 1e6
        return {**found, "gpu_busy": round(busy_s / self.wall_s, 3), "kernels": len(kernels)}


def shares(moments: list[tuple[str, float]]) -> dict[str, float]:
    """Return which part of the epochs validation has taken, and which all that is not training."""
    validating = rest = whole = 0.0
    began = trained = checking = None
    for event, at in moments:
        if event == "on_train_epoch_start":
            began, trained = at, None
        elif event == "on_train_epoch_end":
            trained = at
        elif event == "on_val_start":
            checking = at
        elif event == "on_val_end" and trained is not None and checking is not None:
            validating += at - checking
        elif event == "on_fit_epoch_end" and began is not None and trained is not None:
            rest, whole, began = rest + at - trained, whole + at - began, None
    if not whole:
        return {}
    return {"validation_share": round(validating / whole, 4), "beside_training_share": round(rest / whole, 4)}


def union_us(spans: list[tuple[float, float]]) -> float:
    """Return the time that *spans* cover together: streams overlap."""
    covered, until = 0.0, 0.0
    for start, end in sorted(spans):
        covered += max(0.0, end - max(start, until))
        until = max(until, end)
    return covered


def print_dearest(kernels: list[Any], steps: int) -> None:
    """Print the kernels and copies that take most time, each with its time and number in a step."""
    took: dict[str, list[float]] = defaultdict(list)
    for kernel in kernels:
        took[kernel.name].append(kernel.time_range.elapsed_us())
    for name, each in sorted(took.items(), key=lambda item: -sum(item[1]))[:MOST_LINES]:
        print(f"{sum(each) / steps / 1e3:9.3f} ms/step {len(each) / steps:7.1f}/step  {name[:110]}")


def teacher_file(model: str) -> Path:
    """Return the weights of a teacher with random weights, which is made once."""
    path = SCRATCH / f"{model}.pt"
    if not path.exists():
        names = dict(enumerate(NAMES))
        network = models.build(model, names=names, weights=None, seed=1)
        make_opinionated(network)
        models.publish(network, path, names=names, imgsz=96)
    return path


def native(options: argparse.Namespace, data: Path, folder: Path) -> Any:
    """Return Ultralytics' own distillation of the same student."""
    engine.check_amp = lambda *_: True  # it would download a network
    engine.BaseTrainer.read_results_csv = lambda _: {}  # it would need polars
    return DetectionTrainer(
        overrides={
            "model": f"{options.student}.yaml", "data": str(data), "save_dir": str(folder),
            "device": "0" if options.device == "cuda" else "cpu", "epochs": options.epochs, "imgsz": options.imgsz,
            "batch": options.batch, "nbs": options.batch, "pretrained": False, "plots": False,
            "amp": options.device == "cuda", "exist_ok": True, "close_mosaic": 0, "val": False, "save": False,
            "workers": environment.num_workers(), "distill_model": str(teacher_file(options.teacher)),
        }
    )  # fmt: skip


def ours(side: str, options: argparse.Namespace, data: Path, folder: Path) -> Any:
    """Return our training of *side*."""
    size = {"imgsz": options.imgsz, "batch": options.batch, "nominal_batch": options.batch}
    switches = side.split("+")
    variant = {"compile": "compiled" in switches, "deterministic": "loose" not in switches}
    training = TrainingSpec.model_validate({**size, "close_mosaic": 0, **variant})
    plan = TrainConfig(
        role=Role.STUDENT, model=options.student, weights=None, data_yaml=data, epochs=options.epochs,
        training=training, folder=folder, device="0" if options.device == "cuda" else "cpu",
    )  # fmt: skip
    if "compiled" in switches:
        prepare_compiler(options.device)
    if side == "control":
        return trainer.TrainingLoop(plan, Facts(), teacher=None, distillation=None)
    spec = DistillationSpec.model_validate({"schedule": {"warmup_epochs": 0}})
    return trainer.TrainingLoop(plan, Facts(), teacher=teacher_file(options.teacher), distillation=spec)


def prepare_compiler(device: str) -> None:
    """Compile two layers without making kernels where there is no GPU: all of them, or kernels, take minutes."""

    def two_layers(network: Any) -> CompiledLayers:
        return CompiledLayers(SimpleNamespace(model=[*network.model[:2], None]), backend="eager")

    if device == "cpu":
        mock.patch("retort.training.acceleration.CompiledLayers", two_layers).start()


def measured(side: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train as *side* does, and return the figures of its steps."""
    began = time.perf_counter()
    folder = Path(tempfile.mkdtemp(dir=SCRATCH))
    data = pictures(SCRATCH, options.images, options.imgsz)
    run = native(options, data, folder) if side == "native" else ours(side, options, data, folder)
    steps = Steps(options.device == "cuda", options.first, options.profiled)
    steps.attach(run)
    if options.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    run.train()
    found = {**steps.figures(options.batch), **told(run), "total_s": round(time.perf_counter() - began, 1)}
    print(f"\n{side}: {json.dumps(found, indent=1)}\n", flush=True)
    return found


class Facts(TrainCallback):
    """Keeps what a training says of recording, compiling and half precision."""

    def __init__(self) -> None:
        self.facts: list[str] = []

    def optimised(self, found: tuple[Optimisation, ...]) -> None:
        """Keep the facts as sentences."""
        self.facts = [one.sentence for one in found]


def told(run: Any) -> dict[str, Any]:
    """Return the facts of a training of ours."""
    callback = getattr(run, "callback", None)
    return {"facts": callback.facts} if isinstance(callback, Facts) else {}


def main() -> None:
    """Measure the sides, and keep what each gave before the next begins."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--sides", type=lambda text: text.split(","), default=list(SIDES))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--first", type=int, default=6, help="step from which some are profiled")
    parser.add_argument("--profiled", type=int, default=10, help="how many are")
    options = parser.parse_args()
    assert {one for side in options.sides for one in side.split("+")} <= set(SIDES), f"sides are {', '.join(SIDES)}"
    note = recorder(options.json)
    for side in options.sides:
        note(**{side: measured(side, options)})


if __name__ == "__main__":
    leave(main)
