"""The published form: what strangers open."""

from __future__ import annotations

import io
import os
import pickletools
import platform
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from core.training.pictures import NAMES
from retort.errors import Diverged, ModelError
from retort.files import atomic_write
from retort.training import models
from retort.training.models import publish

KNOWN = ("torch", "ultralytics", "collections", "__builtin__")
"""Where everything that a published file refers to is defined."""

OPEN = """
import sys

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0].startswith("retort"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Wall())
from ultralytics import YOLO
model = YOLO(sys.argv[1])
found = model.predict(sys.argv[2], conf=0.01, device="cpu", verbose=False, save=False)
assert not any(name.startswith("retort") for name in sys.modules)
print(model.task, list(model.names.values()), len(found[0].boxes) > 0, model.predictor.imgsz)
"""


@pytest.mark.parametrize("safe", ["0", "1"])
def test_it_opens_in_plain_yolo_where_retort_is_not(
    safe: str, published: Callable[..., Path], data_yaml: Path, tmp_path: Path
) -> None:
    image = next((data_yaml.parent / "images/val").iterdir())
    environ = {**os.environ, "ULTRALYTICS_SAFE_LOAD": safe, "YOLO_CONFIG_DIR": str(tmp_path / "config")}
    done = subprocess.run(
        [sys.executable, "-c", OPEN, published("yolo26n"), image],
        capture_output=True, text=True, env=environ, cwd=tmp_path, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "detect ['red', 'green', 'blue'] True [96, 96]"


def test_it_names_no_path_no_teacher_and_nothing_of_ours(tmp_path: Path) -> None:
    first, second = tmp_path / "first.pt", tmp_path / "second.pt"
    publish(models.build("yolo11n", names=NAMES, weights=None, seed=0), first, names=NAMES, imgsz=96)
    network = models.build("yolo11n", names=NAMES, weights=first, seed=0)
    network.yaml["yaml_file"] = str(tmp_path / "yolo11n.yaml")
    network.args = {"data": str(tmp_path / "data.yaml"), "save_dir": str(tmp_path)}
    network.criterion = torch.nn.BCELoss()
    publish(network, second, names=NAMES, imgsz=96, metadata={"epoch": 3})

    content = unpacked(second)
    assert str(tmp_path).encode() not in content
    assert b"/usr/" not in content
    assert b"teacher" not in content
    assert b"projector" not in content
    assert not {module for module in modules(content) if not module.startswith(KNOWN)}
    found = torch.load(second, weights_only=False)
    assert found["retort"] == {"epoch": 3}
    assert found["license"].startswith("AGPL-3.0")
    assert found["version"] and found["date"] and found["epoch"] == -1  # noqa: PT018
    assert {p.dtype for p in found["model"].parameters()} == {torch.float16}


def unpacked(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return b"".join(archive.read(name) for name in archive.namelist() if "/data/" not in name)


def modules(pickled: bytes) -> set[str]:
    start = pickled.index(b"\x80\x02")
    operations = pickletools.genops(io.BytesIO(pickled[start:]))
    return {str(argument).split(" ")[0] for operation, argument, _ in operations if operation.name == "GLOBAL"}


def test_weights_that_are_not_finite_are_never_published(tmp_path: Path) -> None:
    network = models.build("yolov8n", names=NAMES, weights=None, seed=0)
    with torch.no_grad():
        network.model[0].conv.weight[0, 0, 0, 0] = float("nan")
    with pytest.raises(Diverged):
        publish(network, tmp_path / "student.pt", names=NAMES, imgsz=96)
    assert not list(tmp_path.iterdir())


def test_the_network_that_is_published_is_left_as_it_was(tmp_path: Path) -> None:
    network = models.build("yolov8n", names=NAMES, weights=None, seed=0)
    publish(network, tmp_path / "student.pt", names={0: "a", 1: "b", 2: "c"}, imgsz=96)
    assert network.names == NAMES
    assert network.training
    assert all(p.dtype == torch.float32 for p in network.parameters())


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "student.pt"
    atomic_write(path, b"old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic_write(path, b"new")
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"old"]


def test_ultralytics_is_not_imported_before_its_environment_is_set() -> None:
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("YOLO_", "ULTRALYTICS_"))}
    done = subprocess.run(
        [sys.executable, "-c", "import retort.training.ultralytics_api"],
        capture_output=True, text=True, env=environ, timeout=120, check=False,
    )  # fmt: skip
    assert "call retort.training.environment.prepare first" in done.stderr


