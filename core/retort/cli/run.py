"""``retort run``: the whole pipeline in this terminal, with no service; trackers included."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from retort.cli import devices, render
from retort.cli.jobs import EXIT_CODES
from retort.cli.options import AsJson, Sets, emit, note
from retort.cli.spec import load
from retort.cli.spec_options import (
    DataOption,
    EpochsOption,
    ImgszOption,
    OptionalSpecFile,
    Options,
    StudentOption,
    TeacherOption,
)
from retort.cli.weights import complete_here, register_here, register_weights
from retort.confinement import Policy, confined
from retort.constants import MAP, MAP50, Role
from retort.data.confinement import run_policy
from retort.data.inputs import Inputs, NamedBy
from retort.errors import TransientError, UserError
from retort.protocol.environment import caches_of, run_environment
from retort.protocol.events import (
    AnyEvent,
    AwaitingReviewEvent,
    FailedEvent,
    FinishedEvent,
    MetricEvent,
    ProgressEvent,
    RunFailure,
    StageEvent,
    StoppedEvent,
)
from retort.protocol.journal import read
from retort.protocol.workdir import COMPILED, TEACHER_CACHES
from retort.protocol.workdir import journal as journal_of
from retort.settings import Settings
from retort.spec import AnySpec, JobSpec, parse_document, parse_spec
from retort.spec.outcome import ExtraOutcome
from retort.spec.result import readable_result
from retort.states import TERMINAL, JobState
from retort.tracking.dispatcher import LastSteps, TrackerDispatcher, outcome_of
from retort.tracking.session import tracker_configs

EVERY_S = 0.3
_ENDED = TERMINAL | {JobState.AWAITING_REVIEW}


def run(  # noqa: PLR0917 - typer gives each by name
    spec: OptionalSpecFile = None,
    data: DataOption = None,
    teacher: TeacherOption = None,
    student: StudentOption = None,
    epochs: EpochsOption = None,
    imgsz: ImgszOption = None,
    sets: Sets = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to work in; one that holds this spec's run is continued.", show_default="runs/NAME-…"
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, or a GPU's number.", show_default="a GPU if any")] = None,
    as_json: AsJson = False,
) -> int:
    """Distil here and now, with no service. Exit code: 0 succeeded, 1 failed, 2 stopped by Ctrl-C, 5 awaits review.

    Give a spec, or --data and --teacher: retort run --data DIR --teacher yolo11s.pt --student yolov8n
    """
    more = Options(data=data, teacher=teacher, student=student, epochs=epochs, imgsz=imgsz)
    wanted = parse_spec(complete_here(register_weights(load(spec, sets, more), register_here)))
    workdir = (out or Path("runs") / f"{wanted.name}-{time.strftime('%Y%m%d-%H%M%S')}").absolute()
    return ended(execute(wanted, workdir, device, as_json=as_json), workdir, as_json=as_json)


def execute(wanted: AnySpec, workdir: Path, device: str | None, *, as_json: bool) -> dict[str, Any]:
    """Do in *workdir* what is wanted, and show it; return how it stands in the end. What it trains is registered."""
    from retort.data.known_datasets import announcement
    from retort.data.prepare import prepare
    from retort.settings import Settings

    devices.require_training()
    chosen, seen = devices.seen_alone(devices.choose(device))
    for why in devices.refused() if device is None and chosen == "cpu" else ():
        note(f"no GPU is used; {why}")
    settings = Settings()
    attempt = _attempt(workdir, wanted)
    dataset = wanted.data.dataset
    if dataset is not None and (announced := announcement(dataset, settings.dataset_dir)):
        note(announced)
    with _interrupted_by_sigterm():
        named: NamedBy = "default" if device is None else "user"
        caches = settings.work_dir and settings.work_dir / TEACHER_CACHES
        prepare(
            wanted, settings, workdir, attempt=attempt, device=chosen, device_by=named, teacher_caches=caches
        )  # fmt: skip
    note(f"working in {workdir}")
    told: list[ExtraOutcome] = []
    with (
        tracked(wanted, settings, workdir, attempt, told) as feed,
        _started(workdir, settings.work_dir, seen, _policy(wanted, settings, workdir, chosen)) as process,
        _stopping(process) as asked,
        render.screen(as_json=as_json, epochs=_epochs(wanted)) as screen,
    ):
        for standing, events in _followed(process, journal_of(workdir, attempt), wanted.name, asked):
            for event in events:
                feed.on_event(event)
            screen.show(standing, [_as_shown(event) for event in events])
        failure = standing.get("failure")
        feed.end(readable_result(standing.get("result")), failure and RunFailure.model_validate(failure))
    if "extras" in (standing.get("result") or {}):
        standing["result"]["extras"] += [one.model_dump(mode="json") for one in told]
    assert settings.model_dir is not None
    _register(wanted.name, workdir / "artifacts", settings.model_dir, student=standing["state"] == JobState.SUCCEEDED)
    return standing


def _epochs(wanted: AnySpec) -> int | None:
    """Return for how many epochs a student is trained; None where nothing is trained."""
    return wanted.training.epochs if isinstance(wanted, JobSpec) else None


def _register(name: str, artifacts: Path, model_dir: Path, *, student: bool) -> None:
    """Let later specs name what was trained: a teacher whatever became of the run, a *student* that was judged."""
    from retort.data import weights

    for role in (Role.TEACHER, *((Role.STUDENT,) if student else ())):
        if not (artifacts / f"{role}.pt").is_file():
            continue
        try:
            reference = weights.register(f"{name}-{role}", artifacts / f"{role}.pt", model_dir)
        except OSError as error:  # the run has done its work all the same
            note(f"the {role} could not be registered: {error}")
        else:
            note(f"registered as {reference}")


def _attempt(workdir: Path, spec: AnySpec) -> int:
    """Return the number of this try in *workdir*, from 1.

    Raises:
        UserError: the folder holds something else.

    """
    kept = workdir / "spec.json"
    if kept.is_file():
        if parse_spec(parse_document(kept.read_bytes())) != spec:
            raise UserError(f"{workdir} holds the run of another spec", hint="name another folder: --out")
    elif workdir.exists() and any(workdir.iterdir()):
        raise UserError(f"{workdir} is not empty", hint="name another folder: --out")
    return 1 + len(list(workdir.glob("journal-*.jsonl")))


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Let SIGTERM end the block as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _stopping(process: subprocess.Popen[bytes]) -> Iterator[threading.Event]:
    """Ask the run to stop at the first SIGINT or SIGTERM, and give word of it; the second ends it at once."""
    asked = threading.Event()

    def obey(*_: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        process.terminate()

    before = {number: signal.signal(number, obey) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _policy(spec: AnySpec, settings: Settings, workdir: Path, device: str) -> Policy:
    """Return what the run is kept from."""
    ranks = spec.resources.gpus if isinstance(spec, JobSpec) else 1
    return run_policy(workdir, settings, gpus=0 if device == "cpu" else ranks, ranks=ranks)


@contextmanager
def _started(
    workdir: Path, shared: Path | None, seen: Mapping[str, str], policy: Policy
) -> Iterator[subprocess.Popen[bytes]]:
    """Start the run in a session of its own, confined, and let nothing of it outlive the block.

    It finds in *shared* what earlier runs compiled, and sees the GPUs that the variables *seen* name, if any.

    Its stdin is a pipe that closes when we die, however that happens; the run takes this as its order to die.
    """
    env, scratch = run_environment({**os.environ, **seen}, workdir, compiled=shared and shared / COMPILED)
    policy = replace(policy, write=(*policy.write, str(workdir), *caches_of(env)), tmp=env["TMPDIR"])
    command = confined([sys.executable, "-m", "retort.run", str(workdir / "spec.json"), str(workdir)], policy)
    with (workdir / "run.log").open("ab") as log:
        process = subprocess.Popen(
            command, env=env, stdin=subprocess.PIPE, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()  # it waits, and closes the pipe
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _followed(
    process: subprocess.Popen[bytes], path: Path, name: str, asked: threading.Event
) -> Iterator[tuple[dict[str, Any], list[AnyEvent]]]:
    """Yield how the run stands and what is new in its journal, until it has ended."""
    from retort.protocol.journal import read

    standing: dict[str, Any] = {"name": name, "state": JobState.RUNNING, "stage": None, "progress": 0.0, "eta_s": None}
    offset, told = 0, False
    while standing["state"] not in _ENDED:
        if asked.is_set() and not told:
            told = True
            note("stopping after this batch; Ctrl-C again kills")
        alive = process.poll() is None
        events, offset = read(path, offset)
        for event in events:
            _apply(standing, event)
        yield standing, events
        if not alive and not events:
            standing |= _silent_death(process.returncode)
        time.sleep(EVERY_S if alive and not events else 0)
    process.wait()


def _apply(standing: dict[str, Any], event: AnyEvent) -> None:
    match event:
        case StageEvent():
            standing["stage"] = event.stage
        case ProgressEvent():
            standing |= {"progress": event.progress, "eta_s": event.eta_s}
        case MetricEvent(role=Role.STUDENT) if event.values.get(MAP) is not None:
            standing["best"] = {MAP50: event.values.get(MAP50), MAP: event.values[MAP]}
        case FinishedEvent():
            standing |= {
                "state": JobState.SUCCEEDED,
                "progress": 1.0,
                "eta_s": None,
                "result": event.result.model_dump(mode="json"),
            }
        case FailedEvent():
            standing |= {"state": JobState.FAILED, "failure": event.failure.model_dump()}
        case StoppedEvent():
            standing["state"] = JobState.CANCELLED
        case AwaitingReviewEvent():
            standing["state"] = JobState.AWAITING_REVIEW
        case _:
            pass


def _as_shown(event: AnyEvent) -> dict[str, Any]:
    """Give a journal line the form that the service gives its events."""
    fields = event.model_dump(mode="json")
    common = {name: fields.pop(name, None) for name in ("type", "at", "level", "message")}
    return {"seq": fields.pop("n"), **common, "data": fields.pop("data", fields)}


def _silent_death(code: int) -> dict[str, Any]:
    message = f"the run ended with exit code {code} and did not say why"
    failure = {"code": "run_died", "message": message, "hint": "run.log in its folder has the end of the story"}
    return {"state": JobState.FAILED, "failure": failure}


def ended(standing: dict[str, Any], workdir: Path, *, as_json: bool) -> int:
    """Print how a run has ended; return the exit code that says so."""
    if as_json:
        emit({"type": "end", "workdir": str(workdir), **standing})
        return EXIT_CODES[standing["state"]]
    console = render.console()
    if found := readable_result(standing.get("result")):
        for part in render.result_parts(found):
            console.print(part)
    if standing.get("failure"):
        console.print(render.failure_text(standing["failure"]))
    note(f"{standing['state']}: {workdir}")
    for name in ("report.html", "student.pt") if standing["state"] == JobState.SUCCEEDED else ():
        if (workdir / "artifacts" / name).is_file():
            note(f"{name.partition('.')[0]}: {workdir / 'artifacts' / name}")
    if standing["state"] == JobState.AWAITING_REVIEW:
        where = f"--workdir {shlex.quote(str(workdir))}"
        note(f"see the boxes on the images: retort review sheet {where}; decide: retort review show {where}")
    return EXIT_CODES[standing["state"]]


FOLDER = Path("artifacts") / "tensorboard"
"""Of the event files, in the workdir."""


@contextmanager
def tracked(
    spec: AnySpec, settings: Settings, workdir: Path, attempt: int, told: list[ExtraOutcome]
) -> Iterator[TrackerDispatcher]:
    """Run the trackers of *spec* during the block, then wait a limited time.

    What became of each is appended to *told*.
    """
    try:
        feed = _tracking(spec, settings, workdir, attempt)
    except Exception as error:  # noqa: BLE001 - a run needs no tracker
        note(f"no tracker is told of this attempt: {error}")
        told.append(outcome_of("tracking", str(error) or type(error).__name__))
        feed = TrackerDispatcher((), workdir, reached={}, timeout_s=settings.tracking_timeout_s)
    try:
        yield feed
        while feed.busy():
            feed.wait(0.3)
        for trouble in feed.troubles():
            note(trouble)
        told += feed.outcomes()
    finally:
        feed.close()


def _tracking(spec: AnySpec, settings: Settings, workdir: Path, attempt: int) -> TrackerDispatcher:
    name = f"local_{hashlib.sha256(str(workdir).encode()).hexdigest()[:32]}"
    tags = {"dataset_digest": Inputs.load(workdir).dataset.digest}
    wanted = tracker_configs(
        spec, settings, job_id=name, attempt=attempt, tags=tags, event_files=workdir / FOLDER
    )  # fmt: skip
    return TrackerDispatcher(wanted, workdir, reached=_reached(workdir, attempt), timeout_s=settings.tracking_timeout_s)


def _reached(workdir: Path, attempt: int) -> LastSteps:
    """Return the last step that earlier attempts have measured of each curve."""
    reached: dict[tuple[str, str], int] = {}
    for number in range(1, attempt):
        try:
            events, _ = read(journal_of(workdir, number))
        except TransientError:
            continue  # what cannot be read is told twice
        for event in events:
            if isinstance(event, MetricEvent):
                for curve in ((event.role.value, name) for name in event.values):
                    reached[curve] = max(event.step, reached.get(curve, 0))
    return reached
