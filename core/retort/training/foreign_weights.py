"""Put tensors from outside into the network that they are of: ``python -m retort.training.foreign_weights``.

The process is confined (``retort.data.converted_weights``). The network goes to stdout, as a checkpoint that is read by
opcode like any other; what is wrong goes to stderr as JSON.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retort.checkpoints import REFUSED, opening, states
from retort.checkpoints.records import Flaw
from retort.checkpoints.states import State
from retort.errors import ModelError
from retort.training import environment

if TYPE_CHECKING:
    from torch import Tensor

FOLDED = opening.FOLDED
_SHOWN = 4
_CONSTANT = ("dfl.conv.weight",)
"""Ends of tensors that are the same in every network, which exports fold into others."""
_COUNTER = "num_batches_tracked"


def main(path: str, name: str, folder: str) -> int:
    """Write the network in the file *path* to stdout; people call it *name*."""
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no checkpoint
    try:
        state = states.read(Path(path))
        environment.prepare(Path(folder))
        with output:
            output.write(_checkpoint(state))
    except (Flaw, ModelError) as error:
        found = opening.refused_state(name, error) if isinstance(error, Flaw) else error
        sys.stderr.write(f"\n{json.dumps([found.message, found.hint])}")
        return REFUSED
    return 0


def _checkpoint(state: State) -> bytes:
    from retort.training import models

    network, folded = network_of(state)
    arguments = {"task": "detect", FOLDED: folded}
    return models.serialized({"epoch": -1, "ema": None, "model": network, "train_args": arguments})


def network_of(state: State) -> tuple[Any, bool]:
    """Return the network of *state*, and whether its normalisation was folded.

    Raises:
        Flaw: the tensors are not those of the architecture, or an ONNX graph is not.
        ModelError: there is no such network.

    """
    from retort.training import models
    from retort.training.rebuilding import stored_tensor

    described = _described(state)
    given = {_plain(name): one for name, one in state.tensors.items()}
    wanted = _shapes(described, len(state.names))
    described = _without_one2one(state, described, wanted, given)
    wanted = _shapes(described, len(state.names))
    tensors = {name: (lambda one=one: stored_tensor(state.path, one).float()) for name, one in given.items()}
    shapes = {name: one.shape for name, one in given.items()}
    _part(wanted, shapes, tensors)
    folded = _unfold(wanted, shapes, tensors)
    if state.graph is not None:  # its constants have names too
        shapes = {name: shape for name, shape in shapes.items() if name in wanted and not name.endswith(_CONSTANT)}
    _compare(wanted, shapes)
    with models.seeded(0):
        network = models.construct(deepcopy(described), len(state.names), "the file")
    network.names = dict(enumerate(state.names))
    network.load_state_dict({name: tensors[name]() for name in shapes}, strict=False)
    network.eval()
    if (found := models.weight_flaw(network)) is not None:
        raise Flaw(f"it comes from a training that diverged: {found}")
    if state.graph is not None:
        _compare_answers(network, state)
    return network, folded


def _described(state: State) -> dict[str, Any]:
    from retort.training.ultralytics_api import yaml_model_load

    if isinstance(state.architecture, str):
        found: dict[str, Any] = yaml_model_load(f"{state.architecture}.yaml")
        return found
    return {"nc": len(state.names), **state.architecture}


def _plain(name: str) -> str:
    """Return the name that a tensor has in the network, whichever part of it was saved: ``model.0.conv.weight``."""
    while name.startswith("model."):
        name = name.removeprefix("model.")
    return f"model.{name}"


def _shapes(described: dict[str, Any], num_classes: int) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the described network's tensors; no memory is taken for them."""
    import torch

    from retort.training.ultralytics_api import parse_model

    try:
        with torch.device("meta"):
            layers, _ = parse_model({**deepcopy(described), "nc": num_classes}, ch=3, verbose=False)
    except Exception as error:  # whatever a stranger's description provokes
        raise Flaw(f"its network cannot be built: {' '.join(str(error).split())[:200]}") from error
    return {f"model.{name}": tuple(one.shape) for name, one in layers.state_dict().items()}


