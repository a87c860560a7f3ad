"""``retort eval`` and ``retort compare``: what they ask for, and how the answer looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cli.commands import Retort
from retort.cli import evaluate, render
from retort.errors import FieldProblem, SpecError
from retort.spec import EvaluateSpec, parse_spec
from retort.spec.evaluated import EvaluationResult
from retort.spec.result import parse_result, readable_result
from rich.console import Console, Group
from stored_results import role

RESULT = {
    "task": "evaluate",
    "networks": [
        {**role(0.4), "weights": "a.pt", "title": "a", "imgsz": 640, "command": "yolo val a"},
        {**role(0.5), "weights": "b.pt", "title": "b", "imgsz": 320},
    ],
    "differences": [
        {
            "weights": "b.pt", "difference": 0.1, "kind": "gain", "sentence": "b is better than a.",
            "interval": {"low": 0.05, "high": 0.15, "level": 0.95, "num_images": 8, "num_resamples": 200},
        },
    ],
    "names": ["cat"], "num_images": 8, "digest": "0" * 64, "device": "cpu",
}  # fmt: skip


def test_a_stored_evaluation_is_read_as_one():
    assert isinstance(parse_result(RESULT), EvaluationResult)
    assert readable_result(parse_result(RESULT).model_dump(mode="json")) == parse_result(RESULT)


def test_the_answer_names_figures_differences_and_the_line_that_gives_them():
    console = Console(width=120, no_color=True)
    with console.capture() as capture:
        console.print(Group(*render.result_parts(parse_result(RESULT))))

    for told in ("0.4000", "0.5000", "320", "b is better than a.", "yolo val a", "on 8 images"):
        assert told in capture.get()


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"networks": []}, "networks"),
        ({"networks": ["a.pt", "a.pt"]}, "networks.1"),
        ({"imgsz": 100}, "imgsz"),
        ({"adapters": {"b.onnx": {}}}, "adapters.b.onnx"),
        ({"networks": ["a.pt", "b.pt"], "exports": [{"format": "onnx"}]}, "exports"),
        ({"exports": [{"format": "onnx", "precision": "int8", "aware_epochs": 3}]}, "exports.0.aware_epochs"),
    ],
    ids=str,
)
def test_a_request_that_cannot_be_measured_is_refused(change: dict[str, object], path: str):
    with pytest.raises(SpecError) as caught:
        parse_spec({"task": "evaluate", "data": {"path": "d"}, "networks": ["a.pt"], **change})

    assert [problem.path for problem in caught.value.problems] == [path]


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ((), {}),
        (("--imgsz", "384,640", "--nms"), {"imgsz": [384, 640], "nms": True}),
        (("--imgsz", "640", "--nms-free"), {"nms": False}),
        (("--batch", 4, "--dynamic"), {"batch": 4, "dynamic": True}),
    ],
    ids=str,
)
def test_a_forgotten_export_takes_the_options_of_a_job(
    arguments: tuple[object, ...], asked: dict[str, object], retort: Retort, monkeypatch: pytest.MonkeyPatch
):
    """There was no NMS, no shape and no batch on the command line."""
    seen: list[dict[str, Any]] = []

    def parsed(document: dict[str, Any]) -> None:
        seen.append(document)
        raise SpecError([FieldProblem("$", "seen", None)])

    monkeypatch.setattr(evaluate, "parse_spec", parsed)
    monkeypatch.setattr(evaluate, "register_weights", lambda document, _: document)

    retort("export", "a.pt", "--data", "here", "--format", "onnx:fp16", *arguments)

    assert seen[0]["exports"] == [{"format": "onnx", "precision": "fp16", **asked}]
    assert seen[0]["imgsz"] == (640 if "640" in arguments else None)


def test_a_size_that_is_none_is_refused(retort: Retort):
    told = retort("export", "a.pt", "--data", "here", "--format", "onnx", "--imgsz", "wide")
    assert told.code == 4
    assert "384,640" in told.err


def test_the_smallest_request_has_its_defaults():
    spec = parse_spec({"task": "evaluate", "data": {"path": "d"}, "networks": ["a.pt"]})
    assert isinstance(spec, EvaluateSpec)
    assert (spec.imgsz, spec.name) == (None, "evaluation")


def test_one_network_is_not_compared(retort: Retort):
    told = retort("compare", "a.pt", "--data", "here")
    assert told.code == 4
    assert "retort eval measures one" in told.err


def test_weights_that_are_nowhere_are_told_before_anything_is_measured(
    retort: Retort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    retort("data", "demo", "digits", "--train", 2, "--val", 1, "--imgsz", 64)

    told = retort("eval", "mine.pt", "--data", "digits", "--device", "cpu")

    assert told.code == 4
    assert "no weights mine.pt" in told.err
