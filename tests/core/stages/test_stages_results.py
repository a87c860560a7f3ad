"""What a finished stage left is reused only while it is what it was."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from core.conftest import Life
from retort.data.inputs import Adjustments, Inputs
from retort.pipeline import results
from retort.spec import JobSpec


@pytest.fixture
def copy(life: Life, tmp_path: Path) -> Path:
    """A copy of a finished run's folder."""
    return Path(shutil.copytree(life.workdir, tmp_path / "work", symlinks=True))


def key(workdir: Path) -> str:
    spec = JobSpec.model_validate_json((workdir / "spec.json").read_text())
    return results.key_of(spec, Inputs.load(workdir))


def test_a_finished_stage_is_known_by_a_later_attempt(copy: Path):
    kept = results.load(copy, "distill", key(copy))
    assert kept is not None
    assert kept.result["model"] == "yolov8n"
    assert [file.name for file in kept.files] == ["student.pt", "health.npz", "samples.json"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda work: (work / "artifacts/student.pt").unlink(),
        lambda work: (work / "artifacts/student.pt").write_bytes(b"cut"),
        lambda work: (work / "stages/distill.json").write_text('{"key": "'),
        lambda work: (work / "stages/distill.json").unlink(),
    ],
)
def test_a_stage_whose_files_are_not_intact_runs_again(copy: Path, damage: Callable[[Path], object]):
    damage(copy)
    assert results.load(copy, "distill", key(copy)) is None


def test_one_changed_byte_is_seen(copy: Path):
    path = copy / "artifacts/student.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert results.load(copy, "distill", key(copy)) is None


def test_another_spec_data_set_or_teacher_makes_another_key(copy: Path):
    spec = JobSpec.model_validate_json((copy / "spec.json").read_text())
    inputs = Inputs.load(copy)
    changed = spec.model_copy(update={"control": False})
    other = inputs.model_copy(update={"dataset": inputs.dataset.model_copy(update={"digest": "0"})})
    weights = inputs.model_copy(update={"weights": {"x.pt": copy / "spec.json"}})
    keys = {results.key_of(spec, inputs), results.key_of(changed, inputs), results.key_of(spec, other),
            results.key_of(spec, weights)}  # fmt: skip
    assert len(keys) == 4
    later = inputs.model_copy(update={"attempt": 9})
    assert results.key_of(spec, later) == results.key_of(spec, inputs)


def test_a_smaller_batch_makes_another_key_for_all_but_the_teacher(copy: Path):
    inputs = Inputs.load(copy)
    smaller = inputs.model_copy(update={"adjustments": Adjustments(batch=2)})
    for stage, same in (("check", True), ("train_teacher", True), ("distill", False), ("control", False)):
        keys = {results.key_of_stage("job", stage, found) for found in (inputs, smaller)}
        assert (len(keys) == 1) is same
