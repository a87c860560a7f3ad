"""Forms with NMS inside, without need of it, in other shapes, of several images at once, and in half."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import onnx as onnx_files
import pytest
import torch
from core.training.pictures import NAMES, draw
from PIL import Image
from results import result
from retort.errors import ModelError
from retort.report.usage import usage
from retort.training import models
from retort.training.benchmark import Subject, measure
from retort.training.evaluate import Conditions, RuntimeAsModule, accuracy
from retort.training.export import ncnn, onnx, openvino, torchscript
from retort.training.export.form import Form, SuppressedBoxes, metadata
from retort.training.export.graph import halve
from retort.training.export.onnx import export_onnx, export_raw
from retort.training.export.parity import compare, compare_boxes
from retort.training.export.quantization import difference
from retort.training.inference import Runtime, load_onnx, prepare
from retort.training.ultralytics_api import AutoBackend, nms
from stored_results import EXPORTS
from support.colour_finder import ColourFinder

WIDE = Form((64, 96), batch=2, nms=True, conf=0.3)
RAW = Form((64, 96))
RUNTIMES: dict[str, ModuleType] = {
    "wide.onnx": onnx, "wide_openvino_model": openvino, "wide.torchscript": torchscript,
    "raw.onnx": onnx, "raw_openvino_model": openvino, "raw.torchscript": torchscript, "raw_ncnn_model": ncnn,
}  # fmt: skip


@pytest.fixture(scope="module")
def weights(published: Callable[..., Path]) -> Path:
    return published("yolov8n")


@pytest.fixture(scope="module")
def files(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of forms of one network: wide images, with NMS inside for two at once, and raw for one."""
    folder = tmp_path_factory.mktemp("forms")
    network = models.load(weights)
    for name, form in {"wide": WIDE, "raw": RAW}.items():
        export_onnx(weights, folder / f"{name}.onnx", form)
        about = metadata(network, form)
        openvino.export_openvino(folder / f"{name}.onnx", folder / f"{name}_openvino_model", half=False, metadata=about)
        torchscript.export_torchscript(weights, folder / f"{name}.torchscript", form)
    ncnn.export_ncnn(weights, folder / "raw_ncnn_model", RAW, half=False)
    return folder


@pytest.fixture(scope="module")
def images(data_yaml: Path) -> list[Path]:
    return sorted((data_yaml.parent / "images/val").iterdir())[:3]


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_form_gives_the_boxes_of_the_network_in_its_shape_and_number(
    name: str, files: Path, weights: Path, images: list[Path]
):
    """There was no form with NMS inside, none but squares, and none for several images at once."""
    form = WIDE if name.startswith("wide") else RAW
    runtime: Runtime = RUNTIMES[name].load(files / name, exact=True)

    found = compare(weights, runtime, images, form)

    assert (runtime.most, runtime.fixed, runtime.final) == (form.batch, True, form.final)
    assert found.equal
    assert found.num_boxes > 3


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")  # torch would rather have its newer exporter used
@pytest.mark.parametrize("name", [name for name in RUNTIMES if name != "raw_ncnn_model"])
def test_plain_ultralytics_reads_in_a_form_what_it_takes_and_gives(name: str, files: Path, images: list[Path]):
    plain = AutoBackend(str(files / name), device=torch.device("cpu"), verbose=False)
    form = WIDE if name.startswith("wide") else RAW
    three = torch.cat([prepare(image, form.shape)[0] for image in images])

    theirs = plain(three) if form.final else torch.cat([plain(one[None]) for one in three])
    ours = RUNTIMES[name].load(files / name).run_all(three)

    assert (list(plain.imgsz), plain.batch, plain.end2end) == ([64, 96], form.batch, form.final)
    assert torch.allclose(theirs, ours, atol=1e-3)


