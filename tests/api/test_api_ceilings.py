"""What clients may ask for: within the operator's ceilings, folders and accounts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from retort.access import ClientRole
from retort.db import Database
from retort.errors import SpecError
from retort.settings import Settings
from retort.spec import parse_spec
from retort_api.spec_validation import Registry, Rights, admit
from support.api_harness import SPEC, serving
from support.identity import add_key

NOTHING = Registry(lambda _: [], lambda _: None, lambda _: [], lambda _: None)


def refused(settings: Settings, *, operator: bool, **changes: Any) -> dict[str, str]:
    """Return the places at which a spec is refused, with the reasons."""
    try:
        admit(parse_spec({**SPEC, **changes}), Rights(settings, operator), NOTHING)
    except SpecError as error:
        return {problem.path: f"{problem.message} ({problem.hint})" for problem in error.problems}
    return {}


def test_a_submission_above_a_ceiling_is_422_and_names_it(small_settings: Settings):
    settings = small_settings.model_copy(update={"max_epochs": 5, "max_gpus": 1, "max_trials": 3, "max_imgsz": 640})
    spec = {**SPEC, "training": {"epochs": 6, "batch": 16}, "resources": {"gpus": 2}}
    sweep = {
        "name": "s", "base": {**SPEC, "training": {"epochs": 1}}, "search": {"strategy": "grid"},
        "parameters": {"training.epochs": {"values": [1, 2, 9]}},
    }  # fmt: skip
    many = {**sweep, "parameters": {"training.epochs": {"values": [1, 2, 3, 4]}}}
    with serving(settings) as client:
        answers = [
            client.post(path, json=body)
            for path, body in (("/v1/jobs", spec), ("/v1/validate", spec), ("/v1/sweeps", sweep), ("/v1/sweeps", many))
        ]
    assert [answer.status_code for answer in answers] == [422] * 4
    told = [{one["path"]: one["detail"] for one in answer.json()["errors"]} for answer in answers]
    assert told[0].keys() == {"training.epochs", "resources.gpus"}
    assert "5 at most (RETORT_MAX_EPOCHS)" in told[0]["training.epochs"]
    assert told[1] == told[0]
    assert told[2].keys() == {"parameters.training.epochs"}
    assert "RETORT_MAX_TRIALS" in told[3]["parameters"]


def test_folders_of_the_machine_are_closed_to_clients_unless_the_operator_opens_them(tmp_path: Path):
    """The default was ``/``: whoever could submit could train on, and so look at, any image of the machine."""
    closed, opened = Settings(home=tmp_path), Settings(home=tmp_path, data_dirs="/data:/more")
    asked = {
        "data": {"path": "/data/a", "unlabelled": {"path": "/etc"}},
        "exports": [{"format": "engine", "precision": "int8", "calibration_path": "/srv/others"}],
    }
    assert refused(closed, operator=True, **asked) == {}
    everywhere = {"data.path", "data.unlabelled.path", "exports.0.calibration_path"}
    assert refused(closed, operator=False, **asked).keys() == everywhere
    assert "RETORT_DATA_DIRS" in refused(closed, operator=False, **asked)["data.path"]
    for operator in (True, False):
        assert refused(opened, operator=operator, **asked).keys() == everywhere - {"data.path"}


def test_a_submitter_names_no_folder_of_the_machine_and_an_operator_any(small_settings: Settings, sqlite_url: str):
    ann = add_key(Database(sqlite_url), "ann", ClientRole.SUBMITTER, project="birds", owner="ann")
    with serving(small_settings.model_copy(update={"data_dirs": ()})) as client:
        answers = [client.post("/v1/jobs", json=SPEC), client.post("/v1/jobs", json=SPEC, headers=ann)]
    assert [answer.status_code for answer in answers] == [202, 422]
    assert answers[1].json()["errors"][0]["path"] == "data.path"


@pytest.mark.parametrize("operator", [True, False])
def test_trackers_of_the_operators_are_closed_to_clients_unless_opened(tmp_path: Path, operator: bool):
    """The key is the operator's: it reached every project of theirs, for whoever could submit."""
    online = {"wandb": {"project": "shared", "entity": "team", "mode": "online"}, "mlflow": {"experiment": "shared"}}
    server = {"home": tmp_path, "mlflow_uri": "http://mlflow:5000"}
    found = refused(Settings(**server, data_dirs="/"), operator=operator, tracking=online)
    assert found.keys() == (set() if operator else {"tracking.wandb", "tracking.mlflow"})
    opened = Settings(
        **server, data_dirs="/", wandb_projects="team/sha*, other/*", mlflow_experiments="shared"
    )  # fmt: skip
    assert refused(opened, operator=operator, tracking=online) == {}
    other = {"wandb": {**online["wandb"], "entity": "theirs"}, "mlflow": {"experiment": "secret"}}
    assert refused(opened, operator=operator, tracking=other).keys() == found.keys()
    offline = {"wandb": {"project": "any"}, "mlflow": {"experiment": "any"}}
    assert refused(Settings(home=tmp_path, data_dirs="/"), operator=operator, tracking=offline) == {}


def test_points_of_a_sweep_that_differ_in_their_folders_are_all_looked_at(small_settings: Settings):
    """Points with the same data and weights were looked at once, whatever else they named."""
    settings = small_settings.model_copy(update={"data_dirs": (Path("/data"),)})
    base = {**SPEC, "data": {"path": "/data/a"}, "pseudo_labels": {"path": "/data/b"}}
    sweep = {
        "name": "s", "base": base, "search": {"strategy": "grid"},
        "parameters": {"pseudo_labels.path": {"values": ["/data/b", "/etc"]}},
    }  # fmt: skip
    with serving(settings) as client:
        answer = client.post("/v1/sweeps", json=sweep)
    assert answer.status_code == 422
    assert [one["path"] for one in answer.json()["errors"]] == ["parameters.pseudo_labels.path"]
