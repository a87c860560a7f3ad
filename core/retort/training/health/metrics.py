"""Health metrics: distances of student and teacher on the probe, and gradients per term."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from retort.constants import Level
from retort.losses import FeatureLoss, Predictions
from retort.losses.base import divergence, standardise
from retort.training import comm
from retort.training.data import taught_boxes
from retort.training.distillation import feature_taps
from retort.training.distillation.distiller import distillation_loss, run_teachers
from retort.training.distillation.objective import assign_by_teacher, projector_key
from retort.training.inference import prepare

if TYPE_CHECKING:
    from torch import Tensor, nn

    from retort.training.data.taught_boxes import TaughtImages
    from retort.training.distillation.distiller import AnyTeacher, Distiller
    from retort.training.distillation.objective import DistillationObjective
    from retort.training.distillation.teacher import TeacherOutput


MOST = 8
"""Images in the probe: enough for some hundred objects, and a few per cent of the time of a small epoch."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Letterboxed images without augmentation, with their labels."""

    images: Tensor
    """In 0..1, (N, 3, S, S)."""
    batch: dict[str, Any]
    """The images and their labels, as the task loss takes them."""

    @classmethod
    def of(cls, dataset: Any, *, imgsz: int, device: torch.device, most: int = MOST) -> Probe:
        """Take images of upstream's *dataset* (``spread``), with cached teacher boxes."""
        return cls.load(spread(dataset, most), imgsz=imgsz, device=device, taught=getattr(dataset, "taught", None))

    @classmethod
    def load(
        cls, labels: Sequence[Any], *, imgsz: int, device: torch.device, taught: TaughtImages | None = None
    ) -> Probe:
        """Load the images of upstream's *labels*, with their cached teacher boxes."""
        images, classes, boxes, owners = [], [], [], []
        shapes = []
        for index, label in enumerate(labels):
            pixels, shape = prepare(Path(label["im_file"]), imgsz)
            images.append(pixels)
            shapes.append(shape)
            classes.append(torch.as_tensor(label["cls"], dtype=torch.float32).reshape(-1, 1))
            boxes.append(_fitted(label["bboxes"], shape, imgsz))
            owners.append(torch.full((len(boxes[-1]),), float(index)))
        pixels = torch.cat(images).to(device)
        batch = {"img": pixels, "cls": torch.cat(classes), "bboxes": torch.cat(boxes), "batch_idx": torch.cat(owners)}
        if taught is not None:
            said = taught.of_images([label["im_file"] for label in labels])
            fitted = [_fitted(found, shape, imgsz) for (found, _), shape in zip(said, shapes, strict=True)]
            batch |= taught_boxes.told(fitted, [probabilities for _, probabilities in said])
        return cls(
            pixels,
            {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in batch.items()},
        )

    def corners(self) -> Tensor:
        """Return the labels' boxes as corners in pixels, (B, 4).

        The corners are x1, y1, x2, y2.
        """
        centre, size = (self.batch["bboxes"] * self.images.shape[-1]).split(2, dim=-1)
        return torch.cat([centre - size / 2, centre + size / 2], -1)


def spread(dataset: Any, most: int) -> list[Any]:
    """Choose images of upstream's *dataset*, evenly spaced by name.

    Those with objects come first: frames of one scene, or of nothing, would say little.
    """
    ordered = sorted(dataset.labels, key=lambda label: str(label["im_file"]))
    chosen = _spread([label for label in ordered if len(label["cls"])], most)
    return chosen + _spread([label for label in ordered if not len(label["cls"])], most - len(chosen))


