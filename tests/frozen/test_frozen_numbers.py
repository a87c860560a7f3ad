"""The distillation core computes what it always computed: losses, gradients, balance, mAP and a training's figures."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from frozen.golden import Golden
from retort.training import environment

environment.prepare(Path(tempfile.mkdtemp(prefix="retort-frozen-")))

import torch  # noqa: E402
from core.training.pictures import NAMES, Notebook, draw  # noqa: E402
from retort.constants import Role  # noqa: E402
from retort.data import demo  # noqa: E402
from retort.losses import LOSS_KINDS, FeatureLoss, Predictions  # noqa: E402
from retort.spec import DistillationSpec, TrainingSpec  # noqa: E402
from retort.training import models  # noqa: E402
from retort.training.config import TrainConfig  # noqa: E402
from retort.training.distillation import balancing  # noqa: E402
from retort.training.distillation.distiller import make_distiller  # noqa: E402
from retort.training.evaluate import Conditions, accuracy  # noqa: E402
from retort.training.models import publish  # noqa: E402
from retort.training.trainer import fit  # noqa: E402
from support.colour_finder import ColourFinder  # noqa: E402
from support.images import make_confidence, make_features, make_predictions  # noqa: E402
from ultralytics.cfg import get_cfg  # noqa: E402

EXACT = 1e-5
"""Relative difference that is allowed where the computation is in float64: what six written digits lose."""
NEARLY = 3e-3
"""The same in float32 after some steps: one thread or two and vectors of any width came to 1e-3 at the most."""
FARTHER = 2e-2
"""The same after epochs, where other pixels from another processor's OpenCV add up too: 1.2e-2 was the most."""
STEPS = 4
SETTINGS: tuple[dict[str, Any], ...] = (
    *({"kind": kind} for kind in sorted(LOSS_KINDS)),
    {"kind": "box_giou", "class_balance": 0.5},
    {"kind": "channel_wise", "temperature": 4.0, "normalize": False},
    {"kind": "class_logits", "temperature": 2.0, "beta": 2.0, "class_balance": 1.0},
    {"kind": "cross_kd", "beta": 2.0, "box_weight": 0.5},
    {"kind": "dfl", "temperature": 10.0},
    {"kind": "softmax_kl", "temperature": 1.0},
)
"""Every kind as it comes, and other settings under which the formula is another."""


def title(written: Mapping[str, Any]) -> str:
    return " ".join([written["kind"], *(f"{name}={value}" for name, value in written.items() if name != "kind")])


def value_and_gradient(loss: Any) -> dict[str, float]:
    """The loss between two random sides, and the norm of its gradient for everything that can learn from it."""
    if isinstance(loss, FeatureLoss):
        with models.seeded(3):
            projector = loss.build(3, 4).double()
        student = make_features(0).requires_grad_()
        hidden = loss.prepare(student, torch.Generator().manual_seed(5))
        value = loss.through(projector, hidden, make_features(1, 2, 4, 4, 5), make_confidence(2))
        learning = [student, *projector.parameters()]
    else:
        ours, theirs = (make_predictions(seed, anchors=40) for seed in (0, 1))
        learning = [tensor.requires_grad_() for tensor in (ours.scores, ours.boxes, ours.distances)]
        value = loss(Predictions(*learning), theirs)
    value.backward()
    squares = [tensor.grad.square().sum() for tensor in learning if tensor.grad is not None]
    return {"value": float(value.detach()), "gradient": float(torch.stack(squares).sum().sqrt())}


def test_every_loss_has_the_same_value_and_gradient(golden: Golden):
    found = {title(written): value_and_gradient(LOSS_KINDS[written["kind"]](**written)) for written in SETTINGS}

    golden.near("numbers-losses.json", found, rel=EXACT)


