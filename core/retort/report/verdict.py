"""The verdict on a run in plain sentences, no better than the figures allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

from retort import class_names
from retort.constants import MAP, Role
from retort.spec.exported import MeasuredExport
from retort.spec.figures import GapClosed, SeedStatistics
from retort.spec.result import JobResult, TrainingFigures
from retort.spec.verdict import Kind, Resampled, Verdict, VerdictInterval, VerdictPart

SEED_NOISE = 0.011
"""Networks that differ by their seed alone and have learnt to their end: standard deviation of the difference."""
RISING_NOISE = 0.8
"""The same of networks that are still rising, as a share of what their mAP rose in the last fifth of the epochs."""
_LAST = 0.2
_CLEARLY = 0.02
"""A teacher that is two points better than the control is clearly better."""
_FEW_IMAGES = 100
FEWEST_IMAGES = 4
"""With fewer, resampling them gives intervals that are too narrow; with one, of no width."""
_SAME = 1e-9
"""Differences of seeds that are nearer agree to the last digit: by luck on few boxes, or because nothing was random."""
NOTHING = 0.02
"""Below two points of mAP a network has hardly learned anything."""
_BUSY = 2.0
"""A ninth decile of so many medians is no spread of the network's own."""
_SHOWN = 0.0005
"""The smallest difference that is a figure other than 0.0."""

Curve = Mapping[int, float | None]


@dataclass(frozen=True)
class Noise:
    """Known noise in the difference of one student and one control."""

    resampled: Resampled | None = None
    """Over other choices of the validation images."""
    rise: float = 0.0
    """By how much the mAP of the two rose in the last fifth of their epochs."""
    seeds: float | None = None
    """Standard deviation that seeds alone make, where it is known otherwise than by the rise."""


def rise(curves: Mapping[str, Mapping[str, Curve]]) -> float:
    """Return the rise of the best mAP50-95 in the last fifth of the epochs.

    It is the mean of student and control. What a seed decides is above all how soon a network learns something.
    """
    return rise_of([curves[role][MAP] for role in (Role.STUDENT, Role.CONTROL) if MAP in curves.get(role, {})])


def rise_of(curves: Sequence[Curve]) -> float:
    """Return the mean rise of *curves* in the last fifth; 0 without any."""
    return sum(map(_risen, curves)) / len(curves) if curves else 0.0


def _risen(curve: Curve) -> float:
    values = [curve[step] or 0.0 for step in sorted(curve)]
    before = values[: len(values) - max(1, round(len(values) * _LAST))]
    return max(0.0, max(values) - max(before)) if before else max(values, default=0.0)


def image_interval(difference: float, noise: Noise) -> VerdictInterval | None:
    """Return the interval of the *difference* of one seed.

    None where the images were not resampled, or are too few. It holds the choice of the validation images, by
    bootstrap, and the choice of the seed, by what was measured of networks between which nothing else stood. The two
    are independent: their variances add up.
    """
    images = noise.resampled
    if images is None or images.num_images < FEWEST_IMAGES:
        return None
    seeds, reach = _seed_reach(noise, images.level)
    return VerdictInterval(
        low=difference - (max(0.0, difference - images.low) ** 2 + reach**2) ** 0.5,
        high=difference + (max(0.0, images.high - difference) ** 2 + reach**2) ** 0.5,
        level=images.level, over="images", number=images.num_images, seed_noise=seeds,
    )  # fmt: skip


def _seed_reach(noise: Noise, level: float) -> tuple[float, float]:
    """Return the noise of one seed, as measured elsewhere, and how far it reaches to either side."""
    seeds = noise.seeds or (SEED_NOISE**2 + (RISING_NOISE * noise.rise) ** 2) ** 0.5
    return seeds, NormalDist().inv_cdf((1 + level) / 2) * seeds


