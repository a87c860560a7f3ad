"""Record the results of finished stages, for later attempts to reuse."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self

from pydantic import JsonValue, ValidationError
from pydantic_core import to_jsonable_python

from retort.constants import Role
from retort.data.inputs import Inputs
from retort.errors import CannotExtend
from retort.files import atomic_write, sha256_of
from retort.pipeline.context import Context, PublishedFile
from retort.schema import FrozenModel
from retort.spec import AnySpec, JobSpec, digest

BEFORE_STUDENT = frozenset({"check", "train_teacher", "pseudo_label", "review", "teach_ahead", "pilot"})


class KeptFile(FrozenModel):
    """A published file, and the bytes that it must still have."""

    name: str
    role: Role
    path: str
    """Relative to the workdir."""
    media_type: str
    metadata: dict[str, Any]
    size_bytes: int
    sha256: str

    @classmethod
    def of(cls, workdir: Path, published: PublishedFile) -> Self:
        """Measure a file that a stage has published."""
        path = workdir / published.path
        return cls(
            name=published.name,
            role=published.role,
            path=published.path,
            media_type=published.media_type,
            metadata=published.metadata,
            size_bytes=path.stat().st_size,
            sha256=sha256_of(path),
        )

    def intact(self, workdir: Path) -> bool:
        """Return True if the file is there and has the same bytes."""
        path = workdir / self.path
        return path.is_file() and path.stat().st_size == self.size_bytes and sha256_of(path) == self.sha256


class StageRecord(FrozenModel):
    """The outcome of one stage, for the job that *key* identifies."""

    key: str
    attempt: int
    duration_s: float
    result: dict[str, JsonValue]
    files: tuple[KeptFile, ...]

    @classmethod
    def of(cls, context: Context, answer: object, duration_s: float) -> Self:
        """Collect the record of a stage that has just run."""
        return cls(
            key=context.key,
            attempt=context.inputs.attempt,
            duration_s=duration_s,
            result=to_jsonable_python(answer),
            files=tuple(KeptFile.of(context.workdir, published) for published in context.published),
        )

    def save(self, workdir: Path, stage: str) -> None:
        """Write ``stages/<stage>.json``, whole or not at all.

        What the stage needed may go then.
        """
        atomic_write(_path(workdir, stage), self.model_dump_json(indent=2).encode())


def load(workdir: Path, stage: str, key: str) -> StageRecord | None:
    """Return the record of *stage*; None when the stage must run."""
    try:
        record = StageRecord.model_validate_json(_path(workdir, stage).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return record if record.key == key and all(file.intact(workdir) for file in record.files) else None


def forget(workdir: Path, stage: str) -> None:
    """Remove the record of *stage*, because an earlier stage runs again."""
    _path(workdir, stage).unlink(missing_ok=True)


def total_duration(workdir: Path, stages: Iterable[str]) -> float:
    """Return the total seconds of the finished *stages*.

    Each counts in the attempt that finished it.
    """
    return sum(duration(workdir, stage) for stage in stages)


def duration(workdir: Path, stage: str) -> float:
    """Return the seconds that a finished *stage* took.

    0 where that is not on record.
    """
    try:
        return StageRecord.model_validate_json(_path(workdir, stage).read_bytes()).duration_s
    except (OSError, ValidationError):
        return 0.0


def files(stage: str, kept: StageRecord) -> tuple[str, ...]:
    """Return the files of *stage*, relative to the workdir.

    They are its record and the files that this names.
    """
    return (_path(Path(), stage).as_posix(), *(file.path for file in kept.files))


def key_of(spec: AnySpec, inputs: Inputs) -> str:
    """Return the reuse key of an outcome.

    It holds what must be the same: spec, data, and the bytes of the weights.
    """
    weights = [f"{name}:{inputs.weights_sha256(name)}" for name in sorted(inputs.weights)]
    weights += [f"{name}:{sha256_of(path)}" for name, path in sorted(inputs.definitions.items())]
    more = [
        found.digest
        for found in (inputs.unlabelled, inputs.to_label, *inputs.calibration.values())
        if found is not None
    ]
    return hashlib.sha256("\n".join([digest(spec), inputs.dataset.digest, *more, *weights]).encode()).hexdigest()


def key_of_stage(key: str, stage: str, inputs: Inputs, *, halved: bool = True) -> str:
    """Return the *key* of a job for one stage.

    A smaller batch counts for whatever follows the teacher. Student and control must be trained alike; a teacher is a
    teacher whatever its batch was. What people decide counts for their review, and so for what comes after it. Without
    *halved* it is the key from before the batch was made smaller.
    """
    adjusted = inputs.adjustments
    if adjusted.extension is not None and stage not in BEFORE_STUDENT:
        key = f"{key} extends {adjusted.extension.job} {adjusted.extension.epochs}"
    batch = "halved" if adjusted.halved else adjusted.batch
    if stage == "review":
        key = f"{key} decisions {inputs.decisions}"
    return key if batch is None or not halved or stage in BEFORE_STUDENT else f"{key} batch {batch}"


def earlier_key(spec: AnySpec, inputs: Inputs) -> str | None:
    """Return the key of the stages before the student in an extended job.

    None where none is extended.
    """
    extension = inputs.adjustments.extension
    if extension is None or not isinstance(spec, JobSpec):
        return None
    training = spec.training.model_copy(update={"epochs": extension.epochs[0]})
    return key_of(spec.model_copy(update={"training": training, "name": extension.name}), inputs)


def refuse_missing(stage: str, inputs: Inputs) -> None:
    """Refuse to repeat a stage before the student in an extension.

    Its outcome has to be that of the job that is extended.

    Raises:
        CannotExtend: it is one.

    """
    extension = inputs.adjustments.extension
    if extension is not None and stage in BEFORE_STUDENT:
        message = f"job {extension.job} cannot be extended: what its stage {stage} has left is not there, or was made "
        hint = "extend it where data, weights and models are as they were; or clone it with more epochs"
        raise CannotExtend(f"{message}from other data, weights or options", hint=hint)


def _path(workdir: Path, stage: str) -> Path:
    return workdir / "stages" / f"{stage}.json"
