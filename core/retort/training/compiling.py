"""Compile a network's layers by torch.compile, and count those that ran compiled."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from retort.foreign import first_line

if TYPE_CHECKING:
    from torch import nn

_MOST_VERSIONS = 64
"""Of one layer: shapes of whole and last batches, with gradients and without. Torch's own limit is 8."""


class CompiledLayers:
    """Layers of a detection network that are compiled in place, each by itself.

    Names, weights, copies and files stay what they are: a copy, such as the average, is not compiled. The head itself
    keeps anchors of the last shape, so its branches are compiled one by one. The first batch is what compiles them.

    Compiling is an optimisation: a layer that cannot be compiled runs as it is, and `reason` says why.
    """

    def __init__(self, network: Any, *, backend: str = "inductor") -> None:
        from torch._dynamo import config

        config.suppress_errors = True  # what cannot be compiled runs as it is
        self._layers = [*network.model[:-1], *_branches(network.model[-1])]
        self._ran: set[int] = set()
        self.reason: str | None = None
        """Why a layer could not be compiled, if one could not."""
        for index, layer in enumerate(self._layers):
            layer.compile(backend=self._counted(index, backend), **_separately())

    @property
    def number(self) -> int:
        """Number of the layers that were to be compiled."""
        return len(self._layers)

    @property
    def compiled(self) -> int:
        """Number of the layers of which a compiled graph has run."""
        return len(self._ran)

    def _counted(self, index: int, backend: str) -> Callable[..., Any]:
        """Return the backend of one layer, whose graphs note that they have run."""
        from torch._dynamo import lookup_backend

        compile_graph = lookup_backend(backend)

        def compile_noted(graph: Any, inputs: list[Any]) -> Callable[..., Any]:
            try:
                made = compile_graph(graph, inputs)
            except Exception as error:
                self.reason = first_line(error)
                if not self._ran:
                    self._give_up()
                raise

            def run(*arguments: Any) -> Any:
                self._ran.add(index)
                return made(*arguments)

            return run

        return compile_noted

    def _give_up(self) -> None:
        """Let all layers run as they are.

        Where the first cannot be compiled, it is the machine that cannot.
        """
        for layer in self._layers:
            layer._compiled_call_impl = None  # noqa: SLF001 - torch has no other way back


def _separately() -> dict[str, Any]:
    """Return what keeps layers of one class from using up each other's versions.

    They share their code, for which torch counts versions unless it is told to count by layer (from 2.15 on).
    """
    if "isolate_recompiles" in inspect.signature(torch.compile).parameters:
        return {"recompile_limit": _MOST_VERSIONS, "isolate_recompiles": True}
    from torch._dynamo import config

    config.recompile_limit = config.accumulated_recompile_limit = 1024
    return {}


def _branches(head: Any) -> Iterator[nn.Module]:
    for name in ("cv2", "cv3", "one2one_cv2", "one2one_cv3"):
        yield from getattr(head, name, None) or ()
