"""What a worker finds on a machine with GPUs is what PyTorch sees there."""

from __future__ import annotations

import os
import sys

import pytest
from retort import nvml
from retort.settings import Settings, visible_gpus
from retort_worker import gpu_check, gpus

SEEN = (
    "import json, torch; one = torch.cuda.get_device_properties(0); "
    "print(json.dumps({'why': f'{one.name}|{one.major}.{one.minor}|{one.total_memory}'}))"
)
MEMORY_SHARE = 0.9
"""Of what the driver says: PyTorch does not count what the driver keeps for itself."""


def test_every_gpu_that_is_shown_can_be_used_and_has_a_slot():
    pool = gpu_check.find(Settings())
    assert pool.refused() == {}
    assert pool.num_slots == len(nvml.visible(visible_gpus())) >= 1
    assert {device["kind"] for device in pool.declared()} == {"gpu"}


def test_the_driver_and_pytorch_mean_the_same_gpu_by_a_name():
    """In CUDA's own order, the fastest first, they need not."""
    described = {gpu.name: gpu for gpu in nvml.describe(visible_gpus())}
    told = gpu_check.unusable(list(described), environment=os.environ, command=(sys.executable, "-c", SEEN))
    assert told.keys() == described.keys()
    for name, gpu in described.items():
        product, capability, memory = told[name].split("|")
        assert (product, capability) == (gpu.product, gpu.compute_capability)
        assert gpu.driver is not None
        assert gpu.memory_bytes is not None
        assert MEMORY_SHARE * gpu.memory_bytes <= int(memory) <= gpu.memory_bytes


def test_a_gpu_is_clean_again_once_a_process_that_used_it_has_ended():
    names = nvml.visible(visible_gpus())[:1]
    before = gpus.gpu_usage(names)
    assert before.keys() == set(names)
    assert gpu_check.unusable(names) == {}
    assert gpus.dirty_gpus(before, patience_s=30) == []


@pytest.mark.parametrize("chosen", ["", "-1", "none"])
def test_without_a_gpu_in_sight_the_check_says_so(chosen: str):
    told = gpu_check.unusable(["0"], environment={**os.environ}, command=_hidden(chosen))
    assert "GPU" in told["0"]


def _hidden(chosen: str) -> tuple[str, ...]:
    program = f"import os, runpy; os.environ['CUDA_VISIBLE_DEVICES'] = {chosen!r}; "
    return sys.executable, "-c", program + "runpy.run_module('retort.training.device_check', run_name='__main__')"
