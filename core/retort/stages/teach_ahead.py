"""Ask the teacher about every training image ahead of time."""

from __future__ import annotations

from pathlib import Path

from retort.constants import Role
from retort.labelling.ahead import ask_ahead
from retort.labelling.dataset import data_yaml
from retort.pipeline import progress, train
from retort.pipeline.answers import CachedTeaching
from retort.pipeline.context import Context
from retort.spec import JobSpec

after = "review"
FILE = "teacher-cache.npz"
"""Name of the artifact."""


def applies(spec: JobSpec) -> bool:
    """Return True where the spec asks for a cached teacher."""
    return spec.teacher.cache


def cost(spec: JobSpec) -> float:
    """Return the stage's share of the run: a forward pass for each view."""
    return progress.asking_ahead(spec)


def run(context: Context) -> CachedTeaching:
    """Cache the teacher's predictions for all images that the student sees."""
    figures = ask_ahead(
        context, train.weights(context), images(context), target=context.artifact(FILE), tell=context.progress
    )  # fmt: skip
    context.journal.log(
        f"the teacher was asked ahead of time: {figures.num_boxes:,} boxes on {figures.num_images:,} images in "
        f"{1 + len(figures.views)} kinds of views, {figures.size_bytes / 1e3:,.0f} kB",
        digest=figures.digest,
    )
    path = context.publish(FILE, Role.TEACHER, digest=figures.digest, num_images=figures.num_images)
    return CachedTeaching(path=path, figures=figures)


def images(context: Context) -> list[Path]:
    """Return all images that the student sees, labelled or not."""
    folders = [data_yaml(context).parent / "images" / "train"]
    if context.inputs.unlabelled is not None:
        folders.append(context.inputs.unlabelled.folder)
    return [path for folder in folders for path in sorted(folder.iterdir())]
