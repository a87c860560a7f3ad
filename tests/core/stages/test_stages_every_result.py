"""Every combination of what a job may find out, or not, can be read, rendered and shown."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import combinations, product
from typing import Any

import pytest
from results import result
from retort import chart_program
from retort.cli import render
from retort.report import charts
from retort.report import html as report_html
from retort.report.health import HealthReport
from retort.report.plain import plain_page
from retort.report.samples import Gallery
from retort.report.usage import usage
from retort.report.verdict import Noise, verdict
from retort.spec.exported import MeasuredExport, UnmeasuredExport
from retort.spec.report import Manifest
from retort.spec.result import JobResult, parse_result, readable_result
from rich.console import Console
from stored_results import EXPORTS, EXTRAS, PARTS, VERDICT, advice, candidate, role, stored

STATUSES = [chosen for number in range(len(EXPORTS) + 1) for chosen in combinations(EXPORTS, number)]
"""Every set of statuses, from none to all."""


def manifest(found: JobResult) -> Manifest:
    labels = found.pseudo_labels
    return Manifest.model_validate({
        "name": "digits", "spec_digest": found.spec_digest, "training": {"epochs": 2, "planned_epochs": 2, "batch": 8},
        "student": {"model": "yolov8n", "file": "student.pt", "sha256": "1" * 64}, "starting_weights": {},
        "teacher": {"model": "yolo11s", "sha256": "2" * 64},
        "ensemble": [{**one.model_dump(), "sha256": "3" * 64} for one in found.ensemble],
        "unlabelled": found.unlabelled, "dataset": {
            "digest": "d" * 64, "num_train": 400, "num_val": 500, "known_as": None, "archives": {},
        },
        "pseudo_labels": labels and {
            **labels.model_dump(), "reviewed_precision": labels.review and labels.review.precision,
        },
        "classes": found.dataset.names, "seeds": [0], "device": found.device, "versions": found.versions, "metrics": {},
        "license": "AGPL-3.0", "created_at": "2026-11-28T00:00:00+00:00",
    })  # fmt: skip


@pytest.fixture(autouse=True)
def _without_plotly(monkeypatch: pytest.MonkeyPatch) -> None:
    # Four megabytes that are the same in each of some hundred pages.
    monkeypatch.setattr(chart_program, "embedded", str)


def rendered(found: JobResult, *, with_manifest: bool = True) -> str:
    return report_html.render(
        name="digits", judged=found.verdict or verdict(found, Noise()), result=found,
        charts=charts.charts({}, found.roles), comparisons=charts.comparisons(found),
        quantization=charts.quantization(found), labelling=charts.labelling(found),
        ecg=HealthReport((), (), (), ()), gallery=Gallery((), ()), usage=usage("job-1", "student.pt", found),
        manifest=manifest(found) if with_manifest else None, spec={},
    )  # fmt: skip


class Anchors(HTMLParser):
    """Collects what a page links to, and what links within it can lead to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.parts: list[str | None] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"] or ""] if "id" in given else []
        self.links += [given["href"] or ""] if "href" in given else []
        self.parts += [given.get("id")] if tag == "h2" else []


def shown(found: JobResult) -> str:
    console = Console(width=200, no_color=True)
    with console.capture() as capture:
        for part in render.result_parts(found):
            console.print(part)
    return capture.get()


@pytest.mark.parametrize("statuses", STATUSES, ids=lambda chosen: " ".join(chosen) or "none")
def test_exports_of_any_statuses_are_rendered_and_shown(statuses: tuple[str, ...]):
    found = result(exports=[EXPORTS[status] for status in statuses])

    html, text = rendered(found), shown(found)

    for status in statuses:
        assert EXPORTS[status]["path"] in html
        assert EXPORTS[status]["path"] in text
    if "differs" in statuses:
        assert "it differs" in html
        assert "it differs" in text


@pytest.mark.parametrize("first", PARTS)
@pytest.mark.parametrize("second", PARTS)
def test_any_two_optional_parts_are_rendered_and_shown_with_exports_of_every_status(first: str, second: str):
    found = result(**{**PARTS[first], **PARTS[second], "exports": list(EXPORTS.values())})

    page = rendered(found)
    assert "Who reached what" in page
    assert "student" in shown(found)
    anchors = Anchors(page)
    assert len(set(anchors.ids)) == len(anchors.ids)
    contents = [link.removeprefix("#") for link in anchors.links if link.startswith("#")]
    assert [part for part in contents if part in anchors.parts][-len(anchors.parts) :] == anchors.parts
    assert set(contents) <= set(anchors.ids)


def test_page_and_terminal_say_the_stored_verdict_and_no_difference_of_their_own():
    given = stored(0.6789, 0.4567, 0.379, verdict={**VERDICT, "difference": 0.1234, "gap_closed": None})
    for figures in given["roles"].values():
        figures.update(per_class={}, by_size={})
    found = parse_result(
        {**given, "gain": {"map50": 0.0777, "map": 0.0777}, "gap_closed": {"map50": None, "map": 0.26}}
    )
    assert isinstance(found, JobResult)

    for told in (rendered(found), shown(found)):
        words = told.partition("</style>")[2] or told
        assert "No difference is shown, says the one judge." in words
        assert "One seed is no proof." in words
        assert not re.search(r"7\.7[0-9]|7\.8|0\.077|26(\.0)?\s?%", words)  # student less control, or its share


