"""``retort eval``, ``compare`` and ``export``: measure and export trained networks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from retort.cli import comparison, completion, run
from retort.cli.options import AsJson, Sets, Url
from retort.cli.spec_options import as_weights, data_source, name_of
from retort.cli.weights import complete_here, register_here, register_weights
from retort.errors import UserError
from retort.spec import parse_spec
from retort.spec.assignment import assign
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
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="WHAT...", help="Two to six jobs of a service; or with --data, networks by path or name.",
            autocompletion=completion.jobs,
        ),
    ],
    data: Annotated[
        str | None, typer.Option("--data", metavar="DIR", help="A data set, on which networks are measured anew.")
    ] = None,
    imgsz: Imgsz = None, out: Out = None, device: Device = None, url: Url = None, as_json: AsJson = False,
) -> int:  # fmt: skip
    """Compare jobs: figures, fields that differ, classes. With --data, measure networks here, each against the first.

    Of networks each difference comes with its interval, over the same images.
    """
    if data is None:
        if weights := [
            one for one in what if one.endswith((".pt", ".onnx", ".safetensors")) or one.startswith("model:")
        ]:
            hint = "name the images to measure them on: --data DIR; jobs are named by name, id or @last"
            raise UserError(f"{weights[0]} is a network, not a job", hint=hint, code="usage")
        comparison.compare_jobs(what, url, as_json=as_json)
        return 0
    if len(what) < 2:
        raise UserError("one network cannot be compared", hint="name two or more; retort eval measures one")
    return _measured(what, data, imgsz, out, device, as_json=as_json)


Formats = Annotated[
    list[str],
    typer.Option("--format", metavar="FORMAT[:PRECISION]", help="Such as onnx or openvino:int8. May be repeated."),
]


FormShape = Annotated[
    str | None,
    typer.Option("--imgsz", metavar="SIDE|H,W", help="Side of the input, or height and width of the forms'."),
]
Nms = Annotated[
    bool | None,
    typer.Option("--nms/--nms-free", help="NMS in the file, or the NMS-free head.", show_default="raw output"),
]
Batch = Annotated[int | None, typer.Option(help="Images at once; of a dynamic form with NMS the most.")]
Dynamic = Annotated[bool, typer.Option("--dynamic", help="Leave batch and image size open.")]


def export(  # noqa: PLR0917 - typer gives each by name
    network: Annotated[str, typer.Argument(metavar="WEIGHTS", help="Weights by path or name, or a model.")],
    data: Data,
    formats: Formats,
    sets: Sets = None,
    imgsz: FormShape = None,
    nms: Nms = None,
    batch: Batch = None,
    dynamic: Dynamic = False,
    out: Out = None,
    device: Device = None,
    as_json: AsJson = False,
) -> int:
    """Export a trained network, measured on the data as a job does it. Exit code: 1 where a form did not pass."""
    sides = _sides(imgsz)
    given = {"imgsz": sides if len(sides) > 1 else None, "nms": nms, "batch": batch, "dynamic": dynamic or None}
    alike = {name: value for name, value in given.items() if value is not None}
    exports = [
        {"format": name, **({"precision": precision} if precision else {}), **alike}
        for name, _, precision in (text.partition(":") for text in formats)
    ]
    side = sides[0] if len(sides) == 1 else None
    return _measured([network], data, side, out, device, as_json=as_json, exports=exports, sets=sets)


def _sides(text: str | None) -> list[int]:
    """Read a side, or height and width."""
    try:
        return [int(part) for part in text.replace("x", ",").split(",")] if text else []
    except ValueError as error:
        hint = "a side such as 640, or height and width such as 384,640"
        raise UserError(f"--imgsz {text} is no size", hint=hint) from error


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
