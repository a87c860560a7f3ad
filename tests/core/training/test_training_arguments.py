"""How a plan reads in the words of upstream."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from retort.constants import Role
from retort.spec import TrainingSpec
from retort.training.arguments import arguments
from retort.training.config import TrainConfig
from retort.training.data.sampler import reseed


def plan(training: TrainingSpec, epochs: int) -> TrainConfig:
    return TrainConfig(
        role=Role.STUDENT, model="yolov8n", weights=None, data_yaml=Path("data.yaml"), epochs=epochs, training=training,
        folder=Path("folder"), device="cpu",
    )  # fmt: skip


def test_the_nominal_batch_decides_how_many_images_make_a_step():
    made = arguments(plan(TrainingSpec(batch=16, nominal_batch=16), epochs=1))

    assert (made["batch"], made["nbs"]) == (16, 16)
    assert TrainingSpec().nominal_batch == 64


@pytest.mark.parametrize("deterministic", [True, False])
def test_each_epoch_uses_deterministic_algorithms_where_the_spec_says_so(deterministic: bool):
    wanted = plan(TrainingSpec(deterministic=deterministic), epochs=1)
    loop = SimpleNamespace(plan=wanted, train_loader=SimpleNamespace(set_epoch=lambda *_, **__: None))
    before = torch.are_deterministic_algorithms_enabled()
    try:
        reseed(loop, seed=0, epoch=0)
        assert torch.are_deterministic_algorithms_enabled() is deterministic
        assert arguments(wanted)["deterministic"] is deterministic, "upstream's own switch, before the first epoch"
    finally:
        torch.use_deterministic_algorithms(before, warn_only=True)
