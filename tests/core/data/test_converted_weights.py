"""Weights are converted once, by a process that can do nothing else; only what came of it is trained from."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from retort.checkpoints import converted
from retort.data.checkpoint_names import described_names
from retort.data.converted_weights import convert
from retort.errors import ModelError
from retort.files import sha256_of
from support.checkpoints import archive, checkpoint
from support.malicious_checkpoints import CANARY, corpus
from support.pickles import network, pickled, storage, tensor

NUMBERS = bytes(range(64))


def source_in(folder: Path, name: str = "street.pt", **state: object) -> Path:
    path = folder / name
    path.write_bytes(archive(pickled({"model": network(state)}), {"0": NUMBERS}))
    return path


def test_a_file_is_converted_with_its_bits_and_its_source_is_left_as_it_was(tmp_path: Path):
    turned = tensor(storage(count=16), (2, 4), (1, 2), 8)
    source = source_in(tmp_path, _buffers={"rows": tensor(storage(count=16), (4, 2), (2, 1), 8), "turned": turned})
    before = source.read_bytes()

    found = convert(source, tmp_path / "models")

    assert source.read_bytes() == before
    assert found.source_sha256 == sha256_of(source)
    described, entries = converted.read(found.path)
    assert described_names(described) == ("thing",)
    content = found.path.read_bytes()
    rows, other = (entries[described.layers[0].buffers[name] or ""] for name in ("rows", "turned"))
    assert content[rows.begin : rows.end] == NUMBERS[32:]
    assert content[other.begin : other.end] == b"".join(
        NUMBERS[32 + 4 * at : 36 + 4 * at] for at in (0, 2, 4, 6, 1, 3, 5, 7)
    )


def test_a_second_job_takes_what_was_converted_for_the_first(tmp_path: Path):
    source = source_in(tmp_path)
    first = convert(source, tmp_path / "models")
    made = first.path.stat().st_ino

    assert convert(source, tmp_path / "models") == first
    assert first.path.stat().st_ino == made


def test_what_somebody_has_changed_since_is_converted_again(tmp_path: Path):
    first = convert(source_in(tmp_path), tmp_path / "models")
    whole = first.path.read_bytes()
    first.path.write_bytes(whole.replace(b"thing", b"thin9"))

    again = convert(tmp_path / "street.pt", tmp_path / "models")

    assert again.path.read_bytes() == whole


def test_a_converted_file_is_taken_as_it_is(tmp_path: Path):
    first = convert(source_in(tmp_path), tmp_path / "models")
    (tmp_path / "again.safetensors").write_bytes(first.path.read_bytes())

    assert convert(tmp_path / "again.safetensors", tmp_path / "models").path == tmp_path / "again.safetensors"


def test_what_no_run_has_asked_for_in_a_month_is_forgotten(tmp_path: Path):
    old = convert(source_in(tmp_path), tmp_path / "models").path.parent
    os.utime(old, times=(time.time() - 31 * 86_400,) * 2)

    convert(source_in(tmp_path, "other.pt", note=1), tmp_path / "models")

    assert not old.exists()


@pytest.mark.parametrize("title", ["calls os.system", "storage of 2.5 GiB in 16 bytes", "a compressed bomb", "empty"])
def test_a_malicious_file_is_refused_with_its_name_and_leaves_nothing(
    title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.pt").write_bytes(corpus()[title])

    with pytest.raises(ModelError, match=r"evil\.pt") as told:
        convert(tmp_path / "evil.pt", tmp_path / "models")

    assert told.value.hint
    assert not (tmp_path / CANARY).exists()
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / "evil.pt"]


def test_a_file_with_a_hole_among_its_numbers_is_damaged(tmp_path: Path):
    source = source_in(tmp_path, _buffers={"rows": tensor(storage(count=16), (16,))})
    source.write_bytes(source.read_bytes().replace(NUMBERS, bytes(64)))

    with pytest.raises(ModelError, match=r"street\.pt is damaged: .*checksum"):
        convert(source, tmp_path / "models")


def test_a_conversion_is_told_nothing_of_the_machine_and_reaches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What the process may do is what the confinement gives it: its own file, no network, no environment."""
    monkeypatch.setenv("RETORT_DATABASE_PASSWORD", "secret")
    seen = tmp_path / "seen"
    (tmp_path / "street.pt").write_bytes(checkpoint())
    monkeypatch.setattr("sys.executable", _spy(tmp_path, seen))

    convert(tmp_path / "street.pt", tmp_path / "models")

    told = seen.read_text()
    assert "secret" not in told
    assert "RETORT_" not in told.replace("RETORT_CONFINEMENT", "")
    assert '"network": "none"' in told
    assert '"write": []' in told


def _spy(folder: Path, seen: Path) -> str:
    """Write a program that notes how Python is started, and starts it."""
    import sys

    spy = folder / "spy"
    spy.write_text(f'#!/bin/sh\n{{ env; printf "%s\\n" "$@"; }} >> {seen}\nexec {sys.executable} "$@"\n')
    spy.chmod(0o755)
    return str(spy)
