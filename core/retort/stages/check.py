"""Check that the networks of a job fit each other and the spec."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort.class_names import ITEM
from retort.constants import LEVEL_STRIDES, Role
from retort.data.teacher_names import ONE_CLASS_HINT, not_one_class
from retort.errors import ModelError, OutOfMemory, TeacherMismatch
from retort.exports.base import Export
from retort.foreign import first_line
from retort.pipeline import progress
from retort.pipeline.answers import CheckedNetworks
from retort.pipeline.context import Context
from retort.pipeline.failures import explain
from retort.pipeline.train import network
from retort.spec import JobSpec
from retort.spec.figures import FoundBatch, StepMemory
from retort.stages.distill import teacher_config

if TYPE_CHECKING:
    from retort.training.architecture import Architecture
    from retort.training.batch_size import Arm
    from retort.training.distillation.objective import DistillationObjective
    from retort.training.teachers.base import BoxNetwork

after = None


def applies(spec: JobSpec) -> bool:  # noqa: ARG001 - every job has networks
    """Return True: the stage applies to every job."""
    return True


def cost(spec: JobSpec) -> float:
    """Return the stage's share of the run: a few forward passes."""
    return progress.forward(spec.student.label) / 10


def run(context: Context) -> CheckedNetworks:
    """Build the student, load the teachers, and set up the distillation once.

    What cannot be trained is refused here, before anything is: a file that is no detector, another architecture than
    the spec names, losses that cannot compare these networks.

    Raises:
        ModelError: a network cannot be used; it says which.
        TeacherMismatch: a teacher does not fit the student and the losses.
        OutOfMemory: a step with the batch of the spec does not fit on the GPU.

    """
    from retort.training import architecture, models
    from retort.training.distillation.cached_teacher import CachedNetwork
    from retort.training.teachers.base import BoxNetwork

    spec, names = context.spec, dict(enumerate(context.inputs.dataset.names))
    with _named("student"):
        student = models.build(**network(context, spec.student), names=names, seed=spec.training.seed)
    _tell_classes(context, names)
    read = architecture.read(student)
    _insist_on_side("training.imgsz", spec.training.imgsz, read)
    _insist_on_layers(context, student)
    insist_on_forms(spec.exports, student, read)
    known, told, networks = [], [], []
    for path, loaded, imgsz in _teachers(context, names):
        networks.append((CachedNetwork(loaded.names), None) if spec.teacher.cache else (loaded, imgsz))
        _insist_on_item(context, path, loaded)
        side = imgsz or spec.training.imgsz
        if isinstance(loaded, BoxNetwork):
            known.append(loaded.kind)
            told.append(loaded.kind)
        else:
            theirs = architecture.read(loaded)
            known.append(theirs.name)
            told.append(str(theirs))
            _insist_on_side(f"{path}.imgsz", side, theirs)
        with _named(path):
            objective = _distil(context, student, *networks[-1])
            if isinstance(loaded, BoxNetwork):
                _tell_boxes(context, path, loaded, objective, side)
        context.heartbeat.beat("setup")
    context.journal.log(f"the student is {read}; the teacher {'; '.join(told)}")
    name = spec.student.label if read.name == architecture.UNNAMED else read.name
    found = _batch(context, names, networks)
    return CheckedNetworks(
        student=name, teachers=tuple(known), batch=found,
        memory=None if found is not None or context.inputs.device == "cpu" else _memory(context, names, networks),
    )  # fmt: skip


def _batch(context: Context, names: dict[int, str], networks: Sequence[tuple[Any, int | None]]) -> FoundBatch | None:
    """Find the batch of all trainings, where the spec leaves it to the run."""
    from retort.training import batch_size

    spec, device, largest = context.spec, context.inputs.device, context.inputs.bounds.batch
    if spec.training.batch != "auto":
        return None
    if device == "cpu":
        found = batch_size.on_cpu(spec.resources.gpus, most=largest)
    else:
        images = max(1, int(context.inputs.dataset.num_train * spec.training.fraction))
        free, peak = batch_size.free_memory(device), batch_size.peak_memory(device)
        each = []
        for arm in _arms(context, names, networks):
            meter, gpus = arm.meter(peak), spec.resources.gpus
            each.append(batch_size.find(meter, free, images=images, gpus=gpus, largest=largest))
            context.heartbeat.beat("setup")
        found = min(each, key=lambda one: one.batch)
    context.journal.log(found.reason, batch=found.batch)
    return found


