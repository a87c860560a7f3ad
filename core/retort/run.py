"""Run one job: ``python -m retort.run SPEC WORKDIR``, journal included.

It holds no keys and needs no network. Exit codes: 0 finished, 1 failed, 3 waits for people, 75 was told to stop.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import fcntl
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

from retort.data.inputs import Inputs
from retort.errors import AwaitingReview, RetortError, Stopped, TransientError
from retort.pipeline import runner
from retort.pipeline.failures import explain
from retort.protocol.journal import Journal
from retort.protocol.workdir import LOCK
from retort.protocol.workdir import journal as journal_of
from retort.spec import AnySpec, JobSpec, ResourcesSpec, parse_document, parse_spec
from retort.training import environment

OK, FAILED, AWAITING_REVIEW, STOPPED = 0, 1, 3, 75
"""Exit codes; 75 is EX_TEMPFAIL of sysexits.h."""
_PATIENCE_S = 20.0
"""How long a dying run of the same job may hold the working folder."""
_GRACE_S = 10.0
"""From SIGTERM to SIGKILL when the parent is gone."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one job to its end; return the exit code."""
    options = _options(arguments)
    stop = threading.Event()
    _obey_signals(stop)
    faulthandler.register(signal.SIGQUIT, all_threads=True)  # so that a supervisor can see where a run hangs
    if not options.foreground:
        threading.Thread(target=_die_with_parent, name="parent", daemon=True).start()
    workdir = Path(options.workdir).resolve()
    spec_file = Path(options.spec).resolve()
    try:
        inputs = Inputs.load(workdir)
    except RetortError as error:
        sys.stderr.write(f"{error.message}\n")
        return FAILED
    os.chdir(workdir)
    environment.prepare(workdir / "work" / "ultralytics")
    with Journal(journal_of(workdir, inputs.attempt)) as journal:
        return _tell(journal, stop, spec_file, inputs, workdir)


def _tell(journal: Journal, stop: threading.Event, spec_file: Path, inputs: Inputs, workdir: Path) -> int:
    """Do the work, and make its end the last line of the journal."""
    try:
        with _alone(workdir, stop):
            spec = _read(spec_file)
            result = runner.run_stages(spec, _placed(spec, inputs, journal), workdir, journal, stop)
    except AwaitingReview as error:
        journal.awaiting_review(error.num_images)
        return AWAITING_REVIEW
    except BaseException as error:  # noqa: BLE001 - whatever ends a run is told
        if stop.is_set() or isinstance(error, Stopped):
            # A stop reaches the children too, so what they provoke on their way out is no failure.
            journal.stopped()
            return STOPPED
        traceback.print_exc()
        journal.failed(explain(error, inputs.device))
        return FAILED
    journal.finished(result)
    return OK


def _placed(spec: AnySpec, inputs: Inputs, journal: Journal) -> Inputs:
    """Return the inputs with a device that can be used, which is told.

    Raises:
        ForeignError: there is no usable GPU, and nothing allows the CPU.

    """
    from retort.training import placement

    resources = spec.resources if isinstance(spec, JobSpec) else ResourcesSpec()
    wish = placement.Wish(
        inputs.device, inputs.device_by, resources.require_gpu, inputs.cpu_allowed, resources.gpus
    )  # fmt: skip
    found = placement.place(wish, placement.read_all(wish))
    no_gpu = found.reason if found.number is None and inputs.device_by != "user" else None
    slow = "; this takes many times as long" if no_gpu else ""
    journal.log(f"{found.sentence}{slow}", "warning" if no_gpu else "info", **({"code": "no_gpu"} if no_gpu else {}))
    device = "cpu" if found.number is None else str(found.number)
    return inputs.model_copy(update={"device": device, "no_gpu": no_gpu, "hardware": found})


def _read(spec_file: Path) -> AnySpec:
    try:
        return parse_spec(parse_document(spec_file.read_bytes()))
    except OSError as error:
        raise TransientError(f"the spec could not be read: {error}", code="bad_workdir") from error


@contextlib.contextmanager
def _alone(workdir: Path, stop: threading.Event) -> Iterator[None]:
    """Hold the working folder: an earlier run of the same job on this machine may still be dying."""
    with (workdir / LOCK).open("a") as file:
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                if time.monotonic() > deadline:
                    raise TransientError("another run holds the working folder", code="folder_busy") from error
                if stop.wait(0.1):
                    raise Stopped("stopped before it began") from error
            else:
                break
        yield


def _obey_signals(stop: threading.Event) -> None:
    """Stop at the next batch on SIGTERM and SIGINT; a second SIGINT, from an impatient person, ends it at once."""

    def obey(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is Python's
        stop.set()
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)

    signal.signal(signal.SIGTERM, obey)
    signal.signal(signal.SIGINT, obey)


def _die_with_parent() -> None:
    """Wait for the end of standard input, a pipe that the parent holds; then stop, and kill what has not."""
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_GRACE_S)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m retort.run", description="Run one distillation job.")
    parser.add_argument("spec", help="the spec, JSON or YAML")
    parser.add_argument("workdir", help="a folder with inputs.json; everything is written there")
    parser.add_argument("--foreground", action="store_true", help="live on when standard input ends, as in a terminal")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
