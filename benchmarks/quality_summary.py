"""Paired differences between arms: means, intervals and p over seeds, and over sets."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from scipy import stats

LEVEL = 0.95
"""Of every interval."""
HARM = 0.003
"""A run is harmed where it ends below plain by more."""
Runs = dict[int, dict[str, Any]]
"""One arm's runs by seed."""


def figure(run: Mapping[str, Any]) -> float:
    """Return the mAP50-95 that a run is judged by; of runs that were kept without one, the last epoch's."""
    return float(run["final"]["map50_95"] if "final" in run else run["last_map50_95"])


def best(run: Mapping[str, Any]) -> float:
    """Return the highest mAP50-95 on the validation images, by which the epoch was chosen: it flatters every arm."""
    return float(run["map50_95"])


def summary(runs: list[dict[str, Any]], *, teacher: dict[str, Any], epochs: int) -> dict[str, Any]:
    """Return for each arm of one set mean, spread and cost, and what it is above each other arm, paired by seed."""
    by: dict[str, Runs] = {arm: {run["seed"]: run for run in runs if run["recipe"] == arm} for arm in order(runs)}
    found: dict[str, Any] = {}
    for arm, mine in by.items():
        values = [figure(run) for run in mine.values()]
        entry: dict[str, Any] = {
            "num_seeds": len(values),
            "mean": statistics.fmean(values),
            "std": statistics.stdev(values) if len(values) > 1 else None,
            "mean_best": statistics.fmean(best(run) for run in mine.values()),
            "epochs": [run.get("epochs", epochs) for run in mine.values()],
            "minutes": statistics.fmean(run["seconds"] for run in mine.values()) / 60,
        }
        for other, theirs in by.items():
            if other != arm and mine.keys() & theirs.keys():
                entry |= {f"minus_{other}{name}": value for name, value in compared(mine, theirs).items()}
        if arm != "plain" and mine.keys() & by.get("plain", {}).keys():
            entry |= beside_plain(mine, by["plain"], teacher=teacher, epochs=epochs)
        found[arm] = entry
    return found


def compared(mine: Runs, theirs: Runs) -> dict[str, Any]:
    """Return what one arm is above another: mean, interval, p, each seed; and the mean by the best epochs."""
    seeds = sorted(mine.keys() & theirs.keys())
    values = [figure(mine[seed]) - figure(theirs[seed]) for seed in seeds]
    return {
        "": statistics.fmean(values),
        "_interval": interval(values),
        "_p": p_value(values),
        "_by_seed": values,
        "_best": statistics.fmean(best(mine[seed]) - best(theirs[seed]) for seed in seeds),
    }


def beside_plain(mine: Runs, plain: Runs, *, teacher: dict[str, Any], epochs: int) -> dict[str, Any]:
    """Return the share of the gap to the teacher that was closed, when plain was reached, and the worst class."""
    seeds = sorted(mine.keys() & plain.keys())
    base = statistics.fmean(figure(plain[seed]) for seed in seeds)
    gained = statistics.fmean(figure(mine[seed]) for seed in seeds) - base
    span = interval([figure(mine[seed]) - figure(plain[seed]) for seed in seeds])
    gap = float(teacher.get("final", teacher)["map50_95"]) - base
    told = span is not None and span[0] > 0 and gap >= max(0.02, gained)  # as the verdict of a job tells it
    reached = [epochs_to(mine[seed], plain[seed]) for seed in seeds]
    sure = [epoch for epoch in reached if epoch is not None]
    return {
        "gap_closed": gained / gap if told else None,
        "epochs_to_plain": reached,
        "epochs_to_plain_share": statistics.fmean(sure) / epochs if len(sure) == len(reached) else None,
        "harm": sum(figure(mine[seed]) - figure(plain[seed]) < -HARM for seed in seeds),
        "worst_class": worst_class([mine[seed] for seed in seeds], [plain[seed] for seed in seeds]),
    }


def worst_class(mine: Sequence[Mapping[str, Any]], plain: Sequence[Mapping[str, Any]]) -> list[Any] | None:
    """Return the class that lost most, or gained least, in the mean over seeds, and how much; None where not kept."""
    if not all("final" in run for run in (*mine, *plain)):
        return None
    ours: list[dict[str, float]] = [run["final"]["per_class"] for run in mine]
    theirs: list[dict[str, float]] = [run["final"]["per_class"] for run in plain]
    shared = [name for name in ours[0] if all(name in one for one in (*ours, *theirs))]
    means = {name: statistics.fmean(a[name] - b[name] for a, b in zip(ours, theirs, strict=True)) for name in shared}
    worst = min(means, key=lambda name: means[name], default=None)
    return None if worst is None else [worst, means[worst]]