def _memory(context: Context, names: dict[int, str], networks: Sequence[tuple[Any, int | None]]) -> StepMemory | None:
    """Foresee what a step with the batch of the spec takes of the GPU; None where that cannot be found out.

    Raises:
        OutOfMemory: it does not fit.

    """
    from retort.training import batch_size

    device, found = context.inputs.device, []
    try:
        free, peak = batch_size.free_memory(device), batch_size.peak_memory(device)
        for arm in _arms(context, names, networks):
            found.append(
                batch_size.foresee(
                    context.batch, free, estimate=arm.estimate, measure=arm.meter(peak),
                    imgsz=arm.plan.training.imgsz, gpus=context.spec.resources.gpus,
                )
            )  # fmt: skip
            context.heartbeat.beat("setup")
    except OutOfMemory:
        raise
    except Exception as error:  # noqa: BLE001 - the training itself will show whether it fits
        context.journal.log(f"the memory of a step could not be foreseen: {explain(error, device, what=None).message}")
        return None
    most = max(found, key=lambda one: one.step_bytes)
    context.journal.log(most.sentence(context.batch), "warning" if most.is_tight else "info")
    return most


def _arms(context: Context, names: dict[int, str], networks: Sequence[tuple[Any, int | None]]) -> Iterator[Arm]:
    """Yield the trainings that may need the most memory: the student's under its teachers, and the teacher's own."""
    from retort.training.batch_size import Arm
    from retort.training.config import TrainConfig
    from retort.training.distillation.distiller import TeacherCandidate
    from retort.training.distillation.teacher_resize import ratio_of

    spec, training = context.spec, context.spec.training
    boxes = most_boxes(context.inputs.data_yaml) * (2 if training.mosaic else 1)  # of parts of four images
    config = teacher_config(context)
    weights = [spec.teacher.weight, *(one.weight for one in spec.teacher.ensemble)]
    plan = TrainConfig(
        role=Role.STUDENT, **network(context, spec.student), data_yaml=context.inputs.data_yaml,
        epochs=training.epochs, training=training, folder=context.workdir, device=context.inputs.device,
        teaching=config,
    )  # fmt: skip
    teachers = tuple(
        TeacherCandidate(loaded, weight, ratio_of(imgsz, training.imgsz))
        for (loaded, imgsz), weight in zip(networks, weights, strict=True)
    )
    yield Arm(plan, names, boxes, teachers, spec.distillation)
    if spec.teacher.train is not None:
        own = training.model_copy(update={"imgsz": spec.teacher.imgsz or training.imgsz, "freeze": None})
        yield Arm(dataclasses.replace(plan, **network(context, spec.teacher.train), training=own), names, boxes)


def most_boxes(data_yaml: Path) -> int:
    """Return how many boxes the fullest training image has."""
    files = (data_yaml.parent / "labels" / "train").glob("*.txt")
    return max((len(path.read_text().splitlines()) for path in files), default=0)


def _tell_classes(context: Context, names: dict[int, str]) -> None:
    """Say how many classes the student takes over from weights with other classes."""
    from retort.training import models

    if (weights := context.spec.student.weights) is None:
        return
    theirs = models.load(context.inputs.weights[weights]).names
    rows = models.class_rows(names, theirs)
    if rows is not None and (len(rows) < len(names) or any(ours != number for ours, number in rows.items())):
        anew = [repr(name) for number, name in names.items() if number not in rows]
        told = f", {len(anew)} anew (such as {anew[0]})" if anew else ""
        context.journal.log(f"{len(rows)} classes of the student begin as those of {weights} by their names{told}")


def _teachers(context: Context, names: dict[int, str]) -> Iterator[tuple[str, Any, int | None]]:
    """Yield each teacher with its place in the spec and its size; one to be trained as it will begin."""
    from retort.training import models, teachers

    spec = context.spec.teacher
    if spec.train is not None:
        with _named("teacher.train"):
            built = models.build(**network(context, spec.train), names=names, seed=context.spec.training.seed)
        yield "teacher", built, spec.imgsz
    else:
        assert spec.weights is not None
        with _named("teacher"):
            loaded = teachers.load(context.inputs.weights[spec.weights])
        yield "teacher", loaded, spec.imgsz
    for index, one in enumerate(spec.ensemble):
        with _named(f"teacher.ensemble.{index}"):
            loaded = teachers.load(context.inputs.weights[one.weights])
        yield f"teacher.ensemble.{index}", loaded, one.imgsz


