"""Run the stages of a job, skipping finished ones."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import cast

from pydantic import ValidationError

from retort.data.inputs import CALIBRATION, Inputs, UnlabelledInfo
from retort.data.mirroring import handed
from retort.data.verification import verify
from retort.errors import DataChanged, Stopped
from retort.pipeline import extension, history
from retort.pipeline.answers import MissingAnswer
from retort.pipeline.context import Context, Stage, find
from retort.pipeline.extras import Extras
from retort.pipeline.failures import explain
from retort.pipeline.progress import Progress
from retort.pipeline.results import (
    BEFORE_STUDENT,
    StageRecord,
    earlier_key,
    files,
    forget,
    key_of,
    key_of_stage,
    load,
    refuse_missing,
)
from retort.protocol.journal import Journal
from retort.protocol.workdir import ENDED, Heartbeat
from retort.spec import AnySpec, JobSpec, exports_of
from retort.spec.advised import AdviceResult
from retort.spec.evaluated import EvaluationResult
from retort.spec.image_use import ImageUse
from retort.spec.result import JobResult, Result

_SHOWN = 6
"""Names in a message, at most."""


def run_stages(spec: AnySpec, inputs: Inputs, workdir: Path, journal: Journal, stop: threading.Event) -> Result:
    """Run all stages of *spec*; return the last stage's result.

    Raises:
        Stopped: *stop* was set.
        RetortError: a stage failed in a way that people can act on.

    """
    stages = [stage for stage in find(spec.task) if stage.module.applies(spec)]
    progress = Progress(journal, {stage.name: stage.module.cost(spec) for stage in stages})
    key, pulse = key_of(spec, inputs), Heartbeat(workdir)
    before_student = earlier_key(spec, inputs) or key
    finished: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()
    _remark(inputs, journal)
    _doubt_mirroring(spec, inputs, journal)
    _remark_more(inputs, journal)
    _forewarn(spec, journal)
    results: dict[str, object] = {}
    fresh = False
    for stage in stages:
        if stop.is_set():
            raise Stopped("asked to stop")
        pulse.beat("setup")
        own = before_student if stage.name in BEFORE_STUDENT else key
        stage_key = key_of_stage(own, stage.name, inputs)
        # What was trained before memory ran out in a later stage stays, in the batches of its time.
        before = key_of_stage(own, stage.name, inputs, halved=False)
        kept = None if fresh else _kept(workdir, stage, stage_key) or _kept(workdir, stage, before)
        verify(workdir, lambda: pulse.beat("setup"))
        if kept is not None:
            _skip(stage, kept, journal)
        else:
            refuse_missing(stage.name, inputs)
            fresh = True
            forget(workdir, stage.name)
            context = Context(
                cast("JobSpec", spec), inputs, workdir, journal, stop, dict(results), progress.of(stage.name), pulse,
                stage.name, stage_key, finished,
            )  # fmt: skip
            with _data_blamed(workdir):
                kept = _run(stage, context)
        finished += files(stage.name, kept)
        if fresh:
            journal.saved(stage.name, 0, [*finished, *history.keep(workdir), *extension.kept(workdir)])
        if stage.name in BEFORE_STUDENT:
            earlier = finished
        progress.done(stage.name)
        results[stage.name] = stage.read(kept.result)
    verify(workdir, lambda: pulse.beat("setup"))
    answer = results[stages[-1].name]
    assert isinstance(answer, JobResult | AdviceResult | EvaluationResult), "the last stage sums up"
    if inputs.keep_last and isinstance(spec, JobSpec) and extension.all_kept(spec, workdir):
        beside = [*history.keep(workdir), *extension.kept(workdir)]
        journal.saved(ENDED, spec.training.epochs, [*finished, *beside], last=[*earlier, *beside])
    return answer


def _remark(inputs: Inputs, journal: Journal) -> None:
    """Pass on what intake noticed about the data set."""
    data = inputs.dataset
    for note in data.notes:
        journal.log(note)
    for warning in data.warnings:
        journal.log(warning, "warning")
    for split, use in data.images.items():
        _remark_use(split, use, journal)
    if data.num_shared:
        journal.log(
            f"{data.num_shared} of the {data.num_val} validation images are also training images: "
            "the figures of this run will not show how well its networks generalise",
            "warning",
            num_shared=data.num_shared,
        )


def _doubt_mirroring(spec: AnySpec, inputs: Inputs, journal: Journal) -> None:
    """Warn where training images are mirrored though the classes' names say that sides matter."""
    if not isinstance(spec, JobSpec) or not (found := handed(inputs.dataset.names)):
        return
    asked = [name for name in ("fliplr", "flipud") if getattr(spec.training, name) > 0]
    if asked:
        shown = ", ".join(found[:_SHOWN]) + (" ..." if len(found) > _SHOWN else "")
        journal.log(
            f"training mirrors images ({' and '.join(asked)}), but the classes {shown} look like ones that a mirror "
            f"changes: set {' and '.join(f'training.{name}' for name in asked)} to 0 where that is so",
            "warning",
            classes=list(found),
        )