def over_sets(summaries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return for each pair of arms what one is above the other over all sets: each set has the same say.

    The interval is of the mean over these sets, by Welch and Satterthwaite from the spread over seeds within each: it
    speaks of other seeds, and not of other sets, of which the sign test does.
    """
    arms = list(dict.fromkeys(arm for one in summaries.values() for arm in one))
    found: dict[str, Any] = {}
    for arm in arms:
        for other in arms:
            values = {
                name: one[arm][f"minus_{other}_by_seed"]
                for name, one in summaries.items()
                if f"minus_{other}_by_seed" in one.get(arm, {})
            }
            if values:
                found.setdefault(arm, {})[f"minus_{other}"] = joined(values)
    return found


def joined(values: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """Return mean, interval, p, sign test and worst set of paired differences, given set by set."""
    means = {name: statistics.fmean(differences) for name, differences in values.items()}
    worst = min(means, key=lambda name: means[name])
    low, high, p = welch(list(values.values()))
    return {
        "num_sets": len(values),
        "num_pairs": sum(map(len, values.values())),
        "mean": statistics.fmean(means.values()),
        "interval": None if low is None else [low, high],
        "p": p,
        "sign_test_p": sign_test(list(means.values())),
        "sets_above": sum(mean > 0 for mean in means.values()),
        "pairs_above": sum(value > 0 for differences in values.values() for value in differences),
        "harm": sum(value < -HARM for differences in values.values() for value in differences),
        "worst_set": [worst, means[worst]],
    }


def welch(groups: Sequence[Sequence[float]]) -> tuple[float | None, float | None, float | None]:
    """Return interval and two-sided p of the mean of the groups' means; None where a group has one value alone."""
    if any(len(group) < 2 for group in groups):
        return None, None, None
    shares = [statistics.variance(group) / len(group) / len(groups) ** 2 for group in groups]
    error, mean = math.sqrt(sum(shares)), statistics.fmean(map(statistics.fmean, groups))
    if error == 0:
        return mean, mean, float(mean == 0)
    freedom = sum(shares) ** 2 / sum(share**2 / (len(group) - 1) for share, group in zip(shares, groups, strict=True))
    half = float(stats.t.ppf((1 + LEVEL) / 2, freedom)) * error
    return mean - half, mean + half, float(2 * stats.t.sf(abs(mean) / error, freedom))


def interval(values: Sequence[float]) -> list[float] | None:
    """Return the 95 % interval of the mean by Student's t; none for a single pair."""
    low, high, _ = welch([values])
    return None if low is None or high is None else [low, high]


def p_value(values: Sequence[float]) -> float | None:
    """Return p of Student's paired t test, two-sided; none for a single pair."""
    return welch([values])[2]


def sign_test(values: Sequence[float]) -> float | None:
    """Return p of the two-sided sign test, ties left out; none where nothing is left."""
    above, below = sum(value > 0 for value in values), sum(value < 0 for value in values)
    return float(stats.binomtest(above, above + below).pvalue) if above + below else None


def order(runs: list[dict[str, Any]]) -> list[str]:
    """Return the arms as they first appear."""
    return list(dict.fromkeys(run["recipe"] for run in runs))


def epochs_to(run: dict[str, Any], plain: dict[str, Any]) -> int | None:
    """Return the first epoch, counted from 1, that is as good as plain's best."""
    values = [point[1] or 0.0 for point in run["curve"]]
    return next((index for index, value in enumerate(values, 1) if value >= plain["map50_95"]), None)


def table(result: dict[str, Any]) -> str:
    """Return the summaries as text."""
    lines = []
    for name, entry in result["sets"].items():
        teacher = entry["teacher"].get("final", entry["teacher"])
        lines += ["", f"{name}, judged on {entry['data'].get('judged_on', 'val')}; teacher {teacher['map50_95']:.4f}"]
        lines.append(f"{'arm':22s} seeds  mAP50-95  best    minutes  harm  minus plain")
        for arm, found in entry["summary"].items():
            above = difference_text(
                found.get("minus_plain"), found.get("minus_plain_interval"), found.get("minus_plain_p")
            )
            means = (
                f"{found['mean']:.4f}    {found['mean_best']:.4f}  {found['minutes']:7.1f}  {found.get('harm', '-'):>4}"
            )
            lines.append(f"{arm:22s} {found['num_seeds']:5d}  {means}  {above}")
    if len(result["sets"]) > 1:
        lines += ["", "over all sets"]
        for arm, others in result["over_sets"].items():
            for other in ("minus_plain", "minus_equal_time"):
                if other in others:
                    lines.append(f"{arm:22s} {other:17s} {over_text(others[other])}")
    return "\n".join(lines)


def difference_text(mean: float | None, span: Sequence[float] | None, p: float | None) -> str:
    """Return a difference with what is known of its chance."""
    if mean is None:
        return "-"
    return f"{mean:+.4f}" + ("" if span is None else f" [{span[0]:+.4f}, {span[1]:+.4f}] p {p:.3g}")


def over_text(found: Mapping[str, Any]) -> str:
    """Return what is known over all sets in one line."""
    worst, value = found["worst_set"]
    signs = (
        f"{found['sets_above']} of {found['num_sets']} sets and {found['pairs_above']} of {found['num_pairs']} pairs"
    )
    return (
        f"{difference_text(found['mean'], found['interval'], found['p'])}; above in {signs}; "
        f"worst {worst} {value:+.4f}; harm in {found['harm']}"
    )
