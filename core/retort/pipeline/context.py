"""Inputs, working folder and earlier results available to a stage; the order of stages."""

from __future__ import annotations

import importlib
import pkgutil
import shutil
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast, get_type_hints

from pydantic import BaseModel, TypeAdapter

from retort.constants import VALIDATION_BATCH, Role
from retort.data.inputs import Inputs
from retort.errors import Stopped
from retort.pipeline import extension, history
from retort.pipeline.answers import CheckedNetworks, MissingAnswer
from retort.protocol.journal import Journal
from retort.protocol.workdir import FINISH, Heartbeat
from retort.spec import JobSpec, TrainingSpec
from retort.spec.training import SMALLEST_BATCH

Answer = TypeVar("Answer")

ARTIFACTS = "artifacts"
"""Folder of what a run publishes, in its workdir."""


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file that a stage has announced."""

    name: str
    role: Role
    path: str
    """Relative to the workdir."""
    media_type: str
    metadata: dict[str, Any]


def half(batch: int, gpus: int) -> int:
    """Return half of *batch*, rounded to what *gpus* can share."""
    return max(batch // 2 // gpus * gpus, gpus, SMALLEST_BATCH)


@dataclass(slots=True)
class Context:
    """One stage's view of its run."""

    spec: JobSpec
    inputs: Inputs
    workdir: Path
    """Absolute."""
    journal: Journal
    stop: threading.Event
    results: Mapping[str, object]
    """By stage; earlier stages that apply to this job."""
    tell_progress: Callable[[float], None]
    heartbeat: Heartbeat
    stage: str
    key: str
    """What must be the same for the stage's outcome to be reused."""
    finished: tuple[str, ...] = ()
    """Files that the finished stages have left, relative to the workdir."""
    published: list[PublishedFile] = field(default_factory=list)
    lasting: list[Path] = field(default_factory=list)
    """Folders that attempts leave to each other until the stage's outcome is on record."""

    def found(self, stage: str, kind: type[Answer]) -> Answer | None:
        """Return the answer of the earlier *stage*, if any.

        It has to be of this *kind*.
        """
        answer = self.results.get(stage)
        return answer if isinstance(answer, kind) else None

    def needed(self, stage: str, kind: type[Answer]) -> Answer:
        """Return the result of *stage*, which every job with this stage has."""
        answer = self.found(stage, kind)
        assert answer is not None, f"{stage} has not answered"
        return answer

    def progress(self, fraction: float) -> None:
        """Report the finished part of this stage (0 to 1)."""
        self.tell_progress(fraction)

    def check(self) -> None:
        """Raise Stopped when the run was asked to stop.

        It is for use between the steps of a stage.
        """
        if self.stop.is_set():
            raise Stopped("asked to stop")

    @property
    def training(self) -> TrainingSpec:
        """Training options of this attempt: the spec's, with an adjusted batch."""
        return self.spec.training.model_copy(update={"batch": self.batch})

    @property
    def batch(self) -> int:
        """Images of a batch: as in the spec, as found, or fewer."""
        adjusted, asked = self.inputs.adjustments, self.spec.training.batch
        if adjusted.batch is not None:
            return adjusted.batch
        if asked != "auto":
            return asked
        found = self.needed("check", CheckedNetworks).batch
        assert found is not None, "the networks were checked for a batch that is to be found"
        return half(found.batch, self.spec.resources.gpus) if adjusted.halved else found.batch

    @property
    def val_batch(self) -> int:
        """Images of a validation batch; fewer where memory ran out."""
        adjusted = self.inputs.adjustments
        ran_out = adjusted.batch is not None or adjusted.halved
        return min(VALIDATION_BATCH, 2 * self.batch) if ran_out else VALIDATION_BATCH

    def finishes_early(self) -> bool:
        """Return True if the run was asked to finish early.

        It is to keep the best that there is, and to come to its end.
        """
        return (self.workdir / FINISH).exists()

    def saved(self, epoch: int, files: Sequence[str] = ()) -> None:
        """Announce *files* and those of finished stages to resume from elsewhere."""
        self.journal.saved(self.stage, epoch, [*self.finished, *self.beside(), *files])

    def beside(self) -> list[str]:
        """Return the curves and last states to save beside the files of stages."""
        return [*history.keep(self.workdir), *extension.kept(self.workdir)]

    @property
    def keeps_last(self) -> bool:
        """Whether the last state of student and control is kept."""
        return self.inputs.keep_last and extension.extendable(self.spec)

    def folder(self, name: str) -> Path:
        """Return an empty working folder *name* for this stage.

        What a dead attempt left there is gone.
        """
        folder = self.workdir / "work" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def lasting_folder(self, name: str) -> Path:
        """Return a folder kept across attempts until the stage's result is recorded."""
        folder = self.workdir / "work" / name
        folder.mkdir(parents=True, exist_ok=True)
        self.lasting.append(folder)
        return folder

    def artifact(self, name: str) -> Path:
        """Return the path of the artifact *name*; its folder exists."""
        path = self.workdir / ARTIFACTS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self, name: str, role: Role, media_type: str = "application/octet-stream", **metadata: Any) -> str:
        """Announce the complete file at ``artifact(name)``; return its path.

        The path is relative to the workdir.
        """
        path = self.artifact(name)
        relative = path.relative_to(self.workdir).as_posix()
        self.journal.artifact(name, role, relative, media_type, metadata)
        self.published.append(PublishedFile(name, role, relative, media_type, metadata))
        return relative

    def publish_document(self, name: str, content: BaseModel) -> None:
        """Write and announce a machine-readable document.

        It appears whole or not at all.
        """
        part = self.artifact(f"{name}.part")
        part.write_text(content.model_dump_json(indent=2) + "\n", encoding="utf-8")
        part.replace(self.artifact(name))
        self.publish(name, Role.JOB, "application/json")


