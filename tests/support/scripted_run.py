"""A stand-in for the program that trains: plays the script that the job's name says, over the real journal."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from results import RESULT, trained_for
from retort.constants import Role
from retort.protocol.events import RunFailure
from retort.protocol.journal import Journal
from retort.review.models import Picture, ReviewSet, Scored
from support.checkpoints import checkpoint as weights_file

STOP = threading.Event()
CHILD = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"


def watch_stdin() -> None:
    while os.read(0, 1):
        pass
    os.killpg(0, signal.SIGKILL)


def spawn_child(workdir: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", CHILD, f"child of {workdir.name}"])
    (workdir / "child.part").write_text(str(child.pid))
    (workdir / "child.part").replace(workdir / "child.pid")


def steps(journal: Journal, workdir: Path, last: int, _: int) -> None:
    """Count on from where an earlier attempt came to; the pause stands for the training."""
    path = workdir / "step.txt"
    first = int(path.read_text()) + 1 if path.exists() else 1
    for step in range(first, last + 1):
        journal.metric(Role.STUDENT, step, {"train/loss": 1 / step})
        path.with_suffix(".part").write_text(str(step))
        path.with_suffix(".part").replace(path)
        if STOP.wait(0.005):
            journal.stopped()
            sys.exit(75)
    finish(journal, workdir, 0)


def finish(journal: Journal, workdir: Path, epochs: int, _: int = 1) -> None:
    journal.stage("distill")
    for epoch in range(1, epochs + 1):
        journal.metric(Role.STUDENT, epoch, {"train/loss": 1 / epoch, "val/mAP50": 0.5, "val/mAP50-95": epoch / 100})
        journal.progress(epoch / epochs, 0.0)
    (workdir / "checkpoints").mkdir(exist_ok=True)
    (workdir / "checkpoints" / "student-epoch-0001.pt").write_bytes(b"checkpoint")
    journal.checkpoint(Role.STUDENT, 1, "checkpoints/student-epoch-0001.pt", {"val/mAP50": 0.5})
    (workdir / "student.pt").write_bytes(b"student")
    journal.artifact("student.pt", Role.STUDENT, "student.pt", metadata={"licence": "AGPL-3.0"})
    journal.finished(RESULT)


def wait_for_stop(journal: Journal) -> None:
    STOP.wait()
    journal.stopped()
    sys.exit(75)


def linger(journal: Journal, workdir: Path, last: int, attempt: int) -> None:
    """Like steps, but the first attempt stops half way and does nothing more."""
    for step in range(1 + (attempt > 1) * last // 2, (last // 2 if attempt == 1 else last) + 1):
        journal.metric(Role.STUDENT, step, {"train/loss": 1 / step})
    if attempt == 1:
        wait_for_stop(journal)
    finish(journal, workdir, 0)


def checkpoint(journal: Journal, workdir: Path, *_: int) -> None:
    (workdir / "first.pt").write_bytes(b"first")
    journal.checkpoint(Role.STUDENT, 1, "first.pt", {})
    wait_for_stop(journal)


def wait(journal: Journal, *_: object) -> None:
    journal.log("waiting", environment=dict(os.environ))
    wait_for_stop(journal)


def stubborn(journal: Journal, workdir: Path, *_: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    spawn_child(workdir)
    journal.stage("stubborn")
    time.sleep(600)


def leave_child(journal: Journal, workdir: Path, epochs: int, _: int) -> None:
    spawn_child(workdir)
    sys.stdout.write(f"child {(workdir / 'child.pid').read_text()}")
    sys.stdout.flush()
    finish(journal, workdir, epochs)


def crash(*_: object) -> None:
    sys.stdout.write("\n".join(f"line {number}" for number in range(40)) + " \x1b[31mlast line\x1b[0m\x07")
    sys.stdout.flush()
    os._exit(3)


def killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def diverged(journal: Journal, *_: object) -> None:
    journal.failed(RunFailure(code="diverged", message="the loss is not a number", hint="lower training.lr"))
    sys.exit(1)


def no_gpu(journal: Journal, *_: object) -> None:
    journal.failed(RunFailure(code="no_gpu", message="no GPU can be used: it has fallen off the bus"))
    sys.exit(1)


def flaky(journal: Journal, workdir: Path, epochs: int, attempt: int) -> None:
    if attempt == 1:
        journal.failed(RunFailure(code="unlucky", message="bad luck", retryable=True))
        sys.exit(1)
    finish(journal, workdir, epochs)


def train(journal: Journal, workdir: Path, epochs: int, _: int) -> None:
    """Like a training: a state after each epoch, announced as saved; ends when told to finish early."""
    states = workdir / "work" / "student" / "states"
    states.mkdir(parents=True, exist_ok=True)
    done = max((int(path.stem) for path in states.iterdir()), default=0)
    journal.log(f"going on after epoch {done}", epoch=done)
    while done < epochs and not (workdir / "finish").exists():
        done += 1
        journal.metric(Role.STUDENT, done, {"train/loss": 1 / done, "val/mAP50": 0.5, "val/mAP50-95": done / 1e5})
        (states / f"{done:05d}.state").write_bytes(f"epoch {done}".encode())
        (states / f"{done - 1:05d}.state").unlink(missing_ok=True)
        journal.saved("distill", done, [f"work/student/states/{done:05d}.state"])
        if STOP.wait(0.02):
            journal.stopped()
            sys.exit(75)
    (workdir / "student.pt").write_bytes(f"student of {done} epochs".encode())
    journal.artifact("student.pt", Role.STUDENT, "student.pt")
    if json.loads((workdir / "inputs.json").read_text())["keep_last"]:
        state = f"work/student/states/{done:05d}.state"
        (workdir / "before.json").write_text("{}")
        journal.saved("ended", done, ["before.json", state], last=[state])
    journal.finished(trained_for(done))


def stuck(journal: Journal, workdir: Path, *_: int) -> None:
    """Get on twice, and then no more."""
    import faulthandler

    faulthandler.register(signal.SIGQUIT, all_threads=True)
    for count in (1, 2):
        (workdir / "pulse").write_text(f"step {count}")
        time.sleep(0.2)
    journal.stage("distill")
    time.sleep(600)


def tight(journal: Journal, workdir: Path, epochs: int, _: int) -> None:
    """Need a smaller batch than the spec's."""
    batch = json.loads((workdir / "inputs.json").read_text())["adjustments"]["batch"]
    if batch is None:
        journal.failed(RunFailure(code="out_of_memory", message="16 images are too many", hint="fewer"))
        sys.exit(1)
    journal.log(f"batch {batch}")
    finish(journal, workdir, epochs)


