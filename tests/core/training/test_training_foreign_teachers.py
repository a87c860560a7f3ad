"""Teachers that are no YOLO: what their outputs are, and that they are what a run reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from core.training.foreign_detectors import OUTPUTS, Fixed, write
from core.training.pictures import NAMES
from core.training.test_training_distillation import join, student_of
from retort import model_ref
from retort.cli.weights import register_here, register_weights
from retort.data import foreign_teachers, weights
from retort.data.checkpoint_names import stored_names
from retort.errors import ModelError
from retort.settings import Settings
from retort.spec.adapter import TeacherAdapter
from retort.training import teachers
from retort.training.distillation.boxes import boxes_of
from retort.training.evaluate import Conditions, accuracy
from retort.training.teachers.base import BoxNetwork
from torch import nn

CLASSES = ("cat", "red", "green")
BOXES = ((0.25, 0.25, 0.5, 0.75), (0.0, 0.5, 0.25, 1.0))
SURE = ((0.1, 0.85, 0.0), (0.7, 0.2, 0.0))


def prepared(source: Path, **adapter: Any) -> Any:
    told = TeacherAdapter.model_validate(adapter) if adapter else None
    return teachers.load(foreign_teachers.prepare(source, told, source.parent).path)


def stranger(folder: Path, form: str, side: int = 64, names: Any = CLASSES, **options: Any) -> Path:
    inputs, taken = [torch.rand(1, 3, side, side)], ["images"]
    inputs = [inputs[0][0]] if form == "single" else inputs
    if form == "sizes":
        inputs.append(torch.tensor([[side, side]]))
        taken.append("orig_target_sizes")
    module = Fixed(form, BOXES, SURE)
    return write(folder / f"{form}.onnx", module, inputs, OUTPUTS[form], names, input_names=taken, **options)


@pytest.mark.parametrize("form", OUTPUTS)
def test_a_graph_of_any_form_gives_its_boxes_in_the_pixels_of_the_image(form: str, tmp_path: Path):
    dynamic = form not in {"one", "single"}
    told = {"description": "Ultralytics rtdetr-l model"} if form == "rows" else {}
    network = prepared(stranger(tmp_path, form, dynamic=dynamic, **told))
    assert isinstance(network, BoxNetwork)
    assert network.names == dict(enumerate(CLASSES))
    found = boxes_of(network(torch.rand(2, 3, 128, 96)))
    assert found.image.tolist() == [0, 0, 1, 1]
    order = found.probabilities[:2].amax(-1).argsort(descending=True)
    expected = torch.tensor(BOXES) * torch.tensor([96, 128, 96, 128])
    torch.testing.assert_close(found.corners[:2][order], expected, atol=0.05, rtol=1e-3)
    wanted = torch.tensor(SURE)
    if form in {"final", "one", "single", "sizes"}:
        wanted = wanted * (wanted == wanted.amax(-1, keepdim=True))
    torch.testing.assert_close(found.probabilities[:2][order], wanted, atol=2e-3, rtol=1e-2)


def test_what_a_file_does_not_say_the_adapter_does(tmp_path: Path):
    source = stranger(tmp_path, "detr", names=None)
    with pytest.raises(ModelError, match="does not say the names of its classes") as caught:
        prepared(source)
    assert "names: [cat, dog]" in str(caught.value.hint)
    with pytest.raises(ModelError, match="scores of 1 classes is not certain") as caught:
        prepared(source, names=["a"])
    assert "background" in str(caught.value.hint)
    with pytest.raises(ModelError, match="it has no output 'dets'; it has pred_boxes, pred_logits"):
        prepared(source, names=CLASSES, boxes="dets")
    network = prepared(source, names=["x", "y", "z"], activation="none", box_format="xyxy", box_units="pixels")
    assert list(network.names.values()) == ["x", "y", "z"]
    answer = network.answer
    assert (answer.activation, answer.box_format, answer.box_units) == ("none", "xyxy", "pixels")


class Mean(nn.Module):
    """One box whose score is the mean of the input's first channel, and whose width is that of its last."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first, last = x[:, 0].mean((1, 2)), x[:, 2].mean((1, 2))
        zero = first * 0
        box = torch.stack([zero + 16, zero + 32, last * 20, zero + 8, first, zero], -1)[:, :, None]
        return box.expand(-1, -1, 9)


