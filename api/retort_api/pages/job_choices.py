"""List the datasets and networks of which a new job can be made."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from retort import dataset_ref, model_ref
from retort.access import Principal, Scope
from retort.constants import PUBLISHED_WEIGHTS, USUAL_MODELS, Role
from retort.data import catalog
from retort.db import Session, advice, datasets, jobs, model_registry
from retort.db.advice import Advised
from retort.db.models import ModelRow
from retort.model_ref import ModelRef
from retort.spec import RECIPES
from retort.spec.advised import MeasuredCandidate
from retort.spec.assignment import assign
from retort.spec.shortening import shortened
from retort.states import DatasetState

from retort_api.deps import AppState
from retort_api.pages import words
from retort_api.pages.spec_form import TRAIN
from retort_api.schemas.datasets import RegisteredDataset

MOST_DATASETS = 12
MOST_PICTURES = 6
_LOOKED_THROUGH, _MOST_MODELS = 60, 100
TRAINED_FIRST = (
    "yolo11s", "yolo11m", "yolo11l", "yolo11x", "yolov8s", "yolov8m", "yolov8l", "yolov8x", "yolo26s", "yolo26m",
)  # fmt: skip
"""Architectures that are offered for a teacher which the job trains first."""
REGISTERED = "Registered models"
"""Title of their group."""
USUAL_TEACHER, USUAL_STUDENT = "yolo11s", "yolov8n"


@dataclass(frozen=True, slots=True)
class ClassShare:
    """How often one class is labelled."""

    name: str
    train: int
    val: int
    share: float
    """Of the most frequent class in the training images."""


@dataclass(frozen=True, slots=True)
class DataChoice:
    """A registered dataset that may be chosen, with what was found in it."""

    dataset: RegisteredDataset
    pictures: tuple[str, ...]
    classes: tuple[ClassShare, ...]

    @property
    def reference(self) -> str:
        """Reference for the spec."""
        return self.dataset.reference or ""

    @property
    def num_doubts(self) -> int:
        """How many kinds of doubt there are."""
        return len(self.dataset.findings)


@dataclass(frozen=True, slots=True)
class NetworkChoice:
    """A network that may be chosen."""

    value: str
    label: str


@dataclass(frozen=True, slots=True)
class ChoiceGroup:
    """Networks of one kind."""

    title: str
    choices: tuple[NetworkChoice, ...]


@dataclass(frozen=True, slots=True)
class TeacherBound:
    """Measurement of a teacher on the chosen data.

    A student seldom gets beyond it.
    """

    weights: str
    title: str
    map: float | None
    verdict: str
    reason: str
    student: str
    student_map: float | None
    slower: float | None
    """A training step with this teacher, as a multiple of one without."""
    job_id: str
    worth: float | None = None
    """By how much it can raise mAP50-95 at most; None where that was not measured."""


@dataclass(frozen=True, slots=True)
class JobChoices:
    """All that the form offers."""

    data: tuple[DataChoice, ...]
    waiting: tuple[str, ...]
    """Names of datasets that are not checked yet."""
    known: tuple[str, ...]
    """Names of datasets that a worker can fetch."""
    teachers: tuple[ChoiceGroup, ...]
    students: tuple[ChoiceGroup, ...]


def choices(service: AppState, caller: Principal) -> JobChoices:
    """Return what jobs of the caller's project can be made of."""
    with service.database.read(project=caller.project) as session:
        rows = datasets.page(session, caller.project, limit=_LOOKED_THROUGH) if Scope.DATA_READ in caller.scopes else []
        ready = [row for row in rows if row.state is DatasetState.READY][:MOST_DATASETS]
        shown = tuple(_data(RegisteredDataset.of(row, datasets.previews(session, row.id))) for row in ready)
        models = model_registry.page(session, limit=_MOST_MODELS) if Scope.MODELS_READ in caller.scopes else []
    waiting = [row.name for row in rows if row.state in {DatasetState.CHECKING, DatasetState.UPLOADING}]
    return JobChoices(
        data=shown, waiting=tuple(dict.fromkeys(waiting)), known=tuple(catalog.CATALOGUE),
        teachers=tuple(_teachers(models)), students=tuple(_students(models)),
    )  # fmt: skip


def _data(dataset: RegisteredDataset) -> DataChoice:
    train, val = (dataset.splits.get(name) for name in ("train", "val"))
    most = max(train.boxes, default=0) if train is not None else 0
    classes = tuple(
        ClassShare(name, count := _at(train, place), _at(val, place), count / most if most else 0.0)
        for place, name in enumerate(dataset.classes)
    )
    return DataChoice(dataset, dataset.links.previews[:MOST_PICTURES], classes)