def review(journal: Journal, workdir: Path, epochs: int, _: int) -> None:
    """Wait for people; with what they have decided, go on."""
    decisions = workdir / "decisions.json"
    (workdir / "artifacts/review").mkdir(parents=True, exist_ok=True)
    proposals = ReviewSet(mode="sample", classes=("red",), pictures=(seen("a"), seen("b")))
    if not decisions.exists():
        (workdir / "stages").mkdir(exist_ok=True)
        (workdir / "stages/pseudo_label.json").write_text("labelled")
        journal.saved("pseudo_label", 0, ["stages/pseudo_label.json"])
        for picture in proposals.pictures:
            (workdir / f"artifacts/review/{picture.image}.jpg").write_bytes(picture.image.encode())
            journal.artifact(f"review/{picture.image}.jpg", Role.JOB, f"artifacts/review/{picture.image}.jpg")
        (workdir / "artifacts/review.json").write_text(proposals.model_dump_json())
        journal.artifact("review.json", Role.JOB, "artifacts/review.json", "application/json")
        journal.awaiting_review(2)
        sys.exit(3)
    kept = (workdir / "stages/pseudo_label.json").read_text()
    found = [(one["image"], one["decision"]) for one in json.loads(decisions.read_text())["decisions"]]
    journal.log(f"{kept}; decided: {found}")
    finish(journal, workdir, epochs)


def seen(image: str) -> Picture:
    box = Scored(name="red", x1=0.1, y1=0.1, x2=0.5, y2=0.5, score=0.9)
    return Picture(image=image, file=f"{image}.png", width=64, height=64, kept=(box,))


def lost_picture(journal: Journal, *_: object) -> None:
    """Name a picture that is not there, and wait for people all the same."""
    journal.artifact("review/a.jpg", Role.JOB, "artifacts/review/a.jpg")
    journal.awaiting_review(1)
    sys.exit(3)


def garbage(journal: Journal, *_: object) -> None:
    with journal.path.open("ab") as file:
        file.write(b"this is not an event\n")
    wait_for_stop(journal)


