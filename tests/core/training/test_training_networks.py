"""Networks beside the usual ones: built from their own files, taught, and told apart where shapes are equal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from core.training.pictures import NAMES
from retort.constants import MODEL_NAMES, OFFICIAL_WEIGHTS, Role
from retort.errors import ModelError, TeacherMismatch
from retort.spec import DistillationSpec, TrainingSpec
from retort.training import models
from retort.training.architecture import head_levels, read
from retort.training.config import TrainConfig
from retort.training.distillation.distiller import Distiller, TeacherCandidate, make_distiller
from retort.training.distillation.teacher_resize import ratio_of
from retort.training.health.metrics import Probe, measure
from retort.training.health.visuals import arrays
from ultralytics.cfg import get_cfg
from ultralytics.nn.modules import Conv
from ultralytics.nn.tasks import DetectionModel, SegmentationModel, yaml_model_load
from ultralytics.utils.downloads import GITHUB_ASSETS_NAMES

Saver = Callable[..., Path]
RELU = {"activation": "torch.nn.ReLU()"}


@pytest.fixture
def plain(tmp_path: Path) -> Saver:
    """Return a function that saves a network as plain Ultralytics builds it, with random weights."""

    def save(model: str, *, names: Any = NAMES, ch: int = 3, **described: Any) -> Path:
        described = {**yaml_model_load(f"{model}.yaml"), **described}
        network = DetectionModel(described, ch=ch, nc=len(names), verbose=False)
        network.names, network.args = names, {}
        path = tmp_path / f"{model}-{len(list(tmp_path.iterdir()))}.pt"
        torch.save({"model": network.half(), "train_args": {}}, path)
        return path

    return save


def from_file(weights: Path) -> Any:
    network = models.build("mine", names=NAMES, weights=weights, seed=0, from_weights=True)
    network.args = get_cfg()
    return network


def taught(student: Any, teacher: Any, *, imgsz: int | None = None, **fields: Any) -> Distiller:
    spec = DistillationSpec.model_validate({"schedule": {"warmup_epochs": 0}, **fields})
    candidate = TeacherCandidate(teacher, ratio=ratio_of(imgsz, 64))
    return make_distiller(student, candidate, spec, device=torch.device("cpu"), epochs=3, close_mosaic=0, seed=0)


@pytest.mark.parametrize(
    ("model", "described", "said"),
    [
        ("yolov8n-p2", {}, "yolov8n-p2 (SiLU, P2 to P5, 16 distance bins)"),
        ("yolov8n", RELU, "yolov8n (ReLU, P3 to P5, 16 distance bins)"),
        ("yolov8n-ghost", {}, "yolov8n-ghost (SiLU, P3 to P5, 16 distance bins)"),
        ("yolov9t", {}, "yolov9t (SiLU, P3 to P5, 16 distance bins)"),
        ("yolov10n", {}, "yolov10n (SiLU, P3 to P5, 16 distance bins, one2one head)"),
        ("yolov5n", {}, "yolov5n (SiLU, P3 to P5, 16 distance bins)"),
        ("yolo26n", {}, "yolo26n (SiLU, P3 to P5, no distance bins, one2one head)"),
        ("yolov8n-p6", {}, "yolov8n-p6 (SiLU, P3 to P6, 16 distance bins)"),
        ("yolov8n", {"scales": {"n": [0.33, 0.125, 1024]}}, "yolov8n (SiLU, P3 to P5, 16 distance bins)"),
    ],
)
def test_a_student_is_built_as_its_own_file_describes_it_and_learns(  # noqa: PLR0917 - a case has three parts
    model: str, described: dict[str, Any], said: str, plain: Saver, published: Saver, batch: dict[str, Any]
) -> None:
    weights = plain(model, **described)
    student = from_file(weights)
    assert str(read(student)) == said
    source = models.load(weights).state_dict()
    assert all(torch.equal(value, source[name]) for name, value in student.state_dict().items())

    joined = taught(student, models.load(published("yolov8n"))).train()
    loss, items = joined(batch)
    loss[-1].backward()  # the distillation loss alone
    assert torch.isfinite(items["kd_loss"])
    assert items["kd_loss"] > 0
    assert student.model[0].conv.weight.grad.abs().sum() > 0
    probe = Probe(batch["img"], batch)
    assert measure(joined, probe)["health/kl_background"] is not None
    levels = [level for level in head_levels(student) if level in {"P3", "P4", "P5"}]
    assert {f"kl_{level}" for level in levels} <= arrays(joined, probe).keys()


def test_a_teacher_may_read_finer_levels_than_its_student(published: Saver, batch: dict[str, Any]) -> None:
    student = models.build("yolov8n", names=NAMES, weights=None, seed=0)
    student.args = get_cfg()
    _, items = taught(student, models.load(published("yolo26n-p2")), losses=[{"kind": "class_logits"}])(batch)
    assert torch.isfinite(items["kd_loss"])


@pytest.mark.parametrize(
    ("model", "fields", "said"),
    [
        ("yolov3-tiny", {}, "pearson compares P3, but the student's head reads P4, P5"),
        ("yolov8n-p2", {"losses": [{"kind": "cross_kd"}]}, "cross_kd needs heads of the same levels"),
        ("yolov8n-p2", {"assignment": "teacher"}, "assignment: teacher needs equal anchors"),
        ("yolov8n-p6", {"recipe": "article"}, "backbones' last layers, which differ in size"),
        ("yolov8n-p2", {"imgsz": 128}, "needs a teacher that sees images in the same size"),
    ],
)
def test_what_cannot_be_compared_at_other_levels_is_refused_with_the_reason(
    model: str, fields: dict[str, Any], said: str, published: Saver
) -> None:
    student = models.build(model, names=NAMES, weights=None, seed=0)
    with pytest.raises(TeacherMismatch, match=said) as caught:
        taught(student, models.load(published("yolov8n")), **fields)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("described", "said"),
    [
        (RELU, r"hold yolov8n \(ReLU, .*\); they do not fit yolov8n \(SiLU\): its activation is ReLU, not SiLU"),
        ({"reg_max": 8}, "8 distance bins.*tensors agree"),
        ({"scales": {"n": [0.33, 0.125, 1024]}}, "tensors agree"),
    ],
)
def test_a_file_of_another_architecture_than_the_spec_names_is_refused_with_both(
    described: dict[str, Any], said: str, plain: Saver
) -> None:
    """Student weights with another activation were loaded into a SiLU network without a word: the same shapes."""
    with pytest.raises(ModelError, match=said) as caught:
        models.build("yolov8n", names=NAMES, weights=plain("yolov8n", **described), seed=0)
    assert "leave model out" in str(caught.value.hint)


def test_whatever_measures_the_start_of_a_training_builds_the_network_that_is_trained(plain: Saver) -> None:
    """The row of the start was missing where the student is built as its file describes it."""
    plan = TrainConfig(
        role=Role.STUDENT, model="a name for people", weights=plain("yolov8n", **RELU), data_yaml=Path("data.yaml"),
        epochs=1, training=TrainingSpec(), folder=Path("run"), device="cpu", from_weights=True,
    )  # fmt: skip
    assert read(models.build_start(plan, NAMES)).activation == "ReLU"


def test_a_file_whose_layers_are_not_what_it_describes_is_refused(plain: Saver, tmp_path: Path) -> None:
    checkpoint = torch.load(plain("yolov8n"), weights_only=False)
    checkpoint["model"].model[0].act = torch.nn.ReLU()
    torch.save(checkpoint, tmp_path / "changed.pt")
    with pytest.raises(ModelError, match=r"changed\.pt are not the network yolov8n that they describe"):
        from_file(tmp_path / "changed.pt")


@pytest.mark.parametrize(
    ("described", "name"),
    [
        ({"yaml_file": ""}, "yolov8n"),
        ({"yaml_file": "", "scale": "s"}, "yolov8s"),
        ({"yaml_file": "", "scales": None, "depth_multiple": 0.33, "width_multiple": 0.25}, "yolov8n"),
        ({"yaml_file": "", **RELU}, "a network without a name"),
    ],
)
def test_a_file_that_does_not_say_its_name_is_known_by_its_layers(
    described: dict[str, Any], name: str, plain: Saver
) -> None:
    assert read(models.load(plain("yolov8n", **described))).name == name


def test_names_in_a_list_are_as_good_as_a_mapping(plain: Saver) -> None:
    assert models.load(plain("yolov8n", names=["red", "green"])).names == {0: "red", 1: "green"}


@pytest.mark.parametrize(
    ("theirs", "ours", "rows"),
    [
        (["Car", "car"], ["Car", "car"], [0, 1]),
        (["car", "Car"], ["Car", "car"], [1, 0]),
        (["car", "bus", "tram"], ["tram", "car", "bus"], [2, 0, 1]),
        (["car", "bus", "tram"], ["bus", "cart", "car"], [1, None, 0]),
        (["car", "bus", "tram"], ["bus"], [1]),
        (["car"], ["Car", "car"], [None, 0]),
        (["car", "bus"], ["Car", "Bus"], [0, 1]),
        (["a", "b"], ["c", "d"], [0, 1]),
    ],
)  # fmt: skip
def test_a_student_takes_over_each_class_of_its_weights_by_its_name_letter_by_letter(
    plain: Saver, theirs: list[str], ours: list[str], rows: list[int | None]
) -> None:
    weights = plain("yolov10n", names=dict(enumerate(theirs)))
    names = dict(enumerate(ours))

    student = models.build("mine", names=names, weights=weights, seed=0, from_weights=True)

    assert student.names == names
    known = models.load(weights).model[-1]
    for branch in ("cv3", "one2one_cv3"):
        for mine, other in zip(getattr(student.model[-1], branch), getattr(known, branch), strict=True):
            for number, row in enumerate(rows):
                begun = [
                    index
                    for index in range(len(theirs))
                    if torch.equal(mine[-1].weight[number], other[-1].weight[index])
                ]
                assert begun == ([] if row is None else [row]), (branch, ours[number])
                if row is not None:
                    assert mine[-1].bias[number] == other[-1].bias[row]


@pytest.mark.parametrize("name", ["yolov5n.pt", "yolov3-tiny.pt", "it's mine.pt"])
def test_a_file_may_be_called_like_one_that_upstream_takes_for_another(plain: Saver, tmp_path: Path, name: str) -> None:
    weights = plain("yolov8n").rename(tmp_path / name)

    assert models.load(weights).names == NAMES


def test_a_network_without_names_and_a_state_dict_are_refused_with_what_is_missing(
    plain: Saver, tmp_path: Path
) -> None:
    network = models.load(plain("yolov8n"))
    torch.save({"model": network.state_dict()}, tmp_path / "state.pt")
    del network.names
    torch.save({"model": network}, tmp_path / "nameless.pt")

    with pytest.raises(ModelError, match="names for 0"):
        models.load(tmp_path / "nameless.pt")
    with pytest.raises(ModelError) as told:
        models.load(tmp_path / "state.pt")
    assert "a state dict alone does not say" in str(told.value.hint)
    assert str(tmp_path) not in told.value.message
    assert "retort-weights" not in told.value.message


def test_weights_with_a_hole_are_refused_though_torch_loads_them(plain: Saver) -> None:
    weights = plain("yolov8n")
    content = bytearray(weights.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 1000] = bytes(1000)
    weights.write_bytes(content)

    assert torch.load(weights, weights_only=False)["model"].names == NAMES
    with pytest.raises(ModelError, match=r"is damaged: .* has another checksum"):
        models.load(weights)


def test_networks_for_grey_images_and_for_masks_are_refused_by_what_they_are(plain: Saver, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="reads images of 1 channels, not 3"):
        models.load(plain("yolov8n", ch=1))
    torch.save({"model": SegmentationModel("yolov8n-seg.yaml", verbose=False).half()}, tmp_path / "seg.pt")
    with pytest.raises(ModelError, match=r"seg\.pt is not a detection network: it is a SegmentationModel"):
        models.load(tmp_path / "seg.pt")


def test_a_network_of_ones_own_is_built_from_its_description(tmp_path: Path) -> None:
    described = {**yaml_model_load("yolov8n-p2.yaml"), "activation": "nn.LeakyReLU(0.2)"}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(described))
    network = models.build("own", names=NAMES, weights=None, seed=0, definition=tmp_path / "own.yaml")
    assert str(read(network)).startswith("own (LeakyReLU(negative_slope=0.2), P2 to P5")
    assert isinstance(Conv.default_act, torch.nn.SiLU)


@pytest.mark.parametrize(
    "text",
    [
        "backbone: [",
        "- 1",
        "backbone: []\nhead: []",
        "backbone: [[-1, 1, Conv, [8, 3, 2]]]\nhead: [[-1, 1, os.system, [x]]]",
        "activation: open('exploded', 'w')\nbackbone: [[-1, 1, Conv, [8, 3, 2]]]\nhead: [[[0], 1, Detect, [nc]]]",
        "activation: nn.ReLU()\nbackbone: [[-1, 1, Conv, [8, 3, 2]]]\nhead: [[[0], 1, Nothing, [nc]]]",
        "backbone: [[-1, 1, Conv, [8, 3, 2]]]\nhead: [[[0], 1, Segment, [nc, 32, 256]]]",
        "backbone: [[-1, 1, Conv, [8, 3, 2]]]\nhead: [[[0], 1, Detect, [nc]]]",
    ],
)
def test_a_description_that_builds_no_detector_is_refused_and_leaves_no_trace(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(ModelError, match="own"):
        models.build("own", names=NAMES, weights=None, seed=0, definition=tmp_path / "own.yaml")
    assert [path.name for path in tmp_path.iterdir()] == ["own.yaml"]
    assert isinstance(Conv.default_act, torch.nn.SiLU)


def test_every_name_that_a_spec_may_give_is_one_that_ultralytics_describes() -> None:
    described = {name: yaml_model_load(f"{name}.yaml") for name in MODEL_NAMES}
    assert {rows["head"][-1][2] for rows in described.values()} == {"Detect", "v10Detect"}


def test_the_files_that_may_be_fetched_are_among_those_that_ultralytics_publishes() -> None:
    assert OFFICIAL_WEIGHTS <= GITHUB_ASSETS_NAMES
