"""``health.npz`` holds what its page says, and drawing it every epoch changes nothing of a training."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from core.training.pictures import NAMES
from PIL import Image
from retort import heatmaps
from retort.constants import HEAD_LEVELS
from retort.spec import DistillationSpec
from retort.training import models
from retort.training.config import TrainCallback
from retort.training.distillation.distiller import Distiller, TeacherCandidate, make_distiller
from retort.training.distillation.teacher_resize import ratio_of
from retort.training.distributed.messages import RankCallback, Receiver
from retort.training.health import visuals
from retort.training.health.metrics import ForwardPass, Probe, measure
from ultralytics.cfg import get_cfg

PAGE = Path(__file__).parents[3] / "docs" / "health-file.md"
ROW = re.compile(r"^\| `(\w+?)(_<level>)?` \| \(([\w, 3]+)\) \| (\w+) \|", re.MULTILINE)
EXAMPLE = re.compile(r"<!-- run -->\n```python\n(.*?)```", re.DOTALL)
SIDE = 64


@pytest.fixture
def joined(published: Callable[..., Path]) -> Distiller:
    student = models.build("yolov8n", names=NAMES, weights=None, seed=0)
    student.args = get_cfg()
    teacher = TeacherCandidate(models.load(published("yolov8n")), ratio=ratio_of(None, SIDE))
    spec = DistillationSpec.model_validate({"schedule": {"warmup_epochs": 0}})
    return make_distiller(student, teacher, spec, device=torch.device("cpu"), epochs=3, close_mosaic=0, seed=0)


@pytest.fixture
def probe(batch: dict[str, Any]) -> Probe:
    return Probe(batch["img"], batch)


@pytest.fixture
def file(joined: Distiller, probe: Probe, tmp_path: Path) -> Path:
    visuals.save(tmp_path / "health.npz", joined, probe)
    return tmp_path / "health.npz"


def described() -> dict[str, tuple[list[str], str]]:
    """Shape and type of each array on the page, the level's by its name alone."""
    return {name + (level or ""): (shape.replace(" ", "").strip(",").split(","), kind)
            for name, level, shape, kind in ROW.findall(PAGE.read_text())}  # fmt: skip


def test_the_page_describes_every_array_of_a_real_file_and_no_other(file: Path):
    told, sides = described(), {level: SIDE // stride for level, stride in zip(HEAD_LEVELS, (8, 16, 32), strict=True)}
    found = set()
    with np.load(file, allow_pickle=False) as kept:
        for name in kept.files:
            kind, _, level = name.rpartition("_")
            general = f"{kind}_<level>" if level in sides else name
            letters, dtype = told[general]
            meant = {"N": 2, "S": SIDE, "3": 3, "T": 4, "h": sides.get(level), "w": sides.get(level)}
            assert kept[name].shape == tuple(meant[letter] for letter in letters), name
            assert kept[name].dtype == dtype, name
            found.add(general)
    assert found == told.keys()


def test_the_values_are_in_the_units_of_the_page(file: Path):
    with np.load(file, allow_pickle=False) as kept:
        arrays = {name: kept[name] for name in kept.files}
    assert arrays["temperatures"].tolist() == [1, 2, 4, 7]
    assert arrays["images"].max() > 200, "0 to 255"
    for name, found in arrays.items():
        least, most = {"kl": (0, np.inf), "cosine": (-1, 1)}.get(name.split("_")[0], (0, 1))
        if name not in {"temperatures", "images"}:
            assert np.isfinite(found).all(), name
            assert ((least - 1e-3 <= found) & (found <= most + 1e-3)).all(), name


def test_the_examples_of_the_page_draw_a_real_file_in_five_lines_each(file: Path):
    examples = EXAMPLE.findall(PAGE.read_text())
    assert [sum(map(bool, one.splitlines())) for one in examples] == [5, 5]
    saved = "".join(f"{one}plt.savefig('{n}.png')\nplt.close()\n" for n, one in enumerate(examples))
    environment = {**os.environ, "MPLBACKEND": "agg", "MPLCONFIGDIR": str(file.parent)}
    command = [sys.executable, "-W", "error", "-c", saved]
    done = subprocess.run(command, cwd=file.parent, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all((file.parent / f"{n}.png").stat().st_size > 2000 for n in range(2))


def test_drawing_the_maps_changes_nothing_that_a_training_goes_on_from(joined: Distiller, probe: Probe, tmp_path: Path):
    def state() -> list[torch.Tensor]:
        return [value.clone() for value in (*joined.state_dict().values(), torch.get_rng_state())]

    sizes: list[tuple[int, int]] = []

    def look(forward: ForwardPass) -> None:
        sizes.append(visuals.draw(tmp_path / "sheet.jpg", joined, probe, forward))

    joined.train()
    before, plain = state(), measure(joined, probe)
    drawn = measure(joined, probe, look)

    assert drawn == plain
    assert all(torch.equal(one, other) for one, other in zip(before, state(), strict=True))
    assert joined.training
    assert sizes == [(6 * 160, 18 + 2 * 160)], "image, teacher, KL and three levels, of two images"
    assert all(parameter.grad is None for parameter in joined.parameters())


def test_the_sheet_of_an_epoch_shows_what_the_file_of_that_moment_holds(file: Path, joined: Distiller, probe: Probe):
    path = file.with_name("sheet.jpg")
    sizes: list[tuple[int, int]] = []
    measure(joined, probe, lambda forward: sizes.append(visuals.draw(path, joined, probe, forward)))
    with np.load(file, allow_pickle=False) as kept, Image.open(path) as drawn:
        again = heatmaps.jpeg(heatmaps.sheet({name: kept[name] for name in kept.files}))
        expected = Image.open(io.BytesIO(again))
        apart = np.abs(np.asarray(drawn, float) - np.asarray(expected, float))
    assert (drawn.size, apart.mean() < 1) == (sizes[0], True), "all but rounding"


@pytest.mark.parametrize(("epochs", "number"), [(1, 1), (2, 2), (50, 50), (51, 27), (100, 51), (1000, 51)])
def test_a_short_training_draws_each_epoch_and_a_long_one_about_fifty(epochs: int, number: int):
    drawn = [epoch for epoch in range(1, epochs + 1) if visuals.due(epoch, epochs)]
    assert len(drawn) == number
    assert (drawn[0], drawn[-1]) == (1, epochs)


def test_a_rank_passes_its_maps_and_whatever_else_a_training_tells_on(tmp_path: Path):
    told: list[tuple[int, Path, tuple[int, int]]] = []

    class Listener(TrainCallback):
        def heatmaps(self, epoch: int, path: Path, size: tuple[int, int]) -> None:
            told.append((epoch, path, size))

    for rank in (0, 1):
        RankCallback(tmp_path, rank).heatmaps(3, tmp_path / "sheet.jpg", (960, 338))
    Receiver(tmp_path, Listener()).read()

    assert told == [(3, tmp_path / "sheet.jpg", (960, 338))], "the first rank's alone"
    spoken = {name for name in vars(TrainCallback) if not name.startswith("_")}
    assert spoken <= vars(RankCallback).keys(), "what a rank does not pass on is lost"
