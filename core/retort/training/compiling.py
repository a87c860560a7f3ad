"""torch.compile for the network being trained, layer by layer, so that it stays the module that everybody knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from retort.errors import ModelError

if TYPE_CHECKING:
    from torch import nn


def compile_layers(network: Any, *, backend: str = "inductor") -> None:
    """Compile each layer of a detection *network* in place, and the branches of its head.

    Names, weights, copies and files stay what they are: a copy, such as the average, is not compiled. The head itself
    keeps anchors of the last shape, so its branches are compiled one by one. The first batch is what compiles them.
    """
    head = network.model[-1]
    for module in (*network.model[:-1], *_branches(head)):
        module.compile(backend=backend)


def _branches(head: Any) -> Iterator[nn.Module]:
    for name in ("cv2", "cv3", "one2one_cv2", "one2one_cv3"):
        yield from getattr(head, name, None) or ()


@contextmanager
def explained() -> Iterator[None]:
    """Turn a failure to compile, such as a missing C++ compiler, into one that says what to do.

    Raises:
        ModelError: the network cannot be compiled here.

    """
    try:
        yield
    except Exception as error:
        from torch._dynamo.exc import TorchDynamoException  # takes a second, which nobody else should wait

        if not isinstance(error, TorchDynamoException):
            raise
        reason = str(error).strip().splitlines()[0]
        raise ModelError(
            f"the network cannot be compiled here: {reason}",
            hint="training.compile: false; or a C++ compiler and, for a GPU, Triton",
        ) from error
