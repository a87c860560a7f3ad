"""Hold a spec to the ceilings that the operator sets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from retort.data.inputs import Bounds, Inputs
from retort.errors import DataError, FieldProblem, SpecError
from retort.settings import Settings
from retort.spec import AnySpec

CEILINGS = {
    "training.epochs": "max_epochs",
    "teacher.train.epochs": "max_epochs",
    "student_epochs": "max_epochs",
    "training.imgsz": "max_imgsz",
    "teacher.imgsz": "max_imgsz",
    "teacher.ensemble[].imgsz": "max_imgsz",
    "imgsz": "max_imgsz",
    "exports[].imgsz": "max_imgsz",
    "exports[].imgsz[]": "max_imgsz",
    "training.batch": "max_batch",
    "training.nominal_batch": "max_batch",
    "exports[].batch": "max_batch",
    "batch": "max_batch",
    "training.seeds": "max_seeds",
    "arms[]#": "max_arms",
    "networks[]#": "max_networks",
    "candidates[]#": "max_networks",
    "teacher.ensemble[]#": "max_ensemble",
    "data.unlabelled.ratio": "max_unlabelled_ratio",
    "pseudo_labels.sample": "max_review_images",
    "exports[]#": "max_exports",
    "exports[].calibration_images": "max_calibration_images",
    "exports[].aware_epochs": "max_aware_epochs",
    "exports[].workspace_gib": "max_workspace_gib",
    "resources.gpus": "max_gpus",
    "resources.max_runtime_s": "max_runtime_s",
    "resources.max_queue_s": "max_queue_s",
    "search.trials": "max_trials",
    "concurrency": "max_concurrency",
}
"""Settings by the fields that they bound; ``[]`` is any entry of a list, ``[]#`` the number of its entries."""

WITHOUT = {
    "teacher.imgsz": "as training.imgsz",
    "teacher.ensemble[].imgsz": "as training.imgsz",
    "imgsz": "as the file says, which the run holds to the ceiling",
    "exports[].imgsz": "as the network's, which has it",
    "training.batch": "auto, which finds no more than the ceiling",
    "student_epochs": "nothing is trained",
    "exports[].batch": "one image, or any number where that is open",
    "exports[].workspace_gib": "the ceiling, where the GPU has more",
    "resources.max_runtime_s": "the ceiling",
    "resources.max_queue_s": "the ceiling",
    "search.trials": "all of a grid, which are counted",
}
"""What holds where a spec gives no number for a field that has a ceiling."""

_WEIGHT = "a weight in a sum, or a learning rate: it costs nothing"
_SHARE = "a probability, or a part of a whole"
_SCORE = "a threshold of scores"
_SOONER = "it ends or moves something within training.epochs"
FREE = {
    "data.max_missing_labels": _SHARE,
    "teacher.views[]#": "3 at most, eight looks at each image in all",
    "teacher.weight": _WEIGHT,
    "teacher.adapter.names[]#": "10000 at most, as many as the network has classes, or it is refused",
    "teacher.ensemble[].adapter.names[]#": "10000 at most, as many as the network has classes, or it is refused",
    "teacher.ensemble[].weight": _WEIGHT,
    "pseudo_labels.confidence": _SCORE,
    "pseudo_labels.labelled_share": _SHARE,
    "pseudo_labels.burn_in": _SHARE,
    "pseudo_labels.ramp": _SHARE,
    "pseudo_labels.per_class{}#": "as many as the data has classes, or the job is refused",
    "pseudo_labels.per_class{}": _SCORE,
    "pseudo_labels.ignore_from": _SCORE,
    "distillation.losses[]#": "16 at most, of which each kind is cheap beside the teacher's pass",
    "distillation.losses[].levels[]#": "as many as the network has levels",
    "distillation.schedule.warmup_epochs": _SOONER,
    "distillation.schedule.floor": _SHARE,
    "training.degrees": "an angle",
    "training.shear": "an angle",
    "training.patience": _SOONER,
    "training.time": _SOONER,
    "training.multi_scale": "a part of training.imgsz, less than one",
    "training.fraction": _SHARE,
    "training.warmup_epochs": _SOONER,
    "training.freeze": "layers that are left alone cost less",
    "training.freeze[]#": "1000 at most, and names only",
    "training.freeze[]": "layers that are left alone cost less",
    "training.close_mosaic": _SOONER,
    "training.seed": "a seed",
    "training.checkpoint_every": "at most one for each epoch, of which retention keeps few",
    "exports[].max_map_drop": _SHARE,
    "exports[].imgsz[]#": "height and width",
    "exports[].conf": _SCORE,
    "exports[].iou": _SHARE,
    "exports[].max_det": "3000 at most, small beside the network",
    "exports[].opset": "a version",
    "seed": "a seed",
    "search.seed": "a seed",
    "search.startup": "a part of search.trials",
    "failures": "a part of search.trials",
}
"""Other numbers of specs, with the reasons why they need no ceiling."""
FREE |= dict.fromkeys(
    (f"training.{name}" for name in ("fliplr", "flipud", "hsv_h", "hsv_s", "hsv_v", "mosaic", "scale", "translate",
                                     "perspective", "mixup", "cutmix", "cls_pw", "weight_decay", "momentum")), _SHARE,
)  # fmt: skip
FREE |= dict.fromkeys(
    (*(f"training.{name}" for name in ("lr", "lrf", "head_lr_multiplier", "box", "cls_gain", "dfl", "grad_clip")),
     *(f"distillation.losses[].{name}" for name in ("weight", "class_balance", "temperature", "beta", "box_weight",
                                                    "mask_ratio"))), _WEIGHT,
)  # fmt: skip


