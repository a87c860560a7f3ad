"""Make what the further arms of a job are trained with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from retort.losses.base import class_weights
from retort.spec import DistillationSpec
from retort.training import models, teachers
from retort.training.config import TrainConfig, Trainer
from retort.training.distillation.objective import taught, teacher_assigns
from retort.training.distillation.self_teacher import known_names
from retort.training.models import ClassMap
from retort.training.teachers.base import BoxNetwork

ANCHORS = 10
"""That learn each labelled box, by upstream's assigner."""
_OTHER_SEED = 2**20
"""Added to a seed, it gives random weights from which no training of the job begins."""


class CountingTrainer(Trainer, Protocol):
    """Interface of a trainer that counts its labels."""

    def get_class_counts(self) -> Any:
        """Return the number of training labels of each class."""

    @property
    def student(self) -> Any:
        """The network being trained."""


def balance_classes(trainer: CountingTrainer) -> None:
    """Weigh the classes of the task loss as a recipe weighs them.

    Where those count the anchors of which the teacher is sure, this counts the anchors that learn the labels, as a mean
    over batches too. Weights that ``cls_pw`` has set are multiplied.
    """
    if not trainer.plan.class_balance:
        return
    counts = torch.as_tensor(trainer.get_class_counts(), dtype=torch.float32, device=trainer.device)
    mass = counts * ANCHORS * trainer.batch_size / len(trainer.train_loader.dataset)
    weights, before = class_weights(mass, trainer.plan.class_balance), getattr(trainer.student, "class_weights", None)
    trainer.student.class_weights = weights if before is None else weights * before


def assigns(plan: TrainConfig, names: Mapping[int, str], teacher: Path, distillation: DistillationSpec) -> bool:
    """Return True if *teacher* assigns the labels of the student of *plan*."""
    student, network = models.build_start(plan, names), teachers.load(teacher)
    classes = ClassMap.between(student.names, network.names)
    return teacher_assigns(distillation.assignment, student, network, classes)


def gives_boxes(teacher: Path) -> bool:
    """Return True if *teacher* gives boxes alone, as its placebo must."""
    return isinstance(teachers.load(teacher), BoxNetwork)


def terms_under(distillation: DistillationSpec, *, boxes: bool) -> DistillationSpec:
    """Return *distillation* with those terms that a teacher, maybe of *boxes* alone, teaches."""
    terms, _, _ = taught(distillation, boxes=boxes)
    return distillation.model_copy(update={"losses": terms})


def assignment_alone(distillation: DistillationSpec) -> DistillationSpec:
    """Return *distillation* without its terms: the assignment of labels alone."""
    return distillation.model_copy(update={"losses": (), "balance": "none"})


def known_classes(weights: Iterable[Path]) -> tuple[str, ...]:
    """Return the names of all classes that a teacher of *weights* knows, each once."""
    return tuple(dict.fromkeys(name for path in weights for name in teachers.load(path).names.values()))


def write_placebo(plan: TrainConfig, names: Mapping[int, str], teacher: Path, path: Path) -> None:
    """Write a network to *path* that has nothing to teach in place of *teacher*.

    It is the student of *plan* as it starts; where its start is random, the same network with other random weights. It
    knows the classes that *teacher* knows, so that the same terms are computed; a class that is unknown has another
    name.
    """
    told = known_names(dict(names), known_classes([teacher]))
    if plan.weights is None:
        seed = (plan.training.seed + _OTHER_SEED) % 2**31
        plan = dataclasses.replace(plan, training=plan.training.model_copy(update={"seed": seed}))
    models.publish(models.build_start(plan, names), path, names=told, imgsz=plan.training.imgsz)
