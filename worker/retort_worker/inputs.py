"""What a run starts from: the spec, the dataset and the weights, checked and laid out in its working folder."""

from __future__ import annotations

from pathlib import Path

from retort.intake import known, preparation
from retort.intake.inputs import Adjustments
from retort.settings import Settings
from retort.spec import AnySpec


def prepare(
    spec: AnySpec, settings: Settings, workdir: Path, *, attempt: int, device: str, adjustments: Adjustments
) -> None:
    """Write ``spec.json`` and ``inputs.json`` into *workdir*; this may download weights and data.

    Raises:
        RetortError: the data or the weights cannot be used, or the world failed.

    """
    preparation.prepare(spec, settings, workdir, attempt=attempt, device=device, adjustments=adjustments)


def announcement(spec: AnySpec, settings: Settings) -> str | None:
    """Return what the job's owner should know before a preparation that may take long."""
    return known.announcement(spec.data.dataset, settings.dataset_dir)
