"""Count what makes the host wait for a GPU, without one: fake CUDA tensors, and a look at every operation."""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import PurePath
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode

_FOUND = 7
"""So many elements has whatever depends on the data."""
_LIBRARIES = ("/torch/", "host_syncs.py", "step_model.py")


class HostSyncs(TorchDispatchMode):
    """Counts, by line, the operations that wait for a fake GPU: its answers have no content and a set size.

    Such are reading a value (``item``, ``float``, a branch on it), sizes that depend on data (``nonzero``, ``unique``,
    an index by a mask), and a copy between a GPU and memory that is not page-locked, in either direction. With *device*
    ``cpu`` fake tensors of a CPU count as a GPU's: nothing is copied there.
    """

    def __init__(self, device: str = "cuda") -> None:
        super().__init__()
        self.lines: Counter[str] = Counter()
        self._device = device
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)

    def run(self, work: Callable[[], Any]) -> Any:
        """Do *work* on fake tensors, counting."""
        with ExitStack() as stack:
            modes: tuple[AbstractContextManager[Any], ...] = (self._fake, self)
            for mode in modes:
                stack.enter_context(mode)
            return work()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name, first = func._schema.name, args[0] if args else None
        on_gpu = isinstance(first, torch.Tensor) and first.device.type == self._device
        if name == "aten::_local_scalar_dense" and not isinstance(first, FakeTensor):
            with unset_fake_temporarily():
                return func(first)
        if name == "aten::_local_scalar_dense":
            if on_gpu:
                self._note(name)  # what has been copied to the host is read without a wait
            return _FOUND if not first.dtype.is_floating_point else 0.5
        if name == "aten::nonzero" and on_gpu:
            self._note(name)
            return first.new_zeros((_FOUND, first.dim()), dtype=torch.long)
        if name.startswith("aten::_unique") or name == "aten::unique_dim":
            self._note(name)
            numbers = first.new_zeros(_FOUND, dtype=torch.long)
            return first.new_zeros(_FOUND), numbers, numbers
        if name in {"aten::index", "aten::index_put_"} and on_gpu:
            args = (first, [self._by_mask(one) for one in args[1]], *args[2:])
        made = func(*args, **kwargs)
        if self._copies(name, args, made):
            self._note(name)
        return made

    def _by_mask(self, index: Any) -> Any:
        if not isinstance(index, torch.Tensor):
            return index
        if index.dtype in {torch.bool, torch.uint8}:
            self._note("aten::index by mask")
            return index.new_zeros(_FOUND, dtype=torch.long)
        if index.device.type == "cpu":
            self._note("aten::index by a list")
        return index

    def _copies(self, name: str, args: Any, made: Any) -> bool:
        if name == "aten::_to_copy":
            return {args[0].device.type, made.device.type} == {"cpu", "cuda"} and not args[0].is_pinned()
        if name == "aten::copy_":
            return {args[0].device.type, args[1].device.type} == {"cpu", "cuda"}
        return False

    def _note(self, what: str) -> None:
        stack = traceback.extract_stack()
        place = [stack[0], *(one for one in stack if not any(part in one.filename for part in _LIBRARIES))][-1]
        self.lines[f"{PurePath(place.filename).name}:{place.lineno} {what} {place.line}"] += 1


def move(model: Any, device: torch.device) -> None:
    """Move a network, or a student with its teachers and objectives, to a fake GPU, within a counter's ``run``."""
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        model.to(device)
        for one in getattr(model, "slots", ()):
            one.teacher.model.to(device)
            _move_tensors(one, device, set())
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def _move_tensors(owner: Any, device: torch.device, seen: set[int]) -> None:
    """Move the tensors that objects of ours hold outside any module."""
    if id(owner) in seen:
        return
    seen.add(id(owner))
    for name, value in list(getattr(owner, "__dict__", {}).items()):
        if isinstance(value, torch.Tensor):
            object.__setattr__(owner, name, value.to(device))
            continue
        for part in (
            value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else [value]
        ):
            if type(part).__module__.startswith("retort."):
                _move_tensors(part, device, seen)
