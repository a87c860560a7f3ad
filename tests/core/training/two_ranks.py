"""What one of two ranks computes: steps of a distilled student on its half of a batch, written to ``rank-N.pt``.

Started by torchrun: ``two_ranks.py FOLDER``, where the test has put ``teacher.pt``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from retort.training import environment

HALF = 2
"""Images of one rank."""


def half(rank: int) -> dict[str, Any]:
    """The images and boxes of one rank; no other rank has the same."""
    import torch

    drawn = torch.Generator().manual_seed(7 + rank)
    return {
        "img": torch.rand(HALF, 3, 64, 64, generator=drawn),
        "cls": torch.tensor([[0.0], [1.0], [2.0]]),
        "bboxes": 0.25 + 0.5 * torch.rand(3, 4, generator=drawn),
        "batch_idx": torch.tensor([0.0, 1.0, 1.0]),
    }


def pupil(teacher: Path, **fields: Any) -> Any:
    """The same distiller in whichever process."""
    import torch
    from core.training.pictures import NAMES
    from retort.spec import DistillationSpec
    from retort.training import models
    from retort.training.distillation.distiller import make_distiller
    from ultralytics.cfg import get_cfg

    student = models.build("yolov8n", names=NAMES, weights=None, seed=0)
    student.args = get_cfg()
    losses = [{"kind": "class_logits"}, {"kind": "score_weighted_l2"}]
    schedule = {"warmup_epochs": 0, "decay": "none", "stop_with_mosaic": True}
    spec = DistillationSpec.model_validate({"losses": losses, "balance": "none", "schedule": schedule, **fields})
    device = torch.device("cpu")
    made = make_distiller(student, models.load(teacher), spec, device=device, epochs=10, close_mosaic=5, seed=0)
    return made.train()


def step(model: Any, whole: Any, halves: list[dict[str, Any]], times: int) -> dict[str, Any]:
    """Take one step of SGD on the gradients that *halves* add up to; the loss is multiplied as upstream does."""
    import torch

    whole.zero_grad()
    for batch in halves:
        loss, items = model(batch)
        (loss.sum() * times).backward()
    with torch.no_grad():
        for parameter in whole.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.01 * parameter.grad)
    return {name: float(value) for name, value in items.items()}


def main(folder: Path) -> None:
    rank = environment.rank()
    environment.prepare(folder / f"ultralytics-{rank}", rank=True)
    import torch
    from retort.training import comm
    from retort.training.distillation.balancing import TaskLossBalance

    comm.join(torch.device("cpu"))
    whole = pupil(folder / "teacher.pt")
    model = comm.wrap(whole, torch.device("cpu"))
    items = step(model, whole, [half(rank)], comm.size())
    found = {"items": items, "mean": comm.means({"x": torch.tensor(float(rank))})["x"]}
    found["state"] = {name: value.detach().clone() for name, value in whole.named_parameters()}
    found["taught"] = [p.grad is not None for p in whole.teacher.model.parameters()]
    whole.objective.epoch = 7.0  # distillation has ended, on all ranks at once
    for _ in range(2):  # a reduction that waits for a missing gradient is found by the step after
        step(model, whole, [half(rank)], comm.size())
    found["silent"] = [p.grad is not None for p in whole.projectors.parameters()]
    balance = TaskLossBalance()
    found["scales"] = balance(torch.tensor(1.0 + rank), [torch.tensor(2.0), torch.tensor(1.0 + 3 * rank)], [])
    found["any"] = comm.any_of(rank == 1), comm.any_of(rank == 2)
    found["share"] = comm.share(1 - rank)
    torch.save(found, folder / f"rank-{rank}.pt")
    comm.leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
