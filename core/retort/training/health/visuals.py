"""Compare student and teacher on sample images, as arrays for the report."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from retort import files, heatmaps
from retort.training.health.metrics import (
    ForwardPass,
    Probe,
    binary_kl,
    common_predictions,
    cosine_map,
    first_teacher,
    foreground,
    forward_pass,
    preserve_state,
    projected,
)

if TYPE_CHECKING:
    from torch import Tensor

    from retort.training.distillation.distiller import Distiller

FILE = "health.npz"
"""Name of the file in a training's folder."""
SHEET = "heatmaps.jpg"
"""Name of the newest sheet of maps, beside it."""
NUM_SHEETS = 50
"""Sheets of one training, about: a short training draws each epoch, a long one every so many."""
NUM_IMAGES = 4
TEMPERATURES = (1.0, 2.0, 4.0, 7.0)
"""The founding article's, and none."""
PRIOR = -4.6
"""Logit of a student that knows nothing yet: it believes in every class at one per cent."""


def save(path: Path, model: Distiller, probe: Probe) -> None:
    """Write the arrays of :func:`arrays` to *path*."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays(model, probe))
    files.atomic_write(path, buffer.getvalue())


def due(epoch: int, epochs: int) -> bool:
    """Return True for the first epoch, the last, and some between."""
    return epoch in {1, epochs} or epoch % math.ceil(epochs / NUM_SHEETS) == 0


def draw(path: Path, model: Distiller, probe: Probe, forward: ForwardPass) -> tuple[int, int]:
    """Draw the maps of an epoch at *path*; return width and height.

    Nothing of *model* changes.
    """
    with torch.no_grad():
        sheet = heatmaps.sheet(_read(maps(model, probe, forward)))
    files.atomic_write(path, heatmaps.jpeg(sheet))
    return sheet.size


def arrays(model: Distiller, probe: Probe) -> dict[str, Any]:
    """Return the arrays that the report draws, as docs/health-file.md describes them.

    They come from *model*, its teacher and the first images of *probe*: :func:`maps`, and over ``temperatures`` (T,)
    ``teacher_foreground`` and ``teacher_background``, its mean highest probability; ``share_untaught`` and
    ``share_taught``, the foreground's part of a binary KL's gradient.
    """
    with preserve_state(model), torch.no_grad(), torch.autocast(probe.images.device.type, enabled=False):
        model.eval()
        forward = forward_pass(model, probe.batch)
        return _read(maps(model, probe, forward) | _compared(model, forward))


def _read(found: Mapping[str, Tensor]) -> dict[str, Any]:
    return {name: value.cpu().numpy() for name, value in found.items()}


def maps(model: Distiller, probe: Probe, forward: ForwardPass) -> dict[str, Tensor]:
    """Return where both networks differ in *forward*, on the first images of *probe*.

    ``images`` (N, S, S, 3) in 0..255; by level ``cosine_<level>`` and ``kl_<level>``, (N, h, w); ``confidence_<level>``
    of the teacher.
    """
    found: dict[str, Tensor] = {"images": (probe.images[:NUM_IMAGES] * 255).round().byte().permute(0, 2, 3, 1)}
    for level, student, teacher in projected(model, forward):
        found[f"cosine_{level}"] = cosine_map(student, teacher)[:NUM_IMAGES].half()
    for level in first_teacher(model)[1].head_levels:
        found[f"confidence_{level}"] = forward.teacher_output.confidence[level][:NUM_IMAGES, 0].half()
    return found | _kl_maps(model, forward)


def _kl_maps(model: Distiller, forward: ForwardPass) -> dict[str, Tensor]:
    """Return the KL of the classes by level; nothing without classes in common."""
    pair = common_predictions(model, forward)
    if pair is None:
        return {}
    student, teacher = (prediction.scores.float() for prediction in pair)
    kl = binary_kl(student, teacher)[:NUM_IMAGES]  # N A
    levels = first_teacher(model)[1].head_levels
    shapes = [forward.features[level].shape[-2:] for level in levels]
    parts = kl.split_with_sizes([height * width for height, width in shapes], dim=-1)
    return {
        f"kl_{level}": part.reshape(len(part), *shape).half()
        for level, part, shape in zip(levels, parts, shapes, strict=True)
    }


def _compared(model: Distiller, forward: ForwardPass) -> dict[str, Tensor]:
    """Compare temperatures; nothing without classes in common."""
    pair = common_predictions(model, forward)
    if pair is None:
        return {}
    student, teacher = (prediction.scores.float() for prediction in pair)
    return temperatures(student, teacher, foreground(pair[1]))


def temperatures(student: Tensor, teacher: Tensor, seen: Tensor) -> dict[str, Tensor]:
    """Compare temperatures on class logits (N, A, K) of both networks.

    The foreground is *seen*, (N, A).
    """
    names = ("temperatures", "teacher_foreground", "teacher_background", "share_untaught", "share_taught")
    rows: dict[str, list[Tensor]] = {name: [] for name in names}
    for temperature in TEMPERATURES:
        p = (teacher / temperature).sigmoid()
        top = p.amax(-1)
        untaught = (p - torch.sigmoid(torch.tensor(PRIOR / temperature))).abs().sum(-1)  # N A
        distilled = (p - (student / temperature).sigmoid()).abs().sum(-1)
        rows["temperatures"].append(torch.tensor(temperature))
        rows["teacher_foreground"].append(top[seen].mean().nan_to_num())
        rows["teacher_background"].append(top[~seen].mean().nan_to_num())
        for name, pull in (("share_untaught", untaught), ("share_taught", distilled)):
            rows[name].append((pull * seen).sum() / pull.sum().clamp(min=1e-20))
    return {name: torch.stack(values).float() for name, values in rows.items()}