def test_colours_values_and_shapes_of_the_input_are_the_adapters(tmp_path: Path):
    source = write(tmp_path / "mean.onnx", Mean(), [torch.rand(1, 3, 64, 64)], ["output0"], ("red", "cat"))
    images = torch.tensor([0.8, 0.5, 0.2])[:, None, None].expand(1, 3, 32, 64)
    plain = prepared(source)(images)[0, :, 0]
    torch.testing.assert_close(plain, torch.tensor([16.0, 16.0, 4.0, 4.0, 0.8, 0.0]), atol=1e-3, rtol=0)
    swapped = prepared(source, colours="bgr", largest=255, mean=[25.5] * 3, std=[255.0] * 3)(images)[0, :, 0]
    torch.testing.assert_close(swapped[2], torch.tensor((0.8 - 0.1) * 20), atol=1e-3, rtol=0)
    torch.testing.assert_close(swapped[4], torch.tensor(0.2 - 0.1), atol=1e-4, rtol=0)
    boxed = prepared(source, resize="letterbox")(images)[0, :, 0]  # 16 rows of grey above and below
    torch.testing.assert_close(boxed[:2], torch.tensor([16.0, 16.0]), atol=1e-3, rtol=0)
    torch.testing.assert_close(boxed[3:5], torch.tensor([8.0, (0.8 + 114 / 255) / 2]), atol=1e-3, rtol=0)


def test_a_graph_that_opens_files_or_repeats_graphs_is_refused(tmp_path: Path):
    source = stranger(tmp_path, "detr")
    model = onnx.load(source)
    onnx.save(model, tmp_path / "outside.onnx", save_as_external_data=True, size_threshold=0, location="rest.bin")
    with pytest.raises(ModelError, match="keeps tensors in other files"):
        prepared(tmp_path / "outside.onnx", names=CLASSES)
    node = model.graph.node.add()
    node.op_type = "Loop"
    onnx.save(model, tmp_path / "loop.onnx")
    with pytest.raises(ModelError, match="the operator 'Loop'"):
        prepared(tmp_path / "loop.onnx", names=CLASSES)
    node.op_type, node.domain = "Relu", "com.microsoft"
    onnx.save(model, tmp_path / "domain.onnx")
    with pytest.raises(ModelError, match=r"com\.microsoft"):
        prepared(tmp_path / "domain.onnx", names=CLASSES)


def test_a_prepared_teacher_is_made_once_and_says_its_names_without_torch(tmp_path: Path):
    source = stranger(tmp_path, "detr")
    first = foreign_teachers.prepare(source, None, tmp_path)
    assert foreign_teachers.prepare(source, None, tmp_path) == first
    other = foreign_teachers.prepare(source, TeacherAdapter(names=("a", "b", "c")), tmp_path)
    assert other.path != first.path
    assert other.source_sha256 == first.source_sha256
    assert stored_names(first.path) == CLASSES
    assert stored_names(other.path) == ("a", "b", "c")


def test_a_graph_that_names_its_network_is_still_taken_apart(tmp_path: Path):
    source = stranger(tmp_path, "columns", description="Ultralytics YOLO11n model trained on x")
    with pytest.raises(ModelError, match=r"cannot be loaded|its tensors are not those"):
        prepared(source)
    assert isinstance(prepared(source, names=CLASSES), BoxNetwork)  # an adapter says that it teaches by its boxes


class Suppressed(Fixed):
    """Ends in NMS, as Ultralytics' ``export(nms=True)`` does; *masks* are a segmentation network's coefficients."""

    def __init__(self, masks: int = 0) -> None:
        super().__init__("final", BOXES, SURE)
        self.masks = masks

    def forward(self, images: torch.Tensor, sizes: torch.Tensor | None = None) -> Any:
        final = super().forward(images, sizes)
        if not self.masks:
            return final + final.argmax(1, keepdim=True) * 0
        rows = torch.cat([final, final[..., :1].expand(-1, -1, self.masks)], -1)
        return rows, images.mean((1, 2, 3))[:, None, None, None].expand(-1, self.masks, 16, 16)


