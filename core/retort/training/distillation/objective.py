"""The distillation loss: each term weighted, balanced and scheduled, and who assigns labels."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch

from retort import class_names
from retort.constants import Level
from retort.errors import TeacherMismatch
from retort.losses import CrossedLoss, FeatureLoss, HeadLoss, Loss, Predictions
from retort.losses.base import can_be_taught
from retort.spec import DistillationSpec, Schedule
from retort.spec.distillation import preset
from retort.training.architecture import head_levels
from retort.training.criterion import criterion_of
from retort.training.distillation import feature_taps
from retort.training.distillation.balancing import BALANCES, Balance, ClassMass, GradientMeter, gate, opposed
from retort.training.distillation.boxes import as_predictions, same_assigner
from retort.training.distillation.feature_taps import FeatureLayers, Raw, common_levels, decoder_of, first
from retort.training.models import ClassMap
from retort.training.teachers.base import BoxNetwork

if TYPE_CHECKING:
    from torch import Tensor, nn

    from retort.training.config import Cycle
    from retort.training.distillation.teacher import TeacherOutput


def factor(schedule: Schedule, epoch: float, *, epochs: int, close_mosaic: int) -> float:
    """Return the schedule's factor in 0..1 at *epoch*.

    *epoch* counts from 0, and is fractional within an epoch. The factor ramps up from 0, then decays to the floor,
    which it reaches at the end of distillation.
    """
    end = last_epoch(schedule, epochs=epochs, close_mosaic=close_mosaic)
    if epoch >= end:
        return 0.0 if end < epochs else _decayed(schedule, 1.0)
    if epoch < schedule.warmup_epochs:
        return epoch / schedule.warmup_epochs
    return _decayed(schedule, (epoch - schedule.warmup_epochs) / (end - schedule.warmup_epochs))


def extended_factor(schedule: Schedule, epoch: float, cycle: Cycle, *, close_mosaic: int) -> float:
    """Return the schedule's factor at *epoch* of a training that is extended.

    It is that of the last epochs of a schedule. There is no second ramp: what it was for has been learned.
    """
    place = max(cycle.place(epoch), schedule.warmup_epochs)
    return factor(schedule, place, epochs=cycle.length, close_mosaic=close_mosaic)


def last_epoch(schedule: Schedule, *, epochs: int, close_mosaic: int) -> int:
    """Return the epoch at which distillation ends.

    A training that never shows mosaic has nothing to stop with.
    """
    closes = schedule.stop_with_mosaic and 0 < close_mosaic < epochs
    return epochs - close_mosaic if closes else epochs


def _decayed(schedule: Schedule, way: float) -> float:
    """Return the factor at *way* in 0..1 from the end of the ramp to the end of distillation."""
    falls = {"none": 1.0, "linear": 1 - way, "cosine": (1 + math.cos(math.pi * way)) / 2}
    return schedule.floor + (1 - schedule.floor) * falls[schedule.decay]


class StepRng:
    """Random generator of distillation steps, apart from the global one.

    So a distilled and a plain training draw the same global numbers.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self._seed = seed
        self._generator = torch.Generator(device=device)

    def at(self, epoch: float) -> torch.Generator:
        """Return the generator, seeded for the step at *epoch*.

        *epoch* is fractional; resumed, a step draws what it drew.
        """
        digest = hashlib.blake2b(f"{self._seed} {epoch!r}".encode(), digest_size=8).digest()
        return self._generator.manual_seed(int.from_bytes(digest, signed=True))