def seed_interval(over: SeedStatistics, first: float, noise: Noise) -> VerdictInterval | None:
    """Return the interval of the mean difference over seeds, by Student's paired t.

    All seeds are judged on the same images, and a few can agree by luck: what the images leave open, by the bootstrap
    of the *first* seed's difference, is added as the variance of independent noise. Seeds that agree to the last digit
    tell nothing of their noise: then that of one seed is taken. None where the images are too few.
    """
    found, images = over.difference, noise.resampled
    if images is not None and images.num_images < FEWEST_IMAGES:
        return None
    if _agree(over):
        _, reach = _seed_reach(noise, found.level)
        found = found.model_copy(update={"low": found.mean - reach, "high": found.mean + reach})
    below = 0.0 if images is None else max(0.0, first - images.low)
    above = 0.0 if images is None else max(0.0, images.high - first)
    return VerdictInterval(
        low=found.mean - ((found.mean - found.low) ** 2 + below**2) ** 0.5,
        high=found.mean + ((found.high - found.mean) ** 2 + above**2) ** 0.5,
        level=found.level, over="seeds", number=over.num_seeds,
    )  # fmt: skip


def _agree(over: SeedStatistics) -> bool:
    return over.difference.high - over.difference.low < _SAME


def kind_of(interval: VerdictInterval | None) -> Kind:
    """Return what an interval allows to say: one that holds 0 shows no difference."""
    if interval is None or interval.low <= 0 <= interval.high:
        return "none"
    return "gain" if interval.low > 0 else "loss"


def gap_closed(over: SeedStatistics | None, teacher: float | None) -> float | None:
    """Return the mean difference as a share of teacher less control.

    None where it may not be published, which takes several seeds, an interval without zero, and a teacher that is
    clearly better than the control and no weaker than the student: else it is a share of noise, or of nothing.
    """
    if over is None or teacher is None or over.difference.low <= 0 or teacher < over.student.mean:
        return None
    gap = teacher - over.control.mean
    return over.difference.mean / gap if gap >= max(_CLEARLY, 2 * over.control.deviation) else None


def against_control(result: JobResult, noise: Noise) -> tuple[float | None, VerdictInterval | None]:
    """Return student less control in mAP50-95 with its interval; None without a control."""
    over = None if result.seeds is None else result.seeds.statistics.map
    difference = interval = None
    if over is not None:
        difference, interval = over.difference.mean, seed_interval(over, _first(result), noise)
    elif result.roles.control is not None:
        difference = result.roles.student.map - result.roles.control.map
        interval = image_interval(difference, noise)
    if result.pilot is not None and result.pilot.stops:
        interval = None  # the difference of a network to itself
    return difference, interval


def verdict(result: JobResult, noise: Noise, parts: Sequence[VerdictPart] = ()) -> Verdict:
    """Judge the result of a run, once, at its end.

    Where *parts* tell what labels, images and terms brought, the sentence names them too: labels first, which student
    and control have alike, then student against control, then what that is made of.
    """
    over = None if result.seeds is None else result.seeds.statistics.map
    difference, interval = against_control(result, noise)
    kind, sentence = _against_control(result, difference, interval, noise, parts)
    before = [one.sentence for one in parts if one.part == "pseudo_labels"]
    inside = [one for one in parts if one.part in {"terms", "unlabelled"} and not _is_verdicts(one)]
    sentence = " ".join([*before, sentence])
    if lost := _below_start(result):
        kind, sentence = "loss", f"{lost} {sentence}"
    share = gap_closed(over, None if result.roles.teacher is None else result.roles.teacher.map)
    if share is not None and kind == "gain":
        sentence += f" That is {share * 100:.0f}\N{NO-BREAK SPACE}% of the gap to the teacher."
    sentence = " ".join([sentence, *(one.sentence for one in inside)])
    return Verdict(
        kind=kind, parts=tuple(parts), sentence=sentence, difference=difference, interval=interval,
        gap_closed=share if kind == "gain" else None, caveats=tuple(_caveats(result, noise, interval)),
    )  # fmt: skip


