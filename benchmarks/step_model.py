"""Model a training step on GPUs that are not here: bytes, operations and waits of every ATen operation, and a clock.

    PYTHONPATH=tests python benchmarks/step_model.py --name after --json FILE

A model, not a measurement. A step is traced on fake tensors: its forward pass on a fake GPU, in CUDA's mixed precision;
its backward pass and its optimizer on a fake CPU, because the engine of autograd wants a real GPU. Each kernel takes as
long as its bytes or its operations need, whichever is longer. The host takes a set time for each operation, runs ahead
of the GPU, and waits for it where a value is read (tests/core/training/host_syncs.py). A recording costs the host one
operation.

Three numbers are fitted to one H200 (benchmarks/results/gpu-h200.json): what part of the data sheet's bytes a second
kernels reach, by the change of colors alone; what convolutions reach, by the recorded teacher alone; and the host's
time, by the student's step alone. What the model says of the other figures of that run stands beside them.

Left out: measuring steps of the gradient balance, deterministic algorithms, the copy of the images, and the loader.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from retort.training import environment

environment.prepare(Path(tempfile.mkdtemp(prefix="retort-model-")))

import torch  # noqa: E402
from core.training.host_syncs import HostSyncs, move  # noqa: E402
from provenance import ROOT, provenance, write_json  # noqa: E402
from retort.spec import DistillationSpec  # noqa: E402
from retort.training.criterion import count_boxes, criterion_of  # noqa: E402
from retort.training.data import colours  # noqa: E402
from retort.training.distillation import teacher as teaching  # noqa: E402
from retort.training.distillation.distiller import make_distiller  # noqa: E402
from retort.training.distillation.gpu_activation import fuse_by  # noqa: E402
from step import batch_of, network  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402
from torch.utils._pytree import tree_leaves  # noqa: E402
from torch.utils.flop_counter import flop_registry  # noqa: E402
from ultralytics.nn.distill_model import DistillationModel  # noqa: E402
from ultralytics.utils.tal import make_anchors  # noqa: E402

MEASURED = ROOT / "benchmarks" / "results" / "gpu-h200.json"
BEFORE = "before"
"""Names the result of the commit that was measured: what is fitted to it holds for the others of a file."""
PARTS = ("to float, colors", "teacher", "student", "task loss", "distillation terms", "backward", "optimizer")
FREE = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "_unsafe_view", "detach"}
"""Operations without a kernel that torch does not call views."""
PICKING = {"index", "gather", "index_select", "embedding"}
"""Read of their first argument only what they return."""
TWO_PASSES = {"cudnn_batch_norm", "native_batch_norm", "cudnn_batch_norm_backward", "native_batch_norm_backward"}
"""Statistics first, then what they are for: they read their maps twice."""
WIDENED = (
    "__pow__", "__rpow__", "__rdiv__", "acos", "asin", "binary_cross_entropy_with_logits", "cross_entropy", "cumsum",
    "exp", "expm1", "group_norm", "kl_div", "l1_loss", "layer_norm", "log", "log1p", "log_softmax", "mse_loss",
    "nll_loss", "norm", "normalize", "pow", "prod", "reciprocal", "rsqrt", "smooth_l1_loss", "softmax", "softplus",
    "sum",
)  # fmt: skip
"""What CUDA's autocast does in float32, and a CPU's does not: https://pytorch.org/docs/stable/amp.html."""


@dataclass(frozen=True)
class Op:
    """One operation of a step."""

    name: str
    part: str
    bytes: int
    flops: int
    waits: int
    """How often the host waits for the GPU."""
    kernel: bool
    recorded: bool = False
    beside: int = 0
    """Bytes of passes of their own, before and after a convolution."""


@dataclass(frozen=True)
class Card:
    """A GPU by its data sheet, and what is fitted of it and its host."""

    name: str
    bytes_per_s: float
    flops_per_s: float
    """In half precision, without sparsity."""
    streams: float = 1.0
    """Part of the bytes that kernels reach."""
    convolutions: float = 1.0
    """Part of what their bytes or operations ask for that convolutions and products of matrices reach beyond that."""
    host_us: float = 0.0
    """The host's time for an operation."""

    def seconds(self, op: Op) -> float:
        """Return how long the GPU takes for *op*."""
        if not op.kernel:
            return 0.0
        moved = op.bytes / self.bytes_per_s / self.streams
        needs = max(moved, op.flops / self.flops_per_s) / self.convolutions if op.flops else moved
        return max(needs, SHORTEST_S) + op.beside / self.bytes_per_s / self.streams


SHORTEST_S = 2e-6
"""Of a kernel."""
H200 = Card("H200", 4.8e12, 989e12)
CARDS = (Card("H100 SXM", 3.35e12, 989e12), Card("T4", 0.32e12, 65e12))
"""By NVIDIA's data sheets. A small card such as a T4 reaches more of its peak than an H200: its times are too long."""


