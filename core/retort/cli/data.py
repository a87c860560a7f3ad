"""Commands ``retort data``: make, fetch, list and check datasets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from retort.cli import completion
from retort.cli.options import AsJson, emit, note, say
from retort.errors import UserError

if TYPE_CHECKING:
    from retort.data.audit import AuditReport
    from retort.data.conversion.voc import FirstPixel

app = typer.Typer(help="Make, fetch and check data sets.", no_args_is_help=True)


@app.callback()
def data() -> None:
    """Make, fetch and check data sets."""


@app.command()
def demo(  # noqa: PLR0917 - typer gives each by name
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    num_train: Annotated[int, typer.Option("--train", help="Training scenes.")] = 320,
    num_val: Annotated[int, typer.Option("--val", help="Validation scenes.")] = 96,
    imgsz: Annotated[int, typer.Option(help="Side of the scenes in pixels.")] = 160,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Write scenes of handwritten digits in YOLO layout; nothing is downloaded."""
    from retort.data.demo import write

    path = write(folder, num_train=num_train, num_val=num_val, imgsz=imgsz, seed=seed)
    made = {"data_yaml": str(path), "num_train": num_train, "num_val": num_val, "imgsz": imgsz, "seed": seed}
    if as_json:
        emit(made)
    else:
        say(f"{path}: {num_train} training and {num_val} validation scenes of {imgsz} px")


@app.command()
def check(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder with a data.yaml, that file, or COCO or VOC annotations.")
    ],
    as_json: AsJson = False,
) -> None:
    """Tell all that is wrong or doubtful in a data set; exit with 1 where a job would refuse it."""
    from retort.data import audit

    found = audit.check(str(folder.absolute()), [Path("/")], audit.AuditOptions(whole_folder=True))
    if as_json:
        emit(_plain(found))
    else:
        _show(found)
    if not found.ok:
        raise typer.Exit(1)


@app.command("convert")
def convert_(  # noqa: PLR0917 - typer gives each by name
    source: Annotated[
        Path,
        typer.Argument(metavar="SRC", help="A COCO JSON file, a folder with COCO or VOC annotations, or a ZIP of one."),
    ],
    target: Annotated[Path, typer.Argument(metavar="DEST", help="A new or empty folder.")],
    val_share: Annotated[
        float, typer.Option("--val", help="Share to measure on where the annotations name no such split.")
    ] = 0.2,
    first_pixel: Annotated[
        int | None,
        typer.Option("--voc-first-pixel", help="0 or 1; left out: 1 for data of a VOC challenge, else 0."),
    ] = None,
    allow_missing: Annotated[bool, typer.Option(help="Leave out images that are not there, however many.")] = False,
    link: Annotated[bool, typer.Option(help="Link the images instead of copying them.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write COCO JSON or Pascal VOC annotations as a data set in YOLO layout; what is left out is counted."""
    from retort.data.conversion.convert import ConversionOptions, convert

    if first_pixel not in {None, 0, 1} or not 0 < val_share < 1:
        raise UserError("--voc-first-pixel is 0 or 1, and --val between 0 and 1", hint="leave them out", code="usage")
    options = ConversionOptions(val_share, cast("FirstPixel | None", first_pixel), allow_missing, link)
    made = convert(source.absolute(), target.absolute(), [Path("/")], options)
    if as_json:
        emit({**asdict(made), "data_yaml": str(made.data_yaml)})
        return
    for told in made.notes:
        note(told)
    counts = ", ".join(
        f"{made.num_images[split]} {split} with {made.num_boxes[split]} boxes" for split in made.num_images
    )
    say(f"{made.data_yaml}: {counts}")


@app.command("list")
def list_known(as_json: AsJson = False) -> None:
    """List the data sets that a spec may name as data.dataset, and which of them are here."""
    from retort.cli.render import Column, FittedTable, console
    from retort.data import known_datasets
    from retort.data.catalog import CATALOGUE

    folder = _folder()
    if as_json:
        emit(
            [
                {
                    "name": found.name,
                    "about": found.about,
                    "size": found.size,
                    "licence": found.licence,
                    "num_classes": len(found.names),
                    "here": known_datasets.is_cached(found, folder),
                    "archives": [asdict(archive) for archive in found.archives],
                }
                for found in CATALOGUE.values()
            ]
        )
        return
    table = FittedTable("name", "here", Column("download", rank=1), "what it is")
    for found in CATALOGUE.values():
        table.add_row(found.name, "yes" if known_datasets.is_cached(found, folder) else "no", found.size, found.about)
    console().print(table)


@app.command()
def fetch(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="A known data set: retort data list.", autocompletion=completion.known_datasets
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Fetch a known data set, check it, and lay it out; nothing happens where it is there already."""
    from retort.data import known_datasets

    if announced := known_datasets.announcement(name, _folder()):
        note(announced)
    origin = known_datasets.resolve(name, _folder(), fetch_missing=True)
    if as_json:
        emit({"name": origin.name, "folder": str(origin.folder), "archives": dict(origin.archives)})
        return
    for told in origin.notes:
        note(told)
    say(str(origin.folder))


def _folder() -> Path:
    from retort.settings import Settings

    folder = Settings().dataset_dir
    assert folder is not None
    return folder


def _plain(found: AuditReport) -> dict[str, Any]:
    about = {name: value for name, value in asdict(found).items() if name not in {"root", "images"}}
    about["images"] = {split: use.model_dump() for split, use in found.images.items()}
    return {"ok": found.ok, "root": found.root and str(found.root), **about}


def _show(found: AuditReport) -> None:
    from rich.markup import escape

    from retort.cli.render import FittedTable, console, figure

    board = console()
    if found.splits:
        table = FittedTable("class", *map(figure, found.splits))
        for number, name in enumerate(found.names):
            table.add_row(name, *(f"{split.boxes[number]:,}" for split in found.splits.values()))
        table.add_row("images", *(f"{split.num_images:,}" for split in found.splits.values()), style="dim")
        table.add_row("without a box", *(f"{split.num_backgrounds:,}" for split in found.splits.values()), style="dim")
        board.print(table)
    for split, use in found.images.items():
        board.print(escape(use.sentence(split)), style="" if use.num_unused or use.unread else "dim")
    for told in found.notes:
        board.print(escape(told), style="dim")
    for finding in found.findings:
        colour = "red" if finding.severity == "error" else "yellow"
        counted = f": {finding.number:,}" if finding.places or finding.number > 1 else ""
        hint = f" ({finding.hint})" if finding.hint else ""
        board.print(f"[{colour}]{finding.severity}[/] {escape(finding.message + counted + hint)}")
        for place in finding.places:
            board.print(f"  {escape(place)}")
        if finding.number > len(finding.places) > 0:
            board.print(f"  and {finding.number - len(finding.places):,} more")
    board.print(_verdict(found))


def _verdict(found: AuditReport) -> str:
    if not found.ok:
        return "a job would refuse it, or lose images"
    return "a job would take it" if found.findings else "nothing is wrong"
