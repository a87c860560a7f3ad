"""A fault in any function that runs after the student's training loses neither the student nor the job."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import pytest
from core.answers import answers
from core.conftest import Life
from retort import report as report_package
from retort.data.inputs import Inputs
from retort.errors import Stopped, TransientError
from retort.pipeline import extras, results, runner
from retort.pipeline.answers import Evaluated, ExportedForms, MissingAnswer, TrainedNetwork
from retort.pipeline.context import Context, find
from retort.pipeline.extras import Extras, bounded
from retort.protocol.journal import Journal
from retort.protocol.workdir import Heartbeat
from retort.report import html as report_html
from retort.report import samples
from retort.spec import JobSpec
from retort.spec.outcome import ExtraOutcome
from retort.spec.result import JobResult
from retort.stages import evaluate, report
from retort.training import evaluate as evaluation

FAULT = "an injected fault"
CORE = str(Path(report_package.__file__).parents[1])
STAGES = {stage.name: stage for stage in find()}


class Foreign(Exception):
    """An error of a class that nobody here knows."""


FAULTS = (ValueError(FAULT), ImportError(FAULT), Foreign(FAULT), OSError(errno.EIO, FAULT))
OWN = ("pipeline/", "protocol/", "files.py", "schema.py", "stages/report.py")
"""What keeps the job's records: without it nothing can be told, and another attempt goes on from the student."""


def copied(life: Life, tmp_path: Path) -> Path:
    """Return a folder of the finished job's files; records are replaced whole, so that links are enough."""
    workdir = tmp_path / "work"
    shutil.copytree(life.workdir, workdir, symlinks=True, copy_function=lambda a, b: Path(b).hardlink_to(a))
    for journal in workdir.glob("journal-9.jsonl"):
        journal.unlink()
    return workdir


@contextmanager
def context_of(workdir: Path, stage: str, **changes: Any) -> Iterator[Context]:
    """The view of a stage that runs after all others that come before it."""
    known = answers(workdir)
    before = {name: known[name] for name in STAGES if name in known and name != stage}
    (workdir / "journal-9.jsonl").unlink(missing_ok=True)
    with Journal(workdir / "journal-9.jsonl") as said:
        yield Context(
            spec=JobSpec.model_validate_json((workdir / "spec.json").read_text()), inputs=Inputs.load(workdir),
            workdir=workdir, journal=said, stop=threading.Event(), results={**before, **changes},
            tell_progress=lambda _: None, heartbeat=Heartbeat(workdir), stage=stage, key="",
        )  # fmt: skip


