"""Configure a tracker: its run, tags, folder and address."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from retort.schema import FrozenModel
from retort.settings import Settings
from retort.spec import AnySpec, JobSpec, digest
from retort.spec.result import JobResult, Result

Kind = Literal["tensorboard", "wandb", "mlflow"]
MAPS = "health/heatmaps"
"""Tag of the pictures of an epoch's maps."""


class TrackerConfig(FrozenModel):
    """Configuration of a tracker, the first line to its process."""

    kind: Kind
    job_id: str
    """The same for every attempt, so that a resumed run is the same run."""
    attempt: int
    spec: dict[str, Any]
    tags: dict[str, str]
    """Digests and what else identifies the run."""
    folder: Path
    """Where the tracker keeps what it keeps on this machine."""
    address: str = ""
    """Where its server is, if it needs to be told."""
    timeout_s: float = 60.0
    """For how long it may be at one thing."""


def tracker_configs(
    spec: AnySpec,
    settings: Settings,
    *,
    job_id: str,
    attempt: int,
    tags: dict[str, str],
    event_files: Path | None = None,
) -> list[TrackerConfig]:
    """Return the tracker configurations of *spec*; TensorBoard needs *event_files*.

    Advice has no curves, and tells nobody.
    """
    if not isinstance(spec, JobSpec):
        return []
    assert settings.tracking_dir is not None
    folder = settings.tracking_dir
    places: dict[Kind, tuple[Path, str]] = {
        "wandb": (folder, ""),
        "mlflow": (folder, settings.mlflow_uri or f"sqlite:///{folder / 'mlflow.db'}"),
    }
    if event_files is not None:
        places["tensorboard"] = (event_files, "")
    return [
        TrackerConfig(
            kind=kind,
            job_id=job_id,
            attempt=attempt,
            spec=spec.model_dump(mode="json"),
            tags={"spec_digest": digest(spec), **tags},
            folder=place,
            address=address,
            timeout_s=settings.tracking_timeout_s,
        )
        for kind, (place, address) in places.items()
        if getattr(spec.tracking, kind)
    ]


def flat(value: Any) -> dict[str, Any]:
    """Return the leaves of nested values by dotted path.

    Mappings and lists are nested; a path is like ``distillation.losses.0.kind``.
    """
    return {".".join(path): leaf for path, leaf in _leaves(value)}


def figures(result: Result) -> dict[str, float]:
    """Return the final figures of a run by role, as ``student/map``."""
    return {
        "/".join(map(_speakable, path)): float(leaf)
        for path, leaf in _leaves(result.roles.model_dump() if isinstance(result, JobResult) else {})
        if isinstance(leaf, int | float) and not isinstance(leaf, bool)
    }


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if not isinstance(value, dict | list | tuple):
        yield path, value
        return
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _leaves(item, (*path, str(key)))


def _speakable(name: str) -> str:
    """Return a part of a name, such as a class's, in letters that every tracker takes."""
    plain = re.sub(r"[^\w\- :.]", "_", name)
    return plain if plain.strip(". ") else "_"