class Trace(HostSyncs):  # type: ignore[no-untyped-call]
    """Keeps what each operation of a step costs, under the part that is under way."""

    def __init__(self, device: str) -> None:
        super().__init__(device)
        self.ops: list[Op] = []
        self.part = ""

    @contextmanager
    def within(self, part: str) -> Iterator[None]:
        """Count what is done here as *part*."""
        before, self.part = self.part, part
        try:
            yield
        finally:
            self.part = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before, part = self.lines.total(), self.part
        made = super().__torch_dispatch__(func, types, args, kwargs)
        waits = self.lines.total() - before
        if part and func.namespace != "prim":
            self.ops.append(op_of(func, (args, kwargs or {}), made, part, waits=waits))
        return made


def op_of(func: Any, called: tuple[Any, Any], made: Any, part: str, *, waits: int) -> Op:
    """Return what one call of *func* costs; *called* are its arguments, and *made* is what it returned."""
    name = func.overloadpacket.__name__
    given = [leaf for leaf in tree_leaves(called) if isinstance(leaf, torch.Tensor)]
    found = [leaf for leaf in tree_leaves(made) if isinstance(leaf, torch.Tensor)]
    kernel = not (func.is_view or name in FREE or not (found or waits))
    if not kernel:
        return Op(name, part, 0, 0, waits, kernel=False)
    if name in {"copy_", "fill_", "zero_"}:
        given = given[1:]
    elif name in PICKING:
        given = [*found, *given[1:]]
    elif name in {"index_put_", "scatter_", "index_add_"}:
        given, found = given[1:], given[1:]
    moved = sum(map(touched, given)) + sum(map(touched, found))
    if name in TWO_PASSES:
        moved += touched(given[0]) + (touched(given[1]) if name.endswith("backward") else 0)
    beside = around(called[0][0], called[0][2], made) if name == "convolution" else 0
    count = flop_registry.get(func.overloadpacket)
    flops = count(*called[0], **called[1], out_val=made) if count else 0
    return Op(name, part, moved, flops, waits, kernel=True, beside=beside)


def around(x: torch.Tensor, bias: torch.Tensor | None, made: torch.Tensor) -> int:
    """Return the bytes that move beside a convolution itself: its bias is added in a pass of its own.

    Tensor cores want channels last: other maps are turned before, and what comes out is turned back.
    """
    turned = x.dtype is torch.float16 and not x.is_contiguous(memory_format=torch.channels_last)
    return (2 * touched(made) if bias is not None else 0) + (2 * (touched(x) + touched(made)) if turned else 0)


def touched(tensor: torch.Tensor) -> int:
    """Return the bytes of *tensor*; what is repeated without a copy lies there once."""
    number = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        number *= size if stride else 1
    return number * tensor.element_size()


class Widening(TorchFunctionMode):
    """Does in float32 what CUDA's autocast would, where a CPU's does not."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in WIDENED and torch.is_autocast_enabled("cpu"):
            args = [wide(one) for one in args]
            kwargs = {name: wide(one) for name, one in kwargs.items()}
        return func(*args, **kwargs)


def wide(value: Any) -> Any:
    """Return *value* in float32 where it is a tensor of half that precision."""
    return value.float() if isinstance(value, torch.Tensor) and value.dtype is torch.float16 else value


# What is traced

Side = Callable[[argparse.Namespace], Any]


def student_of(options: argparse.Namespace) -> Any:
    """Return the student as a training holds it, with our criterion."""
    student = network(options.student, options.imgsz).to(memory_format=torch.channels_last)
    return student.train()


def ours(options: argparse.Namespace) -> Any:
    """Return our distiller past its ramp, with the teacher as it is on a GPU."""
    spec = DistillationSpec.model_validate({"recipe": "balanced", "balance": "none"})
    half = mock.patch.object(teaching, "half_precision", return_value=torch.float16)
    with half, mock.patch.object(teaching, "fuse_activations"):
        made = make_distiller(
            student_of(options), network(options.teacher, options.imgsz), spec, device=torch.device("cpu"),
            epochs=100, close_mosaic=0, seed=0, half=True,
        )  # fmt: skip
    assert made.objective is not None
    for slot in made.slots:
        fuse_by(slot.teacher.model, torch.add)  # one pass over the map, as the kernel makes that a GPU compiles
    made.objective.epoch = spec.schedule.warmup_epochs + 1
    return made.train()


def native(options: argparse.Namespace) -> Any:
    """Return Ultralytics' own distillation of the same student, with its own criterion."""
    student = network(options.student, options.imgsz).to(memory_format=torch.channels_last)
    return DistillationModel(network(options.teacher, options.imgsz), student).train()


