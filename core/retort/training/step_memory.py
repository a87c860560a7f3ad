"""Estimate the memory of a training step on fake tensors, without a GPU."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_BLOCK = 512
"""CUDA's allocator of PyTorch gives out multiples of so many bytes."""
_UNIQUE = 8


class MemoryCounter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of living tensors while a step runs on fake ones.

    They have no device either: what is counted is what a GPU would keep, for the same shapes, kinds and lifetimes. Of
    sizes that depend on the data, *objects* stands in for the anchors that are assigned to an object.
    """

    def __init__(self, objects: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._objects = objects
        self._living: dict[int, weakref.ref[Any]] = {}
        self._fake = FakeTensorMode(allow_non_fake_inputs=True)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Run the block on tensors without content."""
        with self._fake, self:
            yield

    def empty(self, network: torch.nn.Module, dtype: torch.dtype | None = None) -> None:
        """Give *network* fake tensors, which count from now on.

        Floating numbers are of *dtype*, if given.
        """
        for module in network.modules():
            for name, one in module._parameters.items():  # noqa: SLF001 - there is no public way to replace them
                if one is not None:
                    bare = torch.nn.Parameter(self._bare(one.data, dtype), requires_grad=one.requires_grad)
                    module._parameters[name] = bare  # noqa: SLF001
            for name, buffer in module._buffers.items():  # noqa: SLF001
                if buffer is not None:
                    module._buffers[name] = self._bare(buffer, dtype)  # noqa: SLF001

    def grown(self, work: Callable[[], Any]) -> int:
        """Return the bytes that *work* takes at its peak; it keeps nothing."""
        before, highest, self.peak = self.now, self.peak, self.now
        work()
        grown, self.peak = self.peak - before, max(self.peak, highest)
        return grown

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = self._answer(func, args, kwargs or {})
        for one in tree_leaves(made):
            self._count(one)
        return made

    def _bare(self, tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.Tensor:
        with self._fake:
            bare: torch.Tensor = self._fake.from_tensor(tensor)
            if dtype is not None and bare.is_floating_point():
                bare = bare.to(dtype)
        self._count(bare)
        return bare

    def _count(self, one: Any) -> None:
        if not isinstance(one, FakeTensor):
            return
        storage = one.untyped_storage()
        key, size = id(storage), -(-storage.nbytes() // _BLOCK) * _BLOCK
        if key in self._living:
            return

        def gone(_: Any) -> None:
            self.now -= size
            del self._living[key]

        self._living[key] = weakref.ref(storage, gone)
        self.now += size
        self.peak = max(self.peak, self.now)

    def _answer(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Return the answer of *func*.

        Its size is a set one where that depends on the data.
        """
        name: str = func._schema.name  # noqa: SLF001 - all that tells operations apart
        first: Any = args[0] if args else None
        if name == "aten::_local_scalar_dense":
            if not isinstance(first, FakeTensor):
                with unset_fake_temporarily():
                    return func(first)
            return 0.5 if first.is_floating_point() else _UNIQUE
        if name == "aten::nonzero":
            return first.new_zeros((self._objects, first.dim()), dtype=torch.long)
        if name.startswith("aten::_unique") or name == "aten::unique_dim":
            numbers = first.new_zeros(_UNIQUE, dtype=torch.long)
            return first.new_zeros(_UNIQUE), numbers, numbers
        if name in {"aten::index", "aten::index_put_"}:
            args = (first, [self._by_mask(one) for one in args[1]], *args[2:])
        return func(*args, **kwargs)

    def _by_mask(self, index: Any) -> Any:
        masks = isinstance(index, torch.Tensor) and index.dtype in {torch.bool, torch.uint8}
        return index.new_zeros(self._objects, dtype=torch.long) if masks else index
