"""A fault in any function that runs after the student's training loses neither the student nor the job."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, SimpleNamespace
from typing import Any

import pytest
from core.answers import answers
from core.conftest import Life
from core.stages.faults import (
    DISK_FULL,
    ERRORS,
    FAULT,
    STAGES,
    Foreign,
    SoundRun,
    context_of,
    copied,
    place,
    student_is_kept,
    tried_with_faults,
)
from retort import chart_program
from retort.data import audit
from retort.data.copies import find_copies, view_images
from retort.errors import Stopped, TransientError
from retort.pipeline import extras, runner
from retort.pipeline.answers import DroppedControl, Evaluated, TrainedNetwork
from retort.pipeline.context import Context
from retort.pipeline.extras import Extras, bounded
from retort.protocol.events import StageEvent
from retort.protocol.journal import read
from retort.report import health, samples
from retort.report.html import render
from retort.spec.outcome import ExtraOutcome
from retort.spec.result import JobResult
from retort.stages import evaluate, report
from retort.training import benchmark, models, trainer
from retort.training import evaluate as evaluation
from retort.training.bootstrap import resample
from retort.training.config import TrainResult
from retort.training.export.onnx import export_onnx
from retort.training.export.parity import compare
from retort.training.inference import load_folded
from torch import OutOfMemoryError

OWN = ("pipeline/", "protocol/", "errors.py", "files.py", "schema.py", "spec/")
"""What keeps the job's records: without it nothing can be told, and another attempt goes on from the student."""


@pytest.fixture(autouse=True)
def _lightly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chart_program, "embedded", str)  # four megabytes that are the same in each page
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(benchmark, "MOST", {1: 3, 8: 2})  # rounds, of which no figure is looked at here
    monkeypatch.setattr(benchmark, "gc", SimpleNamespace(collect=int))  # nor memory; a process of tests has much to see


def keeps_records(code: CodeType) -> bool:
    return place(code).startswith(OWN)


REPORT = [
    audit.check, find_copies, view_images, samples.detect, samples.row, models.load, load_folded, health.rows, render,
]  # fmt: skip
EXPORT = [
    evaluation.accuracy, evaluation.run_validation, evaluation.by_size, benchmark._load, benchmark.measure,
    models.load, load_folded, export_onnx, compare,
]  # fmt: skip


def test_a_fault_in_any_function_of_the_report_is_told_in_the_result(life: Life, tmp_path: Path):
    """A crash of the page's template failed the job after all training was done."""
    workdir = copied(life, tmp_path)
    run = SoundRun(workdir, "report", REPORT)

    def examine(answer: Any) -> None:
        assert isinstance(answer, JobResult)
        assert answer.roles.student.map is not None
        assert answer.verdict is not None
        assert (workdir / "artifacts" / "report.html").is_file()

    needed = [one.__code__ for one in (report.run, report._tell_machines, report._with)]  # which make the result

    tally = tried_with_faults(run, run.codes, lambda one: keeps_records(one) or one in needed, examine=examine)

    tally.show("the report")
    assert tally.lost == []
    assert tally.told >= 60


def test_a_fault_in_any_function_of_the_exports_is_told_as_that_forms_status(life: Life, tmp_path: Path):
    """TensorRT's ImportError, which is no error of ours, failed the job."""
    run = SoundRun(copied(life, tmp_path), "export", EXPORT)

    tally = tried_with_faults(run, run.codes, keeps_records)

    tally.show("the exports")
    assert tally.lost == []
    assert tally.told >= 60


DEAR = [
    evaluate._figures, evaluation.run_validation, evaluation.by_size, evaluation.get_flops, benchmark._load,
    benchmark.measure, models.load, load_folded, resample,
]  # fmt: skip


def test_a_fault_in_any_function_of_the_evaluation_keeps_the_training(life: Life, tmp_path: Path):
    """Without the student's own figures the attempt fails, and the next goes on from the student."""
    run = SoundRun(copied(life, tmp_path), "evaluate", DEAR)
    of_student = set(run.called_by(evaluate._figures, "student.pt"))
    needed = [one.__code__ for one in (evaluate.run, evaluate._student, evaluate._with_speeds)]  # for its row

    def may_fail(code: CodeType) -> bool:
        return keeps_records(code) or code in of_student or code in needed

    tally = tried_with_faults(run, run.codes, may_fail)
    others = tried_with_faults(run, run.called_by(evaluate._figures, "teacher.pt"), keeps_records, spared="student.pt")

    tally.show("the evaluation")
    others.show("the evaluation of teacher, control and start")
    assert tally.lost == others.lost == []
    assert tally.told >= 20
    assert others.told >= 30