SIDES: dict[str, tuple[Side, bool, bool]] = {
    "ours": (ours, True, True),
    "native": (native, False, False),
    "control": (student_of, True, False),
}
"""Each with whether it is ours, with our criterion and changed colors, and whether its teacher is recorded."""


def traced(side: str, options: argparse.Namespace, labels: dict[str, Any]) -> list[Op]:
    """Return the operations of one step of *side*: forward on a fake GPU, the rest on a fake CPU."""
    found = []
    for device in ("cuda", "cpu"):
        trace = Trace(device)
        model = SIDES[side][0](options)
        trace.run(partial(one_step, trace, model, labels, options, device, ours=SIDES[side][1]))
        rest = ("backward", "optimizer")
        found += [op for op in trace.ops if (op.part in rest) == (device == "cpu")]
    recorded = SIDES[side][2]
    return [replace(op, recorded=recorded and op.part == "teacher") for op in found]


def one_step(
    trace: Trace, model: Any, labels: dict[str, Any], options: argparse.Namespace, device: str, *, ours: bool
) -> None:
    """Take a step after one that is not looked at, which fills what is remembered."""
    colours._conversions.cache_clear()  # noqa: SLF001 - of another step's fake tensors
    if device == "cuda":
        move(model, torch.device("cuda:0"))
    watch(trace, model, ours=ours)
    available = mock.patch("torch.cuda.amp.common.amp_definitely_not_available", return_value=False)
    grid = nullcontext() if ours else mock.patch("ultralytics.utils.loss.make_anchors", make_anchors)
    with available, grid, Widening():
        for _ in range(2):
            trace.ops.clear()
            trace.lines.clear()
            batch = {
                key: value.to(device) if isinstance(value, torch.Tensor) else value for key, value in labels.items()
            }
            with trace.within(PARTS[0]):
                raw = torch.zeros(options.batch, 3, options.imgsz, options.imgsz, dtype=torch.uint8, device=device)
                if ours:
                    tables = torch.zeros(options.batch, 256, 3, dtype=torch.uint8, device=device)
                    raw = colours.coloured({"img": raw, colours.KEY: tables})["img"]
                batch["img"] = raw.float() / 255
            with trace.within("distillation terms"), torch.autocast(device, dtype=torch.float16):
                loss, _ = model(batch)
        if device == "cpu":
            learn(trace, model, loss)


def watch(trace: Trace, model: Any, *, ours: bool) -> None:
    """Count under its part what the networks and the criterion of *model* do."""
    student = getattr(model, "student_model", model)
    slots = getattr(model, "slots", ())
    taught = [slot.teacher.model for slot in slots] or [getattr(model, "teacher_model", None)]
    for one, part in ((student, "student"), *((one, "teacher") for one in taught if one is not None)):
        # Activations are one object in all networks, so each counts with the layer around it.
        for module in [m for m in list(one.modules())[1:] if "activation" not in type(m).__module__]:
            module.forward = within(trace, part, module.forward)
    own = criterion_of if ours else type(student).init_criterion
    student.criterion = within(trace, "task loss", own(student))


def within(trace: Trace, part: str, function: Any) -> Any:
    """Return *function*, counted as *part*; attributes of an object stay."""

    class Counted:
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            with trace.within(part):
                return function(*args, **kwargs)

        def __getattr__(self, name: str) -> Any:
            return getattr(function, name)

    return Counted()


def learn(trace: Trace, model: Any, loss: torch.Tensor) -> None:
    """Take the gradients of *loss* and a step of SGD, with the scaling of half precision and clipped gradients."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with trace.within("backward"):
        gradients = torch.autograd.grad(loss.sum() * 65536.0, trained, allow_unused=True)
    held = [torch.nn.Parameter(torch.empty_like(one)) for one in gradients if one is not None]
    for parameter, gradient in zip(held, (one for one in gradients if one is not None), strict=True):
        parameter.grad = gradient
    optimizer = torch.optim.SGD(held, lr=0.01, momentum=0.9, foreach=True)
    optimizer.step()  # makes what it remembers
    with trace.within("optimizer"):
        found, scale = torch.zeros(1), torch.ones(1)
        torch._amp_foreach_non_finite_check_and_unscale_([one.grad for one in held], found, scale)  # type: ignore[misc]
        torch.nn.utils.clip_grad_norm_(held, 10.0, foreach=True)
        float(found)
        optimizer.step()


# The clock


def run(ops: list[Op], card: Card) -> dict[str, float]:
    """Return a step's milliseconds on *card*: of the GPU by part and in sum, of the host, and from step to step."""
    gpu_ms: dict[str, float] = defaultdict(float)
    for op in ops:
        gpu_ms[op.part] += card.seconds(op) * 1e3
    ends = [0.0]
    host = gpu = 0.0
    for _ in range(3):
        replaying = False
        for op in ops:
            host += 0.0 if op.recorded and replaying else card.host_us * 1e-6
            replaying = op.recorded
            gpu = max(gpu, host) + card.seconds(op) if op.kernel else gpu
            host = max(host, gpu) if op.waits else host
        ends.append(max(host, gpu))
    return {
        **{part: round(gpu_ms[part], 2) for part in PARTS},
        "gpu_ms": round(sum(gpu_ms.values()), 2),
        "host_ms": round(sum(not op.recorded for op in ops) * card.host_us * 1e-3, 2),
        "step_ms": round((ends[-1] - ends[-2]) * 1e3, 2),
    }


