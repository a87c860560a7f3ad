"""``retort eval``, ``compare`` and ``export``: measure and export trained networks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from retort.cli import run
from retort.cli.options import AsJson, Sets
from retort.cli.spec import assign
from retort.cli.spec_options import as_weights, data_source, name_of
from retort.cli.weights import complete_here, register_here, register_weights
from retort.errors import UserError
from retort.spec import parse_spec
from retort.spec.evaluated import EvaluationResult
from retort.spec.result import readable_result

Networks = Annotated[list[str], typer.Argument(metavar="WEIGHTS...", help="Weights by path or name, or models.")]
Data = Annotated[
    str, typer.Option("--data", metavar="DIR", help="A data set: a folder, its data.yaml, or a known name.")
]
Imgsz = Annotated[
    int | None, typer.Option("--imgsz", help="Side of the square input.", show_default="what each was trained at")
]
Out = Annotated[Path | None, typer.Option(help="Folder to work in.", show_default="runs/NAME-…")]
Device = Annotated[str | None, typer.Option(help="cpu, or a GPU's number.", show_default="a GPU if any")]


def evaluate(  # noqa: PLR0917 - typer gives each by name
    networks: Networks, data: Data, imgsz: Imgsz = None, out: Out = None, device: Device = None, as_json: AsJson = False
) -> int:
    """Measure networks: mAP by class and size, latency; on the data's test split where there is one, else on val."""
    return _measured(networks, data, imgsz, out, device, as_json=as_json)


def compare(  # noqa: PLR0917 - typer gives each by name
    networks: Networks, data: Data, imgsz: Imgsz = None, out: Out = None, device: Device = None, as_json: AsJson = False
) -> int:
    """Compare networks with the first one, on the same images: each difference with its interval."""
    if len(networks) < 2:
        raise UserError("one network cannot be compared", hint="name two or more; retort eval measures one")
    return _measured(networks, data, imgsz, out, device, as_json=as_json)


Formats = Annotated[
    list[str],
    typer.Option("--format", metavar="FORMAT[:PRECISION]", help="Such as onnx or openvino:int8. May be repeated."),
]


def export(  # noqa: PLR0917 - typer gives each by name
    network: Annotated[str, typer.Argument(metavar="WEIGHTS", help="Weights by path or name, or a model.")],
    data: Data,
    formats: Formats,
    sets: Sets = None,
    imgsz: Imgsz = None,
    out: Out = None,
    device: Device = None,
    as_json: AsJson = False,
) -> int:
    """Export a trained network, measured on the data as a job does it. Exit code: 1 where a form did not pass."""
    exports = [
        {"format": name, **({"precision": precision} if precision else {})}
        for name, _, precision in (text.partition(":") for text in formats)
    ]
    return _measured([network], data, imgsz, out, device, as_json=as_json, exports=exports, sets=sets)


def _measured(
    networks: list[str], data: str, imgsz: int | None, out: Path | None, device: str | None, *, as_json: bool,
    exports: list[dict[str, Any]] | None = None, sets: Sequence[str] | None = None,
) -> int:  # fmt: skip
    document: dict[str, Any] = {
        "task": "evaluate",
        "name": name_of(data),
        "data": data_source(data),
        "networks": [as_weights(network) for network in networks],
        "imgsz": imgsz,
        "exports": exports or [],
    }
    if "path" in document["data"]:
        document["data"]["path"] = str(Path(document["data"]["path"]).absolute())
    for assignment in sets or ():
        assign(document, assignment)
    wanted = parse_spec(complete_here(register_weights(document, register_here)))
    workdir = (out or Path("runs") / f"{wanted.name}-{time.strftime('%Y%m%d-%H%M%S')}").absolute()
    standing = run.execute(wanted, workdir, device, as_json=as_json)
    code = run.ended(standing, workdir, as_json=as_json)
    found = readable_result(standing.get("result"))
    missed = isinstance(found, EvaluationResult) and any(one.status != "passed" for one in found.exports)
    return code or int(missed)
