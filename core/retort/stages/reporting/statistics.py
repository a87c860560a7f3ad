"""What distillation bought over several seeds: the mean difference of pairs, its interval and its test."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from retort.spec.figures import Difference, SeedStatistics, Spread

LEVEL = 0.95
"""Of the interval."""


def over_seeds(pairs: Sequence[tuple[float, float]]) -> SeedStatistics | None:
    """Compare one metric of student and control of each seed; None for less than two pairs.

    Student's paired t: seeds are drawn alike for both of a pair, so that only their differences count.

    Returns:
        Number of pairs, mean and standard deviation (n - 1) of student, control and difference, the difference's
        two-sided interval, and the p-value of no difference.

    """
    if len(pairs) < 2:
        return None
    students, controls = zip(*pairs, strict=True)
    differences = [ours - theirs for ours, theirs in pairs]
    low, high, p_value = paired(differences)
    return SeedStatistics(
        num_seeds=len(pairs),
        student=_spread(students),
        control=_spread(controls),
        difference=Difference(**dict(_spread(differences)), low=low, high=high, level=LEVEL, p_value=p_value),
    )


def paired(differences: Sequence[float]) -> tuple[float, float, float]:
    """Return the interval of the mean of *differences*, and the p-value of its being 0, by Student's t."""
    from scipy import stats

    mean, error = statistics.mean(differences), statistics.stdev(differences) / len(differences) ** 0.5
    if error == 0:
        return mean, mean, 1.0 if mean == 0 else 0.0
    reach = float(stats.t.ppf((1 + LEVEL) / 2, len(differences) - 1)) * error
    return mean - reach, mean + reach, float(stats.ttest_1samp(differences, 0.0).pvalue)


def _spread(values: Sequence[float]) -> Spread:
    return Spread(mean=statistics.mean(values), deviation=statistics.stdev(values))
