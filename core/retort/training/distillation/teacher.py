"""The frozen teacher, and the CUDA-graph replay of its forward pass."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from retort.constants import HEAD_LEVELS, Level
from retort.foreign import first_line
from retort.training.architecture import head_levels
from retort.training.distillation import feature_taps
from retort.training.distillation.boxes import TeacherBoxes
from retort.training.distillation.gpu_activation import fuse_bias_and_silu
from retort.training.ultralytics_api import Conv, DWConv, fuse_conv_and_bn

if TYPE_CHECKING:
    from torch import Tensor

_PATIENCE = 3
"""A shape is recorded when it comes this often; the last batch of an epoch may be the only one of its kind."""
_MOST_GRAPHS = 2
"""Each keeps its activations; shapes beyond run as they are."""

Function = Callable[["Tensor"], Any]


class MemoryPool:
    """Memory on a GPU that recordings share.

    Each works where those before it have done with theirs. CUDA's condition holds where the teachers of one step are
    recorded in the order in which they are asked: what an earlier one returns stays, for its tensors are alive while a
    later one is recorded, and what a later one returns is overwritten only when the earlier one is asked again, in the
    next step.
    https://pytorch.org/docs/stable/notes/cuda.html#graph-memory-management
    """

    def __init__(self) -> None:
        self._handle: Any = None
        self._recorded: list[CudaGraphReplay] = []
        self.is_spoiled = False
        """Whether a recording broke off, whose memory is the pool's for as long as another is in it."""

    @property
    def handle(self) -> Any:
        """The pool as torch names it."""
        if self._handle is None:
            self._handle = torch.cuda.graph_pool_handle()
        return self._handle

    def add(self, recorded: CudaGraphReplay) -> None:
        """Note that *recorded* has a recording in this pool."""
        self._recorded.append(recorded)

    def clear(self) -> None:
        """Give back the pool, with all recordings in it."""
        for one in self._recorded:
            one.forget()
        self._recorded, self._handle, self.is_spoiled = [], None, False


Record = Callable[[Function, "Tensor", MemoryPool], Function]


class CudaGraphReplay:
    """Function replayed from CUDA graphs, one recording for each shape.

    *function* maps one CUDA tensor to any tree of tensors. The function must be free of host synchronisation and of
    randomness. What it returns is overwritten by the next call with the same shape.
    https://pytorch.org/docs/stable/notes/cuda.html#cuda-graphs

    A recording beside a thread that pins memory, as a data loader has one, fails or hangs: measured on an H200, see
    docs/log/gpu.md. So a training records with ``prepare`` before its loaders start, and nothing after that. Where no
    such thread runs, a shape is recorded when it has come often enough. A recording is an optimisation only: one that
    fails is told once, and its shape runs as it is from then on.
    """

    def __init__(self, function: Function, record: Record | None = None) -> None:
        self._function = function
        self._record = record or record_graph
        self._seen: dict[Any, int] = {}
        self._recorded: dict[Any, Function] = {}
        self._failed: set[Any] = set()
        self.failure: str | None = None
        """Why the last recording that was tried has failed, if one has."""
        self._sealed = False

    def __call__(self, x: Tensor) -> Any:
        """Return what the function returns for *x*."""
        key = _key(x)
        if key not in self._recorded:
            self._seen[key] = self._seen.get(key, 0) + 1
            if self._sealed or self._seen[key] < _PATIENCE or not self._try(key, x, MemoryPool()):
                return self._function(x)
        return self._recorded[key](x)

    def prepare(self, x: Tensor, pool: MemoryPool | None = None) -> None:
        """Record the shape of *x* now, and no other one later.

        It is called before any thread pins memory. *pool* is the memory of all teachers that are asked in one step.
        """
        if not self._sealed and _key(x) not in self._recorded:
            self._try(_key(x), x, pool or MemoryPool())
        self._sealed = True

    def forget(self) -> None:
        """Drop all recordings, whose shapes run as they are from now on."""
        self._failed |= self._recorded.keys()
        self.failure = self.failure or "the memory that it was recorded in was taken back"
        self._recorded.clear()

    @property
    def has_recorded(self) -> bool:
        """Whether any shape is recorded."""
        return bool(self._recorded)

    def _try(self, key: Any, x: Tensor, pool: MemoryPool) -> bool:
        """Record *x*, unless that has failed before or there is no room; tell whether there is a recording now."""
        if key in self._failed or len(self._recorded) == _MOST_GRAPHS:
            return False
        try:
            self._recorded[key] = self._record(self._function, x, pool)
        except Exception as error:  # noqa: BLE001 - CUDA's errors, its want of memory, whatever a network does beside
            self.failure = first_line(error)
        else:
            pool.add(self)
            return True
        # The error is gone, and with it what its frames held.
        self._failed.add(key)
        if pool.is_spoiled:
            pool.clear()
        torch.cuda.empty_cache()
        warnings.warn(
            f"the teacher's kernels cannot be recorded for images of {tuple(x.shape)}, it runs without: {self.failure}",
            RuntimeWarning,
            stacklevel=4,
        )
        return False


