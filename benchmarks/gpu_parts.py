"""Measure one thing that the GPU check asks for: hardware, recordings, tests, a whole job, memory, loaders, switches.

    python benchmarks/gpu_parts.py hardware --json FILE

`gpu_check.py` starts these, each in a process of its own, or several, comma-separated, one after the other in one. The
file is written anew with every figure, so that a part that is stopped still tells what it had found.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from provenance import ROOT, write_json
from retort.data.demo import write

SCRATCH = Path(tempfile.gettempdir()) / "gpu-check"
ALIKE = 4
"""Training images that show the same scene."""
Note = Callable[..., None]


def recorder(path: Path | None) -> Note:
    """Return what takes figures by name: it prints them, and writes all there are to *path*."""
    found: dict[str, Any] = {}

    def note(**figures: Any) -> None:
        found.update(figures)
        print(json.dumps(figures), flush=True)
        if path is not None:
            write_json(path, found)

    return note


def arguments(doc: str) -> argparse.ArgumentParser:
    """Return a parser of the options that all parts share."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--teacher", default="yolo11m")
    parser.add_argument("--student", default="yolov8n")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--images", type=int, default=640)
    parser.add_argument("--json", type=Path)
    return parser


def pictures(folder: Path, number: int, imgsz: int) -> Path:
    """Return the data.yaml of *number* images in *folder*, made once; most are links, for drawing them takes long."""
    place = folder / f"scenes-{number}-{imgsz}"
    if not place.exists():
        part = folder / "scenes.part"
        shutil.rmtree(part, ignore_errors=True)
        write(part, num_train=-(-number // ALIKE), num_val=max(4, number // 16), imgsz=imgsz)
        for file in [*(part / "images" / "train").iterdir(), *(part / "labels" / "train").iterdir()]:
            for again in range(1, ALIKE):
                file.with_stem(f"{file.stem}-{again}").hardlink_to(file)
        part.rename(place)
    return place / "data.yaml"


def prepared() -> Any:
    """Return torch, in the environment of a training."""
    from retort.training import environment

    environment.prepare(SCRATCH / "ultralytics")
    import torch

    return torch


def leave(main: Callable[[], None]) -> None:
    """Run *main* and end at once: neither loader processes nor threads that pin memory may hold the process up."""
    code = 1
    try:
        main()
        code = 0
    except Exception:  # noqa: BLE001 - the runner tells its last line
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


# What machine this is


def hardware(_: argparse.Namespace, note: Note) -> None:
    """Tell the device, the driver and the versions, and what the worker makes of the GPUs."""
    torch = prepared()
    from provenance import machine

    if shutil.which("nvidia-smi"):
        subprocess.run(["nvidia-smi"], check=False)
    note(**machine(), torch=torch.__version__, cuda=torch.version.cuda, cudnn=torch.backends.cudnn.version())
    shared = os.statvfs("/dev/shm")  # noqa: S108 - where loader processes leave their batches
    note(shared_memory_mib=shared.f_bavail * shared.f_frsize >> 20)
    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        note(
            capability=f"{gpu.major}.{gpu.minor}", multiprocessors=gpu.multi_processor_count,
            memory_mib=gpu.total_memory >> 20, bf16=torch.cuda.is_bf16_supported(including_emulation=False),
            built_for=torch.cuda.get_arch_list(),
        )  # fmt: skip
    from retort.training import device_check, placement

    note(why_not=device_check.why_not("0"), facts=str(placement.read("0"))[:600])
    try:
        driver(note)
    except Exception as error:  # noqa: BLE001 - a machine without NVML is a figure too
        note(nvml=f"{type(error).__name__}: {error}")


def driver(note: Note) -> None:
    """Tell what NVML says of the driver and of each GPU's memory, which the worker judges by.

    The older question counts as used what the driver keeps for itself.
    """
    import pynvml
    from retort import nvml
    from retort_worker import gpus

    pynvml.nvmlInit()
    note(driver=pynvml.nvmlSystemGetDriverVersion(), driver_cuda=pynvml.nvmlSystemGetCudaDriverVersion_v2())
    for number in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(number)
        one = pynvml.nvmlDeviceGetMemoryInfo(handle)
        two = pynvml.nvmlDeviceGetMemoryInfo(handle, version=pynvml.nvmlMemory_v2)
        used = {"v1_used": one.used >> 20, "v2_used": two.used >> 20, "v2_reserved": two.reserved >> 20}
        note(**{f"nvml_mib_{number}": used})
    visible = nvml.visible(None)
    note(worker_sees=visible, worker_finds_unused=[gpus.is_unused(name) for name in visible])


# The recording of the teacher's kernels beside a thread that pins memory


def recording(options: argparse.Namespace, note: Note) -> None:
    """Record a teacher's CUDA graph again and again while another thread pins memory, as a loader's does."""
    torch = prepared()
    from retort.training import models
    from retort.training.distillation.teacher import Teacher

    plain = torch.cuda.graph
    torch.cuda.graph = lambda graph, **more: plain(graph, **{**more, "capture_error_mode": options.mode})
    network = models.build("yolo11n", names={0: "a"}, weights=None, seed=0)
    stop, told = threading.Event(), list[str]()
    pinning = threading.Thread(target=pin, args=(torch, stop, told, options.emptying), daemon=True)
    pinning.start()
    recorded, reasons = 0, list[str]()
    for trial in range(options.tries):
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            broken = trial_of(Teacher, network, torch.device("cuda:0"), height=96 + 32 * (trial % 8))
        refused = [*broken, *(str(one.message) for one in heard if "cannot be recorded" in str(one.message))]
        recorded, reasons = recorded + (not refused), [*reasons, *refused][:3]
        note(tried=trial + 1, recorded=recorded, reasons=reasons, pinning_thread=told)
    stop.set()


def trial_of(teacher: Any, network: Any, device: Any, *, height: int) -> list[str]:
    """Record *network* once; return what went wrong beyond the recording itself, which leaves a broken one aside."""
    try:
        teacher(network, device=device, half=True).prepare(2, height, 96)
    except Exception as error:  # noqa: BLE001 - whatever CUDA refuses is the figure
        return [f"{type(error).__name__}: {str(error).splitlines()[0]}"]
    return []


def pin(torch: Any, stop: threading.Event, told: list[str], emptying: bool) -> None:
    """Pin blocks of ever other sizes until *stop*; with *emptying*, give them back to the driver each time.

    A loader's thread does not empty the cache: that is the suspect where a recording hung.
    """
    torch.cuda.set_device(0)
    mib = 8
    while not stop.is_set():
        try:
            torch.empty(mib << 20, dtype=torch.uint8).pin_memory()
            if emptying:
                torch._C._host_emptyCache()  # noqa: SLF001 - there is no public name
        except Exception as error:  # noqa: BLE001 - whatever CUDA refuses is the figure
            told.append(f"{type(error).__name__}: {str(error).splitlines()[0]}")
            return
        mib = 8 + (mib + 7) % 90


# What runs as it does for everybody: the tests, a job


def tests(options: argparse.Namespace, note: Note) -> None:
    """Run tests/gpu and tell what passed; warnings of another torch than ours are no failures."""
    chosen = f"tests/gpu/{options.only}" if options.only else "tests/gpu"
    less = [part for one in options.deselect for part in ("--deselect", f"tests/gpu/{one}")]
    settings = ["-p", "no:cacheprovider", "-o", "filterwarnings=default", "-o", "timeout=60"]
    command = [sys.executable, "-m", "pytest", chosen, "--confcutdir=tests/gpu", "-v", *settings, *less]
    printed, code = [], None
    # Without a GPU, what can run on a CPU does.
    played = {**os.environ, "PLAY_GPU_TESTS": "1"} if options.device == "cpu" else None
    with subprocess.Popen(
        command, cwd=ROOT, env=played, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        for line in running.stdout or ():
            print(line, end="", flush=True)
            printed.append(line)
        code = running.wait()
    counted = re.findall(r"(\d+) (passed|failed|skipped|deselected|error)", printed[-1] if printed else "")
    counts = {what: int(number) for number, what in counted}
    failed = [line.split()[1] for line in printed if line.startswith(("FAILED ", "ERROR "))]
    note(**counts, not_passed=failed)
    assert code == 0, f"pytest ended with {code}"


TOLD = "this run is on", " recorded: ", " compiled: ", "memory"
"""In what a job says of its device and of what speeds it up."""


def job(options: argparse.Namespace, note: Note) -> None:
    """Run a whole job from images to an exported student, on the GPU that the command line finds by itself."""
    data = pictures(SCRATCH, options.images, options.imgsz)
    spec = {
        "name": "gpu-check",
        "data": {"path": str(data.parent)},
        "teacher": {"train": {"model": options.teacher, "weights": None, "epochs": options.epochs}},
        "student": {"model": options.student, "weights": None},
        "training": {"epochs": options.epochs, "imgsz": options.imgsz, "batch": options.batch},
        "control": options.whole,
        "exports": [{"format": "onnx"}] if options.whole else [],
    }
    file = SCRATCH / "spec.json"
    file.write_text(json.dumps(spec))
    where = ["--device", "cpu"] if options.device == "cpu" else []
    command = [sys.executable, "-m", "retort.cli", "run", str(file), "--out", str(SCRATCH / "job"), "--json", *where]
    stages: dict[str, float] = {}
    told: list[str] = []
    end: dict[str, Any] = {}
    for event in events(command):
        if event["type"] == "stage":
            stages[event["data"]["stage"]] = event["at"]
            note(began_s={name: round(at - min(stages.values()), 1) for name, at in stages.items()})
        elif event["type"] == "log" and any(sign in event["message"] for sign in TOLD):
            told.append(event["message"])
            note(told=told)
        elif event["type"] == "health":
            note(**{f"health_{event['data']['rule']}": event["message"]})
        elif event["type"] in {"finished", "failed"}:
            note(took_s=round(event["at"] - min(stages.values()), 1), failure=event["message"])
        end = event
    note(state=end.get("state"))
    assert end.get("state") == "succeeded", f"the job ended as {end.get('state')}"


def events(command: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the events that *command* prints, one JSON object a line, and print them."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        for line in running.stdout or ():
            print(line[:300].rstrip(), flush=True)
            if line.startswith("{"):
                yield json.loads(line)


# Memory


def memory(options: argparse.Namespace, note: Note) -> None:
    """Tell what a step of a distillation is expected to take, what it takes, and which batch is found to fit."""
    torch = prepared()
    from retort.constants import Role
    from retort.data.demo import NAMES
    from retort.spec import DistillationSpec, TrainingSpec
    from retort.training import batch_size, models
    from retort.training.config import TrainConfig
    from retort.training.distillation.distiller import TeacherCandidate

    names = dict(enumerate(NAMES))
    plan = TrainConfig(
        role=Role.STUDENT, model=options.student, weights=None, data_yaml=SCRATCH, epochs=2,
        training=TrainingSpec(imgsz=options.imgsz, batch="auto"), folder=SCRATCH,
        device="cpu" if options.device == "cpu" else "0",
    )  # fmt: skip
    teacher = TeacherCandidate(models.build(options.teacher, names=names, weights=None, seed=0))
    arm = batch_size.Arm(plan, names, 8, (teacher,), DistillationSpec())
    expected = arm.estimate(options.batch)
    note(batch=options.batch, estimated_gib=round(expected / 2**30, 3))
    if options.device == "cpu":
        return
    free = batch_size.free_memory("0")
    meter = arm.meter(batch_size.peak_memory("0"))
    taken = meter(options.batch)
    note(measured_gib=round(taken / 2**30, 3), estimated_over_measured=round(expected / taken, 3))
    found = batch_size.find(meter, free, images=10**6)
    note(free_gib=round(free / 2**30, 2), found_batch=found.batch, reason=found.reason)
    note(found_takes_gib=round(meter(found.batch) / 2**30, 2), share=batch_size.SHARE)
    torch.cuda.empty_cache()


# The loaders


def loader(options: argparse.Namespace, note: Note) -> None:
    """Time the loaders with their processes: ours with and without kept images, and upstream's."""
    torch = prepared()
    from retort.training.ultralytics_api import check_det_dataset

    data = check_det_dataset(str(pictures(SCRATCH, options.images, options.imgsz)))
    for who in ("ours_cached", "ours_uncached", "upstream"):
        for workers in map(int, options.workers.split(",")):
            made = loader_of(who, options, data, workers)
            rate = options.batch * batches_per_s(made, torch.device(options.device), options.seconds)
            note(**{f"{who}_{workers}_workers": {"workers": made.num_workers, "images_per_s": round(rate, 1)}})
            made.close()


def loader_of(who: str, options: argparse.Namespace, data: dict[str, Any], workers: int) -> Any:
    """Build a loader for a device that changes the colors itself; it may get fewer *workers* than it asks for."""
    from retort.training.config import Loading
    from retort.training.data.loader import training_loader, training_set
    from retort.training.ultralytics_api import YOLODataset
    from ultralytics.cfg import get_cfg
    from ultralytics.data.build import build_dataloader

    hyp, batch = get_cfg(overrides={"imgsz": options.imgsz}), options.batch
    if who == "upstream":
        theirs = YOLODataset(
            img_path=data["train"], imgsz=options.imgsz, batch_size=batch, augment=True, hyp=hyp, data=data,
            task="detect",
        )  # fmt: skip
        return build_dataloader(theirs, batch=batch, workers=workers, device=options.device)
    room = 0 if who == "ours_uncached" else None
    dataset = training_set(hyp, data["train"], batch, data, stride=32, seed=0, max_cache_bytes=room, colours_later=True)
    loading = Loading(workers, pinned=options.device != "cpu")
    return training_loader(dataset, batch, workers=workers, loading=loading)


def batches_per_s(loader: Any, device: Any, seconds: float) -> float:
    """Return how many batches a second reach *device*; those that wait in queues at first do not count."""
    batches = endless(loader)
    for _ in range(loader.num_workers + 2):
        next(batches)["img"].to(device, non_blocking=True)
    count, began = 0, time.perf_counter()
    while (taken := time.perf_counter() - began) < seconds:
        next(batches)["img"].to(device, non_blocking=True)
        count += 1
    return count / taken


def endless(loader: Any) -> Iterator[dict[str, Any]]:
    """Yield the batches of one epoch after the other."""
    while True:
        yield from loader


# Switches


def variants(options: argparse.Namespace, note: Note) -> None:
    """Time the sides of `step.py` under switches that a change of the code could flip, and two things alone."""
    prepared()
    import step
    import torch

    device = torch.device(options.device)
    options.recipe = "balanced"

    on_cpu = step.sides(options, device)[0] if options.device == "cpu" else None  # where nothing is recorded

    def rate(*names: str) -> dict[str, float]:
        made = on_cpu or step.sides(options, device)[0]
        for name in names:
            for _ in range(options.warmup):
                made[name]()
        return {name: milliseconds(made[name], device, options.repeats) for name in names}

    note(as_it_is_ms=rate("student", "teacher_ours", "teacher_upstream", "ours", "native"))
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] # made at run time
    torch.backends.cudnn.deterministic = True
    note(deterministic_ms=rate("student", "ours", "native"))
    torch.use_deterministic_algorithms(mode=False)
    torch.backends.cudnn.deterministic = False
    torch.backends.cudnn.benchmark = True
    note(cudnn_benchmark_ms=rate("student", "ours", "native"))
    torch.backends.cudnn.benchmark = False
    torch.set_float32_matmul_precision("high")
    note(tf32_ms=rate("ours"))
    alone(options, device, note)


def alone(options: argparse.Namespace, device: Any, note: Note) -> None:
    """Time the change of a batch's colors, and its copy from pinned memory, without anything else."""
    import numpy as np
    import torch
    from retort.training.data.colours import KEY, coloured, lookup_table

    shape = options.batch, 3, options.imgsz, options.imgsz
    images = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
    tables = torch.from_numpy(lookup_table(np.array([0.01, 0.3, -0.2]))).expand(options.batch, -1, -1).to(device)
    note(colors_ms=milliseconds(lambda: coloured({"img": images, KEY: tables}), device, options.repeats))
    if device.type == "cuda":
        raw = torch.randint(0, 255, shape, dtype=torch.uint8).pin_memory()
        note(pinned_copy_ms=milliseconds(lambda: raw.to(device, non_blocking=True), device, options.repeats))


def milliseconds(work: Callable[[], Any], device: Any, repeats: int) -> float:
    """Return the median of *repeats* runs, after one that is not timed."""
    from step import timed

    work()
    return round(statistics.median(timed(work, device) for _ in range(repeats)) * 1e3, 2)


PARTS = {part.__name__: part for part in (hardware, recording, tests, job, memory, loader, variants)}


def main() -> None:
    """Measure the parts that are named."""
    parser = arguments(__doc__ or "")
    parser.add_argument("parts", help=", ".join(PARTS))
    parser.add_argument("--mode", default="thread_local", choices=["global", "thread_local"], help="of recording")
    parser.add_argument("--emptying", action="store_true", help="let the pinning thread empty its cache too")
    parser.add_argument("--tries", type=int, default=12, help="of recording")
    parser.add_argument("--only", help="a test of tests/gpu")
    parser.add_argument("--deselect", action="append", default=[], help="a test of tests/gpu to leave out")
    parser.add_argument("--epochs", type=int, default=3, help="of a job")
    parser.add_argument("--whole", action="store_true", help="let the job train a control and export its student")
    parser.add_argument("--workers", default="8,16", help="of the loaders, comma-separated")
    parser.add_argument("--seconds", type=float, default=3.0, help="for which a loader is timed")
    parser.add_argument("--repeats", type=int, default=9, help="of a variant")
    parser.add_argument("--warmup", type=int, default=5, help="steps of a variant that are not timed")
    options = parser.parse_args()
    SCRATCH.mkdir(parents=True, exist_ok=True)
    note, parts = recorder(options.json), options.parts.split(",")
    for name in parts:
        found: dict[str, Any] = {}
        PARTS[name](options, note if len(parts) == 1 else partial(nested, note, name, found))


def nested(note: Note, name: str, found: dict[str, Any], **figures: Any) -> None:
    """Note *figures* under the *name* of their part."""
    found.update(figures)
    note(**{name: found})


if __name__ == "__main__":
    leave(main)
