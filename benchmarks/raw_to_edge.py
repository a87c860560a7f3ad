"""One job from raw images to an edge chip, from examples/specs/raw-to-edge.yaml: alone, or killed once in each stage.

    python benchmarks/raw_to_edge.py --data ../shared/data/bccd --work /tmp/edge --kill \
        --json benchmarks/results/raw-to-edge-bccd-cpu.json

Every third training image is held back: its labels are not trained on, and the teacher's are compared with them. With
``--kill`` the run is ended by SIGKILL in each stage, a while after it began, and started again as a worker would. Run
once more with the same ``--work``, it goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from provenance import provenance, write_json
from retort.data import datasets
from retort.data.labels import label_of
from retort.data.prepare import prepare
from retort.protocol import journal
from retort.protocol.events import AnyEvent, FinishedEvent, StageEvent
from retort.settings import Settings
from retort.spec import merge, parse_document, parse_spec
from retort.spec.exported import MeasuredExport
from retort.spec.result import JobResult

SPEC = Path(__file__).parents[1] / "examples" / "specs" / "raw-to-edge.yaml"
EVERY = 3
"""One image of so many is held back."""
AWHILE_S, TRAINING_S = 1.5, 60.0
"""From the beginning of a stage to its end by SIGKILL; a training is to have some epochs behind it."""
TRAININGS = ("train_teacher", "distill", "control")


def main() -> int:
    """Run it and print what came out; 1 when the job failed."""
    options = arguments()
    labelled, unlabelled = split(options.data, options.work)
    places = {"data": {"path": str(labelled)}, "pseudo_labels": {"path": str(unlabelled)}}
    spec = parse_spec(merge(merge(parse_document(SPEC.read_text()), places), json.loads(options.set)))
    attempts: list[dict[str, Any]] = []
    seconds = 0.0
    while True:
        began = time.monotonic()
        attempt = 1 + len(list((options.work / "run").glob("journal-*.jsonl")))
        prepare(
            spec, Settings(home=options.work / "home"), options.work / "run", attempt=attempt, device=options.device
        )
        killed_in = told = None
        known = {one["killed_in"] for one in attempts} | earlier(options.work)
        for last in follow(options.work / "run", attempt, known if options.kill else None):
            told = last
            killed_in = last if isinstance(last, str) else None
        seconds += time.monotonic() - began
        attempts.append({"attempt": attempt, "killed_in": killed_in, "seconds": round(time.monotonic() - began, 1)})
        note(options.work, killed_in)
        sys.stdout.write(f"attempt {attempt}: {f'killed in {killed_in}' if killed_in else 'ended'}\n")
        if killed_in is None:
            break
    if not isinstance(told, FinishedEvent):
        sys.stdout.write(f"the run did not finish: {told}\n")
        return 1
    assert isinstance(told.result, JobResult), "the spec asks for a distillation"
    show(told.result)
    if options.json:
        write_json(options.json, {**provenance(), "attempts": attempts, "result": told.result.model_dump(mode="json")})
    return 0


def split(data: Path, work: Path) -> tuple[Path, Path]:
    """Lay out the data set without every third training image, and those images with their labels beside them."""
    found = datasets.locate(str(data.resolve()), [Path("/")])
    labelled, unlabelled = work / "labelled", work / "unlabelled"
    if not (labelled / "data.yaml").exists():
        held_back = set(found.train[EVERY - 1 :: EVERY])
        for part, images in (("train", found.train), ("val", found.val)):
            for image in images:
                place = unlabelled if image in held_back else labelled
                folder = "images" if image in held_back else f"images/{part}"
                copy(image, place / folder / image.name)
                label = label_of(found.root, image)
                if label.is_file():
                    copy(label, place / folder.replace("images", "labels") / label.name)
        text = {"train": "images/train", "val": "images/val", "names": list(found.names)}
        (labelled / "data.yaml").write_text(json.dumps(text))
    return labelled, unlabelled


def copy(source: Path, target: Path) -> None:
    """Copy a file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())


def follow(workdir: Path, attempt: int, killed: set[str | None] | None) -> Iterable[AnyEvent | str]:
    """Start the run and yield its last words; the name of the stage in which it was killed where that was done."""
    command = [sys.executable, "-m", "retort.run", str(workdir / "spec.json"), str(workdir)]
    with (workdir / "run.log").open("ab") as log:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True)
    path, offset, stage, since = workdir / f"journal-{attempt}.jsonl", 0, "", 0.0
    while True:
        ended = process.poll() is not None
        events, offset = journal.read(path, offset)
        for event in events:
            if isinstance(event, StageEvent):
                stage, since = event.stage, time.monotonic()
                sys.stdout.write(f"  {stage}\n")
                sys.stdout.flush()
        if events:
            yield events[-1]
        if ended and not events:
            return
        awhile_s = TRAINING_S if stage in TRAININGS else AWHILE_S
        if killed is not None and stage and stage not in killed and time.monotonic() - since > awhile_s:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            yield stage
            return
        time.sleep(0.2)


def earlier(work: Path) -> set[str | None]:
    """Return the stages in which runs were killed when this was started before."""
    path = work / "killed.txt"
    return set(path.read_text().split()) if path.exists() else set()


def note(work: Path, killed_in: str | None) -> None:
    """Remember a kill for the next start."""
    if killed_in:
        with (work / "killed.txt").open("a") as file:
            file.write(f"{killed_in}\n")


def show(result: JobResult) -> None:
    """Print the table."""
    for role, found in result.roles.known():
        line = f"{role:<10}{found.model:<10} mAP50 {found.map50 or 0:.4f}  mAP50-95 {found.map or 0:.4f}"
        latency = "not timed" if found.latency_ms is None else f"{found.latency_ms.p50:.1f} ms"
        sys.stdout.write(f"{line}  {latency}\n")
    for export in result.exports:
        told, boxes = export.reason, ""
        if isinstance(export, MeasuredExport):
            told = f"{export.map_drop * 100:+.2f} points lost, {export.latency_ratio:.2f} x PyTorch"
            if export.num_unequal is not None:
                boxes = f", {export.num_unequal} of {export.num_boxes} boxes differ"
        sys.stdout.write(f"{export.path:<32}{export.status:<12}{told}{boxes}\n")
    labelled = result.pseudo_labels
    sys.stdout.write(("null" if labelled is None else labelled.model_dump_json(indent=2)) + "\n")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a data set in YOLO layout")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder to work in; one that was begun is gone on with"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--kill", action="store_true", help="end the run by SIGKILL once in each stage")
    parser.add_argument("--set", default="{}", help="a JSON merge patch of the spec")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