def _tell_boxes(
    context: Context, path: str, teacher: BoxNetwork, objective: DistillationObjective, side: int
) -> None:  # fmt: skip
    """Ask a teacher that gives boxes alone about one image, and say what it will teach."""
    import torch

    from retort.training.distillation.boxes import boxes_of

    try:
        with torch.no_grad():
            boxes_of(teacher(torch.full((1, 3, side, side), 0.5)))
    except Exception as error:  # onnxruntime's own kinds, of which it exports none
        hint = "another teacher.imgsz, or a graph of a fixed size"
        raise ModelError(f"it cannot be asked about images of {side} pixels: {first_line(error)}", hint=hint) from error
    left_out = f"; without {', '.join(objective.left_out)}" if objective.left_out else ""
    context.journal.log(
        f"{path} is {teacher.kind}: it teaches boxes, no features; {objective.classes.size} of "
        f"{len(context.inputs.dataset.names)} classes in common; terms {', '.join(objective.labels)}{left_out}"
    )


def _distil(context: Context, student: Any, teacher: Any, imgsz: int | None) -> DistillationObjective:
    """Set up the distillation between two networks, as the training will."""
    import torch

    from retort.training.distillation.distiller import TeacherCandidate, make_distiller
    from retort.training.distillation.teacher_resize import ratio_of

    training = context.spec.training
    candidate = TeacherCandidate(teacher, ratio=ratio_of(imgsz, training.imgsz))
    made = make_distiller(
        student, candidate, context.spec.distillation, device=torch.device("cpu"), epochs=training.epochs,
        close_mosaic=training.close_mosaic, seed=training.seed,
    )  # fmt: skip
    assert made.objective is not None, "it has just been made"
    return made.objective


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Say in which section of the spec the network stands that an error speaks of."""
    try:
        yield
    except (ModelError, TeacherMismatch) as error:
        raise type(error)(f"{path}: {error.message}", hint=error.hint) from error


def _insist_on_item(context: Context, path: str, loaded: Any) -> None:
    """Refuse a teacher of several classes where all are trained as one."""
    known = tuple(loaded.names.values())
    if context.spec.training.single_cls and known != (ITEM,):
        raise TeacherMismatch(f"{path} {not_one_class(known)}", hint=ONE_CLASS_HINT)


def _insist_on_side(path: str, side: int, read: Architecture) -> None:
    """Refuse images whose sides the network's coarsest level does not divide: Ultralytics would enlarge them."""
    coarsest = LEVEL_STRIDES[read.levels[-1]]
    if side % coarsest:
        below, above = side // coarsest * coarsest, (side // coarsest + 1) * coarsest
        hint = f"a multiple of {coarsest}, such as {' or '.join(str(n) for n in (below, above) if n >= 2 * coarsest)}"
        raise ModelError(f"{path} is {side}, which the coarsest stride of {read.name} does not divide", hint=hint)


def insist_on_forms(exports: Sequence[Export], network: Any, read: Architecture) -> None:
    """Refuse exports of a head or a shape that a network has not.

    Raises:
        ModelError: it says which export.

    """
    from retort.training.inference import has_nms_free_head

    for index, export in enumerate(exports):
        for side in export.imgsz or ():
            _insist_on_side(f"exports.{index}.imgsz", side, read)
        if getattr(export, "nms", None) is False and not has_nms_free_head(network):
            hint = "nms: true puts NMS into the file; YOLO26 and YOLOv10 have such a head"
            raise ModelError(f"exports.{index}.nms takes the NMS-free head, which {read.name} has not", hint=hint)


def _insist_on_layers(context: Context, student: Any) -> None:
    """Refuse to freeze layers that the student has not, or all of them."""
    asked = context.spec.training.freeze
    if asked is None:
        return
    last, names = len(student.model) - 1, [name for name, _ in student.named_parameters()]
    for one in (asked - 1,) if isinstance(asked, int) else asked:
        known = one <= last if isinstance(one, int) else any(f"model.{one}." in name for name in names)
        if not known:
            message = f"training.freeze names the layer {one}, which {context.spec.student.label} has not"
            raise ModelError(message, hint=f"its layers are 0 to {last}; the last is the head")
    prefixes = [f"model.{one}." for one in (range(asked) if isinstance(asked, int) else asked)]
    if all(any(prefix in name for prefix in prefixes) for name in names if ".dfl." not in name):
        raise ModelError("training.freeze leaves nothing to train", hint=f"fewer than {last + 1} layers")
