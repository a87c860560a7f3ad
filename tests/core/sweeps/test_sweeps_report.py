"""The page of a sweep: it needs nothing else, and shows every trial, the plot and the best spec."""

from __future__ import annotations

import re
from typing import Any

import pytest
from retort.spec import parse_sweep
from retort.sweeps.planner import sentence
from retort.sweeps.report import render
from retort.sweeps.search_space import child
from retort.sweeps.trial_plots import history, parallel, round_ticks, shorten

BASE = {"name": "a", "data": {"path": "/data"}, "teacher": {"weights": "yolo11l.pt"}}
PARAMETERS = {
    "training.lr": {"min": 0.001, "max": 0.1, "log": True},
    "training.batch": {"min": 8, "max": 32, "step": 8},
    "student.model": {"values": ["yolov8n", "yolo11n"]},
    "control": {"values": [True, False]},
}
STATES = ("queued", "running", "succeeded", "failed", "pruned", "cancelled")


def shown(trials: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    """A sweep as the API shows it."""
    search = {"strategy": "random", "trials": 9}
    spec = parse_sweep({"name": "s-1", "base": BASE, "parameters": PARAMETERS, "search": search})
    good = [one for one in trials if one["state"] == "succeeded"]
    best = max(good, key=lambda one: one["value"], default=None)
    counts = {state: sum(one["state"] == state for one in trials) for state in STATES}
    about = {"id": "swp_1", "name": "s-1", "state": "running", "strategy": "random", "num_trials": 9}
    return {
        **about, "counts": counts, "best": best, "failure": None, "trials": trials,
        "spec": spec.model_dump(mode="json"), **more,
    }  # fmt: skip


def trial(number: int, state: str = "succeeded", value: float | None = 0.5, **more: Any) -> dict[str, Any]:
    point = {"training.lr": 0.01, "training.batch": 8, "student.model": "yolov8n", "control": True}
    return {
        "number": number, "state": state, "value": value, "parameters": point, "job_id": f"job_{number:032d}",
        "reason": None, **more,
    }  # fmt: skip


def test_paths_are_shortened_to_what_tells_them_apart():
    assert shorten(["training.lr", "training.batch"]) == ["lr", "batch"]
    assert shorten(["a.losses.0.weight", "a.losses.1.weight"]) == ["losses.0.weight", "losses.1.weight"]
    assert shorten(["exports.0", "student.weights", "teacher.weights"]) == [
        "exports.0", "student.weights", "teacher.weights"
    ]  # fmt: skip


def test_the_plot_has_an_axis_for_each_parameter_and_a_line_for_each_success():
    trials = [trial(1, value=0.3), trial(2, "failed", None), trial(3, value=0.6), trial(4, "running", 0.1)]
    chart = parallel(shown(trials))
    assert chart is not None
    axes = {axis.label: axis for axis in chart.axes}
    assert list(axes) == ["lr", "batch", "model", "control", "val/mAP50-95"]
    assert axes["lr"].values == (-2, -2)
    assert [text for _, text in axes["lr"].ticks][::4] == ["0.001", "0.1"]
    assert (axes["model"].values, axes["model"].texts) == ((0, 0), ("yolov8n", "yolov8n"))
    assert [text for _, text in axes["control"].ticks] == ["true", "false"]
    assert (axes["batch"].low, axes["batch"].high) == (8, 32)
    assert (chart.numbers, [chart.goodness(at) for at in (0, 1)]) == ((1, 3), [0, 1])


def test_the_best_so_far_never_falls_back():
    trials = [trial(1, value=0.3), trial(2, value=0.2), trial(3, "pruned", 0.1), trial(4, value=0.6)]
    points = history(shown(trials))
    assert [point.best for point in points] == [0.3, 0.3, 0.3, 0.6]
    assert [point.state for point in points] == ["succeeded", "succeeded", "pruned", "succeeded"]


@pytest.mark.parametrize("values", [[0.5], [0.0], [0.31, 0.33], [-2.0, 1e-9], [1e9, 3e9], [0.1, 0.1 + 1e-12]])
def test_ticks_are_round_distinct_and_hold_all_values_between_them(values: list[float]):
    low, high, ticks = round_ticks(values)
    assert low <= min(values) < max(values) + 1e-9 <= high + 1e-6
    assert 2 <= len({text for _, text in ticks}) <= 12


@pytest.mark.parametrize("trials", [[], [trial(1, "failed", None)], [trial(1, "queued", None)]])
def test_a_page_without_a_success_has_no_plot(trials: list[dict[str, Any]]):
    page = render(shown(trials), None)
    assert 'id="chart-parallel"' not in page
    assert "none has succeeded yet" in page


def test_the_page_shows_every_trial_with_the_best_first_and_loads_nothing():
    sweep = shown([trial(1, value=0.3), trial(2, "failed", None, reason="<b>diverged</b>"), trial(3, value=0.6)])
    spec = child(parse_sweep(sweep["spec"]), 3, sweep["best"]["parameters"])
    page = render(sweep, spec.model_dump(mode="json"))
    assert re.findall(r'<th scope="row" class="n">(\d+)</th>', page) == ["3", "1", "2"]
    assert "&lt;b&gt;diverged&lt;/b&gt;" in page
    assert "name: s-1-0003" in page
    assert re.search(r"Trial 3|trial 3: student val/mAP50-95 0.6000", page)
    assert re.findall(r'(?:src|href)="[^"]+"|<script|\sstyle=', page) == []
    assert re.findall(r'id="chart-(\w+)"', page) == ["parallel", "history"]


def test_names_of_strangers_are_text_in_the_drawings():
    point = {"training.lr": 0.01, "training.batch": 8, "student.model": "<script>x</script>.yaml", "control": True}
    sweep = shown([trial(1, value=0.3, parameters=point)])
    sweep["spec"]["parameters"]["student.model"]["values"].append(point["student.model"])
    page = render(sweep, None)
    assert ("<script" in page, "&lt;script&gt;" in page) == (False, True)


def test_a_sweep_says_in_words_where_it_stands():
    assert sentence(shown([trial(1), trial(2, "running", None)])) == (
        "1 of 9 trials have ended; the best so far is trial 1: student val/mAP50-95 0.5000."
    )
    told = sentence(shown([trial(1)], state="succeeded"))
    assert told.startswith(
        "Trial 1 is the best of 9: student val/mAP50-95 0.5000. It was chosen by this value, which flatters it"
    )
    failure = {"message": "the last 2 trials failed"}
    assert sentence(shown([trial(1, "failed", None)], failure=failure)) == "Gave up: the last 2 trials failed."
