"""What a finished run leaves to read: the manifest, and the report for machines and for people."""

from __future__ import annotations

import hashlib
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from core.conftest import Life
from PIL import Image
from retort.protocol.events import FinishedEvent, HealthEvent
from retort.report.usage import usage
from retort.spec import digest, parse_spec
from retort.spec.result import parse_result


@pytest.fixture
def artifacts(life: Life) -> Path:
    return life.workdir / "artifacts"


@pytest.fixture
def report(artifacts: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((artifacts / "report.json").read_text())
    return found


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_report_for_machines_holds_the_result_of_the_run(life: Life, report: dict[str, Any]):
    last = life.finished.said()[-1]
    assert isinstance(last, FinishedEvent)
    assert report["result"] == last.result.model_dump(mode="json")
    assert digest(parse_spec(report["spec"])) == report["result"]["spec_digest"]


def test_the_report_holds_every_metric_of_every_role_and_epoch_once(report: dict[str, Any]):
    curves = report["curves"]
    assert curves.keys() == {"teacher", "student", "control"}
    assert curves["teacher"]["val/mAP50-95"]["step"] == [0, 1]
    assert curves["student"]["train/kd/pearson"]["step"] == [1, 2]
    for series in curves.values():
        for points in series.values():
            assert len(points["step"]) == len(points["value"])
            assert points["step"] == sorted(set(points["step"]))


def test_the_report_shows_the_ecg_with_its_verdicts_and_heatmaps(life: Life, artifacts: Path, report: dict[str, Any]):
    said = [event for event in life.finished.said() if isinstance(event, HealthEvent)]
    assert [finding["message"] for finding in report["health"]] == [event.message for event in said]
    assert report["curves"]["student"]["health/kl_background"]["step"] == [1, 2]
    page = Page()
    page.feed((artifacts / "report.html").read_text())
    names = {chart["name"] for chart in json.loads(page.charts)}
    assert names >= {"ecg-kl", "ecg-alike", "ecg-gradients", "ecg-temperatures"}
    assert page.text.count("cosine P5") == page.text.count("KL of classes") == 4  # one for each validation image
    last = {event.rule: event for event in said}
    assert all(event.advice in page.text for event in last.values() if event.verdict != "healthy")


def test_the_manifest_says_where_the_student_comes_from(artifacts: Path, report: dict[str, Any]):
    manifest = json.loads((artifacts / "manifest.json").read_text())
    assert manifest == report["manifest"]
    assert manifest["student"]["sha256"] == sha256(artifacts / "student.pt")
    assert manifest["teacher"]["sha256"] == sha256(artifacts / "teacher.pt")
    assert (manifest["license"], manifest["seeds"]) == ("AGPL-3.0", [0])
    assert manifest["versions"].keys() >= {"retort", "ultralytics", "torch", "python"}
    assert manifest["metrics"]["student"].keys() == {"val/mAP50", "val/mAP50-95"}


class Page(HTMLParser):
    """Collects what a page would load, and what it shows."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.text = ""
        self.charts = ""
        self._in_charts = False
        self._in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.loads += [str(given[name]) for name in ("src", "href") if given.get(name) and tag != "a"]
        self.links += [str(given["href"])] if tag == "a" else []
        self._in_script = tag in {"script", "style"}
        self._in_charts = given.get("id") == "charts"

    def handle_endtag(self, tag: str) -> None:  # noqa: ARG002
        self._in_script = self._in_charts = False

    def handle_data(self, data: str) -> None:
        if self._in_charts:
            self.charts += data
        elif not self._in_script:
            self.text += data


@pytest.fixture
def page(artifacts: Path) -> Page:
    found = Page()
    found.feed((artifacts / "report.html").read_text())
    return found


def test_the_page_loads_nothing_from_anywhere(page: Page):
    assert page.loads
    assert all(source.startswith("data:image/jpeg;base64,") for source in page.loads)


def test_the_page_links_to_files_that_are_there_and_tells_its_run(life: Life, page: Page, artifacts: Path):
    """The report once had no id of its job, no link to report.json and other files, and no navigation."""
    files = [link for link in page.links if not link.startswith("#")]

    assert set(files) == {"student.pt", "student-fp32.onnx", "manifest.json", "report.json"}
    assert all((artifacts / file).is_file() for file in files)
    assert f"Run {life.workdir.name}" in page.text
    assert "before the weights are rounded to 16 bits" in (artifacts / "report.html").read_text(), "unlike the table"
    assert len([link for link in page.links if link.startswith("#")]) > 6


def test_the_lines_that_use_the_files_run_as_they_are(
    artifacts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """The report once had no lines that use it; these name files that exist, in plain Ultralytics and onnxruntime."""
    found = json.loads((artifacts / "report.json").read_text())["result"]
    told = usage("run", "student.pt", parse_result(found))  # type: ignore[arg-type]
    Image.new("RGB", (50, 40)).save(tmp_path / "image.jpg")
    for file in told.files:
        (tmp_path / file).symlink_to(artifacts / file)
    monkeypatch.chdir(tmp_path)

    for snippet in told.snippets:
        exec(snippet.code, {})  # noqa: S102 - it is the code under test

    assert [snippet.title for snippet in told.snippets] == [
        "student.pt in Ultralytics", "student-fp32.onnx in onnxruntime",
    ]  # fmt: skip
    assert f"(1, {4 + len(found['dataset']['names'])}, " in capsys.readouterr().out


def test_samples_tell_file_names_and_the_meaning_of_lines(page: Page):
    assert page.text.count(".jpg") + page.text.count(".png") >= 4
    for word in ("found: ", "wrong: ", "missed: "):
        assert word in page.text


def test_the_page_shows_each_sample_four_times_with_the_verdict_and_the_spec(page: Page, report: dict[str, Any]):
    assert len(page.loads) == 4 * 4 + 4 * 6  # and of each image the picture and five heatmaps
    assert report["verdict"]["sentence"] in page.text
    for word in ("ground truth", "teacher", "control", "student", "yolo11n", "recipe: balanced", "retort run"):
        assert word in page.text


def test_the_page_draws_losses_accuracy_classes_and_rates(page: Page):
    charts = {chart["name"]: chart for chart in json.loads(page.charts)}
    ecg = {"ecg-kl", "ecg-alike", "ecg-gradients", "ecg-temperatures"}
    beside = {"tradeoff", "sizes", "gains", "precision"}
    assert charts.keys() == {"map", "map50", "task", "kd", "validation", "lr", "classes"} | beside | ecg
    shown = [trace["name"] for trace in charts["tradeoff"]["data"]]
    assert shown == ["teacher", "control", "student", "student-fp32.onnx"]
    assert {trace["name"] for trace in charts["map"]["data"]} == {"student", "control", "teacher"}
    assert {"class_logits", "pearson", "schedule"} <= {trace["name"] for trace in charts["kd"]["data"]}
