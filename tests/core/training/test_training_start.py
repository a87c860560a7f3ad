"""Where a training starts: measured as epoch 0, and a candidate for the best."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
import torch
from core.training.pictures import Notebook
from retort.constants import MAP, MAP50, Role
from retort.spec import TrainingSpec
from retort.training import models
from retort.training.checkpoint import Checkpointer, CheckpointStore, latest_files
from retort.training.config import TrainConfig, TrainResult
from retort.training.evaluate import Conditions, accuracy
from retort.training.trainer import fit

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def plan(knows: Path, scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainConfig:
    """One epoch from weights that find the rectangles, at a rate that ruins them."""
    training = TrainingSpec(imgsz=64, batch=8, nominal_batch=8, optimizer="SGD", lr=0.2, close_mosaic=0)
    return TrainConfig(
        role=Role.CONTROL, model="yolov8n", weights=knows, data_yaml=scenes, epochs=1, training=training,
        folder=tmp_path_factory.mktemp("ruined"), device="cpu",
    )  # fmt: skip


@pytest.fixture(scope="module")
def ruined(plan: TrainConfig) -> tuple[TrainResult, Notebook]:
    notebook = Notebook()
    return fit(plan, notebook), notebook


def test_a_training_that_only_loses_keeps_the_weights_it_started_from(
    knows: Path, scenes: Path, plan: TrainConfig, ruined: tuple[TrainResult, Notebook]
):
    fitted, notebook = ruined
    started = accuracy(models.load(knows), Conditions(scenes, imgsz=64, device="cpu", loader_workers=0))
    assert notebook.metrics[0][MAP] == pytest.approx(started.map, abs=1e-3)
    assert (notebook.metrics[1][MAP] or 0) < (notebook.metrics[0][MAP] or 0)
    assert (fitted.epochs, fitted.best_epoch) == (1, 0)
    assert fitted.metrics == notebook.metrics[0]
    assert fitted.metrics[MAP50] is not None
    kept, start = (models.load(path).state_dict() for path in (fitted.weights, knows))
    assert all(torch.equal(value, start[name]) for name, value in kept.items())
    assert fitted.last == plan.folder / "checkpoints" / "control-epoch-0001.pt"


def test_another_machine_is_given_the_start_and_the_last_epoch_too(
    plan: TrainConfig, ruined: tuple[TrainResult, Notebook], tmp_path: Path
):
    files = latest_files(plan.folder)
    assert files is not None
    number, paths = files
    assert (number, [path.name for path in paths]) == (1, ["00001.state", "best-0000.pt", "control-epoch-0001.pt"])
    folder = Path(shutil.copytree(plan.folder, tmp_path / "moved"))
    _, content = next(CheckpointStore(folder / "states").read())
    assert content is not None
    identity = torch.load(io.BytesIO(content), weights_only=True)["identity"]
    notebook = Notebook()
    assert Checkpointer(folder, identity, notebook.log).find() is not None
    (folder / "weights" / "best-0000.pt").write_bytes(ruined[0].weights.read_bytes()[:-1])
    assert Checkpointer(folder, identity, notebook.log).find() is None, "both states name it"