@pytest.mark.parametrize("statuses", list(product(EXTRAS, repeat=3)), ids=" ".join)
@pytest.mark.parametrize("roles", [{}, {"control": None}, {"unmeasured": True}, {"control": None, "unmeasured": True}])
def test_extras_of_any_statuses_are_told_by_page_plain_page_and_terminal(
    statuses: tuple[str, ...], roles: dict[str, Any]
):
    """Control, export and picture may each be done, have failed, be skipped or have taken too long."""
    extras = [{**EXTRAS[status], "name": f"extra {number}"} for number, status in enumerate(statuses)]
    found = result(**roles, extras=extras)

    for text in (rendered(found), plain_page("digits", verdict(found, Noise()), found), shown(found)):
        for number, status in enumerate(statuses):
            told = f"extra {number}" in text.partition("The result, as programs read it")[0]
            assert told == (status != "done")
        assert all(f"why it is {status}" in text for status in statuses if status != "done")


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_start_the_last_epoch_and_the_line_that_repeats_a_figure_are_shown(split: str):
    given = stored()
    line = f"yolo detect val model=student.pt data=/d/data.yaml split={split}"
    last = {"map50": 0.5, "map": 0.4321} if split == "val" else None
    given["roles"]["start"] = role(0.1234, epochs=None, split=split, letterbox="rectangle", max_det=300)
    given["roles"]["student"].update(
        split=split, letterbox="rectangle", max_det=300, command=line, best_epoch=1, last=last
    )
    found = parse_result(given)
    assert isinstance(found, JobResult)

    page, text = rendered(found), shown(found)

    assert "12.3" in page
    assert "0.1234" in text
    for told in (page, " ".join(text.split())):
        assert line in told
        assert "rectangle" in told
    assert ("43.2" in page, "0.4321" in text) == (split == "val", split == "val")
    assert "1 of 2" in page


def test_a_page_without_its_manifest_is_rendered():
    assert "Who reached what" in rendered(result(), with_manifest=False)


def test_a_result_is_written_as_it_was_read():
    for part in PARTS.values():
        given = stored(**part, exports=list(EXPORTS.values())[:-1])
        assert parse_result(given).model_dump(mode="json") == given


def test_fields_that_a_newer_version_has_added_are_passed_over():
    given = stored(added=1, exports=[{**EXPORTS["passed"], "added": 1}])
    given["roles"]["student"]["added"] = {"deeply": 1}

    assert parse_result(given) == result(exports=[EXPORTS["passed"]])


def test_a_result_from_before_what_was_added_since_can_be_read():
    given = stored(exports=[EXPORTS["from before"]])
    for name in (
        "ensemble",
        "extras",
        "training",
        "control_dropped",
        "seeds",
        "data_quality",
        "unlabelled",
        "pseudo_labels",
        "verdict",
    ):
        del given[name]
    for figures in given["roles"].values():
        for name in ("by_size", "throughput", "peak_memory_bytes", "runtime", "device", "imgsz"):
            del figures[name]

    found = parse_result(given)

    assert isinstance(found, JobResult)
    assert isinstance(found.exports[0], UnmeasuredExport)
    assert "Who reached what" in rendered(found)
    assert "old.onnx" in shown(found)


@pytest.mark.parametrize("given", [None, {}, {"roles": {}}, {"task": "advise"}, [], 5])
def test_what_is_no_result_is_read_as_none_and_logged(given: Any, caplog: pytest.LogCaptureFixture):
    assert readable_result(given) is None

    assert [record.message.partition(":")[0] for record in caplog.records] == (
        [] if given is None else ["a stored result cannot be read"]
    )


def test_only_a_form_with_figures_counts_as_measured():
    kinds = {status: type(result(exports=[export]).exports[0]) for status, export in EXPORTS.items()}

    measured = {status for status, kind in kinds.items() if kind is MeasuredExport}
    assert measured == {"passed", "over_budget", "no_score", "differs"}


@pytest.mark.parametrize("verdict", ["recommended", "possible", "refused"])
def test_advice_is_written_as_it_was_read_and_shown_whatever_it_says(verdict: str):
    broken = {
        "weights": "x.pt",
        "title": "x",
        "error": "no network",
        "verdict": "refused",
        "reasons": ["It is broken."],
    }
    given = advice(candidate(verdict=verdict), broken)

    found = parse_result(given)

    assert found.model_dump(mode="json") == given
    console = Console(width=200, no_color=True)
    with console.capture() as capture:
        for part in render.result_parts(found):
            console.print(part)
    assert "It is broken." in capture.get()


@pytest.mark.parametrize("untimed", [("student",), ("teacher", "student", "control")], ids=" ".join)
def test_networks_that_could_not_be_timed_are_shown_without_a_latency(untimed: tuple[str, ...]):
    given = stored()
    for name in untimed:
        given["roles"][name].update(latency_ms=None, throughput={}, peak_memory_bytes=None)
    found = parse_result(given)
    assert isinstance(found, JobResult)

    page, text = rendered(found), shown(found)

    assert f"<dt>Student latency</dt><dd>{report_html._NONE}</dd>" in page
    assert "None" not in page + text
    (line,) = [line for line in text.splitlines() if line.lstrip().startswith("student ")]
    assert not line.rstrip().endswith("ms")
