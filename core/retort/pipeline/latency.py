"""Time roles and exports in turns, in one sitting."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True)
class Sitting:
    """Speeds of one sitting."""

    roles: dict[str, TimedFigures]
    forms: dict[str, TimedFigures]
    """By the name of the artifact."""
    bases: dict[str, TimedFigures]
    """The student in PyTorch, by kind of device."""

    def retimed(self, form: MeasuredExport) -> MeasuredExport:
        """Return an export with its speed of this sitting."""
        if form.path not in self.forms:
            return form
        speed = self.forms[form.path]
        ratio = speed.latency_ms.p50 / self.bases[speed.device or "cpu"].latency_ms.p50
        return form.model_copy(update={**dict(speed), "latency_ratio": ratio})


def sit(context: Context, forms: Mapping[str, tuple[str, Callable[[], Runtime]]]) -> Sitting:
    """Time all roles and exports in turns.

    *forms* holds the kind of device and the loader of each export, by artifact. Networks of one structure
    and size share one measurement. A form's latency is compared with that of the student in
    PyTorch on the same kind of device.
    """
    from retort.training import benchmark
    from retort.training.benchmark import Subject
    from retort.training.evaluate import subjects

    def alive() -> None:
        context.check()
        context.heartbeat.beat("step")

    published = networks(context)
    own = "cpu" if context.inputs.device == "cpu" else "cuda"
    timed, shared = subjects(published, context.inputs.device)
    bases = {own: shared[Role.STUDENT]}
    for device in {device for device, _ in forms.values()} - {own}:
        base = subjects({device: published[Role.STUDENT]}, "cpu" if device == "cpu" else "0")[0]
        timed[f"student on {device}"], bases[device] = base[device], f"student on {device}"
    side = context.spec.training.imgsz
    timed.update({name: Subject(load, side) for name, (_, load) in forms.items()})
    found = {name: TimedFigures(**asdict(speed)) for name, speed in benchmark.measure(timed, on_round=alive).items()}
    return Sitting(
        roles={role: found[name] for role, name in shared.items()},
        forms={name: found[name] for name in forms},
        bases={device: found[name] for device, name in bases.items()},
    )