class DistillationObjective:
    """Distillation terms of *spec* between one student and one teacher.

    Raises:
        TeacherMismatch: a loss of the spec cannot compare these two networks.

    """

    def __init__(
        self,
        spec: DistillationSpec,
        *,
        student: Any,
        teacher: Any,
        device: torch.device,
        epochs: int,
        close_mosaic: int,
        seed: int = 0,
        cycle: Cycle | None = None,
    ) -> None:
        self.boxes = isinstance(teacher, BoxNetwork)
        """Whether the teacher gives boxes alone, which are assigned to the student's anchors."""
        self.head_levels = head_levels(student) if self.boxes else common_levels(student, teacher)
        """Levels that both heads read: predictions are compared at these."""
        self.spec = spec
        self.losses, self.labels, self.left_out = taught(spec, boxes=self.boxes)
        self.classes = ClassMap.between(student.names, teacher.names).to(device)
        check(self.losses, student, teacher, self.classes)
        self.warning = _near(student, teacher)
        """Which classes the teacher names nearly, but not equally."""
        self.assigns = teacher_assigns(spec.assignment, student, teacher, self.classes)
        """Whether the teacher chooses the anchors of the task loss."""
        self.epoch = 0.0
        """Fractional epoch, counted from 0; the trainer moves it."""
        self._factor: Callable[[float], float] = (
            partial(factor, spec.schedule, epochs=epochs, close_mosaic=close_mosaic)
            if cycle is None
            else partial(extended_factor, spec.schedule, cycle=cycle, close_mosaic=close_mosaic)
        )
        self._weights = torch.tensor([loss.weight for loss in self.losses], device=device)
        own = decoder_of(student, self.head_levels)
        self.decoders = own, own if self.boxes else decoder_of(teacher, self.head_levels)
        """Of the student's branches, and of the teacher's."""
        self._student, self._assigners = student, dict[str, Any]()
        self._rng = StepRng(seed, device)
        balance = BALANCES[spec.balance]
        self.balance: Balance | None = None if balance is None else balance()
        measured = isinstance(self.balance, GradientMeter)
        self._own_meter = GradientMeter() if spec.agreement != "none" and not measured else None
        self.meter = self.balance if isinstance(self.balance, GradientMeter) else self._own_meter
        """What measures whether terms and task agree; the balance itself, where that measures gradients."""
        self.class_mass = ClassMass() if any(getattr(loss, "class_balance", 0) for loss in self.losses) else None
        self._shared = {*head_levels(student), *self.levels}

    @property
    def levels(self) -> set[Level]:
        """Levels whose features are compared."""
        return {level for loss in self.losses if isinstance(loss, FeatureLoss) for level in loss.levels}

    @property
    def needs_head(self) -> bool:
        """Whether the teacher's predictions are compared, weigh a comparison, or assign labels."""
        read = any(not isinstance(loss, FeatureLoss) or loss.needs_confidence for loss in self.losses)
        return read or self.assigns

    @property
    def needs_maps(self) -> bool:
        """Whether the teacher's confidence weighs a comparison of features."""
        return any(isinstance(loss, FeatureLoss) and loss.needs_confidence for loss in self.losses)

    @property
    def crosses(self) -> bool:
        """Whether the student's intermediate features pass through the teacher's head."""
        return any(isinstance(loss, CrossedLoss) for loss in self.losses)

    @property
    def weight(self) -> float:
        """Factor of the schedule now."""
        return self._factor(self.epoch)

    def state(self) -> dict[str, Any]:
        """Return the objective's changing state in plain values.

        It is what changes over the steps and does not follow from the epoch.
        """
        return {
            "balance": None if self.balance is None else self.balance.state(),
            "class_mass": None if self.class_mass is None else self.class_mass.state(),
            "agreement": None if self._own_meter is None else self._own_meter.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore ``state()`` of an objective with the same spec."""
        if self.balance is not None:
            self.balance.restore(state["balance"], self._weights.device)
        if self.class_mass is not None:
            self.class_mass.restore(state.get("class_mass") or {}, self._weights.device)
        if self._own_meter is not None:
            self._own_meter.restore(state["agreement"], self._weights.device)

    def pace(self, steps_per_epoch: int) -> None:
        """Adapt what is measured again and again to the length of an epoch."""
        for measured in (self.balance, self.class_mass, self._own_meter):
            if measured is not None:
                measured.pace(steps_per_epoch)

    def zero_loss(self, device: torch.device) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the zero loss of a step without distillation.

        Its items have the labels of a distillation's items.
        """
        zero = torch.zeros((), device=device)
        agreement = [] if self.meter is None else [f"agreement/{label}" for label in self.labels]
        terms = [f"kd/{label}" for label in self.labels]
        return zero, dict.fromkeys([*terms, "kd_loss", "kd/weight", *agreement], zero)

    def __call__(
        self,
        features: Mapping[Level, Tensor],
        branches: Mapping[str, Raw],
        output: TeacherOutput,
        task: Tensor,
        projectors: nn.ModuleDict,
        *,
        objects: bool = True,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted sum of all terms and each weighted term, detached, by label.

        *task* is the task loss of the batch per image, a scalar; it is measured, and only where the batch has labelled
        *objects*. With ``agreement: project`` some of it is added to the sum, and to no term that is told.
        """
        if not self.losses:  # the teacher assigns labels, and says nothing else
            return self.zero_loss(task.device)
        teacher = self._teacher(branches, output)
        terms = self.terms(features, branches, output, projectors, teacher)
        if self.class_mass is not None:
            self.class_mass.add(teacher["one2many"])
        weights = self._weights * self.weight
        shared = [features[level] for level in features if level in self._shared]
        if self.balance is not None:
            weights = weights * self.balance(task, terms, shared, objects=objects)
        agreement: dict[str, Tensor] = {}
        if self.meter is not None:
            if self._own_meter is not None:
                self._own_meter.observe(task, terms, shared, objects=objects)
            cosines = self.meter.cosines()
            agreement = {f"agreement/{label}": cosines[index] for index, label in enumerate(self.labels)}
            if self.spec.agreement == "gate":
                weights = weights * gate(cosines)
        weighted = torch.stack(terms) * weights
        total = weighted.sum()
        parts = weighted.detach()
        items = {f"kd/{label}": parts[index] for index, label in enumerate(self.labels)}
        items |= {"kd_loss": total.detach(), "kd/weight": torch.full_like(parts[0], self.weight), **agreement}
        if self.meter is not None and self.spec.agreement == "project":
            total = total + task * opposed(weights, cosines, self.meter.lengths())
        return total, items

    def terms(
        self,
        features: Mapping[Level, Tensor],
        branches: Mapping[str, Raw],
        output: TeacherOutput,
        projectors: nn.ModuleDict,
        teacher: Mapping[str, Predictions] | None = None,
    ) -> list[Tensor]:
        """Return each distillation term unweighted.

        A term is the mean over the branches compared, or the sum over the levels. *teacher* holds the teacher's
        predictions by branch, where they are decoded already.
        """
        teacher = self._teacher(branches, output) if teacher is None else teacher
        heads = self._heads(branches, teacher, boxes=self._compares_boxes(branches, output.branches))
        rng = self._rng.at(self.epoch)
        found = []
        for index, loss in enumerate(self.losses):
            if isinstance(loss, FeatureLoss):
                values = [
                    loss.through(
                        projectors[projector_key(index, level)],
                        loss.prepare(features[level], rng),
                        output.features[level],
                        output.confidence.get(level),
                    )
                    for level in loss.levels
                ]
                found.append(torch.stack(values).sum())
            elif isinstance(loss, CrossedLoss):
                adapters = projectors[projector_key(index, "crossed")]
                found.append(loss(*self._crossed(adapters, branches, output, teacher["one2many"])))
            elif isinstance(loss, HeadLoss):
                found.append(torch.stack([loss(student, teacher) for student, teacher in heads]).mean())
        return found

    def _teacher(self, branches: Mapping[str, Raw], output: TeacherOutput) -> dict[str, Predictions]:
        """Decode the teacher's predictions, by branch.

        This is done once for all terms, which share its probabilities. They know what the batches before had of each
        class. Boxes are decoded where a term compares them.
        """
        if self.boxes:
            return {name: self._with_mass(self.rendered(raw, output, name)) for name, raw in branches.items()}
        heads = [loss for loss in self.losses if isinstance(loss, HeadLoss)]
        crossed = any(isinstance(loss, CrossedLoss) for loss in heads)
        wanted = {"one2many"} if all(isinstance(loss, CrossedLoss) for loss in heads) else branches.keys()
        decode, boxes = self.decoders[1], crossed or self._compares_boxes(branches, output.branches)
        return {
            name: self._with_mass(decode(raw, self.classes.teacher, boxes=boxes))
            for name, raw in output.branches.items()
            if heads and name in wanted
        }

    @torch.no_grad()
    def rendered(self, raw: Raw, output: TeacherOutput, branch: str = "one2many") -> Predictions:
        """Return the teacher's predictions on the anchors of a student's *branch*.

        They have the common classes. *raw* is what the branch says; a teacher of boxes is assigned to its anchors by
        the branch's own assigner.
        """
        if not self.boxes:
            return self.decoders[1](output.branches[branch], self.classes.teacher)
        assert output.boxes is not None, "a teacher of boxes gives boxes"
        if branch not in self._assigners:
            self._assigners[branch] = same_assigner(criteria(self._student)[branch])
        decode, assigner = self.decoders[0], self._assigners[branch]
        student = decode(raw, self.classes.student)
        return as_predictions(output.boxes, student, assigner, decode.points(raw), self.classes.teacher)

    def _compares_boxes(self, branches: Mapping[str, Raw], teacher: Mapping[str, Raw]) -> bool:
        plain = [loss for loss in self.losses if not isinstance(loss, CrossedLoss)]
        return any(
            loss.needs_boxes or (loss.falls_back() and (self.boxes or not _alike(branches, teacher))) for loss in plain
        )

    def _heads(
        self, branches: Mapping[str, Raw], teacher: Mapping[str, Predictions], *, boxes: bool
    ) -> list[tuple[Any, Any]]:
        """Pair the branches that both heads have: one2many, and one2one only with one2one."""
        if not any(isinstance(loss, HeadLoss) and not isinstance(loss, CrossedLoss) for loss in self.losses):
            return []
        decode, classes = self.decoders[0], self.classes.student
        return [(decode(raw, classes, boxes=boxes), teacher[name]) for name, raw in branches.items() if name in teacher]

    def _crossed(
        self, adapters: nn.Module, branches: Mapping[str, Raw], output: TeacherOutput, teacher: Predictions
    ) -> tuple[Predictions, Predictions]:
        """Return what the teacher's head says to the student's features and to its own: one2many, which all have."""
        crossed = feature_taps.cross_heads(adapters, branches["one2many"], output.branches["one2many"], output.head)
        return self.decoders[1](crossed, self.classes.teacher), teacher

    def _with_mass(self, teacher: Predictions) -> Predictions:
        """Give the teacher's predictions what the batches before had of each class."""
        mass = None if self.class_mass is None else self.class_mass.mean()
        return teacher if mass is None else replace(teacher, mass=mass)

    def answers(self, output: TeacherOutput, number: int) -> dict[str, Predictions]:
        """Return the teacher's predictions that assign labels, by branch.

        They are of the first *number* images; there are none where the student assigns.
        """
        if not self.assigns:
            return {}
        decode, branches = self.decoders[1], first(output.branches, number)
        return {name: decode(raw, self.classes.teacher) for name, raw in branches.items()}


def _alike(student: Mapping[str, Raw], teacher: Mapping[str, Raw]) -> bool:
    """Return True if both sides have the same distance bins, more than one."""
    rows = {raw["boxes"].shape[1] for raw in (*student.values(), *teacher.values())}  # 4 R
    return len(rows) == 1 and 4 not in rows


def taught(spec: DistillationSpec, *, boxes: bool) -> tuple[tuple[Loss, ...], list[str], list[str]]:
    """Return the terms of *spec* that apply, their labels, and those left out.

    A teacher that gives *boxes* alone has no features, head or distance bins. Terms of the recipe are left out then.

    Raises:
        TeacherMismatch: the spec itself names one of these terms, or none of the recipe's remain.

    """
    named = labels(spec.losses)
    able = [not boxes or can_be_taught(loss) for loss in spec.losses]
    left_out = [label for label, can in zip(named, able, strict=True) if not can]
    kept = tuple(loss for loss, can in zip(spec.losses, able, strict=True) if can)
    written = _at_weight_1(spec.losses) != _at_weight_1(preset(spec.recipe)["losses"])  # which a pilot may lower
    if left_out and (written or all(loss.weight == 0 for loss in kept)):
        message = f"the teacher gives boxes alone, which cannot teach {', '.join(left_out)}"
        raise TeacherMismatch(message, hint=_BOX_HINT)
    return kept, [label for label in named if label not in left_out], left_out


def _at_weight_1(losses: tuple[Loss, ...]) -> list[Loss]:
    return [loss.model_copy(update={"weight": 1.0}) for loss in losses]


_BOX_HINT = "losses: class_logits, box_giou, or dfl with otherwise: giou; recipe: balanced takes those that apply"


def labels(losses: tuple[Loss, ...]) -> list[str]:
    """Name each term by kind; the second is ``<kind>.2``."""
    named: list[str] = []
    for loss in losses:
        kind = str(type(loss).model_fields["kind"].default)
        count = sum(1 for label in named if label.split(".")[0] == kind)
        named.append(f"{kind}.{count + 1}" if count else kind)
    return named


def projector_key(index: int, place: Level | Literal["crossed"]) -> str:
    """Return the key of the projector of one loss at one level.

    For the adapters between the heads, it is theirs.
    """
    return f"{index}_{place}"


def check(losses: tuple[Loss, ...], student: Any, teacher: Any, classes: ClassMap) -> None:
    """Insist that each loss can compare *student* and *teacher*.

    Classes are compared by name; distance bins are checked as well.
    """
    has_head = not isinstance(teacher, BoxNetwork)
    bins = student.model[-1].reg_max, teacher.model[-1].reg_max if has_head else 1
    for label, loss in zip(labels(losses), losses, strict=True):
        if has_head:
            check_levels(label, loss, student, teacher)
        if loss.needs_classes and classes.size == 0:
            message = f"the loss {label} needs class names in common; student and teacher have none"
            hint = _near(student, teacher) or "a teacher trained on these classes, or feature losses only"
            raise TeacherMismatch(message, hint=hint)
        if label.startswith("softmax_kl") and classes.size < 2:
            message = "the loss softmax_kl is always zero for a single class; student and teacher have one in common"
            raise TeacherMismatch(message, hint="use class_logits")
        if loss.needs_bins and not loss.falls_back() and (bins[0] != bins[1] or bins[0] < 2):
            message = f"the loss {label} needs equal numbers of distance bins; student has {bins[0]}, teacher {bins[1]}"
            raise TeacherMismatch(message, hint="use box_giou, which compares decoded boxes")


def _near(student: Any, teacher: Any) -> str | None:
    return class_names.warning(tuple(student.names.values()), tuple(teacher.names.values()), "a teacher")


def check_levels(label: str, loss: Loss, student: Any, teacher: Any) -> None:
    """Insist that both networks have the levels at which *loss* compares them.

    Raises:
        TeacherMismatch: one of them lacks a level.

    """
    ours, theirs = head_levels(student), head_levels(teacher)
    shown = f"the student's head reads {', '.join(ours)}, the teacher's {', '.join(theirs)}"
    if isinstance(loss, CrossedLoss) and ours != theirs:
        raise TeacherMismatch(f"the loss {label} needs heads of the same levels; {shown}", hint="use class_logits")
    if not isinstance(loss, FeatureLoss):
        return
    common = [level for level in ours if level in theirs]
    missing = [level for level in loss.levels if level != Level.BACKBONE and level not in common]
    if missing:
        hint = f"levels: [{', '.join(common)}]"
        raise TeacherMismatch(f"the loss {label} compares {', '.join(missing)}, but {shown}", hint=hint)
    if Level.BACKBONE in loss.levels and ours[-1] != theirs[-1]:
        message = f"the loss {label} compares the backbones' last layers, which differ in size; {shown}"
        raise TeacherMismatch(message, hint=f"levels: [{', '.join(common)}]")


def projectors(
    losses: tuple[Loss, ...], student: Any, teacher: Any, pairs: Mapping[Level, Level] | None = None
) -> nn.ModuleDict:
    """Build the trainable projectors of all losses.

    There is one for each feature loss and level, or those between the heads. *pairs* names the teacher's level for each
    of the student's; None pairs like with like.
    """
    from torch import nn

    if isinstance(teacher, BoxNetwork):
        return nn.ModuleDict()
    widths = [channels(model) for model in (student, teacher)]
    found: dict[str, nn.Module] = {}
    for index, loss in enumerate(losses):
        if isinstance(loss, FeatureLoss):
            for level in loss.levels:
                found[projector_key(index, level)] = loss.build(
                    widths[0][level], widths[1][pairs[level] if pairs else level]
                )
        elif isinstance(loss, CrossedLoss):
            found[projector_key(index, "crossed")] = feature_taps.adapters(loss, student, teacher)
    return nn.ModuleDict(found)


@torch.no_grad()
def channels(model: Any) -> dict[Level, int]:
    """Measure the number of channels at each level.

    The network's statistics are not touched.
    """
    from retort.training.distillation.feature_taps import forward

    was_training = model.training
    model.eval()
    try:
        parameter = next(model.parameters())
        with torch.compiler.set_stance("force_eager"):  # a look is not worth compiling for
            image = torch.zeros(1, 3, 64, 64, device=parameter.device, dtype=parameter.dtype)
            features, _ = forward(model, image)
    finally:
        model.train(was_training)
    return {level: features[level].shape[1] for level in FeatureLayers.of(model).layers}


class TeacherAssigner:
    """Stand-in for an assigner of upstream's criterion during one step.

    It gives the assigner another's predictions.
    """

    def __init__(self, assigner: Any, teacher: Predictions) -> None:
        self._assigner = assigner
        self._scores = teacher.scores.detach().float().sigmoid()  # N A K, the student's classes in their order
        self._boxes = teacher.boxes.detach()  # N A 4, pixels

    def __call__(self, scores: Tensor, boxes: Tensor, *rest: Any, **options: Any) -> Any:
        """Assign as upstream's does, by the teacher's class probabilities and boxes in place of the student's."""
        assert scores.shape == self._scores.shape, "teacher and student have the same anchors and classes"
        return self._assigner(self._scores, self._boxes.to(boxes.dtype), *rest, **options)


@contextmanager
def assign_by_teacher(answers: Mapping[str, Predictions], student: Any) -> Iterator[None]:
    """Assign the labels of *student*'s task loss by teacher predictions.

    *answers* holds them by branch; they assign inside the block. A branch that the teacher has not is assigned by the
    student's own predictions. The student's criterion is as it was afterwards, so that no copy, average or file ever
    sees another.
    """
    with ExitStack() as stack:
        for name, criterion in criteria(student).items() if answers else ():
            if name in answers:
                stack.callback(setattr, criterion, "assigner", criterion.assigner)
                criterion.assigner = TeacherAssigner(criterion.assigner, answers[name])
        yield


def criteria(student: Any) -> dict[str, Any]:
    """Return Ultralytics' criterion of each branch, built on first use."""
    if getattr(student, "criterion", None) is None:
        student.criterion = criterion_of(student)
    whole = student.criterion
    return {"one2many": whole} if hasattr(whole, "assigner") else {"one2many": whole.one2many, "one2one": whole.one2one}


def teacher_assigns(wanted: str, student: Any, teacher: Any, classes: ClassMap) -> bool:
    """Return True if the teacher assigns the labels.

    *wanted* is the spec's word: ``student``, ``teacher``, or ``auto``.

    Raises:
        TeacherMismatch: it is asked to, and does not know every class of the student's labels, or has other anchors.

    """
    if isinstance(teacher, BoxNetwork):
        if wanted == "teacher":
            message = "assignment: teacher needs a teacher that answers at every anchor; this one gives boxes alone"
            raise TeacherMismatch(message, hint="assignment: auto, or student")
        return False
    knows = classes.size == len(student.names)
    ours, theirs = head_levels(student), head_levels(teacher)
    if wanted == "teacher" and ours != theirs:
        message = f"assignment: teacher needs equal anchors, but the student has the levels {', '.join(ours)} and the "
        raise TeacherMismatch(f"{message}teacher {', '.join(theirs)}", hint="assignment: auto, or student")
    if wanted == "teacher" and not knows:
        message = f"assignment: teacher needs all classes of the student, but the teacher knows {classes.size} of "
        message += f"{len(student.names)}"
        raise TeacherMismatch(message, hint="a teacher trained on these classes, or assignment: auto")
    return wanted != "student" and knows and ours == theirs