class StageModule(Protocol):
    """Interface of a stage module; ``task`` is optional.

    So is ``extra``: the job goes on without the stage where it fails.
    """

    after: str | None
    """The stage that it follows."""

    def applies(self, spec: Any) -> bool:
        """Return True if a job needs this stage."""

    def cost(self, spec: Any) -> float:
        """Return the stage's time, in the unit of ``retort.pipeline.progress``."""

    def run(self, context: Context) -> Any:
        """Run the stage and return its answer.

        The answer, a model or plain JSON, is what later stages see, and is read again by its annotation.
        """


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage and its place."""

    name: str
    """The module's name."""
    after: str | None
    module: StageModule

    @property
    def extra(self) -> bool:
        """Whether a job can do without it."""
        return bool(getattr(self.module, "extra", False))

    def read(self, kept: object) -> object:
        """Return the stage's answer that an earlier attempt has left.

        pydantic.ValidationError where it is none.
        """
        if self.extra and isinstance(kept, Mapping) and "missing" in kept:
            return MissingAnswer.model_validate(kept)
        answer: TypeAdapter[object] = TypeAdapter(get_type_hints(self.module.run)["return"])
        return answer.validate_python(kept)


def find(task: str = "distill") -> list[Stage]:
    """Return the stages of *task*, in order.

    Every module of ``retort.stages`` is imported.
    """
    package = importlib.import_module("retort.stages")
    found: list[Stage] = []
    for item in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{item.name}")
        if hasattr(module, "after") and getattr(module, "task", "distill") == task:
            found.append(Stage(item.name, module.after, cast("StageModule", module)))
    return ordered(found)


def ordered(stages: Iterable[Stage]) -> list[Stage]:
    """Order *stages* so that each follows the stage it names.

    Of several that follow the same stage, the one with the fewest followers of its own comes first: an added stage runs
    at once, and the report stays last.
    """
    known = {stage.name: stage for stage in stages}
    following: dict[str | None, list[Stage]] = {}
    for stage in known.values():
        assert stage.after is None or stage.after in known, f"{stage.name} is after {stage.after}, which is no stage"
        following.setdefault(stage.after, []).append(stage)

    def branch(stage: Stage) -> list[Stage]:
        branches = sorted(map(branch, following.get(stage.name, [])), key=lambda found: (len(found), found[0].name))
        return [stage, *(one for found in branches for one in found)]

    roots = sorted(following.get(None, []), key=lambda stage: stage.name)
    result = [stage for root in roots for stage in branch(root)]
    assert len(result) == len(known), "stages wait for each other"
    return result