def fitted(steps: dict[str, list[Op]], measured: dict[str, Any]) -> Card:
    """Return the H200 on which colors, recorded teacher and student alone take as long as measured, in this order."""
    seen = measured["step_640px_b64"]["yolo11m_yolov8n"]
    colors = [op for op in steps["control"] if op.part == PARTS[0]][:-2]  # without the two that make floats
    teacher = [op for op in steps["ours"] if op.part == "teacher"]
    student = on_device(steps["control"])
    card = solved("streams", H200, lambda one: run(colors, one)["gpu_ms"], measured["variants_ms"]["colours_alone"])
    card = solved("convolutions", card, lambda one: run(teacher, one)["gpu_ms"], seen["teacher_ours_s"] * 1e3)
    return solved("host_us", card, lambda one: run(student, one)["step_ms"], seen["student_s"] * 1e3)


def solved(field: str, card: Card, model: Callable[[Card], float], wanted: float) -> Card:
    """Return *card* with that number in *field* for which *model* says *wanted*."""
    grows = field == "host_us"
    low, high = 0.0, 200.0 if grows else 2.0
    for _ in range(40):
        middle = (low + high) / 2
        more = model(replace(card, **{field: middle})) < wanted  # type: ignore[arg-type]
        low, high = (middle, high) if more == grows else (low, middle)
    return replace(card, **{field: round(high, 4)})  # type: ignore[arg-type]


def on_device(ops: list[Op]) -> list[Op]:
    """Return the operations of a step as ``step.py`` times it: its images are floats on the device."""
    return [op for op in ops if op.part != PARTS[0]]


def beside(steps: dict[str, list[Op]], card: Card, measured: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return what the model says of the steps that were measured, beside what was measured."""
    seen = measured["step_640px_b64"]["yolo11m_yolov8n"]
    pairs = {"student": ("control", "student_s"), "native": ("native", "native_s"), "ours": ("ours", "ours_s")}
    return {
        name: {"modelled_ms": run(on_device(steps[side]), card)["step_ms"], "measured_ms": seen[key] * 1e3}
        for name, (side, key) in pairs.items()
    }


def main() -> None:
    """Trace, model, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default="yolo11m")
    parser.add_argument("--student", default="yolov8n")
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--name", default=BEFORE, help="of this result among those of the file")
    options = parser.parse_args()
    labels = count_boxes(batch_of(options.batch, 32, torch.device("cpu")))
    steps = {side: traced(side, options, labels) for side in SIDES}
    measured = json.loads(MEASURED.read_text())
    known = json.loads(options.json.read_text()) if options.json and options.json.exists() else {}
    again = options.name != BEFORE and BEFORE in known
    card = replace(H200, **known[BEFORE]["fitted"]) if again else fitted(steps, measured)
    same: dict[str, Any] = {name: getattr(card, name) for name in ("streams", "convolutions", "host_us")}
    cards = [card, *(replace(one, **same) for one in CARDS)]
    result = {
        "about": "a model, not a measurement: see the first lines of benchmarks/step_model.py",
        "settings": {key: value for key, value in vars(options).items() if key not in {"json", "name"}},
        "fitted": same,
        "beside_the_measured": beside(steps, card, measured),
        "operations": {side: len(ops) for side, ops in steps.items()},
        "gigabytes": {side: round(sum(op.bytes + op.beside for op in ops) / 1e9, 1) for side, ops in steps.items()},
        "waits": {side: sum(op.waits for op in ops) for side, ops in steps.items()},
        "cards": {one.name: {side: run(ops, one) for side, ops in steps.items()} for one in cards},
        **provenance(),
    }
    for name, found in result["cards"].items():
        print(f"\n{name:22s}" + "".join(f"{side:>12s}" for side in SIDES))
        for row in (*PARTS, "gpu_ms", "host_ms", "step_ms"):
            print(f"{row:22s}" + "".join(f"{found[side][row]:12.2f}" for side in SIDES))
        print(f"ours / native {found['ours']['step_ms'] / found['native']['step_ms']:.3f}")
    print(json.dumps({key: result[key] for key in ("fitted", "beside_the_measured", "operations", "waits")}, indent=1))
    if options.json:
        write_json(options.json, {**known, options.name: result})


if __name__ == "__main__":
    main()
