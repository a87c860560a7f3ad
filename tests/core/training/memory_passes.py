"""Count what operations read and write, by a look at every operation: a model of time on a GPU."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_VIEWS = ("aten::detach", "aten::alias", "aten::empty", "aten::empty_like", "aten::empty_strided", "aten::new_empty")


class MemoryPasses(TorchDispatchMode):
    """Counts operations that are no views, and the bytes of all tensors that they are given and return."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        name = func._schema.name
        if func.is_view or name.startswith(_VIEWS):
            return made
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        # What an operation changes in place is given and returned: read and written.
        touched = [*given, *(one for one in tree_leaves(made) if isinstance(one, torch.Tensor))]
        self.calls[name] += 1
        self.bytes[name] += sum(_size(one) for one in touched)
        return made


def _size(x: torch.Tensor) -> int:
    """Return the bytes of *x* in memory: those of an expanded tensor once."""
    number = 1
    for length, stride in zip(x.shape, x.stride(), strict=True):
        number *= length if stride else 1
    return number * x.element_size()
