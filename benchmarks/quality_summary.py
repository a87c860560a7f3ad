"""Paired differences between recipes: means, spreads and intervals over seeds."""

from __future__ import annotations

import math
import statistics
from typing import Any

T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}
"""Student's t, two-sided 95 %, by number of pairs."""


def summary(runs: list[dict[str, Any]], *, teacher: float, epochs: int) -> dict[str, Any]:
    """Return for each recipe mean and spread of mAP50-95, and what it is above each other recipe, paired by seed."""
    by = {recipe: {run["seed"]: run for run in runs if run["recipe"] == recipe} for recipe in order(runs)}
    found: dict[str, Any] = {}
    for recipe, mine in by.items():
        values = [run["map50_95"] for run in mine.values()]
        entry: dict[str, Any] = {
            "num_seeds": len(values),
            "mean": statistics.fmean(values),
            "std": statistics.stdev(values) if len(values) > 1 else None,
            "mean_map50": statistics.fmean(run["map50"] for run in mine.values()),
        }
        for other, theirs in by.items():
            shared = sorted(mine.keys() & theirs.keys())
            if other != recipe and shared:
                entry[f"minus_{other}"] = statistics.fmean(difference(mine, theirs, shared))
                entry[f"minus_{other}_interval"] = interval(difference(mine, theirs, shared))
        plain = by.get("plain", {})
        shared = sorted(mine.keys() & plain.keys())
        if recipe != "plain" and shared:
            base = statistics.fmean(plain[seed]["map50_95"] for seed in shared)
            shown, gap = entry["minus_plain_interval"], teacher - base
            told = shown is not None and shown[0] > 0 and gap >= max(0.02, entry["minus_plain"])
            entry["gap_closed"] = entry["minus_plain"] / gap if told else None  # as the verdict of a job tells it
            reached = [epochs_to(mine[seed], plain[seed]) for seed in shared]
            entry["epochs_to_plain"] = reached
            entry["epochs_to_plain_share"] = (
                None if None in reached else statistics.fmean(e for e in reached if e is not None) / epochs
            )
        found[recipe] = entry
    return found


def order(runs: list[dict[str, Any]]) -> list[str]:
    """Return the recipes as they first appear."""
    return list(dict.fromkeys(run["recipe"] for run in runs))


def difference(mine: dict[int, Any], theirs: dict[int, Any], seeds: list[int]) -> list[float]:
    """Return mAP50-95 of mine minus theirs, seed by seed."""
    return [mine[seed]["map50_95"] - theirs[seed]["map50_95"] for seed in seeds]


def interval(values: list[float]) -> list[float] | None:
    """Return the 95 % interval of the mean by Student's t; none for a single pair."""
    if len(values) < 2:
        return None
    half = T_95.get(len(values), 2.0) * statistics.stdev(values) / math.sqrt(len(values))
    return [statistics.fmean(values) - half, statistics.fmean(values) + half]


def epochs_to(run: dict[str, Any], plain: dict[str, Any]) -> int | None:
    """Return the first epoch, counted from 1, that is as good as plain's best."""
    values = [point[1] or 0.0 for point in run["curve"]]
    return next((index for index, value in enumerate(values, 1) if value >= plain["map50_95"]), None)


def table(result: dict[str, Any]) -> str:
    """Return the summary as text."""
    lines = [f"teacher {result['teacher']['map50_95']:.4f}", "recipe     seeds  mAP50   mAP50-95  std     minus plain"]
    for recipe, entry in result["summary"].items():
        spread = "-" if entry["std"] is None else f"{entry['std']:.4f}"
        above = f"{entry['minus_plain']:+.4f}" if "minus_plain" in entry else "-"
        span = entry.get("minus_plain_interval")
        above += f" [{span[0]:+.4f}, {span[1]:+.4f}]" if span else ""
        mean = f"{entry['mean_map50']:.4f}  {entry['mean']:.4f}"
        lines.append(f"{recipe:10s} {entry['num_seeds']:5d}  {mean}    {spread:7s} {above}")
    return "\n".join(lines)
