"""What distillation buys: the same student by several arms, paired by seed, under one teacher, on one or more sets.

    python benchmarks/quality.py --data NAME=DIR [--data NAME=DIR] --arms plain,native,balanced,equal_time --seeds 5
        --student-weights pretrained-yolov8n.pt --teacher-weights pretrained-yolov8s.pt --json FILE

All runs of a set have, per seed, equal initial weights and equal batches of training images; epochs are equal unless an
arm is about them. ``plain`` has no teacher; arms are explained in ``quality_arms.py``. With ``--labels 0.1`` nine
tenths of the labels are left out. Finished runs are kept in ``--work`` and in the JSON file and are not run again:
stop it and start it as often as you like. Without ``--data`` it draws scenes of handwritten digits.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import Any, get_args

from retort.training import environment

environment.prepare(Path.home() / ".cache" / "retort-benchmarks")

from provenance import provenance, write_json  # noqa: E402
from quality_arms import Arm, ordered  # noqa: E402
from quality_sets import StudySet, named_number, named_path  # noqa: E402
from quality_study import NotRunError, Run, Study, renewed  # noqa: E402
from quality_summary import over_sets, summary, table  # noqa: E402
from retort.data import demo  # noqa: E402
from retort.spec import ViewName  # noqa: E402


def known_runs(options: argparse.Namespace) -> dict[str, Run]:
    """Return the finished runs by key, from the working folder and from the JSON file."""
    found: dict[str, Run] = {}
    stored = json.loads(options.json.read_text()).get("runs", []) if options.json and options.json.exists() else []
    kept = [json.loads(path.read_text()) for path in sorted((options.work / "runs").glob("*.json"))]
    for run in [*stored, *kept]:
        found[run["key"]] = run
        found[renewed(run)["key"]] = renewed(run)
    return found


def result_of(studies: list[Study], runs: list[Run], options: argparse.Namespace) -> dict[str, Any]:
    """Return what the runs so far say, set by set and over all sets."""
    told = {}
    for study in studies:
        mine = [run for run in runs if run["set"] == study.given.name]
        if not mine:
            continue
        teacher = study.measured_teacher()
        told[study.given.name] = {
            "data": study.given.facts(),
            "teacher": teacher,
            "summary": summary(mine, teacher=teacher, epochs=study.epochs),
        }
    return {
        "over_sets": over_sets({name: entry["summary"] for name, entry in told.items()}),
        "sets": told,
        "runs": runs,
        "settings": shown_settings(options),
        **provenance(),
    }


def shown_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return what the options were, without this machine's folders."""
    hidden = {"json", "work", "data"}
    return {name: shown(value) for name, value in vars(options).items() if name not in hidden}


def shown(value: Any) -> Any:
    """Return an option without this machine's folders."""
    if isinstance(value, list):
        return [shown(one) for one in value]
    return value.name if isinstance(value, Path | Arm) else value


def main() -> None:
    """Run what is missing; write and print after every run."""
    options = parse()
    given = options.data or [("digits", scenes(options))]
    known = known_runs(options)
    studies = [Study(StudySet.of(name, path, options), options, known) for name, path in given]
    runs: list[Run] = []
    for seed in options.seeds:
        for study in studies:
            for arm in options.arms:
                before = len(known)
                with contextlib.suppress(NotRunError):
                    runs.append(study.run(arm, seed))
                if len(known) > before or (seed, study, arm) == (options.seeds[-1], studies[-1], options.arms[-1]):
                    result = result_of(studies, runs, options)
                    if options.json:
                        write_json(options.json, result)
                    print(table(result), flush=True)


def scenes(options: argparse.Namespace) -> Path:
    """Draw the scenes of digits, where an earlier start has not."""
    drawn: Path = options.work / f"digits-{options.imgsz}"
    return drawn if drawn.exists() else demo.write(drawn, imgsz=options.imgsz).parent


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data", type=named_path, action="append", metavar="NAME=DIR", help="a set in YOLO layout; repeatable"
    )
    parser.add_argument("--arms", "--recipes", type=arms, default=arms("plain,native,article,balanced"))
    parser.add_argument("--seeds", type=seeds, default=[0, 1, 2], help="a number of seeds, or a list: 3 is 0,1,2")
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--set-epochs", type=named_number, action="append", default=[], metavar="NAME=EPOCHS",
                        help="for one set, in place of --epochs; repeatable")  # fmt: skip
    parser.add_argument("--imgsz", type=int, default=160)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--nominal-batch", type=int, help="images per step of the optimizer; left out, the batch")
    parser.add_argument("--optimizer", default="auto")
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--close-mosaic", type=int, default=10)
    parser.add_argument("--teacher", default="yolo11s", help="an architecture to train, or a .pt file")
    parser.add_argument("--teacher-weights", type=Path, help="what the teacher's training starts from; else random")
    parser.add_argument("--teacher-imgsz", type=int, help="side of the teacher's input; left out, the students'")
    parser.add_argument("--views", type=views, default=(), help="how else an arm `cached` looks at an image: flip, "
                        "scales, tiles")  # fmt: skip
    parser.add_argument("--teacher-epochs", type=int, help="left out, twice the students': it has learned to its end")
    parser.add_argument("--set-teacher-epochs", type=named_number, action="append", default=[], metavar="NAME=EPOCHS",
                        help="for the teacher of one set, in place of --teacher-epochs; repeatable")  # fmt: skip
    parser.add_argument("--student", default="yolov8n")
    parser.add_argument("--student-weights", type=Path, help="what every student starts from; left out, random by seed")
    parser.add_argument("--labels", type=share, default=1.0, help="part of the training images that keep their labels")
    parser.add_argument("--test-share", type=share, default=0.0, help="of the training images, held apart to judge by "
                        "where the set has no test split")  # fmt: skip
    parser.add_argument("--least", type=share, default=0.5, help="score from which on the teacher's boxes are labels")
    parser.add_argument("--ignore-from", type=share, default=0.25, help="score from which on they are not background")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--work", type=Path, default=Path("runs/quality"))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--known", action="store_true", help="train nothing: tell what the finished runs say")
    options = parser.parse_args(arguments)
    options.work = options.work.resolve()
    options.work.mkdir(parents=True, exist_ok=True)
    return options


def arms(text: str) -> list[Arm]:
    """Read a list of arms.

    Raises:
        ArgumentTypeError: one is unknown, or needs another.

    """
    try:
        return ordered([Arm.read(part) for part in text.split(",")])
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def share(text: str) -> float:
    """Read a part of a whole, above 0 and up to 1; or 0 for none.

    Raises:
        ArgumentTypeError: it is not one.

    """
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text} is no share: from 0 to 1, such as 0.1")
    return value


def views(text: str) -> tuple[str, ...]:
    """Read a list of views.

    Raises:
        ArgumentTypeError: one is unknown.

    """
    found = tuple(text.split(","))
    if unknown := [name for name in found if name not in get_args(ViewName)]:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is no view: {', '.join(get_args(ViewName))}")
    return found


def seeds(text: str) -> list[int]:
    """Read ``3`` as three seeds from 0, ``4,5`` as those two, ``4,`` as that one."""
    return [int(part) for part in text.split(",") if part] if "," in text else list(range(int(text)))


if __name__ == "__main__":
    main()