def _is_verdicts(part: VerdictPart) -> bool:
    """Return True if a part is student less control, which the verdict's own sentence tells."""
    return (part.network, part.less) == (Role.STUDENT, Role.CONTROL)


def with_verdict(result: JobResult, judged: Verdict) -> JobResult:
    """Return the result with its verdict, without an unproved share of a gap."""
    told = result.gap_closed
    if told is not None and judged.gap_closed is None:
        told = GapClosed(map50=None, map=None)
    return result.model_copy(update={"verdict": judged, "gap_closed": told})


def _first(result: JobResult) -> float:
    """Return the difference of the first seed, whose networks the images were resampled for."""
    student, control = result.roles.student, result.roles.control
    return 0.0 if control is None else student.map - control.map


def _against_control(
    result: JobResult, difference: float | None, interval: VerdictInterval | None, noise: Noise,
    parts: Sequence[VerdictPart],
) -> tuple[Kind, str]:  # fmt: skip
    roles = result.roles
    if roles.control is None or difference is None:
        why = result.control_dropped or "no control was trained"
        return "unknown", (
            f"The student reaches {_percent(roles.student.map)} mAP50-95. "
            f"{why[0].upper()}{why[1:]}, so what the distillation bought is unknown."
        )
    if result.pilot is not None and result.pilot.stops:
        return "none", f"Nothing was distilled: the student is its undistilled control. {result.pilot.sentence}"
    if max(roles.student.map, roles.control.map) < NOTHING:
        return "none", (
            f"No difference is shown: student and control have hardly learned anything ({_percent(roles.student.map)} "
            f"and {_percent(roles.control.map)} mAP50-95)."
        )
    kind = kind_of(interval)
    terms = any(one.part == "terms" and _is_verdicts(one) for one in parts)
    who = "The distillation terms" if terms else "Distillation"
    none = "It is not shown that the distillation terms help:" if terms else "No difference is shown:"
    says = {"gain": f"{who} gained", "loss": f"{who} did not help:"}.get(kind, none)
    against = f"{points(difference)} points of mAP50-95 against the undistilled control"
    return kind, f"{says} {against}, {_shown(result, interval, noise)}."


def _shown(result: JobResult, interval: VerdictInterval | None, noise: Noise) -> str:
    """Return over what the difference is, its interval, and what that means."""
    if interval is None and noise.resampled is not None:
        return f"and {noise.resampled.num_images} {_split(result)} images are too few to tell it from chance"
    if interval is None:
        return "with one seed, and nothing is known of its noise"
    bounds = f"{interval.level:.0%} interval {points(interval.low)} to {points(interval.high)}"
    over = None if result.seeds is None else result.seeds.statistics.map
    if over is None:
        return (
            f"with one seed ({bounds}, over the images of this {_split(result)} set and the noise of seeds as measured "
            "elsewhere; another seed may differ)"
        )
    if _agree(over):
        return (
            f"over {interval.number} seeds, which agree to the last digit and tell nothing of their noise ({bounds}, "
            f"over the images of this {_split(result)} set and the noise of seeds as measured elsewhere)"
        )
    return (
        f"over {interval.number} seeds ({bounds}, over them and the images of this {_split(result)} set; if there were "
        f"no effect, a difference at least this large would be seen in {_chance(over.difference.p_value)} of "
        "repetitions with these images)"
    )


def _split(result: JobResult) -> str:
    return "test" if result.roles.student.split == "test" else "validation"


def _below_start(result: JobResult) -> str | None:
    """Return the sentence on a student that is worse than the weights it began with."""
    start, end = result.roles.start, result.roles.student.map
    if start is None or start.map is None or start.map - end < _SHOWN:
        return None
    return (
        f"The student ends {_percent(start.map - end)} points of mAP50-95 below the weights that it began with "
        f"({_percent(start.map)}, now {_percent(end)})."
    )