@dataclass
class Measured:
    """The stage that measures; what it has measured once it remembers."""

    context: Context
    evaluate: Callable[..., Any]
    speeds: Callable[..., Any]


def remembering(real: Callable[..., Any]) -> Callable[..., Any]:
    """Measure the same networks once."""
    kept: dict[tuple[str, ...], Any] = {}

    def once(networks: Any, *given: Any, **named: Any) -> Any:
        names = (networks.name,) if isinstance(networks, Path) else tuple(networks)
        if names not in kept:
            kept[names] = real(networks, *given, **named)
        return kept[names]

    return once


@pytest.fixture
def measured(life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Measured]:
    """The stage that measures, ready for any failure."""
    with context_of(copied(life, tmp_path), "evaluate") as context:
        found = Measured(context, remembering(evaluation.evaluate), remembering(evaluation.speeds))
        monkeypatch.setattr(evaluation, "evaluate", found.evaluate)
        monkeypatch.setattr(evaluation, "speeds", found.speeds)
        yield found


def test_teacher_and_control_that_cannot_be_measured_are_told_and_the_student_is_there(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
):
    context = measured.context
    for role in ("teacher", "control"):
        for error in ERRORS:

            def fail(weights: Path, conditions: Any, *, bad: str = role, why: Exception = error) -> Any:
                if weights.name == f"{bad}.pt":
                    raise why
                return measured.evaluate(weights, conditions)

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


def test_networks_that_cannot_be_timed_keep_their_accuracy(measured: Measured, monkeypatch: pytest.MonkeyPatch):
    """The latency is an extra, of all in one sitting or of each alone."""

    def fail(networks: Mapping[str, Any], device: str, **more: Any) -> Any:
        if len(networks) > 1 or "student" not in networks:
            raise MemoryError(FAULT)
        return measured.speeds(networks, device, **more)

    monkeypatch.setattr(evaluation, "speeds", fail)
    found = evaluate.run(measured.context).roles
    assert found.teacher is not None
    assert found.control is not None
    assert None not in (found.teacher.map, found.control.map, found.student.map)
    assert (found.teacher.latency_ms, found.control.latency_ms) == (None, None)
    assert found.student.latency_ms is not None


def test_memory_that_runs_out_in_an_evaluation_is_tried_with_single_images_and_told(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
):
    context = measured.context
    batches: list[int] = []
    errors: list[Exception] = [MemoryError(FAULT), OutOfMemoryError("CUDA out of memory")]

    def tight(weights: Path, conditions: Any) -> Any:
        if weights.name != "student.pt":
            return measured.evaluate(weights, conditions)
        batches.append(conditions.batch)
        if conditions.batch > 1:
            raise errors[0]
        return measured.evaluate(weights, conditions)

    monkeypatch.setattr(evaluation, "evaluate", tight)
    while errors:
        batches.clear()
        assert evaluate.run(context).roles.student.map >= 0
        assert batches == [context.val_batch, 1]
        errors.pop(0)
    assert "student.pt is measured with small batches: memory ran out" in said(context)


def said(context: Context) -> str:
    return (context.workdir / "journal-9.jsonl").read_text()


def test_the_next_attempt_goes_on_from_the_student_of_one_whose_evaluation_failed(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
):
    context = measured.context
    (context.workdir / "stages" / "evaluate.json").unlink()

    def attempt() -> None:
        runner.run_stages(context.spec, context.inputs, context.workdir, context.journal, context.stop)

    def fail(*_: object) -> Any:
        raise Foreign(FAULT)

    def timed(*given: Any, **named: Any) -> Any:
        found = measured.speeds(*given, **named)
        context.stop.set()  # what comes after this stage is another test's
        return found

    monkeypatch.setattr(evaluation, "evaluate", fail)
    with pytest.raises(Foreign):
        attempt()
    monkeypatch.setattr(evaluation, "evaluate", measured.evaluate)
    monkeypatch.setattr(evaluation, "speeds", timed)
    with pytest.raises(Stopped):
        attempt()
    begun = [event.stage for event in read(context.workdir / "journal-9.jsonl")[0] if isinstance(event, StageEvent)]
    assert begun == ["evaluate", "evaluate"]
    assert (context.workdir / "stages" / "evaluate.json").is_file()


