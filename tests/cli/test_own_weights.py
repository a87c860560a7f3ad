"""Specs by options, a first spec, and weights that are named by path."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from cli.commands import SPEC, Retort
from retort.cli.weights import name_for
from retort.model_ref import title
from support.checkpoints import checkpoint
from support.scripted_run import archive


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / "train3" / "weights" / "best.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(archive(tmp_path.name.encode()))
    return path


def reference(name: str, file: Path) -> str:
    return f"model:{name}@sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


PLACES = ["student.weights", "teacher.weights", "teacher.ensemble.0.weights"]


@pytest.mark.parametrize("place", PLACES)
def test_weights_may_be_named_by_path_wherever_they_stand(retort: Retort, weights: Path, place: str, home: Path):
    told = retort(
        "validate", SPEC, "--json", "--set", "teacher={weights: a.pt, ensemble: [{weights: b.pt}]}",
        "--set", f"{place}=runs/train3/weights/best.pt",
    )  # fmt: skip

    found = told.json
    for key in place.split("."):
        found = found[int(key) if key.isdigit() else key]
    assert found == reference("train3-best", weights)
    assert not home.exists(), "validate writes nothing"


@pytest.mark.usefixtures("home")
def test_a_local_run_takes_the_short_digest_that_tables_print_or_tells_which_there_are(retort: Retort, weights: Path):
    retort("run", "--data", "nowhere/", "--teacher", weights, "--student", "yolo11n")
    whole = reference("train3-best", weights)
    set_student = ("validate", SPEC, "--json", "--set")

    taken = retort(*set_student, f"student.weights={title(whole)}")
    unknown = retort(*set_student, "student.weights=train3-best@0123456789ab")
    evaluated = retort("eval", title(whole), "--data", "nowhere/")

    assert taken.json["student"]["weights"] == whole
    (problem,) = unknown.error["errors"]
    assert (unknown.code, problem["path"]) == (4, "student.weights")
    assert whole.partition("@")[2] in problem["hint"]
    assert "no dataset at" in evaluated.err, "the weights were found"


def test_models_are_shown_and_pulled_by_a_short_digest(served: Retort, weights: Path, tmp_path: Path):
    whole = served("models", "push", weights, "--name", "short").out.strip()

    shown = served("models", "show", title(whole), "--json")
    pulled = served("models", "pull", title(whole), "--out", tmp_path / "pulled.pt", "--json")
    none = served("models", "pull", "short@0123456789ab", "--json")

    assert [model["reference"] for model in shown.json] == [whole]
    assert pulled.json["reference"] == whole
    assert (tmp_path / "pulled.pt").read_bytes() == weights.read_bytes()
    assert (none.code, none.error["code"]) == (4, "model_not_found")
    assert whole.partition("@")[2] in none.error["hint"]


def test_a_file_may_end_in_capital_letters_and_carry_any_name(retort: Retort, weights: Path, home: Path):
    for name in ("BEST.PT", "it's mine.pt", "\u00fcn\u00ef \U0001f600.pt"):
        weights = weights.rename(weights.with_name(name))
        told = retort("validate", SPEC, "--json", "--set", f"student.weights=./{weights.relative_to(home.parent)}")
        assert told.json["student"]["weights"].startswith("model:"), told.err


@pytest.mark.usefixtures("home")
def test_a_path_in_a_file_means_the_files_folder_first(retort: Retort, weights: Path):
    document = yaml.safe_load(SPEC.read_text()) | {"teacher": {"weights": "../weights/best.pt"}}
    (weights.parent.parent / "specs").mkdir()
    spec = weights.parent.parent / "specs" / "spec.yaml"
    spec.write_text(yaml.safe_dump(document))

    assert retort("validate", spec, "--json").json["teacher"]["weights"] == reference("train3-best", weights)


@pytest.mark.usefixtures("home")
def test_a_bare_name_is_the_file_beside_the_spec_and_else_one_in_the_model_folder(retort: Retort, weights: Path):
    spec = weights.parent / "spec.yaml"
    spec.write_text(yaml.safe_dump(yaml.safe_load(SPEC.read_text()) | {"teacher": {"weights": "best.pt"}}))

    beside = retort("validate", spec, "--json").json
    elsewhere = retort("validate", spec, "--json", "--set", "teacher.weights=other.pt").json

    assert beside["teacher"]["weights"] == reference("train3-best", weights)
    assert elsewhere["teacher"]["weights"] == "other.pt"


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [(None, "bad_request", "cannot read the weights"), (b"notes", "bad_model", "is not a PyTorch checkpoint")],
)
@pytest.mark.usefixtures("home")
def test_a_path_to_no_weights_is_told(retort: Retort, tmp_path: Path, content: bytes | None, code: str, message: str):
    if content is not None:
        (tmp_path / "mine.pt").write_bytes(content)

    told = retort("validate", SPEC, "--json", "--set", "student.weights=./mine.pt")

    assert (told.code, told.error["code"]) == (4, code)
    assert message in told.error["message"]


@pytest.mark.usefixtures("home")
def test_validate_tells_which_classes_a_teacher_lacks_and_refuses_one_that_has_none(retort: Retort, tmp_path: Path):
    (tmp_path / "data.yaml").write_text("train: t\nval: v\nnames: [red, blue]\n")
    (tmp_path / "partly.pt").write_bytes(checkpoint(["red"]))
    (tmp_path / "other.pt").write_bytes(checkpoint(["cat"]))
    check = ("validate", SPEC, "--set", f"data={{path: {tmp_path}}}", "--set")

    told, refused = retort(*check, "teacher={weights: ./partly.pt}"), retort(*check, "teacher={weights: ./other.pt}")

    assert told.code == 0
    assert "teacher.weights does not know 1 of the data's 2 classes: 'blue'" in told.err
    assert refused.code == 4
    assert "teacher.weights" in refused.err
    assert "it knows 'cat', the data has 'red', 'blue'" in refused.err


def test_submit_tells_which_classes_a_teacher_lacks(served: Retort, tmp_path: Path):
    (tmp_path / "data.yaml").write_text("train: t\nval: v\nnames: [red, blue]\n")
    (tmp_path / "partly.pt").write_bytes(checkpoint(["red"]))

    told = served("submit", SPEC, "--set", "name=finish", "--data", tmp_path, "--teacher", tmp_path / "partly.pt")

    assert told.code == 0, told.err
    assert "warning: teacher.weights does not know 1 of the data's 2 classes: 'blue'" in told.err
    served("wait", told.out.strip(), "--timeout", 30)


def test_submit_sends_weights_along_once(served: Retort, weights: Path):
    def submit() -> tuple[str, str]:
        told = served("submit", SPEC, "--student", weights, "--set", "name=finish", "--set", "training.epochs=1")
        assert told.code == 0, told.err
        return told.out.strip(), told.err

    first, second = submit(), submit()

    assert "sending" in first[1]
    assert "sending" not in second[1]
    job = served("get", second[0], "--json").json
    assert job["spec"]["student"]["weights"] == reference("train3-best", weights)
    served("wait", first[0], "--timeout", 30)
    served("wait", second[0], "--timeout", 30)


def test_options_alone_make_a_spec(retort: Retort, weights: Path, home: Path):
    """It stops where the data are looked at: there are none."""
    told = retort("run", "--data", "nowhere/", "--teacher", weights, "--student", "yolo11n", "--device", "cpu")

    assert told.code == 4
    assert "no dataset at" in told.err
    assert [file.name for file in (home / "models" / "registered").iterdir()] == [
        reference("train3-best", weights).removeprefix("model:").replace(":", "-") + ".pt"
    ]


@pytest.mark.parametrize("options", [(), ("--data", "here"), ("--teacher", "yolo11s.pt")], ids=repr)
def test_no_spec_and_too_few_options_say_what_to_give(retort: Retort, options: tuple[str, ...]):
    told = retort("run", *options)

    assert told.code == 4
    assert "give a spec, or --data and --teacher" in told.err


@pytest.mark.usefixtures("home")
def test_init_writes_a_spec_that_validates_and_never_over_one(retort: Retort, tmp_path: Path):
    retort("data", "demo", tmp_path / "my digits: #1", "--train", 4, "--val", 2, "--imgsz", 96)

    made, again = retort("init", tmp_path / "my digits: #1"), retort("init", tmp_path / "my digits: #1", "--json")
    spec = retort("validate", "retort.yaml", "--json").json

    assert made.code == 0, made.err
    assert (again.code, again.error["code"]) == (4, "file_exists")
    assert (spec["name"], spec["training"]["imgsz"]) == ("my-digits-1", 96)
    assert spec["data"]["path"] == str(tmp_path / "my digits: #1")
    assert "retort run retort.yaml" in made.err


@pytest.mark.usefixtures("home")
def test_init_takes_a_teacher_and_a_student_of_ones_own(retort: Retort, tmp_path: Path, weights: Path):
    retort("data", "demo", tmp_path / "digits", "--train", 4, "--val", 2, "--imgsz", 64)

    told = retort("init", tmp_path / "digits", "--teacher", weights, "--student", "yolo11n", "--json")
    spec = retort("validate", "retort.yaml", "--json").json

    assert told.json["num_train"] == 4
    assert spec["teacher"]["weights"] == reference("train3-best", weights)
    assert spec["student"]["model"] == "yolo11n"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("runs/detect/train3/weights/best.pt", "train3-best"),
        ("models/last.pt", "models-last"),
        ("yolo street (2).pt", "yolo-street-2"),
        ("ü.pt", "weights"),
    ],
)
def test_weights_are_registered_by_a_name_that_tells_them_apart(path: str, name: str, tmp_path: Path):
    assert name_for(tmp_path / path) == name


@pytest.mark.usefixtures("home")
def test_an_error_about_weights_is_one_json_document(retort: Retort):
    told = retort("validate", SPEC, "--json", "--set", "student.weights=./none.pt")

    assert json.loads(told.err)["error"]["hint"] == "name a file of weights that is there"
