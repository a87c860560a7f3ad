"""The commands for sweeps, against a real service whose runs are scripted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from cli.commands import ROOT, Retort
from retort.spec import parse_document, parse_sweep
from retort.sweeps.search_space import check


@pytest.fixture
def document(tmp_path: Path) -> Path:
    """A sweep over learning rates, of which 0.1 is the best and those above 0.5 fail."""
    digits = parse_document((ROOT / "examples" / "specs" / "digits.yaml").read_bytes())
    training = {**digits["training"], "epochs": 2}
    base = {**digits, "data": {"path": str(ROOT / "examples" / "data" / "digits")}, "training": training}
    parameters = {"training.lr": {"values": [0.05, 0.1, 0.9]}}
    given = {"name": "searched", "base": base, "parameters": parameters, "search": {"strategy": "grid"}}
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({**given, "concurrency": 3}))
    return path


def test_a_sweep_is_followed_to_its_end_and_gives_its_best_spec_and_page(
    served: Retort, document: Path, tmp_path: Path
):
    ended = served("sweep", document, "--watch")
    assert ended.code == 0, ended.err
    assert "Trial 2 is the best of 3: student val/mAP50-95 1.0000." in ended.out
    assert "lr=0.1" in ended.out
    [line] = [line for line in ended.err.splitlines() if line.startswith("swp_")]
    sweep_id = line.split()[0]

    shown = served("sweep-get", sweep_id[-8:])
    assert "the loss is not a number" in shown.out
    assert sweep_id in served("sweeps").out
    best = served("sweep-best", sweep_id, "--out", tmp_path / "best.yaml")
    assert best.code == 0
    assert parse_document((tmp_path / "best.yaml").read_bytes())["training"]["lr"] == 0.1
    assert served("submit", tmp_path / "best.yaml", "--set", "name=finish").code == 0
    assert served("sweep-report", sweep_id, "--out", tmp_path / "sweep.html").code == 0
    assert "chart-parallel" in (tmp_path / "sweep.html").read_text()
    again = served("sweep-watch", sweep_id, "--json")
    *trials, sweep = [json.loads(line) for line in again.out.splitlines()]
    assert (again.code, sweep["best"]["number"]) == (0, 2)
    assert [trial["number"] for trial in trials] == [trial["number"] for trial in sweep["trials"]]


def test_fields_of_the_base_are_replaced_and_its_data_path_made_absolute(served: Retort):
    path = ROOT / "examples" / "specs" / "article-sweep.yaml"
    submitted = served("sweep", path, "--set", "base.training.epochs=5", "--set", "name=wait", "--json")
    assert submitted.code == 0, submitted.err
    sweep = submitted.json
    assert sweep["spec"]["base"]["training"]["epochs"] == 5
    assert sweep["spec"]["base"]["data"]["path"] == str(ROOT / "examples" / "data" / "digits")
    cancelled = served("sweep-cancel", sweep["id"])
    assert cancelled.out.startswith(f"{sweep['id']} is cancel")
    assert served("sweep-watch", sweep["id"]).code == 2


def test_the_example_searches_the_temperatures_and_weights_of_the_article():
    specs = check(parse_sweep(parse_document((ROOT / "examples" / "specs" / "article-sweep.yaml").read_bytes())))
    tried = [
        (spec.distillation.losses[0].model_dump()["temperature"], *(loss.weight for loss in spec.distillation.losses))
        for spec in specs
    ]
    assert tried == [(t, *weights) for t in (2.0, 4.0, 7.0) for weights in ((0.7, 0.3), (0.3, 0.7))]


def test_a_sweep_is_checked_without_a_service(retort: Retort, document: Path):
    valid = retort("validate", document, "--json")
    assert (valid.code, valid.json["failures"]) == (0, 5)
    wrong = retort("validate", document, "--set", "parameters={training.lrr: {values: [0.1]}}", "--json")
    assert (wrong.code, wrong.error["errors"][0]["path"]) == (4, "parameters.training.lrr")


def test_a_wrong_sweep_is_told_with_its_parameter(served: Retort, document: Path):
    refused = served("sweep", document, "--set", "parameters={training.lr: {values: [5.0]}}")
    assert refused.code == 4
    assert "parameters.training.lr: should be less than or equal to 1, got 5.0" in refused.err


def test_a_sweep_that_is_not_there_is_said_to_be_missing(served: Retort):
    missing = served("sweep-get", "nowhere", "--json")
    assert (missing.code, missing.error["code"]) == (4, "sweep_not_found")
