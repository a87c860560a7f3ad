"""Train the control: the same student, seed and schedule, without distillation."""

from __future__ import annotations

from retort import files
from retort.constants import Role
from retort.errors import Stopped
from retort.pipeline import extension, progress
from retort.pipeline.answers import DroppedControl, TrainedNetwork
from retort.pipeline.context import Context
from retort.pipeline.extras import Extras
from retort.pipeline.train import fit
from retort.spec import JobSpec
from retort.stages.distill import decided_distillation, train_config

after = "distill"
extra = True

WHY = "the job was finished early, before its control was trained"


def applies(spec: JobSpec) -> bool:
    """Return True where the spec asks for a control."""
    return spec.control


def cost(spec: JobSpec) -> float:
    """Return the stage's share of the run."""
    return progress.plain(spec)


def run(context: Context) -> TrainedNetwork | DroppedControl:
    """Train the control, or drop it where the job finishes early.

    A twin is trained for as many epochs, by the same schedule. A student that was finished early may come from another
    job, which nobody has asked to finish.
    """
    student = context.needed("distill", TrainedNetwork)
    if decided_distillation(context) is None:
        return _same(context, student)
    if context.finishes_early() or student.finished_early:
        return _dropped(context)
    try:
        tried = Extras(context)
        trained = tried("control", lambda: fit(context, train_config(context, Role.CONTROL)), None)
    except Stopped:
        if context.stop.is_set():
            raise
        return _dropped(context)
    return DroppedControl(dropped=_why(tried), extra=tried.outcomes[-1]) if trained is None else trained


def _same(context: Context, student: TrainedNetwork) -> TrainedNetwork:
    """Return the student as its own control, which its training was to the bit, once more as a file."""
    context.journal.log("nothing is distilled, by the pilot: the student is its own control, trained once")
    name = f"{Role.CONTROL}.pt"
    files.atomic_write(context.artifact(name), (context.workdir / student.weights).read_bytes())
    if context.keeps_last:
        extension.keep_same(context.workdir)
    metrics = {key: value for key, value in student.metrics.items() if key.startswith("val/")}
    published = context.publish(
        name, Role.CONTROL, epoch=student.best_epoch, metrics=metrics, model=student.model, same_as=student.weights
    )
    return student.model_copy(update={"weights": published, "extras": (), "optimisations": ()})


def _why(tried: Extras) -> str:
    return f"no control was trained: {tried.outcomes[-1].reason}"


def _dropped(context: Context) -> DroppedControl:
    context.journal.log("the job finishes early: its control is not trained, so no gain will be claimed", "warning")
    return DroppedControl(dropped=WHY)