def searched(journal: Journal, workdir: Path, epochs: int, _: int) -> None:
    """Like a training whose figures follow from its learning rate: best at 0.1, and failing above 0.5."""
    lr = json.loads((workdir / "spec.json").read_text())["training"]["lr"]
    if lr > 0.5:
        journal.failed(RunFailure(code="diverged", message="the loss is not a number", hint="lower training.lr"))
        sys.exit(1)
    for epoch in range(1, epochs + 1):
        score = epoch / epochs * (1 - abs(lr - 0.1))
        journal.metric(Role.STUDENT, epoch, {"val/mAP50": score, "val/mAP50-95": score})
        if STOP.wait(0.01):
            journal.stopped()
            sys.exit(75)
    journal.finished(trained_for(epochs))


def outside(journal: Journal, *_: object) -> None:
    journal.artifact("student.pt", Role.STUDENT, "../../outside.pt")
    journal.finished(RESULT)


def lost_report(journal: Journal, workdir: Path, *_: int) -> None:
    """Announce a student, and extras that are not there."""
    (workdir / "student.pt").write_bytes(b"student")
    journal.artifact("student.pt", Role.STUDENT, "student.pt")
    journal.artifact("report.html", Role.JOB, "artifacts/report.html")
    journal.artifact("student-fp32.onnx", Role.STUDENT, "student-fp32.onnx", metadata={"format": "onnx"})
    journal.artifact("control.pt", Role.CONTROL, "control.pt")
    journal.finished(RESULT)


def archive(content: bytes) -> bytes:
    """A checkpoint of a network that holds next to nothing; *content* tells it from others."""
    return weights_file((), note=content.decode())


def trained(journal: Journal, workdir: Path) -> None:
    """Publish a teacher and a student."""
    for role in (Role.TEACHER, Role.STUDENT):
        (workdir / f"{role}.pt").write_bytes(archive(role.encode()))
        about = {"model": "yolo11s", "imgsz": 64, "data": {"names": ["thing"], "digest": "d" * 64}}
        metadata = {"epoch": 1, "metrics": {"val/mAP50": 0.5, "val/box_loss": 1.0}, **about}
        journal.artifact(f"{role}.pt", role, f"{role}.pt", metadata=metadata)


def teach(journal: Journal, workdir: Path, *_: int) -> None:
    trained(journal, workdir)
    journal.finished(RESULT)


def teach_and_fail(journal: Journal, workdir: Path, *_: int) -> None:
    trained(journal, workdir)
    diverged(journal)


def show_inputs(journal: Journal, workdir: Path, *_: int) -> None:
    """Say what the run would start from."""
    inputs = json.loads((workdir / "inputs.json").read_text())
    told = {name: inputs[name] for name in ("weights", "device", "cpu_allowed")}
    journal.log("inputs", compiled=os.environ.get("TORCHINDUCTOR_CACHE_DIR"), **told)
    journal.finished(RESULT)


_PICTURE = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAP//////////////////////////////////////////////////////////////////////////////////"
    "////wAALCAABAAEBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAAP/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAD8AP//Z"
)
"""A JPEG of one grey pixel."""


def mapped(journal: Journal, workdir: Path, epochs: int, attempt: int) -> None:
    """Publish a picture of the maps of the first epoch, and then what any job publishes."""
    (workdir / "maps.jpg").write_bytes(base64.b64decode(_PICTURE))
    about = {"epoch": 1, "width": 1, "height": 1}
    journal.artifact("heatmaps/epoch-0001.jpg", Role.STUDENT, "maps.jpg", "image/jpeg", about)
    finish(journal, workdir, epochs, attempt)


SCRIPTS = {
    "finish": finish, "steps": steps, "linger": linger, "checkpoint": checkpoint, "wait": wait, "stubborn": stubborn,
    "leave-child": leave_child, "crash": crash, "killed": killed, "diverged": diverged, "no-gpu": no_gpu,
    "flaky": flaky, "garbage": garbage, "train": train, "stuck": stuck, "tight": tight, "outside": outside,
    "searched": searched, "teach": teach, "teach-and-fail": teach_and_fail, "show-inputs": show_inputs,
    "review": review, "lost-picture": lost_picture, "lost-report": lost_report,
    "mapped": mapped,
}  # fmt: skip


def main() -> None:
    spec, workdir = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    attempt = json.loads((workdir / "inputs.json").read_text())["attempt"]
    lock = (workdir / "run.lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    signal.signal(signal.SIGTERM, lambda *_: STOP.set())
    threading.Thread(target=watch_stdin, daemon=True).start()
    with Journal(workdir / f"journal-{attempt}.jsonl") as journal:
        script = re.sub(r"-[0-9]{4}$", "", spec["name"])  # a trial is named after its sweep
        SCRIPTS[script](journal, workdir, spec.get("training", {}).get("epochs", 0), attempt)


if __name__ == "__main__":
    main()