def _without_one2one(
    state: State, described: dict[str, Any], wanted: Mapping[str, Any], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Describe the network without the head that an export has left out."""
    both = any(".one2one_" in name for name in wanted) and not any(".one2one_" in name for name in given)
    return {**described, "end2end": False} if both and state.end2end is False else described


def _unfold(wanted: Mapping[str, Any], shapes: dict[str, tuple[int, ...]], tensors: dict[str, Any]) -> bool:
    """Give convolutions with a bias a normalisation that does nothing but add it; return whether there were any.

    Exports fold normalisation into the convolution before it.
    """
    folded = False
    for name in [name for name in wanted if name.endswith(".conv.weight")]:
        layer = name.removesuffix(".conv.weight")
        bias = f"{layer}.conv.bias"
        if f"{layer}.bn.weight" in wanted and f"{layer}.bn.weight" not in shapes and bias in shapes:
            _add_normalisation(layer, wanted, shapes, tensors, tensors.pop(bias))
            del shapes[bias]
            folded = True
    return folded


_PAIRS = (("conv1", "conv2"), ("conv", "conv1"))
"""Layers that are two convolutions of the same picture, the larger first: RepConv, and RepVGGDW of YOLOv10."""


def _part(wanted: Mapping[str, Any], shapes: dict[str, tuple[int, ...]], tensors: dict[str, Any]) -> None:
    """Part what an export has merged: the middle of a convolution becomes the smaller one beside it."""
    for name in [name for name in shapes if name.endswith(".conv.weight") and name not in wanted]:
        layer = name.removesuffix(".conv.weight")
        bias = f"{layer}.conv.bias"
        for large, small in _PAIRS:
            first, second = (f"{layer}.{one}.conv" for one in (large, small))
            if f"{second}.weight" not in wanted or wanted.get(f"{first}.weight") != shapes[name] or bias not in shapes:
                continue
            whole = tensors.pop(name)
            margin = (shapes.pop(name)[-1] - wanted[f"{second}.weight"][-1]) // 2
            _put(first, f"{first}.weight", shapes, tensors, wanted, _rim(whole, margin), tensors.pop(bias))
            _put(second, f"{second}.weight", shapes, tensors, wanted, _middle(whole, margin), _nothing(wanted, second))
            del shapes[bias]
            break


def _put(  # noqa: PLR0917 - a layer, and where its two tensors go
    layer: str, name: str, shapes: dict[str, Any], tensors: dict[str, Any], wanted: Mapping[str, Any], weight: Any,
    bias: Any,
) -> None:  # fmt: skip
    tensors |= {name: weight, f"{layer}.bias": bias}
    shapes |= {name: wanted[name], f"{layer}.bias": wanted[name][:1]}


def _middle(whole: Any, margin: int) -> Any:
    def made() -> Tensor:
        middle: Tensor = whole()[..., margin:-margin, margin:-margin]
        return middle.contiguous()

    return made


def _rim(whole: Any, margin: int) -> Any:
    def made() -> Tensor:
        rim: Tensor = whole().clone()
        rim[..., margin:-margin, margin:-margin] = 0
        return rim

    return made


def _nothing(wanted: Mapping[str, Any], layer: str) -> Any:
    import torch

    return lambda: torch.zeros(wanted[f"{layer}.weight"][0])


def _add_normalisation(
    layer: str, wanted: Mapping[str, Any], shapes: dict[str, tuple[int, ...]], tensors: dict[str, Any], bias: Any
) -> None:
    import torch

    shape = wanted[f"{layer}.bn.weight"]
    made = {
        "weight": lambda: torch.ones(shape), "bias": bias, "running_mean": lambda: torch.zeros(shape),
        "running_var": lambda: torch.full(shape, 1 - EPSILON),
    }  # fmt: skip
    for part, tensor in made.items():
        tensors[f"{layer}.bn.{part}"] = tensor
        shapes[f"{layer}.bn.{part}"] = shape


EPSILON = 1e-3
"""Of Ultralytics' normalisation, which it adds to the variance."""


def _compare(wanted: Mapping[str, tuple[int, ...]], given: Mapping[str, tuple[int, ...]]) -> None:
    """Insist that the tensors are those of the network, by name and shape.

    Raises:
        Flaw: it says which are missing, which are too many, and which have another shape.

    """
    needed = [name for name in wanted if not name.endswith((_COUNTER, *_CONSTANT))]
    found = {
        "lacks": [name for name in needed if name not in given],
        "has beside them": [name for name in given if name not in wanted],
        "has of another shape": [
            f"{name} {_shape(given[name])}, not {_shape(wanted[name])}"
            for name in wanted
            if name in given and given[name] != wanted[name]
        ],
    }
    told = [f"{what} {_listed(names)}" for what, names in found.items() if names]
    if told:
        raise Flaw(f"its tensors are not those of the network that it names: it {'; it '.join(told)}")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(name[:120] for name in names[:_SHOWN]) + more


def _shape(shape: tuple[int, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


_USUAL_SIDE = 64
_FAR = {"F16": 3e-2, "F32": 2e-3}
"""How far answers may be apart: what rounding comes to by the type of its tensors."""
_LEAST_SPREAD = 1e-3
"""Of a row whose places are all alike, by its largest figure."""


def _compare_answers(network: Any, state: State) -> None:
    """Insist that the graph of *state* answers as the network does, on one picture of noise.

    Raises:
        Flaw: it computes something else than the network that it names.

    """
    import torch

    assert state.graph is not None
    sides = [side or _USUAL_SIDE for side in state.graph.inputs[0][2:]]
    picture = torch.rand(1, 3, *sides, generator=torch.Generator().manual_seed(0))
    theirs = _answer_of_graph(state.path, picture)
    with torch.no_grad():
        ours = network(picture)
    ours = ours[0] if isinstance(ours, tuple | list) else ours
    if tuple(ours.shape) != tuple(theirs.shape):
        raise Flaw(
            f"it answers with {_shape(tuple(theirs.shape))}, and the network that it names with "
            f"{_shape(tuple(ours.shape))}: export it without NMS"
        )
    far = _distance(ours[0], theirs[0])
    kinds = {one.kind for one in state.tensors.values()}
    if not far <= _FAR["F16" if "F16" in kinds else "F32"]:
        raise Flaw(f"it answers otherwise than the network that it names: up to {far:.1%} apart")


def _distance(ours: Tensor, theirs: Tensor) -> float:
    """Return how far two answers are apart: the worst row, as a share of what its places differ by in themselves."""
    spread = ours.amax(dim=1) - ours.amin(dim=1)
    least = ours.abs().amax(dim=1) * _LEAST_SPREAD
    return float(((ours - theirs).abs().amax(dim=1) / spread.maximum(least)).max())


def _answer_of_graph(path: Path, picture: Tensor) -> Tensor:
    import onnxruntime
    import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        (taken,) = session.get_inputs()
        given = picture.half() if taken.type == "tensor(float16)" else picture
        answer = session.run(None, {taken.name: given.numpy()})[0]
    except Exception as error:  # its own kinds, of which it exports none
        raise Flaw(f"its graph cannot be run: {' '.join(str(error).split())[:200]}") from error
    return torch.from_numpy(answer).float()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
