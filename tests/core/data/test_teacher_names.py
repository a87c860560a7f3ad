"""Class names of teachers are read from their files without running them, and compared with the data's early."""

from __future__ import annotations

import os
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from retort.data import teacher_names
from retort.data.checkpoint_names import stored_names
from retort.spec import parse_spec
from support.checkpoints import archive, checkpoint


@pytest.mark.parametrize("names", [{0: "red", 1: "blue"}, ["red", "blue"], {"1": "blue", "0": "red"}], ids=repr)
@pytest.mark.parametrize("key", ["model", "ema"])
def test_names_are_read_from_the_file(tmp_path: Path, names: Any, key: str):
    (tmp_path / "a.pt").write_bytes(checkpoint(names, key))

    assert stored_names(tmp_path / "a.pt") == ("red", "blue")


class Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("was-run",)


HUGE_MEMO = b"\x80\x02]r" + struct.pack("<I", 2**32 - 1) + b"."
HUGE_BYTES = b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"."


@pytest.mark.parametrize(
    "data",
    [
        b"", b"no pickle", pickle.dumps([1]), pickle.dumps({"model": {"names": ["red"]}}), pickle.dumps(Evil()),
        HUGE_MEMO, HUGE_BYTES, b"0" * (5 << 20),
    ],
    ids=["empty", "text", "list", "plain", "code", "memo", "bytes", "large"],
)  # fmt: skip
def test_what_tells_no_names_is_none_and_nothing_in_it_is_run_or_reserved(
    tmp_path: Path, data: bytes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pt").write_bytes(archive(data))

    assert stored_names(tmp_path / "a.pt") is None
    assert not Path("was-run").exists()


def test_a_file_that_is_no_checkpoint_or_not_there_tells_no_names(tmp_path: Path):
    (tmp_path / "a.pt").write_bytes(b"text")

    assert stored_names(tmp_path / "a.pt") is None
    assert stored_names(tmp_path / "b.pt") is None


def spec(**more: Any) -> Any:
    teacher = {"weights": "a.pt", "ensemble": [{"weights": "b.pt"}]}
    return parse_spec({"name": "x", "data": {"path": "/d"}, "teacher": teacher, **more})


FEATURES = {"distillation": {"losses": [{"kind": "pearson"}]}}


@pytest.mark.parametrize(
    ("names", "more", "refused", "said"),
    [
        (["red", "blue"], {}, False, None),
        (["red", "blue", "green"], {}, False, None),
        (["red"], {}, False, "does not know 1 of the data's 2 classes: 'blue'. These are learned from labels alone"),
        (["red", "Blue"], {}, False, "'blue' of the data is 'Blue' there"),
        (["Red", "Blue"], {}, True, "write 'Red' in data.yaml"),
        (["cat"], {}, True, "it knows 'cat', the data has 'red', 'blue'"),
        (["cat"], FEATURES, False, "does not know 2 of the data's 2 classes"),
        (None, {}, False, None),
    ],
)
def test_a_teacher_without_the_classes_is_refused_where_it_needs_them_and_told_elsewhere(
    names: Sequence[str] | None, more: dict[str, Any], refused: bool, said: str | None
):
    """A teacher's missing or near class names were told when the run began, not at submit."""
    known = {"a.pt": ["red", "blue"], "b.pt": names}
    found = teacher_names.mismatches(spec(**more), ["red", "blue"], known.get)
    told = teacher_names.warnings(spec(**more), ["red", "blue"], known.get)

    assert [one.path for one in found] == ["teacher.ensemble.0.weights"] * refused
    assert said is None or said in (str(found[0].hint) if refused else told[0])
    assert said is not None or told == []


@pytest.mark.parametrize("more", [{}, FEATURES])
def test_where_all_classes_are_one_a_teacher_that_is_given_has_that_class_and_no_other(more: dict[str, Any]):
    """single_cls was refused altogether."""
    wanted = spec(training={"single_cls": True}, **more)
    known = {"a.pt": ["item"], "b.pt": ["red", "blue"]}
    (found,) = teacher_names.mismatches(wanted, ["red", "blue"], known.get)
    assert found.path == "teacher.ensemble.0.weights"
    assert found.message == "knows 'red', 'blue', and training.single_cls trains one class, item"
    assert "teacher.train" in str(found.hint)
    assert teacher_names.mismatches(wanted, ["red", "blue"], {"a.pt": ["item"]}.get) == []
    assert teacher_names.warnings(wanted, ["red", "blue"], known.get) == []


def test_names_of_the_data_are_read_where_they_are_and_its_faults_are_told_elsewhere(tmp_path: Path):
    (tmp_path / "data.yaml").write_text("names: [red, blue]\n")

    def of(data: dict[str, str]) -> Any:
        return teacher_names.names_of_data(spec(data=data), [tmp_path], lambda reference: [reference.name])

    assert of({"path": str(tmp_path)}) == ("red", "blue")
    assert of({"dataset": "coco8"})[:2] == ("person", "bicycle")
    assert of({"dataset": f"dataset:mine@sha256:{'0' * 64}"}) == ["mine"]
    assert of({"path": "/nowhere"}) is None
    (tmp_path / "data.yaml").write_text("names: 7\n")
    assert of({"path": str(tmp_path)}) is None