def _at(split: Any, place: int) -> int:
    return split.boxes[place] if split is not None and place < len(split.boxes) else 0


def _teachers(models: Sequence[ModelRow]) -> Iterator[ChoiceGroup]:
    trained = tuple(NetworkChoice(f"{TRAIN}{name}", f"train {name} on this data first") for name in TRAINED_FIRST)
    yield ChoiceGroup("Trained by the job", trained)
    registered = sorted(models, key=lambda one: one.role != Role.TEACHER)
    if registered:
        yield ChoiceGroup(REGISTERED, tuple(map(_registered, registered)))
    published = [PUBLISHED_WEIGHTS[name] for name in reversed(USUAL_MODELS) if name in PUBLISHED_WEIGHTS]
    named = tuple(NetworkChoice(name, f"{name} (knows COCO's 80 classes)") for name in sorted(published))
    yield ChoiceGroup("Published weights", named)


def _students(models: Sequence[ModelRow]) -> Iterator[ChoiceGroup]:
    yield ChoiceGroup("Architectures", tuple(NetworkChoice(name, name) for name in USUAL_MODELS))
    registered = sorted(models, key=lambda one: one.role != Role.STUDENT)
    if registered:
        yield ChoiceGroup(REGISTERED, tuple(map(_registered, registered)))


def _registered(row: ModelRow) -> NetworkChoice:
    reached = (row.metrics or {}).get("val/mAP50-95")
    told = [row.architecture or row.role or "model"]
    told += [f"mAP50-95 {words.points(reached)}"] if reached is not None else []
    return NetworkChoice(str(ModelRef(row.name, row.sha256)), f"{row.name}@{row.sha256[:12]} ({', '.join(told)})")


def bounds(session: Session, data: str) -> tuple[TeacherBound, ...]:
    """Return what advice jobs have measured of teachers on *data*, the best first."""
    found = [_bound(one) for one in advice.measured(session, data).values()] if data else []
    return tuple(sorted(found, key=lambda one: -(one.map or 0.0)))


def _bound(one: Advised) -> TeacherBound:
    candidate = one.candidate
    figures = candidate if isinstance(candidate, MeasuredCandidate) else None
    return TeacherBound(
        weights=candidate.weights, title=candidate.title,
        map=None if figures is None else figures.map, verdict=candidate.verdict,
        reason=candidate.reasons[0] if candidate.reasons else "", student=one.student, student_map=one.student_map,
        slower=None if figures is None else figures.step.ratio, job_id=one.job_id,
        worth=None if figures is None or figures.worth is None else figures.worth.most,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Wanted:
    """Requests in the address of the page."""

    job: str | None = None
    changes: tuple[str, ...] = ()
    dataset: str | None = None
    teacher: str | None = None


def first_document(session: Session, wanted: Wanted, offered: JobChoices) -> dict[str, Any]:
    """Return the document that the page begins with.

    It is an old job's, or one of sensible defaults for the chosen or newest dataset.

    Raises:
        JobNotFound: there is no such job.
        UserError: a change is not of the form PATH=VALUE, or leads nowhere.

    """
    if wanted.job is not None:
        document = shortened(jobs.get(session, wanted.job).spec)
    else:
        document = _usual(session, wanted, offered)
    for change in wanted.changes:
        assign(document, change, written="change=")
    return document


def _usual(session: Session, wanted: Wanted, offered: JobChoices) -> dict[str, Any]:
    newest = offered.data[0].reference if offered.data else ""
    data = wanted.dataset or newest
    teacher = wanted.teacher or (advice.recommended(session, data) if data else None)
    return {
        "name": _name(data),
        "data": {"dataset": data} if data else {},
        "teacher": {"weights": teacher} if teacher else {"train": {"model": USUAL_TEACHER}},
        "student": {"model": USUAL_STUDENT},
        "training": {"epochs": 100, "imgsz": 640},
    }


def _name(data: str) -> str:
    reference = dataset_ref.parse(data)
    named = reference.name if reference is not None else data.removeprefix(dataset_ref.PREFIX).partition("@")[0]
    return named or "first"


def with_current(groups: Sequence[ChoiceGroup], current: str) -> tuple[ChoiceGroup, ...]:
    """Return the groups with the choice that is made, where they lack it."""
    if not current or any(one.value == current for group in groups for one in group.choices):
        return tuple(groups)
    return (ChoiceGroup("As it is", (NetworkChoice(current, model_ref.title(current)),)), *groups)


def recipes() -> dict[str, str]:
    """Return what each recipe does, by its name."""
    return {name: str(preset["summary"]) for name, preset in RECIPES.items()}
