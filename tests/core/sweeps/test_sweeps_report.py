"""The page of a sweep: it needs nothing else, and shows every trial, the plot and the best spec."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from retort.spec import parse_sweep
from retort.sweeps.planner import sentence
from retort.sweeps.report import history, parallel, render, shorten
from retort.sweeps.search_space import child

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
    [trace] = chart["data"]
    axes = {axis["label"]: axis for axis in trace["dimensions"]}
    assert list(axes) == ["lr", "batch", "model", "control", "val/mAP50-95"]
    assert axes["lr"]["values"] == [-2, -2]
    assert (axes["lr"]["ticktext"][0], axes["lr"]["ticktext"][-1]) == ("0.001", "0.1")
    assert (axes["model"]["values"], axes["model"]["ticktext"]) == ([0, 0], ["yolov8n", "yolo11n"])
    assert axes["control"]["ticktext"] == ["true", "false"]
    assert axes["batch"]["range"] == [8, 32]
    assert trace["line"]["color"] == axes["val/mAP50-95"]["values"] == [0.3, 0.6]


def test_the_best_so_far_never_falls_back():
    trials = [trial(1, value=0.3), trial(2, value=0.2), trial(3, "pruned", 0.1), trial(4, value=0.6)]
    chart = history(shown(trials))
    assert chart is not None
    traces = {trace["name"]: trace for trace in chart["data"]}
    assert traces["best so far"]["y"] == [0.3, 0.3, 0.6]
    assert (traces["pruned"]["x"], traces["succeeded"]["x"]) == ([3], [1, 2, 4])


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
    outside = page.replace(page[page.index("<script>") : page.index("</script>")], "")
    assert re.findall(r'(?:src|href)="[^"]+"', outside) == []
    charts = json.loads(re.search(r'id="charts">(.*?)</script>', page, re.DOTALL).group(1))  # type: ignore[union-attr]
    assert [chart["name"] for chart in charts] == ["parallel", "history"]


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