@pytest.mark.parametrize("masks", [0, 32])
def test_a_yolo_that_cannot_be_taken_apart_teaches_by_its_boxes(masks: int, tmp_path: Path):
    """Found with files of two packages: NMS in the graph, and a segmentation network."""
    images, outputs = torch.rand(1, 3, 64, 64), ["output0", "output1"][: 2 if masks else 1]
    described = "Ultralytics YOLO11n model trained on x"
    source = write(tmp_path / "nms.onnx", Suppressed(masks), [images], outputs, CLASSES, description=described)
    teacher, plain = prepared(source), prepared(stranger(tmp_path, "final"))
    assert isinstance(teacher, BoxNetwork)
    torch.testing.assert_close(teacher(images), plain(images))


def test_a_set_of_operators_that_is_named_and_not_used_does_no_harm(tmp_path: Path):
    """Paddle's exporter names its own, onnxruntime's optimizer names four."""
    source = stranger(tmp_path, "detr")
    model = onnx.load(source)
    for name in ("Paddle", "com.microsoft"):
        model.opset_import.append(onnx.helper.make_opsetid(name, 1))
    onnx.save(model, tmp_path / "more.onnx")
    assert isinstance(prepared(tmp_path / "more.onnx"), BoxNetwork)


def test_retort_run_takes_a_graph_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It registers what a path names, and whatever is registered lies there as a .pt file."""
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    source = stranger(tmp_path, "detr", names=None)
    named = register_weights({"teacher": {"weights": str(source)}}, register_here)["teacher"]["weights"]
    reference, model_dir = model_ref.parse(named), Settings().model_dir
    assert reference is not None
    assert model_dir is not None
    assert isinstance(prepared(weights.resolve_registered(reference, model_dir), names=CLASSES), BoxNetwork)
    source.write_bytes(source.read_bytes()[:-40])
    with pytest.raises(ModelError, match=r"detr\.onnx cannot be loaded"):
        register_here(source, "detr")


def test_the_terms_of_an_onnx_teacher_are_alive(batch: dict[str, Any], tmp_path: Path):
    teacher = prepared(stranger(tmp_path, "detr"))
    model = join(student_of("yolov8n"), teacher, {"kind": "class_logits"}, {"kind": "box_giou"})
    loss, items = model(batch)
    assert float(items["kd/class_logits"]) > 0
    assert float(items["kd/box_giou"]) > 0
    loss[-1].backward()
    assert set(NAMES.values()) & set(CLASSES)


def test_metadata_hold_the_adapter_as_json(tmp_path: Path):
    path = foreign_teachers.prepare(stranger(tmp_path, "final"), TeacherAdapter(resize="letterbox"), tmp_path).path
    told = {one.key: one.value for one in onnx.load(path).metadata_props}
    assert json.loads(told["retort.teacher"]) == {"resize": "letterbox", "names": list(CLASSES)}


def test_its_figures_name_no_line_of_upstream_that_could_not_read_it(data_yaml: Path, tmp_path: Path):
    network = prepared(stranger(tmp_path, "detr", names=tuple(NAMES.values())))
    found = accuracy(network, Conditions(data_yaml, imgsz=64, device="cpu", loader_workers=0), "detr.onnx")
    assert 0 <= found.map <= 1
    assert found.command is None


class Weighed(Fixed):
    """Has weights, and no need of what they compute."""

    def __init__(self) -> None:
        super().__init__("detr", BOXES, SURE)
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, images: torch.Tensor, sizes: torch.Tensor | None = None) -> Any:
        return super().forward(images + self.conv(images).mean() * 0, sizes)


def test_the_weights_of_a_graph_are_counted(tmp_path: Path):
    inputs = [torch.rand(1, 3, 64, 64)]
    without = write(tmp_path / "without.onnx", Fixed("detr", BOXES, SURE), inputs, OUTPUTS["detr"], CLASSES)
    counted = write(tmp_path / "with.onnx", Weighed(), inputs, OUTPUTS["detr"], CLASSES)
    assert prepared(counted).num_parameters - prepared(without).num_parameters == 4 * 3 * 3 * 3 + 4
