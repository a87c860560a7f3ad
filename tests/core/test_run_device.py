"""A run tells what device it has and why, and refuses one that will not do before anything trains."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from retort import run
from retort.data.inputs import DatasetInfo, Inputs, NamedBy
from retort.errors import RetortError
from retort.foreign import translate
from retort.protocol import journal
from retort.protocol.events import LogEvent
from retort.protocol.journal import Journal
from retort.spec import AnySpec, parse_spec
from retort.training import placement
from retort.training.placement import Gpu, GpuFacts, Wish, obstacle, place

_GIB = 2**30
KERNELS = "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"
H200 = Gpu("NVIDIA H200", (9, 0), 140 * _GIB, "8f3a", 139 * _GIB)
GOOD = GpuFacts("2.15.0", "13.2", KERNELS, driver="580.159.04", driver_cuda="13.0", number=2, gpu=H200)
OLD_DRIVER = replace(
    GOOD, driver="535.183.01", driver_cuda="12.2", number=0, gpu=None,
    error="The NVIDIA driver on your system is too old (found version 12020).",
)  # fmt: skip


def card(name: str, *capability: int) -> GpuFacts:
    major, minor = capability
    return replace(GOOD, gpu=Gpu(name, (major, minor), 32 * _GIB), error="CUDA error: no kernel image is available")


FOUND = {
    "no CUDA": (
        replace(GOOD, torch="2.15.0+cpu", cuda=None, kernels=(), number=0, gpu=None, error="Torch not compiled"),
        "this PyTorch (2.15.0+cpu) is built without CUDA",
        "install a PyTorch that is built for CUDA",
    ),
    "old driver": (
        OLD_DRIVER,
        "the driver 535.183.01 knows CUDA up to 12.2, and this PyTorch (2.15.0) is built for CUDA 13.2",
        "update the driver to 580 or later, or install a PyTorch that is built for CUDA 12",
    ),
    "old card": (
        card("Tesla V100", 7, 0),
        "Tesla V100 has compute capability 7.0, and this PyTorch (2.15.0) has kernels for 7.5, 8.0, 8.6, 9.0,",
        "take another GPU",
    ),
    "no driver": (
        replace(OLD_DRIVER, driver=None, driver_cuda=None, error="Found no NVIDIA driver on your system."),
        "no driver of NVIDIA answers",
        "install NVIDIA's driver of version 580 or later",
    ),
    "not there": (replace(GOOD, number=0, gpu=None), "there is no GPU 0, PyTorch sees 0 GPUs", "CUDA_VISIBLE_DEVICES"),
    "no kernel all the same": (
        replace(GOOD, error="CUDA error: no kernel image is available for execution on the device"),
        "GPU 0 failed at its first kernel: CUDA error: no kernel image",
        "nvidia-smi",
    ),
}  # fmt: skip


@pytest.mark.parametrize("which", FOUND)
def test_a_gpu_that_will_not_do_is_one_sentence_with_its_remedy_and_never_tried_again(which: str):
    """Was ``internal``, a mistake in Retort, for an old driver, and a retried ``cuda_error`` for an old card."""
    facts, reason, remedy = FOUND[which]
    with pytest.raises(RetortError) as caught:
        place(Wish("0"), [facts])
    assert caught.value.message.startswith(f"no GPU can be used: {reason}")
    assert remedy in str(caught.value.hint)
    assert "--device cpu" in str(caught.value.hint)
    assert (caught.value.code, caught.value.retryable) == ("no_gpu", False)


@pytest.mark.parametrize(
    ("kernels", "capability", "usable"),
    [
        (KERNELS, (7, 5), True), (KERNELS, (8, 9), True), (KERNELS, (12, 1), True), (KERNELS, (7, 0), False),
        (KERNELS, (6, 1), False), (KERNELS, (13, 0), False), ((*KERNELS, "compute_120"), (13, 0), True),
        (("sm_90a",), (9, 0), True), (("gfx942",), (9, 4), True), ((), (9, 0), True),
    ],
)  # fmt: skip
def test_kernels_run_on_later_cards_of_their_generation(
    kernels: tuple[str, ...], capability: tuple[int, int], usable: bool
):
    facts = replace(GOOD, kernels=kernels, gpu=replace(H200, capability=capability))
    assert (obstacle(facts, "0") is None) == usable


@pytest.mark.parametrize(("driver_cuda", "usable"), [("13.0", True), ("13.2", True), ("14.0", True), ("12.9", False)])
def test_a_driver_runs_all_minor_versions_of_its_cuda(driver_cuda: str, usable: bool):
    assert (obstacle(replace(GOOD, driver_cuda=driver_cuda), "0") is None) == usable


@pytest.mark.parametrize(
    "error", ["CUDA error: all CUDA-capable devices are busy or unavailable", "CUDA out of memory", "ECC error"]
)
@pytest.mark.parametrize("by", ["user", "worker"])
def test_a_gpu_that_fails_now_may_be_in_order_later(error: str, by: str):
    with pytest.raises(RetortError, match=error) as caught:
        place(Wish("0", by), [replace(GOOD, error=error)])
    assert (caught.value.code, caught.value.retryable) == ("cuda_error", True)


def test_fewer_gpus_than_the_spec_asks_for_are_told_before_anything_trains():
    with pytest.raises(RetortError, match=r"resources\.gpus is 4, but this run sees 2 GPUs") as caught:
        place(Wish("0", "worker", gpus=4), [GOOD, GOOD, replace(GOOD, gpu=None), replace(GOOD, gpu=None)])
    assert caught.value.code == "too_few_gpus"


def test_a_gpu_is_told_with_its_facts_and_who_has_named_it():
    assert place(Wish("0", "default"), [GOOD]).sentence == (
        "this run is on GPU 0 (NVIDIA H200, uuid 8f3a, compute capability 9.0, 139.0 of 140.0 GiB free, "
        "driver 580.159.04, PyTorch for CUDA 13.2): the first GPU here, as nobody has named a device"
    )
    assert place(Wish("1", "worker"), [GOOD]).reason == "given by the worker"


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        (Wish("cpu"), "named by --device"),
        (Wish("cpu", "default"), "this machine shows no GPU, and nothing insists on a GPU"),
        (Wish("cpu", "worker"), "this worker gives out no GPU, and the operator allows the CPU"),
        (
            Wish("cpu", "worker", required=False, cpu_allowed=False),
            "this worker gives out no GPU, and the spec allows the CPU",
        ),
    ],
)
def test_a_cpu_is_told_with_what_allows_it(wish: Wish, reason: str):
    assert place(wish, []).sentence == f"this run is on the CPU: {reason}"


@pytest.mark.parametrize(
    "wish",
    [
        Wish("cpu", "worker", cpu_allowed=False), Wish("cpu", "worker", required=True), Wish("cpu", required=True),
        Wish("cpu", "default", required=True),
    ],
    ids=str,
)  # fmt: skip
def test_the_cpu_stands_in_only_where_spec_or_operator_allow_it(wish: Wish):
    """A job trained on the CPU of a GPU worker for days."""
    with pytest.raises(RetortError) as caught:
        place(wish, [])
    assert (caught.value.code, caught.value.retryable) == ("no_gpu", False)
    assert "resources.require_gpu" in (caught.value.hint or "")


def test_a_gpu_that_nobody_named_gives_way_to_the_cpu_with_its_reason():
    found = place(Wish("0", "default"), [OLD_DRIVER])
    assert (found.name, found.number) == ("cpu", None)
    assert "the driver 535.183.01 knows CUDA up to 12.2" in found.sentence


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: no kernel image is available for execution on the device"),
        RuntimeError("The NVIDIA driver on your system is too old (found version 12020)."),
        RuntimeError("Found no NVIDIA driver on your system."),
        RuntimeError("CUDA error: invalid device ordinal"),
        AssertionError("Torch not compiled with CUDA enabled"),
        ValueError("Invalid CUDA 'device=0' requested. Use 'device=cpu'"),
    ],
    ids=str,
)
def test_a_gpu_of_no_use_is_known_where_a_library_says_so_later(error: Exception):
    """Was ``internal``, or a ``cuda_error`` that was tried three times."""
    found = translate(error, device="0", what="the run")
    assert (found.code, found.retryable) == ("no_gpu", False)
    assert found.hint


# What the run makes of it


@pytest.fixture
def said(tmp_path: Path) -> Iterator[Journal]:
    with Journal(tmp_path / "journal-1.jsonl") as told:
        yield told


def inputs(where: str, by: NamedBy) -> Inputs:
    data = DatasetInfo(root="/x", names=("a",), num_train=1, num_val=1, num_shared=0, digest="d")
    return Inputs(attempt=1, device=where, device_by=by, data_yaml=Path("/x/data.yaml"), weights={}, dataset=data)


def spec(*, gpus: int = 1) -> AnySpec:
    return parse_spec({
        "name": "x", "data": {"path": "/x"}, "teacher": {"weights": "a.pt"}, "student": {"model": "yolov8n"},
        "resources": {"gpus": gpus},
    })  # fmt: skip


def logged(said: Journal) -> list[tuple[str, str]]:
    return [(event.level, event.message) for event in journal.read(said.path)[0] if isinstance(event, LogEvent)]


def test_the_log_says_which_device_the_run_is_on_and_its_result_will(said: Journal):
    found = run._placed(spec(), inputs("cpu", "user"), said)
    assert (found.device, found.no_gpu) == ("cpu", None)
    assert found.hardware is not None
    assert (
        logged(said) == [("info", found.hardware.sentence)] == [("info", "this run is on the CPU: named by --device")]
    )


def test_a_cpu_that_nobody_asked_for_is_a_warning(said: Journal):
    """It trained on the CPU without a word."""
    found = run._placed(spec(), inputs("cpu", "worker"), said)
    assert found.no_gpu == "this worker gives out no GPU, and the operator allows the CPU"
    ((level, message),) = logged(said)
    assert level == "warning"
    assert message.endswith("; this takes many times as long")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize("gpus", [1, 2])
def test_a_gpu_that_this_machine_has_not_ends_the_run_or_gives_way(gpus: int, said: Journal):
    """What torch says itself is read, not handed in."""
    assert placement.read("0").error
    with pytest.raises(RetortError) as caught:
        run._placed(spec(gpus=gpus), inputs("0", "user"), said)
    assert caught.value.code == "no_gpu"
    found = run._placed(spec(gpus=gpus), inputs("0", "default"), said)
    assert (found.device, bool(found.no_gpu)) == ("cpu", True)
