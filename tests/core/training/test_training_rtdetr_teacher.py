"""RT-DETR as Ultralytics saves it: a teacher by its boxes, never a student, and never unpickled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from core.training.test_training_distillation import join, student_of
from retort.data import converted_weights, foreign_teachers, weights
from retort.errors import ModelError
from retort.spec.adapter import TeacherAdapter
from retort.training import models, teachers
from retort.training.distillation.boxes import boxes_of
from retort.training.teachers.rtdetr import RtdetrNetwork
from retort.training.ultralytics_api import RTDETRDetectionModel

TINY: dict[str, Any] = {
    "nc": 3,
    "backbone": [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, "Conv", [16, 3, 4]], [-1, 1, "Conv", [16, 3, 2]],
                 [-1, 1, "Conv", [32, 3, 2]]],
    "head": [[-1, 1, "AIFI", [32, 2]], [[1, 2, 4], 1, "RTDETRDecoder", ["nc", 32, 20, 2, 2, 1, 32]]],
}  # fmt: skip
"""20 queries of one layer, on three levels."""


def network_of() -> Any:
    """Return a tiny RT-DETR whose classes are told apart, and whose boxes are not all alike."""
    with models.seeded(0):
        network = RTDETRDetectionModel(dict(TINY), ch=3, nc=3, verbose=False)
        for layer in (network.model[-1].dec_score_head[-1], network.model[-1].dec_bbox_head[-1].layers[-1]):
            torch.nn.init.normal_(layer.weight, std=0.5)
            torch.nn.init.zeros_(layer.bias)
    network.names = {0: "cat", 1: "red", 2: "green"}
    return network.eval()


def saved(folder: Path, network: Any, name: str = "detr.pt") -> Path:
    """Save *network* in half precision, as a training of Ultralytics does."""
    arguments = {"task": "detect", "imgsz": 64}
    folder.mkdir(exist_ok=True)
    torch.save({"epoch": -1, "model": network.half(), "ema": None, "train_args": arguments}, folder / name)
    return folder / name


def test_it_can_be_registered_and_teaches_from_there(tmp_path: Path):
    source = saved(tmp_path, network_of())
    assert foreign_teachers.can_teach(source)
    kept = weights.resolve_registered(weights.register("detr", source, tmp_path), tmp_path)
    assert isinstance(teachers.load(foreign_teachers.prepare(kept, None, tmp_path).path), RtdetrNetwork)


def test_its_boxes_have_the_probabilities_of_all_classes(tmp_path: Path):
    source = saved(tmp_path, network_of())
    before = torch.random.get_rng_state()
    network = teachers.load(foreign_teachers.prepare(source, None, tmp_path).path)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert isinstance(network, RtdetrNetwork)
    assert network.names == {0: "cat", 1: "red", 2: "green"}
    plain = network_of().half().float()
    assert network.num_parameters == sum(one.numel() for one in plain.parameters())
    for height, width in ((64, 96), (32, 32)):  # the second has fewer places than queries
        images = torch.rand(2, 3, height, width)
        with torch.no_grad():
            raw, (final, layers) = network(images), plain(images)
        size = torch.tensor([width, height, width, height])
        torch.testing.assert_close(raw[:, :4, : layers[0].shape[2]].transpose(1, 2), layers[0][-1] * size)
        best, place = raw[:, 4:].flatten(1).max(1)
        torch.testing.assert_close(best, final[:, 0, 4])
        assert torch.equal(torch.div(place, raw.shape[2], rounding_mode="floor"), final[:, 0, 5].long())
        assert len(boxes_of(raw).corners) > 0


def test_it_teaches_its_boxes_and_nothing_else(batch: dict[str, Any], tmp_path: Path):
    teacher = teachers.load(foreign_teachers.prepare(saved(tmp_path, network_of()), None, tmp_path).path)
    model = join(student_of("yolov8n"), teacher, {"kind": "class_logits"}, {"kind": "box_giou"})
    loss, items = model(batch)
    assert float(items["kd/class_logits"]) > 0
    assert float(items["kd/box_giou"]) > 0
    loss[-1].backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    student_of("yolov8n").train()
    assert not any(module.training for module in teacher.modules())


def test_as_a_student_it_is_refused_with_what_it_can_be(tmp_path: Path):
    with pytest.raises(ModelError, match="an RT-DETR, which can only teach") as caught:
        converted_weights.convert(saved(tmp_path, network_of()), tmp_path)
    assert "Detect head" in str(caught.value.hint)


def test_a_file_that_is_not_the_network_that_it_describes_is_refused(tmp_path: Path):
    def refused(source: Path, *names: str) -> str:
        adapter = TeacherAdapter(names=names) if names else None
        with pytest.raises(ModelError) as caught:
            teachers.load(foreign_teachers.prepare(source, adapter, tmp_path).path)
        return f"{caught.value} {caught.value.hint}"

    assert "as many adapter.names as it has classes" in refused(saved(tmp_path, network_of()), "red", "green")
    other = network_of()
    other.yaml = {**other.yaml, "head": [*TINY["head"][:1], [[1, 2, 4], 1, "RTDETRDecoder", ["nc", 64]]]}
    assert "no RT-DETR that can be built" in refused(saved(tmp_path, other, "other.pt"))
    ruined = network_of()
    ruined.model[0].conv.weight.data.fill_(float("nan"))
    assert "training that diverged" in refused(saved(tmp_path, ruined, "ruined.pt"))
    called = network_of()
    called.yaml = {**called.yaml, "activation": "print('was-run')"}
    assert "none of torch with numbers" in refused(saved(tmp_path, called, "called.pt"))
