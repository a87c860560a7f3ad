"""``retort init`` asks for what no option says, checks each answer, and asks nothing where nobody can answer."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from cli.commands import Retort, environment
from retort.cli import init, questions
from retort.errors import UserError
from support.terminal import Shown, in_terminal


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retort: Retort) -> Path:
    """A current folder with a data set in it."""
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    assert retort("data", "demo", tmp_path / "here" / "cells", "--train", 4, "--val", 2, "--imgsz", 96).code == 0
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def dialogue(*answers: tuple[str, str], arguments: tuple[str, ...] = ()) -> Shown:
    """Run it in a terminal, and answer each question, by how it begins, in turn."""
    left = list(answers)

    def answer(raw: str) -> bytes | None:
        prompt = raw.replace("\r", "").rpartition("\n")[2]
        if not left or not prompt.endswith("]: ") or not prompt.startswith(left[0][0]):
            return None
        return left.pop(0)[1].encode() + b"\n"

    shown = in_terminal([sys.executable, "-m", "retort.cli", "init", *arguments], environment(), answers=answer)
    assert left == [], shown.text
    return shown


def test_each_question_has_a_default_and_each_answer_is_checked_before_the_next(here: Path):
    shown = dialogue(
        ("Data set", "nowhere"), ("Data set", ""), ("Student", "yolov9"), ("Student", "yolo11n"),
        ("Teacher", "missing.pt"), ("Teacher", ""), ("Epochs", "none"), ("Epochs", "20"), ("Image size", "100"),
        ("Image size", ""), ("Forms", "onnx,pickle"), ("Forms", "onnx, openvino"), ("File", "cells"), ("File", ""),
    )  # fmt: skip
    spec = yaml.safe_load((here / "retort.yaml").read_text())

    assert shown.code == 0
    assert max(map(len, shown.lines)) <= 80
    assert "found: cells" in shown.text
    assert (spec["student"], spec["training"]["epochs"], spec["training"]["imgsz"]) == ({"model": "yolo11n"}, 20, 96)
    assert spec["teacher"]["train"]["model"] == "yolo11s"
    assert [one["format"] for one in spec["exports"]] == ["onnx", "openvino"]
    assert spec["data"]["path"] == str(here / "cells")


def test_what_an_option_says_is_not_asked_and_the_end_of_the_input_writes_nothing(here: Path):
    said = ("cells", "--student", "yolov8n", "--epochs", "3", "--imgsz", "64", "--format", "none", "--out", "a.yaml")
    shown = dialogue(("Teacher", "yolo11l"), arguments=said)
    spec = yaml.safe_load((here / "a.yaml").read_text())

    assert (shown.code, spec["teacher"], spec["exports"]) == (0, {"weights": "yolo11l.pt"}, [])
    ended = dialogue(("Data set", "\x04"), arguments=("--out", "b.yaml"))
    assert (ended.code, (here / "b.yaml").exists()) == (130, False)


@pytest.mark.usefixtures("here")
def test_without_a_terminal_nothing_is_asked(retort: Retort, monkeypatch: pytest.MonkeyPatch):
    with Path(os.devnull).open(encoding="utf-8") as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        refused = retort("init", "--json")
        made = retort("init", "cells", "--format", "onnx,ncnn", "--epochs", 5, "--json")
        wrong = retort("init", "cells", "--out", "b.yaml", "--format", "pickle", "--json")
        spec = retort("validate", "retort.yaml", "--json").json

    assert (refused.code, refused.error["code"]) == (4, "usage")
    assert made.json["spec"] == "retort.yaml"
    assert [one["format"] for one in spec["exports"]] == ["onnx", "ncnn"]
    assert wrong.error["code"] == "usage"


@pytest.mark.parametrize(("images", "epochs"), [(0, 100), (300, 100), (10_000, 100), (20_000, 50), (1_000_000, 30)])
def test_fewer_epochs_are_proposed_where_there_are_many_images(images: int, epochs: int):
    assert init.epochs_for(images) == epochs


def test_data_sets_are_looked_for_near_and_not_in_hidden_folders_or_behind_links(tmp_path: Path):
    for place in ("a/b/data", "near", ".hidden/data", "one/two/three/four"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "data.yaml").touch()
    (tmp_path / "loop").symlink_to(tmp_path)

    assert list(questions.datasets_below(tmp_path)) == [tmp_path / "near"]
    assert list(questions.datasets_below(tmp_path / "a")) == [tmp_path / "a" / "b" / "data"]


@pytest.mark.parametrize(
    ("check", "text"),
    [(questions._student, ""), (questions._student, "../x"), (questions._teacher, ""), (questions._teacher, "a/b.pt")],
)
def test_an_answer_that_is_none_is_refused_with_what_would_be_one(check: Callable[[str], object], text: str):
    with pytest.raises(UserError) as refused:
        check(text)
    assert refused.value.hint