def traced(workdir: Path, stage: str) -> list[CodeType]:
    """Run *stage* once; return the code of every function of ours that it calls, in order."""
    seen: dict[CodeType, None] = {}

    def note(frame: Any, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(CORE):
            seen[frame.f_code] = None

    with context_of(workdir, stage) as context:
        sys.setprofile(note)
        try:
            runner._run(STAGES[stage], context)
        finally:
            sys.setprofile(None)
    return list(seen)


def functions_of(code: CodeType) -> list[FunctionType]:
    """Return the functions with this *code* that can be made to fail: no closures, lambdas or properties."""
    if code.co_freevars or "<" in code.co_qualname:
        return []
    return [one for one in gc.get_referrers(code) if isinstance(one, FunctionType)]


def raising(error: Exception) -> CodeType:
    """Return the code of a function that raises *error*, wherever that function has been imported."""

    def template(*_: object, **__: object) -> None:
        raise "the fault"  # type: ignore[misc]  # noqa: B016 - replaced below

    constants = tuple(error if one == "the fault" else one for one in template.__code__.co_consts)
    return template.__code__.replace(co_consts=constants)


@contextmanager
def fault_in(code: CodeType, error: Exception) -> Iterator[None]:
    """Make every function of this *code* raise *error*."""
    functions = functions_of(code)
    for one in functions:
        one.__code__ = raising(error)
    try:
        yield
    finally:
        for one in functions:
            one.__code__ = code


@dataclass
class Tally:
    """What faults in the functions of one stage led to."""

    told: int = 0
    """The job goes on, and its outcome has the reason."""
    harmless: int = 0
    """Nothing is missing."""
    again: int = 0
    """Another attempt goes on from the student."""
    lost: list[str] = field(default_factory=list)
    """The job fails, for something that it can do without."""


def student_is_kept(workdir: Path) -> bool:
    record = results.StageRecord.model_validate_json((workdir / "stages" / "distill.json").read_bytes())
    return results.load(workdir, "distill", record.key) is not None


def tried_with_faults(workdir: Path, stage: str, codes: list[CodeType]) -> Tally:
    """Run *stage* once for each function, which fails; one fault after the other."""
    tally = Tally()
    for number, code in enumerate(codes):
        where = f"{code.co_filename.removeprefix(CORE)[1:]}: {code.co_qualname}"
        answer = failed = None
        with context_of(workdir, stage) as context, fault_in(code, FAULTS[number % len(FAULTS)]):
            try:
                answer = runner._run(STAGES[stage], context).result
            except Exception as error:  # noqa: BLE001 - whatever comes is judged
                failed = error
        if failed is not None:
            if where.startswith(OWN) and student_is_kept(workdir):
                tally.again += 1
            else:
                tally.lost.append(f"{where}: {failed!r}")
            continue
        answer = STAGES[stage].read(answer)
        assert isinstance(answer, JobResult | ExportedForms | MissingAnswer), where
        lost = [answer.missing] if isinstance(answer, MissingAnswer) else answer.extras
        reasons = [one.reason or "" for one in lost if one.status == "failed"]
        tally.told += any(FAULT in reason for reason in reasons)
        tally.harmless += not reasons
        if isinstance(answer, JobResult):
            assert answer.roles.student.map is not None
            assert answer.verdict is not None
            assert (workdir / "artifacts" / "report.html").is_file()
    return tally


def only(codes: list[CodeType], *folders: str) -> list[CodeType]:
    """Keep what can be made to fail, and is defined in one of these places."""
    return [
        code
        for code in codes
        if functions_of(code) and code.co_filename.removeprefix(CORE)[1:].startswith(folders or ("",))
    ]


def test_a_fault_in_any_function_of_the_report_is_told_in_the_result(
    life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A crash of the page's template failed the job after all training was done."""
    monkeypatch.setattr(report_html, "get_plotlyjs", str)  # four megabytes that are the same in each page
    monkeypatch.setattr(os, "fsync", lambda _: None)
    workdir = copied(life, tmp_path)
    with context_of(workdir, "report") as context:
        drawn = samples.gallery(context, 1)
    monkeypatch.setattr(samples, "gallery", lambda _: drawn)
    codes = only(traced(workdir, "report"), "report/", "stages/report.py", "pipeline/history.py", "data/audit.py")
    assert len(codes) >= 60

    tally = tried_with_faults(workdir, "report", codes)

    assert tally.lost == []
    assert tally.told >= 60
    assert tally.told + tally.harmless + tally.again == len(codes)


def test_a_fault_in_any_function_of_the_exports_is_told_as_that_forms_status(life: Life, tmp_path: Path):
    """TensorRT's ImportError, which is no error of ours, failed the job."""
    workdir = copied(life, tmp_path)
    codes = only(traced(workdir, "export"), "stages/export.py", "training/export/", "exports/")
    assert len(codes) >= 20

    tally = tried_with_faults(workdir, "export", codes)

    assert (tally.lost, tally.again) == ([], 0)
    assert tally.told >= 20


@pytest.fixture
def measured(life: Life, tmp_path: Path) -> Iterator[tuple[Context, dict[str, Any]]]:
    """The stage that measures, and the evaluations that it has made once."""
    kept: dict[str, Any] = {}
    with context_of(copied(life, tmp_path), "evaluate") as context:
        real = evaluation.evaluate

        def once(weights: Path, conditions: Any) -> Any:
            if weights.name not in kept:
                kept[weights.name] = real(weights, conditions)
            return kept[weights.name]

        kept["real"] = once
        yield context, kept


def test_teacher_and_control_that_cannot_be_measured_are_told_and_the_student_is_there(
    measured: tuple[Context, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
):
    context, kept = measured
    for role in ("teacher", "control"):
        for error in (*FAULTS, MemoryError(FAULT)):

            def fail(weights: Path, conditions: Any, *, bad: str = role, why: Exception = error) -> Any:
                if weights.name == f"{bad}.pt":
                    raise why
                return kept["real"](weights, conditions)

            monkeypatch.setattr(evaluation, "evaluate", fail)
            found = evaluate.run(context)
            assert getattr(found.roles, role) is None
            assert found.roles.student.map >= 0
            (lost,) = [one for one in found.extras if one.status != "done"]
            assert (lost.name, lost.status) == (f"evaluation of the {role}", "failed")
            assert lost.code == ("out_of_memory" if isinstance(error, MemoryError) else "internal")

    with context_of(context.workdir, "report", evaluate=found) as summing_up:
        result = report.run(summing_up)
    assert result.verdict is not None
    assert result.verdict.kind == "unknown"
    assert "control could not be measured" in result.verdict.sentence


def test_a_student_that_cannot_be_measured_fails_the_job_and_keeps_its_training(
    measured: tuple[Context, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
):
    context, _ = measured
    for error in FAULTS:

        def fail(*_: object, why: Exception = error) -> Any:
            raise why

        monkeypatch.setattr(evaluation, "evaluate", fail)
        with pytest.raises(type(error), match=FAULT):
            runner._run(STAGES["evaluate"], context)
    assert student_is_kept(context.workdir)


@pytest.mark.parametrize("error", [*FAULTS, MemoryError(FAULT)], ids=lambda error: type(error).__name__)
def test_a_control_that_fails_leaves_the_student_and_an_unknown_gain(
    error: Exception, life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from retort.stages import control

    def fail(*_: object) -> TrainedNetwork:
        raise error

    monkeypatch.setattr(control, "fit", fail)
    workdir = copied(life, tmp_path)
    with context_of(workdir, "control") as context:
        answer = STAGES["control"].read(runner._run(STAGES["control"], context).result)
    known = answers(workdir)["evaluate"]
    assert isinstance(known, Evaluated)
    alone = known.model_copy(update={"roles": known.roles.model_copy(update={"control": None}), "resampled": None})
    with context_of(workdir, "report", control=answer, evaluate=alone) as context:
        result = report.run(context)
    assert result.verdict is not None
    assert result.verdict.kind == "unknown"
    assert FAULT in result.verdict.sentence
    (lost,) = [one for one in result.extras if one.name == "control"]
    assert (lost.status, lost.reason) == ("failed", result.control_dropped and lost.reason)


def test_a_page_that_cannot_be_drawn_gives_way_to_one_of_plain_words(
    life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(**_: object) -> str:
        raise Foreign(FAULT)

    monkeypatch.setattr(report, "render", fail)
    workdir = copied(life, tmp_path)
    with context_of(workdir, "report") as context:
        result = report.run(context)
    page = (workdir / "artifacts" / "report.html").read_text()
    assert result.verdict is not None
    assert result.verdict.sentence in page
    assert f"report.html failed: Foreign: {FAULT} [internal]" in page
    assert [one.status for one in result.extras if one.name.endswith("report.html")] == ["failed", "done"]


def test_a_smaller_batch_after_the_student_was_trained_trains_nothing_again(life: Life, tmp_path: Path):
    """Half a batch, after memory ran out in a later stage, trained the student anew."""
    workdir = copied(life, tmp_path)
    with context_of(workdir, "report") as context:
        smaller = context.inputs.adjustments.model_copy(update={"batch": 2})
        inputs = context.inputs.model_copy(update={"adjustments": smaller})
        result = runner.run_stages(context.spec, inputs, workdir, context.journal, context.stop)
    assert isinstance(result, JobResult)
    assert '"type":"stage"' not in (workdir / "journal-9.jsonl").read_text()


@pytest.fixture
def context(life: Life, tmp_path: Path) -> Iterator[Context]:
    with context_of(copied(life, tmp_path), "report") as found:
        yield found


def last(tried: Extras) -> ExtraOutcome:
    return tried.outcomes[-1]


def test_an_extra_that_never_ends_is_ended_at_its_limit(context: Context):
    tried = Extras(context, limit_s=0.05)

    def swallow() -> None:
        while True:
            try:
                while True:
                    pass
            except Exception:  # noqa: BLE001, S110 - as libraries do
                pass

    assert tried("gallery", swallow, "nothing") == "nothing"
    assert (last(tried).status, last(tried).code) == ("timed_out", "timeout")


def test_a_time_limit_is_gone_with_its_block():
    import signal

    with bounded(0.5):
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_what_may_be_in_order_next_time_is_tried_once_more_and_then_told(context: Context):
    def fail() -> None:
        raise TransientError("the store is away")

    first, second = Extras(context), Extras(context)
    with pytest.raises(TransientError):
        first("gallery", fail, None)
    assert second("gallery", fail, None) is None
    assert (last(second).status, last(second).code) == ("failed", "unavailable")


def test_an_extra_in_which_attempts_have_died_is_skipped(context: Context):
    class Killed(BaseException):
        """Stands for SIGKILL: nothing is written after it."""

    def die() -> None:
        raise Killed

    for _ in range(extras.MOST_TRIES):
        with pytest.raises(Killed):
            Extras(context)("student.onnx", die, None)
    tried = Extras(context)
    assert tried("student.onnx", die, None) is None
    assert (last(tried).status, last(tried).code) == ("skipped", "crashed")


def test_a_stop_is_no_failure_of_an_extra(context: Context):
    def stop() -> None:
        raise Stopped("asked to stop")

    tried = Extras(context)
    for _ in range(extras.MOST_TRIES + 1):
        with pytest.raises(Stopped):
            tried("gallery", stop, None)
    assert tried.outcomes == []
    assert tried("gallery", lambda: 3, None) == 3
