"""Label assignment by the teacher: its predictions choose the anchors that learn each ground-truth box (PP-YOLOE)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from retort.errors import TeacherMismatch

if TYPE_CHECKING:
    from torch import Tensor

    from retort.losses import Predictions
    from retort.training.models import ClassMap


class Taught:
    """Stands in for an assigner of upstream's criterion during one step, and gives it another's predictions."""

    def __init__(self, assigner: Any, teacher: Predictions) -> None:
        self._assigner = assigner
        self._scores = teacher.scores.detach().float().sigmoid()  # N A K, the student's classes in their order
        self._boxes = teacher.boxes.detach()  # N A 4, pixels

    def __call__(self, scores: Tensor, boxes: Tensor, *rest: Any, **options: Any) -> Any:
        """Assign as upstream's does, by the teacher's class probabilities and boxes in place of the student's."""
        assert scores.shape == self._scores.shape, "teacher and student have the same anchors and classes"
        return self._assigner(self._scores, self._boxes.to(boxes.dtype), *rest, **options)


@contextmanager
def by(answers: Mapping[str, Predictions], student: Any) -> Iterator[None]:
    """Let the teacher's *answers*, by branch, assign the labels of *student*'s task loss inside the block.

    A branch that the teacher has not is assigned by the student's own predictions. The student's criterion is as it
    was afterwards, so that no copy, average or file ever sees another.
    """
    with ExitStack() as stack:
        for name, criterion in criteria(student).items() if answers else ():
            if name in answers:
                stack.callback(setattr, criterion, "assigner", criterion.assigner)
                criterion.assigner = Taught(criterion.assigner, answers[name])
        yield


def criteria(student: Any) -> dict[str, Any]:
    """Return upstream's criterion of each branch; a network builds its own when it is first asked for a loss."""
    if getattr(student, "criterion", None) is None:
        student.criterion = student.init_criterion()
    whole = student.criterion
    return {"one2many": whole} if hasattr(whole, "assigner") else {"one2many": whole.one2many, "one2one": whole.one2one}


def decide(wanted: str, student: Any, classes: ClassMap) -> bool:
    """Tell whether the teacher assigns, by the spec's word: ``student``, ``teacher``, or ``auto``.

    Raises:
        TeacherMismatch: it is asked to, and does not know every class of the student's labels.

    """
    knows = classes.size == len(student.names)
    if wanted == "teacher" and not knows:
        message = f"assignment: teacher needs all classes of the student, but the teacher knows {classes.size} of "
        message += f"{len(student.names)}"
        raise TeacherMismatch(message, hint="a teacher trained on these classes, or assignment: auto")
    return wanted != "student" and knows