def _spread(labels: Sequence[Any], most: int) -> list[Any]:
    """Take *most* of *labels* at equal distances, or all."""
    number = min(most, len(labels))
    return [labels[index * len(labels) // number] for index in range(number)]


def _fitted(boxes: Any, shape: tuple[int, int], imgsz: int) -> Tensor:
    """Move normalised boxes (centre, size) with their image into the letterbox: (B, 4) to the same."""
    known = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    height, width = shape
    scale = min(imgsz / height, imgsz / width)
    sides = torch.tensor([width, height, width, height]) * scale
    margins = torch.tensor([imgsz - width * scale, imgsz - height * scale, 0, 0]) / 2
    return (known * sides + margins) / imgsz


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """Outputs of student and teachers for one batch."""

    features: Mapping[Level, Tensor]
    """The student's, (N, C, H, W); they carry gradient."""
    branches: Mapping[str, feature_taps.Raw]
    teacher_outputs: Sequence[TeacherOutput]
    """One of each teacher."""
    task: Tensor
    """The task loss of the batch per image, a scalar with gradient."""

    @property
    def teacher_output(self) -> TeacherOutput:
        """Output of the first teacher."""
        return self.teacher_outputs[0]


def network(model: Any) -> Distiller:
    """Return the network inside the wrapper of parallel training."""
    return cast("Distiller", comm.unwrap(model))


def first_teacher(model: Distiller) -> tuple[AnyTeacher, DistillationObjective]:
    """Return the first teacher and its distillation objective."""
    first = model.slots[0]
    return first.teacher, first.objective


def forward_pass(model: Distiller, batch: dict[str, Any]) -> ForwardPass:
    """Run student and teachers on the labelled images of *batch*.

    It does so as ``Distiller.loss`` does.
    """
    images, first = batch["img"], first_teacher(model)[1]
    features, branches = feature_taps.forward(model.student_model, images, intermediate=first.crosses)
    outputs = run_teachers(model.slots, images, batch, brief=False)
    with assign_by_teacher(first.answers(outputs[0], len(images)), model.student_model):
        task, _ = model.student_model.loss(batch, feature_taps.upstream_form(branches))  # type: ignore[operator]
    return ForwardPass(features, branches, outputs, task.sum() / len(images))


def objective(model: Distiller, forward: ForwardPass) -> Tensor:
    """Return the distillation loss at its present weight.

    This does not count as a step of its balance, whose scales are those of the training.
    """
    slots = [replace(one, objective=deepcopy(one.objective)) for one in model.slots]
    seen = forward.features, forward.branches
    total, _ = distillation_loss(slots, forward.teacher_outputs, seen, forward.task, model.projectors, objects=False)
    return total


@contextmanager
def preserve_state(model: Distiller) -> Iterator[None]:
    """Preserve the model state that a forward pass changes.

    Put back are modes, statistics of batch normalisation, and random streams.
    """
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    device = next(model.parameters()).device
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.enable_grad():
            yield
    finally:
        for module, training in modes:
            module.training = training
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def gradient(loss: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Return the gradient of *loss* as one vector, (P,).

    It is with respect to all *parameters*; ``.grad`` is not touched.
    """
    if not loss.requires_grad:
        return torch.zeros(sum(parameter.numel() for parameter in parameters), device=loss.device)
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    pairs = zip(found, parameters, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten().float() for g, p in pairs])


def trainable(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters that training changes."""
    return [parameter for parameter in module.parameters() if parameter.requires_grad]


FOREGROUND = 0.25
"""The teacher sees something at an anchor from this confidence on, as predictions shown to people do."""
OVERLAP = 0.5
"""IoU from which a box of the teacher belongs to a label."""


def measure(
    model: Distiller, probe: Probe, look: Callable[[ForwardPass], None] | None = None
) -> dict[str, float | None]:
    """Return the metrics ``health/*`` on *probe*.

    They are measured in float32, and in eval mode, but for gradients, which are those of training only where its
    statistics normalise. Nothing of the training changes. *look* is shown the outputs in eval mode.
    """
    with preserve_state(model), torch.autocast(probe.images.device.type, enabled=False):
        model.eval()
        forward = forward_pass(model, probe.batch)
        found = {**predictions(model, forward), **cosines(model, forward)}
        if look is not None:
            look(forward)
        if first_teacher(model)[1].weight:
            model.train()
            found |= gradients(model, forward_pass(model, probe.batch))
    values = torch.stack([value.detach().float() for value in found.values()]).tolist() if found else []
    return {
        f"health/{name}": value if math.isfinite(value) else None for name, value in zip(found, values, strict=True)
    }


def common_predictions(model: Distiller, forward: ForwardPass) -> tuple[Predictions, Predictions] | None:
    """Return both networks' predictions on common classes, or None.

    Common are classes that student and teacher both name; the one2many branches predict, at the levels that both heads
    have. None without any.
    """
    _, spec = first_teacher(model)
    if spec.classes.size == 0:
        return None
    raw = forward.branches["one2many"]
    return spec.decoders[0](raw, spec.classes.student), spec.rendered(raw, forward.teacher_output)


def predictions(model: Distiller, forward: ForwardPass) -> dict[str, Tensor]:
    """Compare the predictions of both heads.

    Compared are binary KL, DFL KL and box IoU.
    """
    pair = common_predictions(model, forward)
    if pair is None:
        return {}
    student, teacher = pair
    kl = binary_kl(student.scores, teacher.scores)  # N A
    seen = foreground(teacher)
    sure = seen
    if (boxes := forward.teacher_output.boxes) is not None:  # whose alignment with a new student says nothing of them
        sure = boxes.of_classes(first_teacher(model)[1].classes.teacher).probabilities.amax(-1) >= FOREGROUND
    found = {"foreground_anchors": sure.sum().float(), "kl_background": kl[~seen].mean()}
    if bool(seen.any()):
        found["kl_foreground"] = kl[seen].mean()
        found["kl_untaught"] = untaught_kl(teacher.scores, seen)
        found["box_iou"] = iou(student.boxes[seen], teacher.boxes[seen]).mean()
        bins = student.distances.shape[-1]
        if bins == teacher.distances.shape[-1] and bins > 1:
            found["kl_dfl"] = divergence(student.distances[seen], teacher.distances[seen], 1.0).mean()
    return found


def foreground(teacher: Predictions) -> Tensor:
    """Return a mask of anchors where the teacher is confident, (N, A)."""
    return teacher.confidence() >= FOREGROUND


def binary_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the KL of independent classes from teacher to student.

    Logits (N, A, K) become (N, A); it is from the teacher's to the student's probabilities.
    """
    from torch.nn.functional import logsigmoid

    z_s, z_t = student.float(), teacher.float()
    p = z_t.sigmoid()
    parts = p * (logsigmoid(z_t) - logsigmoid(z_s)) + (1 - p) * (logsigmoid(-z_t) - logsigmoid(-z_s))
    return parts.sum(-1)


def untaught_kl(teacher: Tensor, seen: Tensor) -> Tensor:
    """Return the foreground KL of a student that knows class frequencies only.

    It believes in each class everywhere at the teacher's mean probability over all anchors: so much there is to learn
    from *teacher*'s logits (N, A, K) where something is *seen* (N, A).
    """
    prior = teacher.float().sigmoid().mean((0, 1)).clamp(1e-6, 1 - 1e-6).logit()  # K
    return binary_kl(prior.expand_as(teacher), teacher)[seen].mean()


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Return the IoU of paired boxes x1, y1, x2, y2.

    Boxes (..., 4) and (..., 4) become (...).
    """
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    overlap = (high - low).clamp(min=0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1) for box in (a, b)]
    found: Tensor = overlap / (areas[0] + areas[1] - overlap).clamp(min=1e-7)
    return found


def cosines(model: Distiller, forward: ForwardPass) -> dict[str, Tensor]:
    """Return the feature similarity of each level.

    It is the cosine through a projector, else linear CKA.
    """
    found = {
        f"cosine_{level}": cosine_map(student, teacher).mean() for level, student, teacher in projected(model, forward)
    }
    for level in first_teacher(model)[1].head_levels:
        if f"cosine_{level}" not in found and level in forward.teacher_output.features:
            found[f"cka_{level}"] = cka(forward.features[level], forward.teacher_output.features[level])
    return found


def projected(model: Distiller, forward: ForwardPass) -> Iterator[tuple[Level, Tensor, Tensor]]:
    """Yield each level with projected student features and teacher features.

    The first projector of each level is used.
    """
    done: set[Level] = set()
    for index, loss in enumerate(first_teacher(model)[1].losses):
        for level in loss.levels if isinstance(loss, FeatureLoss) else ():
            key = projector_key(index, level)
            if level in done or key not in model.projectors:
                continue
            student, teacher = model.projectors[key](forward.features[level]), forward.teacher_output.features[level]
            if student.shape == teacher.shape:
                done.add(level)
                yield level, student.detach(), teacher


def cosine_map(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the cosine between feature vectors at each position.

    Maps (N, C, H, W) twice become (N, H, W). Channels are standardised first: otherwise a few with a large mean make
    any two maps look alike.
    """
    from torch.nn.functional import cosine_similarity

    found: Tensor = cosine_similarity(standardise(student), standardise(teacher), dim=1)
    return found


def cka(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the linear CKA between feature maps of any widths.

    Maps (N, C, H, W) and (N, D, H, W) become a scalar (Kornblith et al., ICML 2019).
    """
    x, y = (features.detach().float().transpose(0, 1).flatten(1) for features in (student, teacher))  # C NHW
    x, y = x - x.mean(1, keepdim=True), y - y.mean(1, keepdim=True)
    found: Tensor = (y @ x.T).square().sum() / ((x @ x.T).norm() * (y @ y.T).norm()).clamp(min=1e-12)
    return found


def gradients(model: Distiller, forward: ForwardPass) -> dict[str, Tensor]:
    """Compare the gradients of distillation and task on what they share.

    That is the student without its head, each of whose branches has a task of its own. Returned are ratio and cosine of
    both, and the background's share of the former.
    """
    total = objective(model, forward)
    parameters = shared(model.student_model)
    task, distilled = gradient(forward.task, parameters), gradient(total, parameters)
    norms = task.norm(), distilled.norm()
    cosine = (task @ distilled) / (norms[0] * norms[1]).clamp(min=1e-20)
    found = {"grad_ratio": norms[1] / norms[0].clamp(min=1e-20), "grad_cosine": cosine}
    return found | background_shares(model, forward, total)


def shared(student: Any) -> list[nn.Parameter]:
    """Return the trained parameters below the head, or all where only the head is."""
    below = [parameter for module in student.model[:-1] for parameter in trainable(module)]
    return below or trainable(student)


def background_shares(model: Distiller, forward: ForwardPass, total: Tensor) -> dict[str, Tensor]:
    """Return the background's share of the gradients on class logits, and what to expect.

    It is a part of the sum of absolute gradients of *total*. Expected is that of a plain binary KL at temperature 1,
    whose gradient is the difference of the probabilities: a student that has learned the objects differs in the
    background above all. Nothing where no term reaches the class logits.
    """
    pair = common_predictions(model, forward)
    if pair is None or not total.requires_grad:
        return {}
    raw, (decoder, _) = forward.branches["one2many"], first_teacher(model)[1].decoders
    (found,) = torch.autograd.grad(total, [raw["scores"]], retain_graph=True, allow_unused=True)  # N K A
    if found is None:
        return {}
    student, teacher = (prediction.scores.detach().float().sigmoid() for prediction in pair)
    seen = foreground(pair[1])

    def share(pull: Tensor) -> Tensor:
        return (pull * ~seen).sum() / pull.sum().clamp(min=1e-20)  # N A

    return {
        "background_share": share(decoder.kept(found, raw["feats"]).abs().sum(1)),
        "background_expected": share((student - teacher).abs().sum(-1)),
    }