@pytest.mark.parametrize("name", RUNTIMES)
def test_the_conditions_of_a_runtime_are_told_and_are_those_of_plain_ultralytics(name: str, files: Path):
    """OpenVINO and NCNN were judged in float32, with as many threads as we chose, as nobody else runs them."""
    told = str(RUNTIMES[name].load(files / name).settings)

    assert "the CPU" in told
    assert "threads" in told
    if "ncnn" in name:
        assert "16 bits where the processor can" in told
    if "openvino" in name:
        plain = AutoBackend(str(files / name), device=torch.device("cpu"), verbose=False).ov_compiled_model
        arithmetic = plain.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        assert f"in {plain.get_property('INFERENCE_NUM_THREADS')} threads, where it computes in {arithmetic}" in told


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")  # torch would rather have its newer exporter used
def test_the_lines_that_use_a_form_run_as_they_are_and_print_its_boxes(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], images: list[Path]
):
    """Only the student and raw ONNX had lines that use them."""
    about = {"wide": {"shape": (64, 96), "batch": 2, "boxes": "nms", "conf": 0.3, "iou": 0.7, "most_boxes": 300}}
    forms = [
        {
            **EXPORTS["passed"], "path": name, "format": RUNTIMES[name].__name__.rpartition(".")[2],
            **about.get(name[:4], {"shape": (64, 96), "batch": 1, "boxes": "raw"}),
        }
        for name in RUNTIMES
    ]  # fmt: skip
    for name in RUNTIMES:
        (tmp_path / name).symlink_to(files / name)
    for folder in ("wide_openvino_model", "raw_openvino_model"):
        assert (files / folder / "student.xml").is_file()
    Image.open(images[0]).convert("RGB").save(tmp_path / "image.jpg")
    monkeypatch.chdir(tmp_path)
    _, *snippets = usage("run", "student.pt", result(exports=forms)).snippets
    printed = {}

    for name, snippet in zip(RUNTIMES, snippets, strict=True):
        exec(snippet.code, {})  # noqa: S102 - it is the code under test
        printed[name] = capsys.readouterr().out
        assert snippet.title.startswith(f"{name} in ")
        assert ("NMS is inside" in snippet.note) == name.startswith("wide")

    assert {out for name, out in printed.items() if name.startswith("raw")} == {"(1, 7, 126)\n"}
    boxes = {name: out.splitlines() for name, out in printed.items() if name.startswith("wide")}
    assert len(boxes["wide.onnx"]) == len(boxes["wide.torchscript"])
    assert boxes["wide_openvino_model"]  # by itself in 16 bits on some processors, where a score may fall below 0.3
    assert all(line.split()[0] in "012" and float(line.split()[1]) > 0.3 for line in boxes["wide.onnx"])
    assert boxes["wide.onnx"]


def test_a_form_of_a_fixed_batch_is_timed_with_so_many_images(files: Path):
    (speed,) = measure({"wide": Subject(lambda: load_onnx(files / "wide.onnx"), (64, 96), 2)}).values()

    assert speed.throughput == {"1": None, "8": None, "2": pytest.approx(2e3 / speed.latency_ms["p50"])}


def test_a_dynamic_form_with_nms_takes_fewer_images_than_the_most_and_other_sizes(
    weights: Path, images: list[Path], tmp_path: Path
):
    form = Form((64, 64), batch=2, dynamic=True, nms=True, max_det=5)
    export_onnx(weights, tmp_path / "x.onnx", form)
    runtime = load_onnx(tmp_path / "x.onnx")

    assert (runtime.most, runtime.fixed) == (2, False)
    assert compare(weights, runtime, images, Form((96, 128), nms=True, max_det=5)).equal
    assert runtime.run_all(torch.rand(5, 3, 64, 96)).shape == (5, 5, 6)


def test_the_nms_free_head_gives_what_upstream_takes_from_it(
    published: Callable[..., Path], images: list[Path], tmp_path: Path
):
    """YOLO26 was exported with the head that needs NMS, and no option gave the other one."""
    weights, form = published("yolo26n"), Form((64, 96), nms=False, max_det=20)
    export_onnx(weights, tmp_path / "x.onnx", form)
    plain = models.load(weights)
    plain.end2end = True
    plain = plain.fuse(verbose=False).eval()
    plain.model[-1].max_det = 20
    pixels = prepare(images[0], form.shape)[0]
    with torch.no_grad():
        expected = plain(pixels)[0]

    runtime = load_onnx(tmp_path / "x.onnx")
    found = runtime.run_all(pixels)

    assert torch.allclose(found[..., 4], expected[..., 4], atol=1e-5)
    assert torch.allclose(found[0].sum(0), expected[0].sum(0), rtol=1e-4)
    assert compare(weights, runtime, images, form).equal
    assert AutoBackend(str(tmp_path / "x.onnx"), device=torch.device("cpu"), verbose=False).end2end


