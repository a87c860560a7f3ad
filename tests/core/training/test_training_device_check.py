"""What the process that asks PyTorch about a GPU prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from retort.training import device_check


def test_a_device_that_computes_is_told_from_one_that_does_not():
    """A GPU for which PyTorch has no kernels is there, and answers until it is to compute."""
    assert device_check.computes("cpu") is None
    assert device_check.computes("meta") is not None


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_without_a_gpu_the_check_prints_why_and_succeeds():
    command = [sys.executable, "-m", "retort.training.device_check"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout.strip().rpartition("\n")[2])["why"]
