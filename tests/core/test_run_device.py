"""A run without a usable GPU says so, or refuses where a GPU is insisted on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from retort import run
from retort.data.inputs import DatasetInfo, Inputs
from retort.errors import RetortError
from retort.protocol import journal
from retort.protocol.events import LogEvent
from retort.protocol.journal import Journal
from retort.spec import AnySpec, parse_spec
from retort.training import device


@pytest.fixture
def said(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal-1.jsonl") as told:
        yield told


def inputs(where: str, *, wanted: bool, cpu_allowed: bool = True) -> Inputs:
    data = DatasetInfo(root="/x", names=("a",), num_train=1, num_val=1, num_shared=0, digest="d")
    return Inputs(
        attempt=1,
        device=where,
        device_by="user" if wanted else "worker",
        cpu_allowed=cpu_allowed,
        data_yaml=Path("/x/data.yaml"),
        weights={},
        dataset=data,
    )


def spec(*, require_gpu: bool | None) -> AnySpec:
    return parse_spec({
        "name": "x", "data": {"path": "/x"}, "teacher": {"weights": "a.pt"}, "student": {"model": "yolov8n"},
        "resources": {"require_gpu": require_gpu},
    })  # fmt: skip


def warnings(said: Journal) -> list[str]:
    return [event.message for event in journal.read(said.path)[0] if isinstance(event, LogEvent)]


def test_a_cpu_that_nobody_asked_for_is_told_in_log_and_result(said: Journal):
    """It trained on the CPU without a word."""
    found = run._placed(spec(require_gpu=False), inputs("cpu", wanted=False), said)
    assert (found.device, found.no_gpu) == ("cpu", "this machine has no GPU")
    assert warnings(said) == ["this run is on the CPU, which takes many times as long: this machine has no GPU"]


def test_a_cpu_that_was_asked_for_is_no_news(said: Journal):
    given = inputs("cpu", wanted=True)
    assert run._placed(spec(require_gpu=False), given, said) is given
    assert warnings(said) == []


def test_a_gpu_that_torch_cannot_use_gives_way_to_the_cpu_with_its_reason(
    said: Journal, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(device, "unusable", lambda _: "the driver is too old")
    found = run._placed(spec(require_gpu=False), inputs("0", wanted=False), said)
    assert (found.device, found.no_gpu) == ("cpu", "the driver is too old")
    assert "the driver is too old" in warnings(said)[0]


@pytest.mark.parametrize(
    ("where", "wanted", "required"), [("0", True, False), ("0", False, True), ("cpu", False, True), ("cpu", True, True)]
)
def test_where_a_gpu_is_insisted_on_the_run_ends_before_it_trains(
    where: str, wanted: bool, required: bool, said: Journal, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(device, "unusable", lambda _: "the driver is too old")
    with pytest.raises(RetortError) as caught:
        run._placed(spec(require_gpu=required), inputs(where, wanted=wanted), said)
    assert (caught.value.code, caught.value.retryable) == ("no_gpu", False)
    assert "resources.require_gpu" in (caught.value.hint or "")


def test_the_cpu_of_a_gpu_worker_stands_in_only_where_spec_or_operator_allow_it(said: Journal):
    """A job trained on the CPU of a GPU worker for days."""
    given = inputs("cpu", wanted=False, cpu_allowed=False)
    with pytest.raises(RetortError) as caught:
        run._placed(spec(require_gpu=None), given, said)
    assert caught.value.code == "no_gpu"
    assert run._placed(spec(require_gpu=False), given, said).no_gpu
    assert run._placed(spec(require_gpu=None), given.model_copy(update={"cpu_allowed": True}), said).no_gpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_torch_says_why_it_cannot_use_a_gpu():
    assert device.unusable("0")
