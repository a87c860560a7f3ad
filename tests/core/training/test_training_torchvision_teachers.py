"""torchvision's detectors as teachers: found by their tensors, and never unpickled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from retort.data import foreign_teachers
from retort.errors import ModelError
from retort.spec.adapter import TeacherAdapter
from retort.training import models, teachers
from retort.training.distillation.boxes import boxes_of
from retort.training.teachers.torchvision import TorchvisionNetwork
from torchvision.models import detection


def saved(folder: Path, builder: str, classes: int) -> Path:
    with models.seeded(0):
        network = getattr(detection, builder)(weights=None, weights_backbone=None, num_classes=classes)
    path = folder / f"{builder}.pt"
    torch.save({"model": network.state_dict()}, path)
    return path


def test_a_state_dict_is_built_as_the_detector_that_it_is_of(tmp_path: Path):
    source = saved(tmp_path, "ssdlite320_mobilenet_v3_large", 3)
    network = teachers.load(foreign_teachers.prepare(source, TeacherAdapter(names=("red", "cat")), tmp_path).path)
    assert isinstance(network, TorchvisionNetwork)
    assert network.kind == "torchvision's ssdlite320_mobilenet_v3_large"
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        raw = network(images)
        plain = network.network(list(images))
    assert raw.shape[:2] == (2, 6)
    scores = plain[1]["scores"]
    assert len(scores) > 0
    best = int(scores.argmax())
    label = int(plain[1]["labels"][best])
    assert label in {1, 2}
    torch.testing.assert_close(raw[1, 3 + label].max(), scores[best])
    assert len(boxes_of(raw).corners) > 0
    assert source.stat().st_size > 1000


def test_names_of_another_number_are_refused_with_the_kinds_that_are_known(tmp_path: Path):
    source = saved(tmp_path, "ssdlite320_mobilenet_v3_large", 3)
    prepared = foreign_teachers.prepare(source, TeacherAdapter(names=("a", "b", "c", "d")), tmp_path)
    with pytest.raises(ModelError, match="no detector of torchvision with 4 classes") as caught:
        teachers.load(prepared.path)
    assert "without the background" in str(caught.value.hint)
    with pytest.raises(ModelError, match="does not say the names"):
        foreign_teachers.prepare(source, None, tmp_path)
