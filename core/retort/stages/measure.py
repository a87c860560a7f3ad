"""Measure given networks on the same images, and compare them with the first."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, cast

from retort import class_names, model_ref
from retort.errors import FieldProblem, ModelError, SpecError
from retort.pipeline import latency, progress, train
from retort.pipeline.context import Context
from retort.pipeline.export_workspace import ExportWorkspace
from retort.pipeline.extras import for_leaves
from retort.report.judged import publish_curves, publish_mistakes
from retort.report.mistakes import SCORE_FROM
from retort.report.verdict import FEWEST_IMAGES
from retort.spec import EvaluateSpec
from retort.spec.curves import CURVES
from retort.spec.evaluated import EvaluatedNetwork, EvaluationResult, NetworkDifference
from retort.spec.exported import AnyExport
from retort.spec.mistakes import MISTAKES
from retort.spec.verdict import LEVEL, Kind
from retort.stages import check, evaluate, export

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from retort.training.benchmark import Speed
    from retort.training.bootstrap import Matches
    from retort.training.evaluate import FoundImage, Published

after = None
task = "evaluate"


@dataclass(frozen=True, slots=True)
class _Found:
    """What the validations have found, by weights."""

    matches: dict[str, Matches] = field(default_factory=dict)
    boxes: dict[str, Sequence[FoundImage]] = field(default_factory=dict)


def applies(spec: EvaluateSpec) -> bool:  # noqa: ARG001 - every evaluation is measured
    """Return True: the stage applies to every job."""
    return True


def cost(spec: EvaluateSpec) -> float:
    """Return the stage's share of the run.

    It is about half an epoch for each network.
    """
    return sum(map(progress.forward, spec.networks)) * (1 + len(spec.exports)) / 2


def run(context: Context) -> EvaluationResult:
    """Return the figures, which are also published as ``evaluation.json``."""
    from retort.training.device import device_name

    spec = cast("EvaluateSpec", context.spec)
    data = context.inputs.dataset
    networks: list[EvaluatedNetwork] = []
    found = _Found()
    published = _published(context, spec)
    _insist_on_forms(spec, published)
    speeds = _speeds(context, published)
    for name, one in published.items():
        context.check()
        networks.append(_measure(context, name, one, speeds[name], found))
        context.progress(len(networks) / len(spec.networks))
    _publish_found(context, networks, found)
    exports: tuple[AnyExport, ...] = ()
    if spec.exports:
        networks[0], exports = _exported(context, spec, networks[0], published)
    known = [one.per_class for one in networks if one.map is not None]
    if known and (absent := [name for name in data.names if not any(name in scores for scores in known)]):
        told = f"{class_names.listed(absent)} have no object in these images: the mAP is the mean over the others"
        context.journal.log(told, "warning")
    result = EvaluationResult(
        networks=tuple(networks),
        differences=tuple(_differences(spec, networks, found.matches)),
        exports=exports,
        names=tuple(data.names),
        num_images=data.num_test or data.num_val,
        digest=data.digest,
        device=device_name(context.inputs.device),
    )
    context.publish_document("evaluation.json", result)
    return result


def _published(context: Context, spec: EvaluateSpec) -> dict[str, Published]:
    """Return the networks by the names that the spec uses, each with the size at which it is measured."""
    from retort.training.evaluate import Published
    from retort.training.teachers import input_size, load

    published = {}
    for number, name in enumerate(spec.networks):
        path = context.inputs.weights[name]
        side = spec.imgsz or input_size(load(path))
        if side > (most := context.inputs.bounds.imgsz):  # a file may say anything
            raise SpecError([FieldProblem(
                f"networks.{number}",
                f"says that it runs at {side} pixels, and this service allows {most} at most (RETORT_MAX_IMGSZ)",
                f"name a size of {most} or less as imgsz",
            )])  # fmt: skip
        published[name] = Published(path, side)
    return published


def _publish_found(context: Context, networks: Sequence[EvaluatedNetwork], kept: _Found) -> None:
    """Publish mistakes and curves of the networks that know the data, under titles where these are theirs alone."""
    tried, titles = for_leaves(context), Counter(one.title for one in networks)
    named = {one.weights: one.title if titles[one.title] == 1 else one.weights for one in networks}
    letterboxes = {named[one.weights]: one.letterbox for one in networks}
    boxes = {named[weights]: images for weights, images in kept.boxes.items()}
    matches = {named[weights]: one for weights, one in kept.matches.items()}
    tried(MISTAKES, partial(publish_mistakes, context, boxes), None, listed=False)
    tried(CURVES, partial(publish_curves, context, matches, boxes, letterboxes), None, listed=False)


def _insist_on_forms(spec: EvaluateSpec, networks: Mapping[str, Published]) -> None:
    """Refuse forms that the network cannot have before anything is measured."""
    from retort.training import architecture, teachers
    from retort.training.teachers.base import BoxNetwork

    if spec.exports:
        network = teachers.load(networks[spec.networks[0]].weights)
        if isinstance(network, BoxNetwork):
            raise ModelError(
                f"files to deploy are made of a YOLO, and {spec.networks[0]} is {network.kind}",
                hint="what it comes from can export it; retort eval measures it",
            )
        check.insist_on_forms(spec.exports, network, architecture.read(network))


def _speeds(context: Context, networks: Mapping[str, Published]) -> dict[str, Speed]:
    """Time all of them in one sitting."""
    from retort.training.evaluate import speeds

    def alive() -> None:
        context.check()
        context.heartbeat.beat("setup")

    return speeds(networks, context.inputs.device, picture=latency.picture(context), on_round=alive)


def _measure(context: Context, name: str, one: Published, speed: Speed, kept: _Found) -> EvaluatedNetwork:
    from retort.training.evaluate import evaluate as judge
    from retort.training.teachers import load

    conditions = replace(
        train.conditions(context, one.imgsz, split=train.split(context)),
        on_matches=partial(kept.matches.__setitem__, name),
        on_found=partial(kept.boxes.__setitem__, name),
        found_from=SCORE_FROM,
    )
    title = model_ref.title(name)
    found = evaluate.figures(title, one.weights.name, judge(one.weights, conditions), speed)
    context.heartbeat.beat("setup")
    data = context.inputs.dataset.names
    known = tuple(load(one.weights).names.values())
    if found.map is None:
        near = class_names.warning(data, known, "it") or f"it knows {class_names.listed(known)}"
        context.journal.log(
            f"the mAP of {title} is not measured: it knows none of the data's classes; {near}", "warning"
        )
    elif told := class_names.missing(data, known, title, class_names.JUDGED):
        context.journal.log(told, "warning")
    return EvaluatedNetwork(**dict(found), weights=name, title=title, imgsz=one.imgsz)


def _exported(
    context: Context, spec: EvaluateSpec, network: EvaluatedNetwork, published: Mapping[str, Published]
) -> tuple[EvaluatedNetwork, tuple[AnyExport, ...]]:
    """Make the forms that are asked for; none keeps the others from being made.

    They are timed in one sitting with the network, whose speed of that sitting replaces the one before.
    """
    weights = context.inputs.weights[network.weights]
    title = re.sub(r"@.*", "", network.title)
    workspace = ExportWorkspace(context, weights, imgsz=network.imgsz, seed=spec.seed)
    made, tried = export.export_all(workspace, spec.exports, title)
    forms, speeds = export.in_one_sitting(workspace, spec.exports, made, tried, published, network.weights)
    timed = speeds.get(network.weights)
    return network if timed is None else network.model_copy(update=dict(timed)), tuple(forms)


def _differences(
    spec: EvaluateSpec, networks: list[EvaluatedNetwork], matches: dict[str, Matches]
) -> list[NetworkDifference]:
    """Compare each further network with the first."""
    from retort.training.bootstrap import resample

    first, *others = networks
    found: list[NetworkDifference] = []
    for other in others:
        if first.map is None or other.map is None:
            continue
        difference = other.map - first.map
        interval = resample(matches[other.weights], matches[first.weights], level=LEVEL, seed=spec.seed)
        few = interval.num_images < FEWEST_IMAGES
        undecided = few or interval.low <= 0 <= interval.high
        kind: Kind = "none" if undecided else "gain" if interval.low > 0 else "loss"
        says = {"gain": "is better than", "loss": "is worse than"}.get(kind, "is not shown to differ from")
        limit = f"fewer than {FEWEST_IMAGES} images prove nothing" if few else "another training of either may differ"
        sentence = (
            f"{other.title} {says} {first.title}: {difference * 100:+.1f} points of mAP50-95 ({interval.level:.0%} "
            f"interval {interval.low * 100:+.1f} to {interval.high * 100:+.1f} over the {interval.num_images} images; "
            f"{limit})."
        )
        found.append(
            NetworkDifference(
                weights=other.weights, difference=difference, interval=interval, kind=kind, sentence=sentence
            )
        )
    return found