PAGES_OF_64_MIB = 16384
FAULTS = """
import resource, tempfile
from pathlib import Path
from retort.training import environment

environment.prepare(Path(tempfile.mkdtemp()))
import torch

for _ in range(16):  # a few until the pieces fit
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(16 * 2**20)  # 64 MiB, which the C library would give back at once
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library does not keep what is freed")
def test_memory_of_one_step_is_there_for_the_next() -> None:
    done = subprocess.run([sys.executable, "-c", FAULTS], capture_output=True, text=True, timeout=120, check=True)
    assert int(done.stdout) < PAGES_OF_64_MIB / 10


def test_equal_seeds_give_equal_bytes_and_leave_the_random_stream_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    pair = [models.build("yolov8n", names=NAMES, weights=None, seed=7).state_dict() for _ in range(2)]
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, pair[1][name]) for name, value in pair[0].items())
    other = models.build("yolov8n", names=NAMES, weights=None, seed=8).state_dict()
    assert any(not torch.equal(value, other[name]) for name, value in pair[0].items())


def test_weights_are_taken_over_and_class_rows_follow_their_names(tmp_path: Path) -> None:
    path = tmp_path / "wide.pt"
    wide = models.build("yolo11n", names={0: "cat", 1: "blue", 2: "red", 3: "green"}, weights=None, seed=3)
    publish(wide, path, names=wide.names, imgsz=96)
    network = models.build("yolo11n", names=NAMES, weights=path, seed=0)
    source = models.load(path)
    torch.testing.assert_close(network.model[0].conv.weight, source.model[0].conv.weight)
    torch.testing.assert_close(network.model[-1].cv3[0][-1].weight[0], source.model[-1].cv3[0][-1].weight[2])


def test_weights_of_another_architecture_are_refused(published: Callable[..., Path]) -> None:
    with pytest.raises(ModelError, match=r"hold yolo11n \(SiLU, .*\); they do not fit yolov8n"):
        models.build("yolov8n", names=NAMES, weights=published("yolo11n"), seed=0)


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("exploded",)


def test_files_that_are_no_detector_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    files = {"missing": None, "empty": b"", "picture": b"\x89PNG not a network" * 100}
    for name, content in files.items():
        if content is not None:
            (tmp_path / f"{name}.pt").write_bytes(content)
        with pytest.raises(ModelError, match=name):
            models.load(tmp_path / f"{name}.pt")
    torch.save({"model": Bomb()}, tmp_path / "bomb.pt")
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "linear.pt")
    for name in ("bomb", "linear"):
        with pytest.raises(ModelError, match=name):
            models.load(tmp_path / f"{name}.pt")
    assert not (tmp_path / "exploded").exists()


def test_a_truncated_file_is_refused(published: Callable[..., Path], tmp_path: Path) -> None:
    path = tmp_path / "half.pt"
    path.write_bytes(published("yolov8n").read_bytes()[:100_000])
    with pytest.raises(ModelError, match=r"half\.pt is not a PyTorch checkpoint: .*cut off"):
        models.load(path)


@pytest.mark.parametrize(("spoilt", "said"), [(float("nan"), "values that are not finite"), (0.0, "is all zeros")])
def test_what_a_diverged_training_has_left_is_neither_published_nor_used(
    spoilt: float, said: str, published: Callable[..., Path], tmp_path: Path
) -> None:
    checkpoint = torch.load(published("yolov8n"), weights_only=False)
    with torch.no_grad():
        checkpoint["model"].model[3].conv.weight.fill_(spoilt)  # upstream makes zeros of it when it saves
    with pytest.raises(Diverged, match=said) as caught:
        publish(checkpoint["model"].float(), tmp_path / "never.pt", names=NAMES, imgsz=96)
    assert caught.value.code == "diverged"
    assert not (tmp_path / "never.pt").exists()
    torch.save(checkpoint, tmp_path / "spoilt.pt")
    with pytest.raises(ModelError, match=rf"spoilt\.pt comes from a training that diverged: model\.3.* {said}"):
        models.load(tmp_path / "spoilt.pt")


def test_another_kind_of_network_is_refused(tmp_path: Path) -> None:
    from ultralytics.nn.tasks import SegmentationModel

    torch.save({"model": SegmentationModel("yolov8n-seg.yaml", verbose=False).half()}, tmp_path / "seg.pt")
    with pytest.raises(ModelError, match="not a detection network"):
        models.load(tmp_path / "seg.pt")
