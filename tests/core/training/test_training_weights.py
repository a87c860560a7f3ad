"""Weights become networks without a pickle: equal to the bit to what Ultralytics loads, for every family."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from core.training.pictures import NAMES
from retort.checkpoints import allowed, converted, opening
from retort.errors import ModelError
from retort.training import models
from retort.training.rebuilding import rebuild
from support.malicious_checkpoints import CANARY, corpus
from torch import nn
from ultralytics.nn.distill_model import DistillationModel
from ultralytics.nn.tasks import DetectionModel, load_checkpoint
from ultralytics.utils import SETTINGS, IterableSimpleNamespace

FAMILIES = (
    "yolov3-tiny", "yolov5n", "yolov6n", "yolov8n", "yolov8n-ghost", "yolov9t", "yolov10n", "yolo11n", "yolo12n",
    "yolo26n",
)  # fmt: skip
LEFT_BY_A_TRAINING = {"pt_path", "criterion"}
_SEEN: list[str] = []
_WATCHED = [False]
RUNS = {"os.system", "os.exec", "os.posix_spawn", "os.mkdir", "subprocess.Popen", "socket.connect", "pickle.find_class",
        "shutil.rmtree", "ctypes.dlopen", "urllib.Request"}  # fmt: skip


def same(upstream: Any, ours: Any, place: str = "network") -> None:
    """Insist that two values are equal, down to each layer's attributes and each tensor's bits."""
    assert type(upstream) is type(ours), place
    if isinstance(upstream, torch.Tensor):
        assert upstream.dtype == ours.dtype, place
        assert upstream.requires_grad == ours.requires_grad, place
        assert torch.equal(upstream, ours), place
    elif isinstance(upstream, nn.Module):
        theirs, mine = vars(upstream), vars(ours)
        assert (theirs.keys() ^ mine.keys()) <= LEFT_BY_A_TRAINING, place
        for name in theirs.keys() & mine.keys():
            same(theirs[name], mine[name], f"{place}.{name}")
    elif isinstance(upstream, dict):
        assert list(upstream) == list(ours), place
        for key in upstream:
            same(upstream[key], ours[key], f"{place}[{key!r}]")
    elif isinstance(upstream, list | tuple):
        assert len(upstream) == len(ours), place
        for index, (one, other) in enumerate(zip(upstream, ours, strict=True)):
            same(one, other, f"{place}[{index}]")
    else:
        assert upstream == ours, place


def answers(network: Any) -> Any:
    with torch.no_grad():
        return network(torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))[0]


def convert(weights: Path, to: Path) -> Path:
    archive, described, tensors = opening.open_checkpoint(weights, weights.name)
    with to.open("wb") as file:
        converted.write(archive, described, tensors, file)
    return to


@pytest.fixture
def saved(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that saves a network of random weights as Ultralytics does in the middle of a training."""

    def save(model: str, **held: Any) -> Path:
        network = DetectionModel(f"{model}.yaml", nc=len(NAMES), verbose=False)
        network.names, network.args = NAMES, {"imgsz": 64}
        path = tmp_path / f"{model}.pt"
        torch.save({"epoch": 3, "model": None, "ema": network.half(), "train_args": {"imgsz": 64}, **held}, path)
        return path

    return save


@pytest.mark.parametrize("model", FAMILIES)
def test_a_network_is_rebuilt_equal_to_the_bit_to_what_ultralytics_loads(
    model: str, saved: Callable[..., Path], tmp_path: Path
) -> None:
    weights = saved(model)
    upstream, _ = load_checkpoint(weights)
    rebuilt = rebuild(weights), rebuild(convert(weights, tmp_path / "converted.safetensors"))
    for ours in rebuilt:
        same(upstream, ours)
    for ours in rebuilt:
        assert torch.equal(answers(upstream), answers(ours))


def test_a_file_from_the_middle_of_a_training_brings_its_network_alone(saved: Callable[..., Path]) -> None:
    """Optimizer, loss, numpy's figures, paths and arguments as a namespace are there, and are let go."""
    import numpy as np

    network = DetectionModel("yolov8n.yaml", nc=3, verbose=False)
    network.names, network.args = NAMES, IterableSimpleNamespace(imgsz=64, box=7.5, cls=0.5, dfl=1.5)
    network.criterion = network.init_criterion()
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9)
    answered = network(torch.rand(1, 3, 64, 64))
    sum(part.float().sum() for part in answered["feats"]).backward()
    optimizer.step()
    weights = saved(
        "yolov8n",
        ema=network.half(),
        optimizer=optimizer.state_dict(),
        scaler={"scale": 65536.0},
        best_fitness=np.float64(0.5),
        updates=np.int64(7),
        save_dir=Path("/runs/train"),
        train_results={"epoch": [1, 2], "map": [0.1, np.float32(1)]},
    )

    ours = rebuild(weights)

    same(network.float().state_dict(), ours.state_dict())
    assert not hasattr(ours, "criterion")
    assert torch.equal(answers(network.eval()), answers(ours))


def test_the_student_of_a_distillation_of_ultralytics_own_is_taken(saved: Callable[..., Path]) -> None:
    def network() -> Any:
        found = DetectionModel("yolo26n.yaml", nc=3, verbose=False)
        found.names, found.args = NAMES, IterableSimpleNamespace(imgsz=64, dis=1.0)
        return found

    student = network()
    joined = DistillationModel(student_model=student, teacher_model=network())
    joined.teacher_model = None
    weights = saved("yolo26n", ema=joined.half())

    ours = models.load(weights)

    same(student.float().state_dict(), ours.state_dict())


def test_every_class_of_the_frozen_list_is_one_of_the_pinned_versions() -> None:
    for one in allowed.LAYERS:
        found = getattr(sys.modules.get(one.module) or __import__(one.module, fromlist=["x"]), one.name)
        assert issubclass(found, nn.Module), one


def test_what_upstream_would_fetch_or_write_lies_in_the_runs_own_folder() -> None:
    """A file made a run write into the installation's folder of weights, from which the next job read it."""
    own = Path(os.environ["YOLO_CONFIG_DIR"]).resolve()
    for kind in ("weights_dir", "datasets_dir", "runs_dir"):
        assert Path(SETTINGS[kind]).resolve().is_relative_to(own), kind


def _watch(event: str, given: tuple[Any, ...]) -> None:
    if _WATCHED[0] and (event in RUNS or (event == "open" and "w" in str(given[1]))):
        _SEEN.append(f"{event} {given}"[:200])


def test_nothing_of_a_malicious_file_is_run_where_networks_are_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sys.addaudithook(_watch)
    loaded = []
    for number, (title, content) in enumerate(corpus().items()):
        (tmp_path / f"{number}.pt").write_bytes(content)
        _WATCHED[0] = True
        try:
            models.load(tmp_path / f"{number}.pt")
            loaded.append(title)
        except ModelError:
            pass
        finally:
            _WATCHED[0] = False
        (tmp_path / f"{number}.pt").unlink()
    assert loaded == []
    assert _SEEN == []
    assert not (tmp_path / CANARY).exists()
