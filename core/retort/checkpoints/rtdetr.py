"""Take an RT-DETR out of a checkpoint as tensors and description."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from retort import class_names
from retort.checkpoints import allowed, states
from retort.checkpoints.coding import DEEPEST, MOST_LAYERS
from retort.checkpoints.description import parts
from retort.checkpoints.records import Flaw, Instance, Parameter, Tensor

ARCHITECTURE = "retort.rtdetr"
"""Key of the metadata of safetensors that hold one: its description, as JSON."""


def taken_out(checkpoint: Any) -> tuple[dict[str, Tensor], dict[str, str]] | None:
    """Return tensors and metadata of an RT-DETR; None for any other file.

    Tensors have the names of a state dict, and the metadata say what is built.

    Raises:
        Flaw: it cannot be built from what the file says.

    """
    held = checkpoint if type(checkpoint) is dict else {}
    network = held.get("ema") or held.get("model")
    if not isinstance(network, Instance) or network.of != allowed.TRANSFORMER:
        return None
    attributes = network.attributes or {}
    described = attributes.get("yaml")
    if not isinstance(described, dict):
        raise Flaw("it lacks the description that it was built from")
    try:
        text = json.dumps({key: described[key] for key in described if key != "yaml_file"})  # its builder checks it
    except (TypeError, ValueError, RecursionError) as error:
        raise Flaw("the description that it was built from is none") from error
    names = json.dumps(class_names.as_names(attributes.get("names")))
    return dict(_tensors(network)), {ARCHITECTURE: text, states.NAMES: names}


def _tensors(network: Instance) -> Iterator[tuple[str, Tensor]]:
    """Yield tensors by the names of a state dict."""
    waiting, seen = [("", network, 0)], 0
    while waiting:
        path, layer, depth = waiting.pop()
        seen += 1
        if seen > MOST_LAYERS or depth > DEEPEST:
            raise Flaw(f"it has more than {MOST_LAYERS} layers, or they lie too deep in one another")
        aside = (layer.attributes or {}).get("_non_persistent_buffers_set") or ()
        for kind in ("_parameters", "_buffers"):
            for name, value in parts(layer, kind).items():
                one = value.tensor if isinstance(value, Parameter) else value
                if one is None or (kind == "_buffers" and name in aside):
                    continue
                if not isinstance(one, Tensor):
                    raise Flaw(f"{path}{name} is no tensor")
                yield f"{path}{name}", one
        for name, child in parts(layer, "_modules").items():
            if child is not None and not isinstance(child, Instance):
                raise Flaw(f"{path}{name} is no layer")
            if child is not None:
                waiting.append((f"{path}{name}.", child, depth + 1))
