"""The folder of registered models gives out the bytes that a digest stands for, and nothing else."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from retort.data import weights
from retort.errors import ModelError
from retort.model_ref import ModelRef


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    path = tmp_path / "teacher.pt"
    path.write_bytes(b"weights")
    return path


def test_an_added_model_is_found_by_its_reference(tmp_path: Path, trained: Path):
    reference = weights.register("street-teacher", trained, tmp_path / "models")

    assert reference == ModelRef("street-teacher", hashlib.sha256(b"weights").hexdigest())
    found = weights.resolve_weights(str(reference), tmp_path / "models", fetch=True, source="http://127.0.0.1:1")
    assert found == tmp_path / "models" / "registered" / reference.file_name
    assert found.read_bytes() == b"weights"


def test_adding_twice_leaves_one_file_and_adding_other_bytes_two(tmp_path: Path, trained: Path):
    for content in (b"weights", b"weights", b"others"):
        trained.write_bytes(content)
        weights.register("street-teacher", trained, tmp_path)

    assert len(list((tmp_path / "registered").iterdir())) == 2


def test_a_damaged_model_is_refused_and_adding_it_again_repairs_it(tmp_path: Path, trained: Path):
    reference = weights.register("street-teacher", trained, tmp_path)
    weights.registered_path(reference, tmp_path).write_bytes(b"weighty")

    with pytest.raises(ModelError, match="is damaged"):
        weights.resolve_registered(reference, tmp_path)
    weights.register("street-teacher", trained, tmp_path)
    assert weights.resolve_registered(reference, tmp_path).read_bytes() == b"weights"


def test_an_unknown_digest_is_told_with_those_that_there_are(tmp_path: Path, trained: Path):
    known = weights.register("street-teacher", trained, tmp_path)

    for name, hint in (
        ("street-teacher", known.sha256),
        ("street", "nothing is registered there by the name 'street'"),
    ):
        with pytest.raises(ModelError) as caught:
            weights.resolve_registered(ModelRef(name, "0" * 64), tmp_path)
        assert caught.value.code == "bad_model"
        assert hint in (caught.value.hint or "")
