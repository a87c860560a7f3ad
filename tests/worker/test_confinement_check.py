"""A worker finds out how far it can confine its runs, and gives up no more of it than a GPU needs."""

from __future__ import annotations

from pathlib import Path

import pytest
from retort.confinement import Policy
from retort.errors import UserError
from retort.settings import Settings
from retort_worker import confinement_check


def test_a_worker_leaves_out_what_its_gpu_cannot_be_used_in_and_no_more(tmp_path: Path):
    """A driver that fails inside must not cost the worker its GPU, nor all of the confinement."""
    asked: list[Policy] = []

    def ask(gpu: str, policy: Policy) -> str | None:
        asked.append(policy)
        assert policy.gpus
        return None if "network" in policy.without else f"GPU {gpu} is not there"

    found = confinement_check.find(Settings(home=tmp_path), ["3"], ask=ask)
    assert found.without == ("processes", "mounts", "network")
    assert {"processes", "mounts", "network"} <= found.facts.missing.keys()
    assert len(asked) == 3

    with pytest.raises(UserError, match="RETORT_CONFINEMENT=strict"):
        confinement_check.find(Settings(home=tmp_path, confinement="strict"), ["3"], ask=ask)


def test_a_gpu_that_cannot_be_used_outside_either_is_not_the_confinements_fault(tmp_path: Path):
    found = confinement_check.find(Settings(home=tmp_path), ["0"], ask=lambda *_: "it has fallen off the bus")
    assert found.without == ()


def test_an_operator_who_switches_the_confinement_off_is_taken_at_the_word(tmp_path: Path):
    asked: list[str] = []
    settings = Settings(home=tmp_path, confinement="off")
    found = confinement_check.find(settings, ["0"], ask=lambda gpu, _: asked.append(gpu))
    assert (found.facts.mode, found.without, asked) == ("off", (), [])

    left_out = Settings(home=tmp_path, confinement_without="calls, files")
    assert {"calls", "files"} <= confinement_check.find(left_out).facts.missing.keys()
    with pytest.raises(ValueError, match="namespaces is no part of the confinement"):
        Settings(home=tmp_path, confinement_without="namespaces")