def _caveats(result: JobResult, noise: Noise, interval: VerdictInterval | None) -> list[str]:
    return [
        *_on_noise(interval, noise),
        *_on_selection(result),
        *_on_teacher(result, interval),
        *_on_training(result),
        *_on_pilot(result),
        *_on_arms(result, interval),
        *_on_data(result, noise),
        *_on_latency(result),
        *_on_exports(result),
    ]


def _on_noise(interval: VerdictInterval | None, noise: Noise) -> list[str]:
    if interval is None:
        return []
    if interval.over == "seeds" or interval.seed_noise is None:
        over = f"The interval is over {interval.number} seeds of one data set"
        return [f"{over}; the figures of the student that is published are those of the first seed."]
    found = [
        (
            f"One seed is no proof: networks that differ by their seed alone differ by {_percent(interval.seed_noise)} "
            "points (standard deviation), by what was measured on other data. training.seeds measures it here."
        )
    ]
    if RISING_NOISE * noise.rise > SEED_NOISE:
        found.append(
            f"The networks were still learning: mAP50-95 rose by {_percent(noise.rise)} points in the last fifth of "
            "the epochs, and how soon a network gets there is chance too. Train longer."
        )
    return found


def _on_selection(result: JobResult) -> list[str]:
    """Tell best and last epoch where the published one was chosen on the images that it is measured on."""
    student, control = result.roles.student, result.roles.control
    if student.last is None or student.split == "test":
        return []
    beside = "" if control is None or control.last is None else f", the control's {_percent(control.last.map)}"
    alike = "" if control is None else ", for student and control alike"
    chosen = f"The published epoch was chosen on the images that it is measured on, which flatters it{alike}"
    return [f"{chosen}; at the last epoch the student's mAP50-95 is {_percent(student.last.map)}{beside}."]


def _on_teacher(result: JobResult, interval: VerdictInterval | None) -> list[str]:
    teacher, student, control = result.roles.teacher, result.roles.student, result.roles.control
    if teacher is None:
        return ["The teacher could not be measured, so no gap to it is known."]
    if teacher.map is None:
        return ["The teacher knows none of the data's classes and has no mAP, so no gap to it is known."]
    if teacher.map < student.map:
        return ["The teacher is weaker than the student: take a better one, or train it longer."]
    if unseen := _on_worth(result, interval):
        return [unseen]
    if control is not None and teacher.map - control.map < _CLEARLY:
        return ["The teacher is no better than the control, or hardly, so there is no gap to close."]
    return []


def _on_worth(result: JobResult, interval: VerdictInterval | None) -> str | None:
    """Tell where even all that the teacher could be worth would drown in noise."""
    if result.worth is None or interval is None:
        return None
    most, reach = result.worth.most, (interval.high - interval.low) / 2
    if most >= reach:
        return None
    over = "1 seed" if interval.over == "images" else f"{interval.number} seeds"
    return (
        f"The teacher could be worth at most {points(most)} points here, its lead over the control, class by class: "
        f"such a gain cannot be shown with these {_split(result)} images and {over}, which leave {_percent(reach)} "
        "points to chance. A better teacher, or more images for it to label, could be worth more."
    )


def _on_training(result: JobResult) -> list[str]:
    found = [*_on_epochs(result.training), *_on_extension(result.training)]
    if result.roles.student.map < NOTHING:
        found.append("The student has hardly learned anything yet: train longer before comparing.")
    return found


def _on_pilot(result: JobResult) -> list[str]:
    """Tell of a pilot that has changed the distillation, or was to be made and was not."""
    told = result.pilot
    if told is None or told.decision == "go" or (told.stops and result.roles.control is not None):
        return []
    return [told.sentence]


def _on_arms(result: JobResult, interval: VerdictInterval | None) -> list[str]:
    """Tell of the further arms which leave it open what a gain over the control comes from."""
    return [one.sentence for one in result.arms if one.kind != "gain"] if kind_of(interval) == "gain" else []