def test_a_network_without_such_a_head_is_refused(weights: Path, tmp_path: Path):
    with pytest.raises(ModelError, match="no NMS-free head") as caught:
        export_onnx(weights, tmp_path / "x.onnx", Form((64, 64), nms=False))
    assert "nms: true" in str(caught.value.hint)


def test_a_graph_in_half_is_half_as_large_and_runs_on_the_cpu(weights: Path, images: list[Path], tmp_path: Path):
    """There was no ONNX in float16."""
    path = tmp_path / "x.onnx"
    export_raw(weights, path, RAW)
    before, expected = path.stat().st_size, load_onnx(path).run_all(prepare(images[0], RAW.shape)[0])
    halve(path)

    found = load_onnx(path).run_all(prepare(images[0], RAW.shape)[0])

    assert path.stat().st_size < 0.55 * before
    graph = onnx_files.load(path).graph
    assert {one.type.tensor_type.elem_type for one in (*graph.input, *graph.output)} == {onnx_files.TensorProto.FLOAT}
    assert 0 < difference(expected, found, imgsz=96) < 0.02


def test_final_boxes_are_judged_as_nms_outside_would_give_them(tmp_path: Path):
    """Of a form with NMS inside the boxes are counted as they are, also where the data number classes otherwise."""
    data_yaml = draw(tmp_path, num_train=1, num_val=4)
    finder, ending = ColourFinder(), SuppressedBoxes(1, 0.001, 0.7, 300, pads=False)
    raw = Runtime(finder, "PyTorch")
    final = Runtime(lambda images: ending(finder(images)), "PyTorch", final=True)
    swapped = {index: NAMES[2 - index] for index in NAMES}
    renumbered = Runtime(lambda images: ending(finder(images)[:, [0, 1, 2, 3, 6, 5, 4]]), "PyTorch", final=True)
    conditions = Conditions(data_yaml, imgsz=96, shape=(64, 96), square=False, device="cpu", loader_workers=0)

    by_nms, inside, by_name = (
        accuracy(RuntimeAsModule(one, names), conditions)
        for one, names in ((raw, NAMES), (final, NAMES), (renumbered, swapped))
    )

    assert by_nms.letterbox == "shape"
    assert inside.map == pytest.approx(by_nms.map, rel=0.05)
    assert by_name.map == pytest.approx(inside.map, abs=1e-6)
    assert inside.map > 0.03


NONE = (0.0, 0.0, 0.0)


def raw_output(*boxes: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor([[x, y, 40.0, 40.0, score] for x, y, score in boxes]).T.contiguous()


def final_boxes(*boxes: tuple[float, float, float]) -> torch.Tensor:
    return torch.tensor([[x - 20, y - 20, x + 20, y + 20, score, 0.0] for x, y, score in boxes])


def test_final_boxes_differ_where_neither_nms_nor_a_threshold_had_to_choose_between_equals():
    ours = raw_output((50, 50, 0.9), (52, 50, 0.9 - 3e-6), (20, 80, 0.6))
    form = Form((100, 100), nms=True, max_det=3)

    def judged(*boxes: tuple[float, float, float]) -> tuple[int, int]:
        found = compare_boxes(ours, final_boxes(*boxes), form)
        return found.num_unequal, found.num_ties

    assert judged((50, 50, 0.9), (20, 80, 0.6), NONE) == (0, 0)
    assert judged((52, 50, 0.9), (20, 80, 0.6), NONE) == (0, 2)  # the other of two equals
    assert judged((50, 50, 0.9), (60, 80, 0.6), NONE) == (2, 0)
    assert judged((50, 50, 0.9), NONE, NONE) == (1, 0)
    assert compare_boxes(ours, final_boxes((50, 50, 0.9)), form).num_unequal == 2  # of another shape


def test_the_boxes_inside_a_form_are_those_of_ultralytics_own_nms():
    drawn = torch.Generator().manual_seed(0)
    raw = torch.rand(2, 7, 200, generator=drawn)
    raw[:, :4] *= 64
    (first, second) = nms.non_max_suppression(raw.clone(), 0.8, 0.5, max_det=30, max_time_img=10.0)

    found = SuppressedBoxes(2, 0.8, 0.5, 30, pads=False)(raw)

    for ours, theirs in ((found[0], first), (found[1], second)):
        assert torch.allclose(ours[: len(theirs)], theirs, atol=1e-4)
        assert not ours[len(theirs) :].any()
