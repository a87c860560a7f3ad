"""Pseudo-label images with the teacher, and estimate the quality."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from retort import files
from retort.constants import Role
from retort.data.copies import Alive, ImageViews, view_images
from retort.data.inputs import PseudoLabelInfo
from retort.labelling import duplicates, predict, quality
from retort.labelling.thresholds import with_class_shares
from retort.pipeline import progress
from retort.pipeline.answers import LabelledImages
from retort.pipeline.context import Context
from retort.review.figures import LabelFigures
from retort.review.models import LABELS, Picture, PseudoLabels, Scored
from retort.spec import CopyKind, JobSpec, PseudoLabelsSpec

after = "train_teacher"

Reason = Literal["validation", "training", "duplicate"]


def applies(spec: JobSpec) -> bool:
    """Return True where the spec names images to pseudo-label."""
    return spec.pseudo_labels is not None


def cost(spec: JobSpec) -> float:
    """Return the stage's share of the run.

    It is as if there were as many images as the data set has.
    """
    return progress.forward(progress.teacher(spec), progress.scale(spec.teacher.imgsz, spec))


def run(context: Context) -> LabelledImages:
    """Label the unlabelled images, filter them and publish the result.

    Images that would spoil the measurement or teach twice are left out.
    """
    wanted, facts = context.spec.pseudo_labels, context.inputs.to_label
    assert wanted is not None
    assert facts is not None, "intake has found them"
    names = context.inputs.dataset.names
    looks = view_images(sorted((facts.folder / "images").iterdir()), _alive(context))
    copies = _copies(context, looks, wanted.copies)
    found = list(_detected(context, looks, wanted.lowest))
    if wanted.thresholds == "class_share":
        fresh = [boxes for number, boxes in enumerate(found) if number not in copies]
        wanted = with_class_shares(wanted, fresh, quality.labelled_counts(context))
        context.journal.log("scores that make labels, by the shares of the classes", thresholds=wanted.per_class)
    pictures = tuple(_pictures(context, looks, found, copies, wanted))
    agreement = quality.agreement(pictures, facts.folder / "labels", names)
    suspects, existing = quality.check(context, _alive(context)) if wanted.check_labels else ((), None)
    figures = quality.figures(pictures, wanted, names, len(looks.unreadable) + _left_out(facts)).model_copy(
        update={"agreement": agreement, "existing": existing}
    )
    _remark(context, looks, figures)
    labels = PseudoLabels(classes=names, pictures=pictures, suspects=suspects, figures=figures)
    files.atomic_write(context.artifact(LABELS), labels.model_dump_json().encode())
    context.publish(LABELS, Role.JOB, "application/json")
    return LabelledImages(figures=figures)


def _copies(context: Context, looks: ImageViews, kind: CopyKind) -> dict[int, tuple[Reason, str]]:
    """Return by number which images are left out as copies: why, and of which file."""
    alive, given = _alive(context), context.inputs.data_yaml.parent / "images"
    left_out: dict[int, tuple[Reason, str]] = {}
    splits: tuple[tuple[Reason, str], ...] = (("validation", "val"), ("training", "train"))
    for reason, split in splits:
        others = view_images(sorted((given / split).iterdir()), alive)
        for number, other in duplicates.like(looks, others, kind, alive).items():
            left_out.setdefault(number, (reason, others.images[other].name))
    fresh = [number for number in range(len(looks.images)) if number not in left_out]
    for number, other in duplicates.like_earlier(looks, fresh, kind, alive).items():
        left_out[number] = ("duplicate", looks.images[other].stem)
    return left_out


def _detected(context: Context, looks: ImageViews, conf: float) -> Iterator[tuple[Scored, ...]]:
    """Yield the teacher's boxes on each image, and report how far it is."""
    found = predict.detect(context, looks.images, looks.sizes, conf=conf, kind="new")
    for number, boxes in enumerate(found, start=1):
        yield boxes
        context.progress(number / len(looks.images))


def _pictures(
    context: Context,
    looks: ImageViews,
    found: Sequence[tuple[Scored, ...]],
    copies: dict[int, tuple[Reason, str]],
    wanted: PseudoLabelsSpec,
) -> Iterator[Picture]:
    facts = context.inputs.to_label
    assert facts is not None
    for number, (image, (width, height), boxes) in enumerate(zip(looks.images, looks.sizes, found, strict=True)):
        kept, doubtful = quality.split_by_threshold(boxes, wanted)
        reason, like = copies.get(number, (None if kept else "empty", None))
        yield Picture.model_validate(
            {
                "image": image.stem, "file": facts.files[image.stem], "width": width, "height": height,
                "kept": kept, "doubtful": doubtful, "left_out": reason, "like": like,
            }
        )  # fmt: skip


def _remark(context: Context, looks: ImageViews, figures: LabelFigures) -> None:
    """Say what was found, and loudly what would have leaked."""
    context.journal.log(quality.sentence(figures), num_images=figures.num_images, num_used=figures.num_used)
    if number := figures.left_out.validation:
        context.journal.log(
            f"{number} images are copies of validation images and are left out: "
            "a student that was trained on them would be measured too well",
            "warning",
            num_images=number,
        )
    if looks.unreadable:
        shown = ", ".join(path.name for path in looks.unreadable[:5])
        context.journal.log(f"{len(looks.unreadable)} images cannot be opened and are left out: {shown}", "warning")
    if (existing := figures.existing) is not None and existing.num_suspect:
        context.journal.log(
            f"the labels of {existing.num_suspect} of the {existing.num_images} training images should be looked "
            f"at: {existing.num_missing} boxes seem to be missing, {existing.num_doubtful} are doubtful, "
            f"{existing.num_duplicate} are there twice; {LABELS} lists them",
            "warning",
            num_suspect=existing.num_suspect,
        )
    if figures.num_used == 0:
        context.journal.log("no image was labelled: student and control learn from the data set alone", "warning")


def _left_out(facts: PseudoLabelInfo) -> int:
    """Return the number of images that intake could not use."""
    return 0 if facts.images is None else facts.images.num_unused


def _alive(context: Context) -> Alive:
    def alive() -> None:
        context.check()
        context.heartbeat.beat("step")

    return alive