def network(model: str, seed: int, names: Mapping[int, str] = NAMES) -> Any:
    """A network with random weights that has seen one batch, so that its features and scores are of some size."""
    made = models.build(model, names=names, weights=None, seed=seed)
    made.args = get_cfg()
    norms = [module for module in made.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 0.9
    made.train()(torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    for norm in norms:
        norm.momentum = 0.03
    return made


def batch() -> dict[str, Any]:
    return {
        "img": torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(7)),
        "cls": torch.tensor([[0.0], [2.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.3, 0.3], [0.4, 0.4, 0.5, 0.5]]),
        "batch_idx": torch.tensor([0.0, 1.0]),
    }


def distilled(balance: str) -> dict[str, Any]:
    """What each of some steps of plain SGD on one batch measures, every kind of loss at work."""
    spec = DistillationSpec.model_validate(
        {
            "losses": [{"kind": kind} for kind in sorted(LOSS_KINDS)],
            "balance": balance,
            "assignment": "teacher",
            "schedule": {"warmup_epochs": 2, "decay": "cosine", "floor": 0.1},
        }
    )
    options = {"device": torch.device("cpu"), "epochs": STEPS + 2, "close_mosaic": 0, "seed": 0}
    model = make_distiller(network("yolov8n", 0), network("yolo11n", 1), spec, **options).train()
    assert model.objective is not None
    learning = [weights for weights in model.parameters() if weights.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=1e-7)
    figures: dict[str, Any] = {}
    for step in range(1, STEPS + 1):
        model.objective.epoch = float(step)
        loss, items = model(batch())
        optimizer.zero_grad()
        loss.sum().backward()
        gradient = torch.stack([weights.grad.square().sum() for weights in learning if weights.grad is not None]).sum()
        figures[f"step {step}"] = {
            "gradient": float(gradient.sqrt()),
            **{name: float(value) for name, value in items.items()},
            "state": model.objective.state()["balance"] or {},
        }
        optimizer.step()
    return figures


@pytest.mark.parametrize("balance", sorted(balancing.BALANCES))
def test_distilled_steps_have_the_same_losses_and_balance(
    balance: str, golden: Golden, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(balancing, "FIRST_STEPS", 1)
    monkeypatch.setattr(balancing, "EVERY", (2, 2))
    monkeypatch.setattr(balancing, "CALIBRATION_STEPS", 3)

    golden.near(f"numbers-balance-{balance}.json", distilled(balance), rel=NEARLY)


def test_a_fixed_network_has_the_same_map(golden: Golden, tmp_path: Path):
    data_yaml = draw(tmp_path, num_train=1, num_val=24)
    conditions = Conditions(data_yaml=data_yaml, imgsz=96, device="cpu", loader_workers=0, square=True)

    found = accuracy(ColourFinder(), conditions)

    figures = {"map50": found.map50, "map": found.map, "per_class": found.per_class, "by_size": found.by_size}
    golden.near("numbers-map.json", figures, rel=NEARLY)


@pytest.mark.train
def test_a_distilled_training_has_the_same_figures(golden: Golden, tmp_path: Path):
    data_yaml = demo.write(tmp_path / "digits", num_train=64, num_val=16, imgsz=64)
    names = dict(enumerate(demo.NAMES))
    teacher, start = tmp_path / "teacher.pt", tmp_path / "start.pt"
    for path, model in ((teacher, "yolo11n"), (start, "yolov8n")):
        publish(network(model, 0, names), path, names=names, imgsz=64)
    training = TrainingSpec(imgsz=64, batch=64, close_mosaic=1, optimizer="SGD", lr=1e-3)
    plan = TrainConfig(
        role=Role.STUDENT, model="yolov8n", weights=start, data_yaml=data_yaml, epochs=STEPS, training=training,
        folder=tmp_path / "run", device="cpu", loader_workers=0,
    )  # fmt: skip
    notebook = Notebook()

    fit(plan, notebook, teacher=teacher, distillation=DistillationSpec())

    figures = {f"epoch {epoch}": values for epoch, values in sorted(notebook.metrics.items())}
    # Cosines are near 0; that of the gradients differed by 0.01 between one thread and two.
    measured = {name for values in notebook.metrics.values() for name in values}
    cosines = [name for name in measured if name.startswith(("health/grad_agreement_", "health/grad_cosine"))]
    golden.near("numbers-training.json", figures, rel=FARTHER, least=1e-3, leasts=dict.fromkeys(cosines, 0.02))
