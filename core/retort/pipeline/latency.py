"""Time roles and exports in turns, in one sitting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retort.constants import Role
from retort.pipeline import train
from retort.pipeline.answers import TrainedNetwork
from retort.pipeline.context import Context
from retort.spec.exported import MeasuredExport
from retort.spec.figures import TimedFigures

if TYPE_CHECKING:
    from retort.training.evaluate import Published
    from retort.training.inference import Runtime


def networks(context: Context) -> dict[str, Published]:
    """Return teacher, student and control by role."""
    from retort.training.evaluate import Published

    found = {str(Role.TEACHER): Published(train.weights(context), train.imgsz(context.spec, Role.TEACHER))}
    for role, stage in ((Role.STUDENT, "distill"), (Role.CONTROL, "control")):
        if (trained := context.found(stage, TrainedNetwork)) is not None:
            found[role] = Published(context.workdir / trained.weights, context.spec.training.imgsz)
    return found


def picture(context: Context) -> Path | None:
    """Return the picture of the data on which networks are timed.

    It is the first of the validation images.
    """
    return min((context.inputs.data_yaml.parent / "images" / "val").iterdir(), default=None)


@dataclass(frozen=True)
class TimedForm:
    """An export that is to be timed."""

    load: Callable[[], Runtime]
    device: str
    """Kind of device."""
    shape: tuple[int, int]
    """Height and width."""
    batch: int = 1
    """Images of one run."""

    @property
    def base(self) -> str:
        """Name of its network in PyTorch, on equal images and kind of device."""
        return f"PyTorch on {self.device}, {self.batch} of {self.shape[0]} x {self.shape[1]}"


@dataclass(frozen=True)
class Sitting:
    """Speeds of one sitting."""

    roles: dict[str, TimedFigures]
    """By the name of the network."""
    forms: dict[str, TimedFigures]
    """By the name of the artifact."""
    bases: dict[str, TimedFigures]
    """The network in PyTorch, by the name of the artifact that is compared with it."""

    def retimed(self, form: MeasuredExport) -> MeasuredExport:
        """Return an export with its speed of this sitting."""
        if form.path not in self.forms:
            return form
        speed = self.forms[form.path]
        ratio = speed.latency_ms.p50 / self.bases[form.path].latency_ms.p50
        return form.model_copy(update={**dict(speed), "latency_ratio": ratio})


def sit(context: Context, published: Mapping[str, Published], exported: str, forms: Mapping[str, TimedForm]) -> Sitting:
    """Time *published* networks and exports of one of them, in turns.

    *forms* are those of the network that is *exported*, by artifact. Networks of one structure and size share one
    measurement. A form's latency is compared with that of its network in PyTorch on the same kind of device, for as
    many images of the same shape.
    """
    from retort.training import benchmark
    from retort.training.benchmark import Subject
    from retort.training.evaluate import subjects

    def alive() -> None:
        context.check()
        context.heartbeat.beat("step")

    shown = picture(context)
    own = "cpu" if context.inputs.device == "cpu" else "cuda"
    timed, shared = subjects(published, context.inputs.device, shown)
    side = published[exported].imgsz
    usual = TimedForm(timed[shared[exported]].load, own, (side, side)).base
    bases = {name: shared[exported] if form.base == usual else form.base for name, form in forms.items()}
    for form in forms.values():
        if form.base != usual:
            base = subjects({exported: published[exported]}, "cpu" if form.device == "cpu" else "0", shown)[0][exported]
            timed[form.base] = Subject(base.load, form.shape, form.batch, shown)
    timed.update({name: Subject(form.load, form.shape, form.batch, shown) for name, form in forms.items()})
    found = {name: TimedFigures(**asdict(speed)) for name, speed in benchmark.measure(timed, on_round=alive).items()}
    return Sitting(
        roles={role: found[name] for role, name in shared.items()},
        forms={name: found[name] for name in forms},
        bases={name: found[base] for name, base in bases.items()},
    )
