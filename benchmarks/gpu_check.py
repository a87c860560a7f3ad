"""Show in eight minutes what only a GPU can show, each part in a process with a time limit of its own.

    python benchmarks/gpu_check.py --out FOLDER
    python benchmarks/gpu_check.py --out FOLDER --device cpu --size tiny

The second plays it through without a GPU. The folder receives ``gpu-check.json``, anew after every part, and what each
part printed. Exit code: 1 when a part failed, which the last line names.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from provenance import ROOT, provenance, write_json

HERE = Path(__file__).parent
FOLDERS = ("core", "api", "worker", "tests", "benchmarks")
"""What a Python without Retort installed must find."""
BUDGET_S = 480.0
SHORTEST_S = 8.0
"""A part that has less time left is not begun."""
SAID_ONCE = ("commit", "clean", "measured_at", "command", "machine", "versions")
"""Provenance, which is the same for all parts."""
MOST_PRINTED = 400_000
"""Characters kept of what a part has printed: its end."""


@dataclass(frozen=True)
class Size:
    """How large what is measured is."""

    imgsz: int
    batch: int
    images: int
    epochs: int
    first: int
    """Step of a loop from which some are profiled."""
    profiled: int
    repeats: int
    warmup: int
    workers: str
    seconds: float
    """For which a loader is timed."""
    teachers: tuple[str, ...]
    loops: tuple[str, ...]
    """Sides of the training loop, comma-separated where one process has several."""
    job: tuple[str, ...]
    small: tuple[str, ...]
    """Parts that take little, comma-separated where one process has several."""
    patience: float = 1.0
    """Times the limit of each part."""

    def steps(self) -> list[str]:
        """Return the options of what times single steps."""
        return options(imgsz=self.imgsz, batch=self.batch, repeats=self.repeats, warmup=self.warmup)

    def loop(self) -> list[str]:
        """Return the options of the training loop."""
        return [
            *options(imgsz=self.imgsz, batch=self.batch, images=self.images, epochs=self.epochs, first=self.first),
            *options(profiled=self.profiled, teacher=self.teachers[0]),
        ]

    def loader(self) -> list[str]:
        """Return the options of the loaders."""
        return options(
            imgsz=self.imgsz, batch=self.batch, images=self.images, workers=self.workers, seconds=self.seconds
        )


def options(**values: Any) -> list[str]:
    """Return a command line's options."""
    return [part for name, value in values.items() for part in (f"--{name}", str(value))]


FULL = Size(
    imgsz=640, batch=64, images=640, epochs=3, first=6, profiled=10, repeats=9, warmup=5, workers="8,16", seconds=3.0,
    teachers=("yolo11m", "yolo11s"), loops=("ours", "native", "control", "loose", "compiled"),
    job=(*options(images=320, imgsz=160, epochs=3, batch=16, teacher="yolo11s"), "--whole"),
    small=("hardware", "memory", "loader", "variants"),
)  # fmt: skip
TINY = Size(
    imgsz=64, batch=2, images=12, epochs=1, first=1, profiled=1, repeats=2, warmup=1, workers="1", seconds=0.1,
    teachers=("yolo11n",), loops=("ours,native,control,loose+compiled",),
    job=tuple(options(images=8, imgsz=64, epochs=1, batch=8, teacher="yolo11n")),
    small=("hardware,memory,loader,variants",), patience=6.0,
)  # fmt: skip
SIZES = {"full": FULL, "tiny": TINY}


@dataclass(frozen=True)
class Part:
    """One measurement: a script of this folder that writes its figures to the file that ``--json`` names."""

    name: str
    limit_s: float
    command: tuple[str, ...]
    """The script and its options."""
    needs_cuda: bool = False
    may_hang: bool = False
    """Whether it hangs is what it asks, so that a timeout is no failure."""


def parts_of(size: Size, device: str) -> list[Part]:
    """Return all parts, the dearest knowledge first: what comes last is cut off where time runs out."""

    def part(name: str, limit_s: float, *command: str, **more: bool) -> Part:
        return Part(name, limit_s * size.patience, (*command, "--device", device), **more)

    def recording(name: str, mode: str, *more: str, may_hang: bool) -> Part:
        command = ("gpu_parts.py", "recording", "--mode", mode, *more)
        return part(f"recording_{name}", 30, *command, needs_cuda=True, may_hang=may_hang)

    def loop(sides: str, limit_s: float) -> Part:
        return part(
            f"loop_{sides.replace(',', '_').replace('+', '_')}", limit_s, "gpu_loop.py", "--sides", sides, *size.loop()
        )

    def step(teacher: str, limit_s: float) -> Part:
        return part(f"step_{teacher}", limit_s, "step.py", *size.steps(), "--teacher", teacher)

    def small(name: str, limit_s: float) -> list[Part]:
        """Return the part *name*, with those that share its process; none where it shares another's."""
        found = [group for group in size.small if group.split(",")[0] == name]
        given = [*size.loader(), *size.steps(), "--teacher", size.teachers[0]]
        return [part(group.replace(",", "_"), limit_s, "gpu_parts.py", group, *given) for group in found]

    def alone(name: str, limit_s: float, test: str) -> Part:
        return part(name, limit_s, "gpu_parts.py", "tests", "--only", test, needs_cuda=True)

    compiled = "test_gpu_fit.py::test_a_compiled_student_is_distilled_in_mixed_precision"
    beside = "test_gpu_teacher.py::test_a_recording_beside_a_loader_that_pins_memory_breaks_neither"
    ranks = "test_gpu_job.py"
    less = [text for test in (compiled, beside, ranks) for text in ("--deselect", test)]
    return [
        *small("hardware", 40),
        recording("thread_local", "thread_local", may_hang=False),
        recording("global", "global", may_hang=True),
        # Its own process and its own short life: this thread is suspected to hang for ever beside a recording.
        recording("thread_local_emptying", "thread_local", "--emptying", may_hang=True),
        alone("test_recording", 60, beside),
        part("tests", 110, "gpu_parts.py", "tests", *less),
        step(size.teachers[0], 80),
        *(loop(sides, 80) for sides in size.loops[:2]),
        part("job", 120, "gpu_parts.py", "job", *size.job),
        *small("memory", 60),
        *small("loader", 75),
        *(step(teacher, 50) for teacher in size.teachers[1:]),
        *small("variants", 75),
        *(loop(sides, 60) for sides in size.loops[2:]),
        alone("test_two_gpus", 90, ranks),
        alone("test_compiled", 90, compiled),
    ]