def _on_epochs(training: TrainingFigures | None) -> list[str]:
    """Say what ended a training before its last epoch."""
    if training is None or training.epochs == training.planned_epochs:
        return []
    ended = f"after epoch {training.epochs} of {training.planned_epochs}: the learning rate had not come down yet."
    if training.stopped_by is None:
        return [f"Training was finished early, {ended}"]
    return [f"Student and control each end by training.{training.stopped_by}, the student {ended}"]


def _on_extension(training: TrainingFigures | None) -> list[str]:
    """Say what an extended training is not."""
    if training is None or (before := training.extended) is None:
        return []
    epochs = "1 epoch" if before.added == 1 else f"{before.added} epochs"
    told = f"Student and control were extended alike, by {epochs} after the {before.epochs} of job "
    told += f"{before.job}: the learning rate rose again, to {before.lr:.3g} of the initial one, and fell as before. "
    return [f"{told}This is not the same as {training.epochs} epochs from the start."]


def _on_data(result: JobResult, noise: Noise) -> list[str]:
    found, dataset = [], result.dataset
    told_apart = any(one.arm == "without_unlabelled" for one in result.arms)
    if (more := result.unlabelled) and not told_apart:
        found.append(
            f"The student also saw {more.num_images} unlabelled images, which its control never saw: "
            "the difference includes what they bought."
        )
    if dataset.num_shared and _split(result) == "validation":
        found.append(
            f"{dataset.num_shared} of the {dataset.num_val} validation images are also training images: "
            "these figures do not measure how well the networks generalise."
        )
    found += [
        f"{use.num_unused} of the {use.num_found} images of {split} could not be read, and are left out."
        for split, use in (dataset.images or {}).items()
        if use.num_unused
    ]
    measured = result.roles.student.per_class
    if measured and (absent := [name for name in dataset.names if name not in measured]):
        found.append(
            f"{len(absent)} of the {len(dataset.names)} classes have no object in the {_split(result)} images "
            f"({class_names.listed(absent)}): the mAP is the mean over the others, and says nothing of these."
        )
    number = dataset.num_val if noise.resampled is None else noise.resampled.num_images
    if number < _FEW_IMAGES:
        found.append(f"{number} {_split(result)} images are few: a point of mAP is a handful of boxes.")
    return found


def latency_spread(result: JobResult) -> float:
    """Return the largest ratio of ninth decile and median among its latencies."""
    exports = [one for one in result.exports if isinstance(one, MeasuredExport)]
    timed = [one.latency_ms for one in (*(figures for _, figures in result.roles.rows()), *exports)]
    return max((one.p90 / one.p50 for one in timed if one and one.p50), default=0.0)


def was_busy(result: JobResult) -> bool:
    """Return whether the machine was too busy for its latencies to be compared."""
    return latency_spread(result) >= _BUSY


def _on_latency(result: JobResult) -> list[str]:
    """Tell of times that something else has disturbed, or that are the host's."""
    networks = [figures for _, figures in result.roles.rows()]
    spread = latency_spread(result)
    told = []
    launched = [figures for figures in networks if figures.device == "cuda" and "eager" in (figures.timed_as or "")]
    if launched:
        told.append(
            f"Kernels could not be recorded ({launched[0].timed_as}): latencies are those of the host, and say "
            "little of what the networks take on this GPU."
        )
    if spread >= _BUSY:
        told.append(
            f"The machine was busy while latencies were measured: one run in ten took {spread:.1f} times the "
            "median or longer. Do not compare them; retort eval measures them again."
        )
    return told


def _on_exports(result: JobResult) -> list[str]:
    """Tell of exports that are not for use as they are."""
    bad = [one.path for one in result.exports if one.status != "passed"]
    if not bad:
        return []
    return [f"{len(bad)} of {len(result.exports)} exports did not pass, so look at them first: {', '.join(bad)}."]


def _percent(value: float) -> str:
    return f"{value * 100:.1f}"


def points(value: float) -> str:
    """Show a difference in points of a hundred."""
    return f"{value * 100:+.1f}"


def _chance(p_value: float) -> str:
    return "less than 0.1%" if p_value < 0.001 else f"{p_value * 100:.2g}%"