FREE |= dict.fromkeys(
    (f"teacher.{place}adapter.{name}" for place in ("", "ensemble[].")
     for name in ("largest", "mean[]", "mean[]#", "std[]", "std[]#")), "how pixels are scaled",
)  # fmt: skip


def check(spec: AnySpec, settings: Settings) -> None:
    """Refuse a spec that asks for more than the operator allows.

    Raises:
        SpecError: it does; each field is named, with the ceiling and its setting.

    """
    if problems := exceeded(spec.model_dump(mode="json"), settings):
        raise SpecError(problems)


def exceeded(document: Any, settings: Settings) -> list[FieldProblem]:
    """Return the fields of a spec or a sweep that exceed their ceilings."""
    problems = []
    for path, value, setting in _found(document, _TREE, ""):
        most = getattr(settings, setting)
        if isinstance(value, int | float) and not isinstance(value, bool) and most is not None and value > most:
            problems.append(_problem(path, value, most, setting))
    return problems


def _problem(path: str, value: float, most: float, setting: str) -> FieldProblem:
    what = f"has {value:g} entries" if path.endswith("#") else f"is {value:g}"
    allowed = f"{what}, and this service allows {most:g} at most (RETORT_{setting.upper()})"
    return FieldProblem(path.removesuffix("#"), allowed, f"{most:g} or less; only the operator can raise the setting")


@dataclass(slots=True)
class _Step:
    """What ceilings say of one place of a document, and of those below it."""

    setting: str | None = None
    of_number: str | None = None
    fields: dict[str, _Step] = field(default_factory=dict)
    entries: _Step | None = None


_STEPS = re.compile(r"\[\]#?|[^.\[\]]+")


def _tree() -> _Step:
    """Return all patterns as a tree, so that a document is walked once."""
    root = _Step()
    for pattern, setting in CEILINGS.items():
        here = root
        for step in _STEPS.findall(pattern.removesuffix("[]#")):
            if step == "[]":
                here.entries = here.entries or _Step()
                here = here.entries
            else:
                here = here.fields.setdefault(step, _Step())
        if pattern.endswith("#"):
            here.of_number = setting
        else:
            here.setting = setting
    return root


_TREE = _tree()


def _found(here: Any, step: _Step, path: str) -> Iterator[tuple[str, Any, str]]:
    """Yield what stands at the patterns, with its place and its setting."""
    if step.setting is not None:
        yield path, here, step.setting
    if isinstance(here, dict):
        for name, below in step.fields.items():
            if here.get(name) is not None:
                yield from _found(here[name], below, f"{path}.{name}" if path else name)
    elif isinstance(here, list):
        if step.of_number is not None:
            yield f"{path}#", len(here), step.of_number
        if step.entries is not None:
            for number, entry in enumerate(here):
                yield from _found(entry, step.entries, f"{path}.{number}")


def check_inputs(inputs: Inputs, settings: Settings) -> None:
    """Refuse more images than the operator allows for one job.

    Raises:
        DataError: there are more.

    """
    dataset = inputs.dataset
    more = [one.num_images for one in (inputs.unlabelled, *inputs.calibration.values()) if one is not None]
    labelled = len(inputs.to_label.files) if inputs.to_label is not None else 0
    number = dataset.num_train + dataset.num_val + dataset.num_test + labelled + sum(more)
    if number > settings.max_images:
        raise DataError(
            f"the job reads {number:,} images, and this service allows {settings.max_images:,} (RETORT_MAX_IMAGES)",
            hint="use fewer images, or training.fraction on a smaller copy; only the operator can raise the setting",
        )


def check_ranks(ranks: int, device: str, settings: Settings) -> None:
    """Refuse more processes on a CPU than the operator allows.

    Raises:
        SpecError: there would be more.

    """
    if device == "cpu" and ranks > settings.max_cpu_ranks:
        most = settings.max_cpu_ranks
        raise SpecError([FieldProblem(
            "resources.gpus",
            f"is {ranks}, and this worker has no GPU: on its CPU it starts {most} processes at most "
            "(RETORT_MAX_CPU_RANKS)",
            f"{most} or less, or a worker with {ranks} GPUs",
        )])  # fmt: skip


def bounds(settings: Settings) -> Bounds:
    """Return the ceilings that a run looks at itself."""
    return Bounds(imgsz=settings.max_imgsz, batch=settings.max_batch, workspace_gib=settings.max_workspace_gib)


def runtime_s(wanted_s: float | None, settings: Settings) -> float | None:
    """Return for how long a job may run, by spec and operator."""
    bounds = [bound for bound in (wanted_s, settings.max_runtime_s) if bound is not None]
    return min(bounds, default=None)