def check(parts: Sequence[Part], out: Path, *, about: dict[str, Any], budget_s: float = BUDGET_S) -> dict[str, Any]:
    """Run *parts* one after the other within *budget_s*; return what ``gpu-check.json`` in *out* says.

    What a part has written before it failed or ran out of time counts. A folder of their own holds what they make.
    """
    started = time.monotonic()
    found: dict[str, Any] = {**about, **provenance(), "failed": [], "parts": {}}
    with tempfile.TemporaryDirectory(prefix="retort-gpu-check-", ignore_cleanup_errors=True) as scratch:
        for part in parts:
            left = budget_s - (time.monotonic() - started)
            told = outcome(part, Path(scratch), out, left=left, device=about["device"])
            found["parts"][part.name] = told
            if told["state"] not in {"ok", "skipped"} and not (part.may_hang and told["state"] == "timed out"):
                found["failed"].append(part.name)
            found["took_s"] = round(time.monotonic() - started, 1)
            write_json(out / "gpu-check.json", found)
            line = f"{part.name}: {told['state']}, {told.get('seconds', 0)} s; {json.dumps(told.get('figures'))}"
            print(line[:300], flush=True)
    return found


def outcome(part: Part, scratch: Path, out: Path, *, left: float, device: str) -> dict[str, Any]:
    """Run *part*, unless that is of no use; return its state and figures."""
    if part.needs_cuda and device == "cpu":
        return {"state": "skipped", "why": "it needs a CUDA device"}
    if left < SHORTEST_S:
        return {"state": "no time left"}
    limit_s, text, figures = min(part.limit_s, left), out / f"{part.name}.txt", scratch / f"{part.name}.json"
    script, *more = part.command
    command = [sys.executable, str(HERE / script), *more, "--json", str(figures)]
    began = time.monotonic()
    code = run(command, text, limit_s, scratch)
    printed = shortened(text)
    state = "timed out" if code is None else "failed" if code else "ok"
    told: dict[str, Any] = {"state": state, "seconds": round(time.monotonic() - began, 1), "limit_s": round(limit_s)}
    if state != "ok":
        told["last_line"] = next((line for line in reversed(printed.splitlines()) if line.strip()), "")[:300]
    if figures.exists():
        told["figures"] = {key: value for key, value in json.loads(figures.read_text()).items() if key not in SAID_ONCE}
    return told


def run(command: Sequence[str], text: Path, limit_s: float, scratch: Path) -> int | None:
    """Run *command*, which prints into the file *text*, for *limit_s* at most; return its exit code, None without.

    Nothing that it has started outlives it: loader processes and threads that hang must not slow down the next part.
    """
    with text.open("w") as file:
        started = subprocess.Popen(
            command, cwd=ROOT, env=environment(scratch), stdin=subprocess.DEVNULL, stdout=file, stderr=file,
            start_new_session=True,
        )  # fmt: skip
        try:
            return started.wait(limit_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            end(started)


def end(started: subprocess.Popen[bytes]) -> None:
    """End the process group that *started* leads, kindly first."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(started.pid, how)
            started.wait(5)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def environment(scratch: Path) -> dict[str, str]:
    """Return the environment of a part: it finds the checkout, and writes below *scratch* only."""
    path = [os.environ.get("PYTHONPATH", ""), *(str(ROOT / folder) for folder in FOLDERS)]
    return {
        **os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path)), "PYTHONUNBUFFERED": "1",
        "RETORT_HOME": str(scratch / "home"), "TMPDIR": str(scratch),
        "NO_COLOR": "1", "COLUMNS": "150",
    }  # fmt: skip


def shortened(text: Path) -> str:
    """Keep the end of the file *text*, and return it."""
    printed = text.read_text(errors="replace")[-MOST_PRINTED:]
    text.write_text(printed)
    return printed


def main() -> None:
    """Check, and say what failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "gpu-check")
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--size", default="full", choices=[*SIZES])
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds for all parts together")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    about = {"device": chosen.device, "size": chosen.size, "budget_s": chosen.budget}
    parts = parts_of(SIZES[chosen.size], chosen.device)
    found = check(parts, chosen.out, about=about, budget_s=chosen.budget)
    failed = ", ".join(found["failed"])
    print(f"{len(parts)} parts in {found['took_s']:.0f} s; {f'failed: {failed}' if failed else 'none failed'}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