def test_a_last_epoch_that_cannot_be_judged_costs_no_training(
    life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The training was over; then its last epoch failed the job, which has the best one."""
    workdir = copied(life, tmp_path)
    weights = workdir / "artifacts" / "student.pt"
    fitted = TrainResult(weights=weights, metrics={}, epochs=2, best_epoch=1, last=tmp_path / "gone.pt")
    monkeypatch.setattr(trainer, "fit", lambda *_, **__: fitted)
    with context_of(workdir, "distill") as context:
        trained = STAGES["distill"].read(runner._run(STAGES["distill"], context).result)
    assert isinstance(trained, TrainedNetwork)
    assert (trained.weights, trained.last) == ("artifacts/student.pt", None)
    assert [(one.name, one.status) for one in trained.extras] == [
        ("evaluation of the last epoch of student.pt", "failed")
    ]


def test_a_student_that_cannot_be_measured_fails_the_job_and_keeps_its_training(
    measured: Measured, monkeypatch: pytest.MonkeyPatch
):
    context = measured.context
    for error in ERRORS:

        def fail(*_: object, why: Exception = error) -> Any:
            raise why

        monkeypatch.setattr(evaluation, "evaluate", fail)
        with pytest.raises(type(error), match=FAULT):
            runner._run(STAGES["evaluate"], context)
    assert student_is_kept(context.workdir)


def test_a_control_that_fails_leaves_the_student_and_an_unknown_gain(
    life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from retort.stages import control

    workdir = copied(life, tmp_path)
    for error in ERRORS:

        def fail(*_: object, why: Exception = error) -> TrainedNetwork:
            raise why

        monkeypatch.setattr(control, "fit", fail)
        with context_of(workdir, "control") as context:
            answer = STAGES["control"].read(runner._run(STAGES["control"], context).result)
        assert isinstance(answer, DroppedControl)
        assert answer.extra is not None
        assert (answer.extra.status, FAULT in answer.dropped) == ("failed", True)
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
    around = signal.getitimer(signal.ITIMER_REAL)  # that of the tests themselves
    with bounded(0.5):
        assert 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= 0.5
    assert signal.getitimer(signal.ITIMER_REAL) == pytest.approx(around, abs=5)


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


def test_a_full_disk_costs_one_attempt_of_a_stage_and_not_one_for_each_extra(context: Context):
    """Each extra that met the same trouble ended an attempt of its own, until none was left."""

    def fail() -> None:
        raise DISK_FULL

    with pytest.raises(OSError, match=FAULT):
        Extras(context)("gallery", fail, None)
    again = Extras(context)
    for name in ("gallery", "manifest.json", "report.html"):
        assert again(name, fail, None) is None
    assert {(one.status, one.code) for one in again.outcomes} == {("failed", "disk_full")}


def test_parts_within_a_part_have_limits_of_their_own_and_the_whole_keeps_its_limit(context: Context):
    """The first part that ended took the limit of the whole away."""
    tried = Extras(context, limit_s=0.2)

    def hang() -> None:
        while True:
            pass

    def whole() -> None:
        tried("data quality", hang, None)
        tried("gain", lambda: 1, None)
        hang()

    assert tried("result", whole, "bare") == "bare"
    assert [(one.name, one.status) for one in tried.outcomes] == [
        ("data quality", "timed_out"), ("gain", "done"), ("result", "timed_out"),
    ]  # fmt: skip


def test_a_stop_is_no_failure_of_an_extra(context: Context):
    def stop() -> None:
        raise Stopped("asked to stop")

    tried = Extras(context)
    for _ in range(extras.MOST_TRIES + 1):
        with pytest.raises(Stopped):
            tried("gallery", stop, None)
    assert tried.outcomes == []
    assert tried("gallery", lambda: 3, None) == 3