def _remark_use(title: str, use: ImageUse | None, journal: Journal) -> None:
    """Say how many images are used of how many there are."""
    if use is not None:
        lost = use.num_unused + sum(use.unread.values())
        journal.log(use.sentence(title), "warning" if lost else "info", num_found=use.num_found, num_used=use.num_used)


def _remark_more(inputs: Inputs, journal: Journal) -> None:
    """Pass on what intake noticed about the images without labels."""
    more = inputs.unlabelled
    if inputs.to_label is not None:
        for note in inputs.to_label.notes:
            journal.log(note)
        _remark_use("images to label", inputs.to_label.images, journal)
    for scenes in inputs.calibration.values():
        _remark_folder(CALIBRATION, scenes, journal)
    if more is None:
        return
    journal.log(
        f"{more.num_images} unlabelled images, which only the distilled student sees", num_images=more.num_images
    )
    _remark_folder("unlabelled images", more, journal)


def _remark_folder(title: str, more: UnlabelledInfo, journal: Journal) -> None:
    for note in more.notes:
        journal.log(note)
    _remark_use(title, more.images, journal)
    if more.num_shared:
        journal.log(
            f"{more.num_shared} of the {title} are also validation or test images: they are left out",
            "warning",
            num_shared=more.num_shared,
        )


def _forewarn(spec: AnySpec, journal: Journal) -> None:
    """Say before the training which forms of the student this machine will not be able to make."""
    from retort.training.export.base import lacking

    for export in exports_of(spec):
        try:
            why = lacking(export)
        except Exception as error:  # noqa: BLE001 - the export itself will tell
            why = explain(error, what=None).message
        if why is not None:
            journal.log(
                f"the {export.format} export will not be built here: {why}; it gets what to build it from", "warning"
            )


def _kept(workdir: Path, stage: Stage, key: str) -> StageRecord | None:
    """Return what an earlier attempt left; None where it must run again, also because another version wrote it."""
    kept = load(workdir, stage.name, key)
    try:
        if kept is not None:
            stage.read(kept.result)
    except ValidationError:
        return None
    return kept


def _run(stage: Stage, context: Context) -> StageRecord:
    context.journal.stage(stage.name)
    started = time.monotonic()
    answer = _answer(stage, context)
    kept = StageRecord.of(context, answer, time.monotonic() - started)
    kept.save(context.workdir, stage.name)
    for folder in context.lasting:
        shutil.rmtree(folder, ignore_errors=True)
    return kept


@contextlib.contextmanager
def _data_blamed(workdir: Path) -> Iterator[None]:
    """Say that the data has changed where that may be why something else failed."""
    try:
        yield
    except Stopped:
        raise
    except Exception as error:
        try:
            verify(workdir)
        except DataChanged as changed:
            raise changed from error
        raise


def _answer(stage: Stage, context: Context) -> object:
    """Return the answer of *stage*, or word of what became of one that the job can do without."""
    if not stage.extra:
        return stage.module.run(context)
    extras = Extras(context, counts=False)
    answer = extras(stage.name, lambda: stage.module.run(context), None)
    return MissingAnswer(missing=extras.outcomes[-1]) if answer is None else answer


def _skip(stage: Stage, kept: StageRecord, journal: Journal) -> None:
    journal.log(f"{stage.name} was finished by attempt {kept.attempt}", stage=stage.name, attempt=kept.attempt)
    for file in kept.files:
        # The earlier attempt may have died before its supervisor read this; saying it twice does no harm.
        journal.artifact(file.name, file.role, file.path, file.media_type, file.metadata)
