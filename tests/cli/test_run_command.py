"""The commands that need no service."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml
from cli.commands import ROOT, SPEC, Retort
from core.data import archives
from core.tracking import records
from retort.spec import RECIPES


def test_alone_it_lists_its_commands(retort: Retort):
    told = retort()

    assert told.code == 0
    for command in (
        "up",
        "submit",
        "ls",
        "get",
        "watch",
        "logs",
        "wait",
        "cancel",
        "download",
        "run",
        "recipes",
        "data",
    ):
        assert command in told.out


def test_a_misspelt_option_is_one_line_and_no_jobs_exit_code(retort: Retort):
    told = retort("wait", "job", "--tmeout", 3)

    assert told.code == 4
    assert len(told.err.strip().splitlines()) == 1


@pytest.mark.parametrize("spec", sorted((ROOT / "examples" / "specs").iterdir()), ids=lambda path: path.name)
def test_every_example_spec_is_valid(retort: Retort, spec: Path):
    assert retort("validate", spec, "--json").code == 0


def test_validate_prints_a_spec_that_validates(retort: Retort, tmp_path: Path):
    full = retort("validate", SPEC)
    (tmp_path / "full.yaml").write_text(full.out)

    assert retort("validate", tmp_path / "full.yaml").out == full.out
    assert yaml.safe_load(full.out)["distillation"]["losses"]


def test_fields_are_replaced_by_path(retort: Retort):
    told = retort(
        "validate", SPEC, "--json", "--set", "training.epochs=3", "--set", "distillation.losses=[{kind: pearson}]",
        "--set", "distillation.losses.0.weight=0.5", "--set", "student.model=yolo11n",
    )  # fmt: skip

    spec = told.json
    assert spec["training"]["epochs"] == 3
    assert spec["student"]["model"] == "yolo11n"
    assert [(loss["kind"], loss["weight"]) for loss in spec["distillation"]["losses"]] == [("pearson", 0.5)]


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_an_assignment_counts_into_the_losses_of_a_recipe(retort: Retort, recipe: str):
    sets = ("--set", f"distillation={{recipe: {recipe}}}")
    before = retort("validate", SPEC, "--json", *sets).json["distillation"]["losses"]

    after = retort("validate", SPEC, "--json", *sets, "--set", "distillation.losses.0.weight=0.25").json

    assert after["distillation"]["losses"] == [{**before[0], "weight": 0.25}, *before[1:]]


@pytest.mark.parametrize("assignment", ["training.epochs", "=3", "name.first=3", "teacher.train.epochs.x=3", "a..b=1"])
def test_an_assignment_with_no_place_is_refused(retort: Retort, assignment: str):
    told = retort("validate", SPEC, "--set", assignment)

    assert told.code == 4
    assert assignment in told.err


def test_a_relative_data_path_means_the_files_folder_first(
    retort: Retort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    quantized = {"format": "onnx", "precision": "int8", "calibration_path": "more"}
    data = {"path": "set", "unlabelled": {"path": "more"}}
    document = yaml.safe_load(SPEC.read_text()) | {"data": data, "exports": [quantized]}
    spec = tmp_path / "beside" / "spec.yaml"
    spec.parent.mkdir()
    spec.write_text(yaml.safe_dump(document))
    monkeypatch.chdir(tmp_path)

    def paths(*sets: str) -> tuple[Path, Path]:
        told = retort("validate", spec, "--json", *(f"--set={assignment}" for assignment in sets))
        assert told.json["exports"][0]["calibration_path"] == told.json["data"]["unlabelled"]["path"]
        return Path(told.json["data"]["path"]), Path(told.json["data"]["unlabelled"]["path"])

    assert paths() == (tmp_path / "set", tmp_path / "more")
    (spec.parent / "set").mkdir()
    assert paths() == (spec.parent / "set", tmp_path / "more")
    (spec.parent / "more").mkdir()
    assert paths("data.path=set") == (tmp_path / "set", spec.parent / "more")


def test_a_spec_that_is_not_there_is_told(retort: Retort):
    assert (
        retort("validate", "nowhere.yaml", "--json").error["message"]
        == "cannot read nowhere.yaml: No such file or directory"
    )


def test_recipes_are_shown_expanded(retort: Retort):
    assert set(retort("recipes", "--json").json) == set(RECIPES)
    assert "score_weighted_l2" in retort("recipes").out


def test_data_demo_writes_a_set_and_refuses_to_write_over_one(retort: Retort, tmp_path: Path):
    arguments = ("data", "demo", tmp_path / "digits", "--train", 2, "--val", 1, "--imgsz", 64, "--json")

    made, again = retort(*arguments), retort(*arguments)

    assert Path(made.json["data_yaml"]).is_file()
    assert (again.code, again.error["code"]) == (4, "folder_not_empty")


def test_data_check_tells_all_that_is_wrong_and_exits_with_1(retort: Retort, tmp_path: Path):
    retort("data", "demo", tmp_path / "digits", "--train", 2, "--val", 1, "--imgsz", 64)
    good = retort("data", "check", tmp_path / "digits")
    assert (good.code, good.out.splitlines()[-1]) == (0, "a job would take it")
    label, picture = (next((tmp_path / "digits").glob(f"{kind}/train/*")) for kind in ("labels", "images"))
    label.write_text("10 0.5 0.5 0.1 0.1\n")
    picture.write_bytes(picture.read_bytes()[:-200])
    bad = retort("data", "check", tmp_path / "digits")
    assert (bad.code, bad.out.splitlines()[-1]) == (1, "a job would refuse it, or lose images")
    assert f"labels/train/{label.name}:1: class 10 is not one of 0 to 9" in bad.out
    told = retort("data", "check", tmp_path / "digits", "--json")
    assert (told.code, told.json["ok"], told.json["names"][-1]) == (1, False, "9")
    codes = [finding["code"] for finding in told.json["findings"]]
    assert codes[:2] == ["malformed_label", "broken_image"]
    assert "class_without_boxes" in codes


def test_data_list_says_what_is_known_and_what_is_here(retort: Retort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    (tmp_path / "datasets" / "coco8").mkdir(parents=True)
    (tmp_path / "datasets" / "coco8" / "data.yaml").touch()

    known = {item["name"]: item for item in retort("data", "list", "--json").json}

    assert {name for name, item in known.items() if item["here"]} == {"coco8"}
    assert known["coco"]["archives"][0]["checksum"][0] == "sha1"
    assert "visdrone" in retort("data", "list").out


def test_data_fetch_lays_out_what_was_put_there_by_hand(
    retort: Retort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    (tmp_path / "datasets" / "archives").mkdir(parents=True)
    (tmp_path / "datasets" / "archives" / "coco8.zip").write_bytes(archives.coco8()["coco8.zip"])

    told = retort("data", "fetch", "coco8")

    assert (told.code, Path(told.out.strip())) == (0, tmp_path / "datasets" / "coco8")
    assert "nobody has published a checksum" in told.err
    assert retort("data", "check", tmp_path / "datasets" / "coco8", "--json").json["ok"]


def test_data_fetch_of_an_unknown_name_says_which_is_meant(retort: Retort):
    told = retort("data", "fetch", "coco81", "--json")

    assert (told.code, told.error["code"]) == (4, "bad_data")
    assert "did you mean 'coco8'?" in told.error["hint"]


def test_run_tells_what_is_wrong_with_the_data_before_it_trains(retort: Retort, tmp_path: Path):
    told = retort("run", SPEC, "--set", f"data.path={tmp_path}", "--out", tmp_path / "out", "--json")

    assert (told.code, told.error["code"]) == (4, "bad_data")


def test_run_leaves_a_folder_alone_that_is_not_its_own(retort: Retort, tmp_path: Path):
    (tmp_path / "mine.txt").write_text("mine")

    told = retort("run", SPEC, "--out", tmp_path)

    assert told.code == 4
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.train
def test_run_ends_to_wait_for_people_and_goes_on_with_what_they_decide(retort: Retort, tmp_path: Path):
    from core.training.pictures import draw

    data, more = (
        draw(tmp_path / name, num_train=8, num_val=4, seed=seed).parent for seed, name in enumerate(("a", "b"))
    )
    spec = {
        "name": "labels",
        "data": {"path": "a"},
        "teacher": {"train": {"model": "yolo11n", "weights": None, "epochs": 1}},
        "student": {"model": "yolov8n", "weights": None},
        "pseudo_labels": {"path": "b/images/train", "review": "all"},
        "training": {"epochs": 1, "imgsz": 64, "batch": 4},
        "control": False,
        "exports": [],
    }
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    command = ("run", tmp_path / "spec.yaml", "--out", tmp_path / "out", "--device", "cpu", "--json")

    waits = retort(*command)

    assert waits.code == 5, (tmp_path / "out/run.log").read_text()
    assert json.loads(waits.out.splitlines()[-1])["state"] == "awaiting_review"
    assert json.loads((tmp_path / "out/spec.json").read_text())["pseudo_labels"]["path"] == str(more / "images/train")
    assert retort("review", "show", "--workdir", tmp_path / "out", "--json").json["num_images"] == 8
    assert retort("review", "complete", "--workdir", tmp_path / "out", "--rest", "accept").code == 0
    done = retort(*command)
    assert done.code == 0, (tmp_path / "out/run.log").read_text()
    result = json.loads(done.out.splitlines()[-1])["result"]
    assert (result["pseudo_labels"]["num_trained"], result["pseudo_labels"]["review"]["num_unseen"]) == (8, 8)
    assert str(data) in json.loads((tmp_path / "out/inputs.json").read_text())["dataset"]["root"]


@pytest.mark.train
def test_run_distils_without_a_service_and_registers_what_it_has_trained(
    retort: Retort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RETORT_MLFLOW_URI", (tmp_path / "no folder").as_uri())
    (tmp_path / "no folder").write_text("a file")
    quick = {"training.epochs": 1, "teacher.train.epochs": 1, "training.imgsz": 64, "training.batch": 16}
    quick |= {"tracking": "{tensorboard: true, mlflow: {experiment: x}}"}
    sets = [f"--set={path}={value}" for path, value in quick.items()]

    ended = retort("run", SPEC, *sets, "--out", tmp_path / "out", "--device", "cpu", "--json")

    *events, last = map(json.loads, ended.out.splitlines())
    assert ended.code == 0, (tmp_path / "out" / "run.log").read_text()
    assert {event["type"] for event in events} >= {"stage", "progress", "metric", "artifact", "finished"}
    assert last["state"] == "succeeded"
    assert set(last["result"]["roles"]) == {"teacher", "start", "student", "control"}
    statuses = {one["name"]: one["status"] for one in last["result"]["extras"]}
    assert {name: statuses[name] for name in ("tensorboard", "mlflow")} == {
        "tensorboard": "done",
        "mlflow": "failed",
    }
    curves = records.scalars(tmp_path / "out" / "artifacts" / "tensorboard")
    assert {name.partition("/")[0] for name in curves} == {"teacher", "student", "control", "job"}
    assert curves["student/val/mAP50-95"].keys() == {0, 1}
    named = re.findall(r"^registered as (model:\S+)$", ended.err, re.MULTILINE)
    assert [reference.partition("@")[0] for reference in named] == [
        "model:digits-teacher",
        "model:digits-student",
    ]
    assert_another_run_may_start_from(named[0], retort, tmp_path)


def assert_another_run_may_start_from(reference: str, retort: Retort, tmp_path: Path) -> None:
    sets = [f"--set={assignment}" for assignment in ("imgsz=64", "batch=4", "student.weights=null")]
    own = ("--spec", SPEC, "--candidate", reference, "--out", tmp_path / "advice", "--device", "cpu", "--json")
    ended = retort("advise", *own, *sets)

    *_, last = map(json.loads, ended.out.splitlines())
    assert last["state"] == "succeeded", (tmp_path / "advice" / "run.log").read_text()
    (one,) = last["result"]["candidates"]
    assert (one["weights"], one["model"], one["classes"]["known"]) == (reference, "yolo11n", 10)
    assert ended.code == (0 if last["result"]["recommended"] else 1)