def record_graph(function: Function, x: Tensor, pool: MemoryPool | None = None) -> Function:
    """Record *function* on a tensor like *x*; return its replay.

    It works in the memory of *pool*, or in memory of its own. It runs once before, with as much memory: one that does
    not fit fails there, outside the pool.

    The replay runs on another tensor. Only calls of this thread are refused while it records (``thread_local``): in the
    default mode, any other thread's that allocates breaks the recording, and is broken by it. The stream is put back
    here, because torch 2.11 leaves its own in place when a recording fails.
    """
    pool = MemoryPool() if pool is None else pool
    with torch.cuda.stream(torch.cuda.current_stream(x.device)):
        held = x.clone()
        stream = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(stream):
            function(held)  # libraries choose their kernels and workspaces outside the recording
        torch.cuda.current_stream(x.device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        pool.is_spoiled = True  # until it is done
        with torch.cuda.graph(graph, pool=pool.handle, capture_error_mode="thread_local"):
            answer = function(held)
        pool.is_spoiled = False

    def replay(x: Tensor) -> Any:
        held.copy_(x)
        graph.replay()
        return answer

    return replay


def _key(x: Tensor) -> tuple[Any, ...]:
    return x.shape, x.dtype, x.device


@dataclass(frozen=True, slots=True)
class TeacherOutput:
    """Outputs of the teacher for one batch."""

    features: dict[Level, Tensor]
    """Feature maps, (N, C, H, W)."""
    branches: dict[str, feature_taps.Raw]
    """Raw outputs of the head's branches: one2many, and one2one where there is one."""
    confidence: dict[Level, Tensor]
    """Highest class probability at each position, (N, 1, H, W)."""
    head: Any = None
    """The teacher's frozen head itself, for student features to pass through."""
    boxes: TeacherBoxes | None = None
    """Boxes of a teacher that gives nothing else; features and branches are empty then."""


class Teacher:
    """Network held outside module registration.

    So optimizer, EMA, copies and checkpoints never see it. Batch normalisation is folded into the convolutions, their
    activation is fused, on a CPU with the convolution, on a GPU with its bias, and the head is read raw, without
    decoding or NMS. What no loss asks for is left out: *levels* are the features wanted (None for all); *predictions*,
    *intermediate* (head features) and *confidence_maps* say whether these are. Channels come last, which GPUs and CPUs
    alike compute faster. With *half*, weights and activations have the half precision that the device computes fastest,
    so that autocast has nothing left to cast in every step.
    """

    def __init__(
        self,
        model: Any,
        *,
        device: torch.device,
        half: bool = False,
        levels: Collection[Level] | None = None,
        predictions: bool = True,
        intermediate: bool = False,
        confidence_maps: bool = True,
    ) -> None:
        self.model = fold(deepcopy(model).float()).eval().requires_grad_(requires_grad=False).to(device)
        self.names: dict[int, str] = dict(model.names)
        self.dtype = half_precision(device) if half else torch.float32
        self._levels, self._head, self._middles, self._maps = levels, predictions, intermediate, confidence_maps
        self._head_levels = head_levels(self.model)
        self.known: Tensor | None = None
        """Classes that count for its confidence, those that the student has too; None for all."""
        self.model.to(dtype=self.dtype, memory_format=torch.channels_last)
        # Not in a head that features pass through with their gradient, which fused operators do not know.
        fused = self.model.model[:-1] if intermediate else self.model
        if device.type == "cpu":
            fuse_activations(fused)
        elif device.type == "cuda":
            fuse_bias_and_silu(fused, device, self.dtype)
        self._replay = CudaGraphReplay(self._brief) if device.type == "cuda" else self._brief

    def __call__(self, images: Tensor, *, reuse_buffers: bool = False) -> TeacherOutput:
        """Answer for *images* (N, 3, H, W) in 0..1: all that there is to say.

        With *reuse_buffers*, for a training step, the output has what the losses need only, and the next call may
        overwrite it: on a GPU it is a replay of recorded kernels.
        """
        x = images.to(self.dtype, memory_format=torch.channels_last)
        output: TeacherOutput = self._replay(x) if reuse_buffers else self._ask(x, levels=None, head=True, maps=True)
        return output

    def answer_in(self, dtype: torch.dtype) -> None:
        """Answer in another precision, which the network's tensors have or will have."""
        self.dtype = dtype

    def prepare(self, number: int, height: int, width: int, pool: MemoryPool | None = None) -> None:
        """Record the teacher's kernels for *number* images a call.

        It does so on a GPU, before any thread pins memory, in the *pool* of all teachers of a step.
        """
        if isinstance(self._replay, CudaGraphReplay):
            x = torch.zeros(number, 3, height, width, dtype=self.dtype, device=next(self.model.parameters()).device)
            self._replay.prepare(x.to(memory_format=torch.channels_last), pool)

    @property
    def recording(self) -> CudaGraphReplay | None:
        """The recording of its kernels; None on a device that records none."""
        return self._replay if isinstance(self._replay, CudaGraphReplay) else None

    def _brief(self, images: Tensor) -> TeacherOutput:
        return self._ask(images, levels=self._levels, head=self._head, maps=self._maps and self._head)

    @torch.no_grad()  # inference_mode would forbid the losses to save its tensors for backward
    def _ask(self, images: Tensor, *, levels: Collection[Level] | None, head: bool, maps: bool) -> TeacherOutput:
        with torch.autocast(images.device.type, enabled=False):
            features, branches = feature_taps.forward(
                self.model, images, levels=levels, head=head, intermediate=self._middles
            )
        sure = confidence(branches.values(), self.known, self._head_levels) if maps else {}
        return TeacherOutput(features, branches, sure, self.model.model[-1])


def half_precision(device: torch.device) -> torch.dtype:
    """Return the fastest half precision of *device*, else float32.

    float32 is for a device that has none. A CPU without instructions for bfloat16 emulates it, many times slower than
    float32.
    """
    if device.type == "cuda":
        return torch.float16
    found: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.13 does not tell yet
    fast = any(found.get(name) for name in ("amx_bf16", "avx512_bf16", "bf16"))
    return torch.bfloat16 if device.type == "cpu" and fast else torch.float32


def fold(model: Any) -> Any:
    """Fold batch normalisation into its convolutions, in place.

    Both head branches stay, unlike in upstream's fuse.
    """
    for module in model.modules():
        if type(module) in {Conv, DWConv} and hasattr(module, "bn"):
            module.conv = fuse_conv_and_bn(module.conv, module.bn)
            del module.bn
            module.forward = module.forward_fuse
    return model


def fuse_activations(model: Any) -> None:
    """Fuse SiLU into the convolutions of a folded *model*.

    oneDNN applies it inside them on a CPU: a pass over memory less for each. The operator is torch.compile's, for which
    torch promises nothing: where it is missing, the network stays as it is.
    """
    fused = getattr(torch.ops.mkldnn, "_convolution_pointwise", None)
    for module in model.modules() if fused else ():
        if type(module) in {Conv, DWConv} and type(module.act) is torch.nn.SiLU:
            module.forward = partial(_convolved, fused, module.conv)


def _convolved(fused: Any, conv: torch.nn.Conv2d, x: Tensor) -> Tensor:
    shape = conv.padding, conv.stride, conv.dilation, conv.groups
    found: Tensor = fused(x, conv.weight, conv.bias, *shape, "swish", [], "")
    return found


def confidence(
    branches: Iterable[feature_taps.Raw], known: Tensor | None = None, levels: Sequence[Level] = HEAD_LEVELS
) -> dict[Level, Tensor]:
    """Return the highest class probability at each position, by level.

    *levels* are those of the head. Logits of two branches are averaged first. Only the classes *known* (indices; None
    for all) count. The backbone's last layer has the stride of the last level, and takes its map.
    """
    branches = list(branches)
    scores = torch.stack([branch["scores"].float() for branch in branches]).mean(0)  # N K A
    scores = scores if known is None else scores.index_select(1, known)
    highest = scores.amax(1, keepdim=True).sigmoid()  # N 1 A
    shapes = [feature.shape[-2:] for feature in branches[0]["feats"]]
    parts = highest.split_with_sizes([height * width for height, width in shapes], dim=-1)
    maps = {level: part.reshape(len(part), 1, *shape) for level, part, shape in zip(levels, parts, shapes, strict=True)}
    return {**maps, Level.BACKBONE: maps[levels[-1]]}
