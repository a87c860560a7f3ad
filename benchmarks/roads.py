"""Count the source files whose functions run on the main roads: a submission, a look, an attempt, a step, an export.

    python benchmarks/roads.py --json FILE

Each road is traced by ``sys.setprofile``, in this process and all of its threads, when it is walked for the first time:
what is done once only, and kept, counts. All goes well, and no spec is refused. Counted are the functions of the three
libraries that are entered, comprehensions and lambdas as part of theirs; code of modules and classes, which runs when
they are imported, is not. What other processes do is not seen: the run that an attempt starts is a script.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import threading
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import retort
from retort import data
from retort.training import environment

environment.prepare(Path(tempfile.mkdtemp(prefix="retort-roads-")))

SOURCES = Path(retort.__path__[0]).resolve().parents[1]
"""The checkout whose libraries are traced."""
sys.path.insert(1, str(SOURCES / "tests"))

import results  # noqa: E402
import retort.access  # noqa: E402
import retort.data.inputs  # noqa: E402
import retort.db  # noqa: E402
import retort.db.embedded_key  # noqa: E402
import retort.db.migrate  # noqa: E402
import retort.db.models  # noqa: E402
import retort.pipeline.answers  # noqa: E402
import retort.pipeline.context  # noqa: E402
import retort.protocol.journal  # noqa: E402
import retort.protocol.workdir  # noqa: E402
import retort.settings  # noqa: E402
import retort.spec  # noqa: E402
import retort.stages.export  # noqa: E402
import retort.training.distillation.distiller  # noqa: E402
import retort.training.models  # noqa: E402
import retort_api.app  # noqa: E402
import support.worker_harness  # noqa: E402
import torch  # noqa: E402
import ultralytics.cfg  # noqa: E402
from core.training.pictures import NAMES, draw  # noqa: E402
from fastapi.testclient import TestClient  # noqa: E402
from provenance import provenance, write_json  # noqa: E402
from retort.client import credentials  # noqa: E402

LIBRARIES = tuple(str(SOURCES / library) + "/" for library in ("core", "api", "worker"))
SPEC = {"name": "first", "data": {"path": "/data/digits"}, "teacher": {"weights": "yolo11s.pt"}}
EPOCHS = 3
IMGSZ = 64


@dataclass
class Tracer:
    """Notes which functions of the libraries are entered while it is on."""

    on: bool = False
    seen: set[CodeType] = field(default_factory=set)

    def install(self) -> None:
        """Listen in this thread, and in those that start from now on."""
        sys.setprofile(self)
        threading.setprofile(self)

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        """Take an event of the interpreter."""
        if self.on and event == "call":
            self.seen.add(frame.f_code)

    @contextmanager
    def walk(self) -> Iterator[None]:
        """Forget what was seen, and note what happens inside the block."""
        self.seen = set()
        self.on = True
        try:
            yield
        finally:
            self.on = False

    def files(self) -> dict[str, list[str]]:
        """Return the functions seen, by file."""
        found: dict[str, set[str]] = defaultdict(set)
        for code in self.seen:
            if code.co_filename.startswith(LIBRARIES) and code.co_flags & CO_OPTIMIZED:
                name = code.co_qualname if hasattr(code, "co_qualname") else code.co_name
                plain = name.split(".<locals>.<")[0].removesuffix(".<locals>")
                found[Path(code.co_filename).relative_to(SOURCES).as_posix()].add(plain)
        return {file: sorted(names) for file, names in sorted(found.items())}


TRACER = Tracer()
Road = Callable[[Path], Iterator[tuple[str, dict[str, list[str]]]]]


def traced(name: str, walk: Callable[[], Any]) -> tuple[str, dict[str, list[str]]]:
    """Walk a road, and return its name with what ran."""
    with TRACER.walk():
        walk()
    return name, TRACER.files()


def migrated(home: Path) -> str:
    """Make a database in *home*, and return its address."""
    url = f"sqlite:///{home / 'retort.db'}"
    database = retort.db.Database(url)
    retort.db.migrate.upgrade(database)
    retort.db.embedded_key.ensure(database, home)
    database.close()
    return url


def over_http(home: Path) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Submit a job, and look at one: as it is rendered first, from the cache, and where the client has it already."""
    settings = retort.settings.Settings(home=home, database_url=migrated(home))
    key = retort.access.read_key_file(home / retort.access.KEY_FILE)
    with TestClient(
        retort_api.app.create_app(settings), base_url=settings.url, headers=credentials.headers(settings.url, key)
    ) as client:
        answers: list[Any] = []
        yield traced("POST to 202", lambda: answers.append(client.post("/v1/jobs", json=SPEC)))
        expect(answers[0], 202)
        path = f"/v1/jobs/{answers[0].json()['id']}"
        yield traced("GET job, rendered", lambda: expect(client.get(path), 200))
        yield traced("GET job, from the cache", lambda: expect(client.get(path), 200))
        etag = {"If-None-Match": client.get(path).headers["etag"]}
        yield traced("GET job, not modified", lambda: expect(client.get(path, headers=etag), 304))


def expect(answer: Any, status: int) -> None:
    """Insist on a status code."""
    assert answer.status_code == status, answer.text


def an_attempt(home: Path) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Claim a job whose run follows a script, and supervise it until it is settled."""
    url = migrated(home)
    house = support.worker_harness.House(home, url, f"sqla+sqlite:///{home / 'broker.db'}")
    job_id = house.submit("finish", epochs=EPOCHS)

    def attempt() -> None:
        supervision, _ = house.supervision(job_id)
        supervision.run()

    yield traced("claim to settled", attempt)
    assert house.job(job_id).state == "succeeded"
    house.close()


def a_step(_: Path) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """One distilled step by the default recipe: loss and backward."""
    distiller, networks = retort.training.distillation.distiller, retort.training.models
    student, teacher = (networks.build(name, names=NAMES, weights=None, seed=0) for name in ("yolov8n", "yolo11n"))
    student.args = ultralytics.cfg.get_cfg()
    spec = retort.spec.DistillationSpec()
    device = torch.device("cpu")
    model = distiller.make_distiller(student, teacher, spec, device=device, epochs=10, close_mosaic=0, seed=0).train()
    assert model.objective is not None
    model.objective.epoch = 5.0
    batch = {
        "img": torch.rand(2, 3, IMGSZ, IMGSZ),
        "cls": torch.tensor([[0.0], [2.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.3, 0.3], [0.4, 0.4, 0.5, 0.5]]),
        "batch_idx": torch.tensor([0.0, 1.0]),
    }

    def step() -> None:
        loss, _ = model(batch)
        loss.sum().backward()

    yield traced("one distilled step", step)


def stage_context(home: Path) -> Any:
    """Lay out what the export stage is given: a data set, a published student, and what it was evaluated to."""
    data_yaml = draw(home / "data", num_train=60, num_val=4)
    names = retort.training.models
    weights = home / "work" / "student.pt"
    weights.parent.mkdir()
    network = names.build("yolov8n", names=NAMES, weights=None, seed=0)
    retort.training.models.publish(network, weights, names=NAMES, imgsz=IMGSZ)
    export = {"format": "onnx", "precision": "int8", "calibration_images": 50, "max_map_drop": 1.0}
    training = {"imgsz": IMGSZ, "batch": 4}
    spec = retort.spec.parse_spec({**SPEC, "student": {"model": "yolov8n"}, "training": training, "exports": [export]})
    assert isinstance(spec, retort.spec.JobSpec)
    inputs = {
        "attempt": 1, "device": "cpu", "data_yaml": str(data_yaml), "weights": {},
        "dataset": {
            "root": str(home / "data"), "names": list(NAMES.values()), "num_train": 60, "num_val": 4, "num_shared": 0,
            "digest": "d" * 64,
        },
        "adjustments": {"batch": None, "loader_workers": 0},
    }  # fmt: skip
    (weights.parent / data.inputs.FILE).write_text(json.dumps(inputs))
    trained = retort.pipeline.answers.TrainedNetwork(
        model="yolov8n", weights=weights.name, metrics={}, epochs=1, planned_epochs=1, batch=4, best_epoch=1
    )
    evaluated = retort.pipeline.answers.Evaluated(roles=results.result().roles)
    return retort.pipeline.context.Context(
        spec=spec,
        inputs=retort.data.inputs.Inputs.load(weights.parent),
        workdir=weights.parent,
        journal=retort.protocol.journal.Journal(weights.parent / "journal-1.jsonl").__enter__(),
        stop=threading.Event(),
        results={"distill": trained, "evaluate": evaluated},
        tell_progress=lambda _: None,
        heartbeat=retort.protocol.workdir.Heartbeat(weights.parent),
        stage="export",
        key="",
    )


def an_export(home: Path) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Make, calibrate, measure and publish one INT8 graph by the export stage."""
    context = stage_context(home)
    name, files = traced("one INT8 export", lambda: retort.stages.export.run(context))
    yield name, files
    training = {file: names for file, names in files.items() if "/training/" in file}
    yield "one INT8 export, training side", training
    yield "one INT8 export, stage side", {file: names for file, names in files.items() if file not in training}


ROADS: tuple[Road, ...] = (over_http, an_attempt, a_step, an_export)


def measure() -> dict[str, Any]:
    """Walk all roads, each in a folder of its own."""
    random.seed(0)
    TRACER.install()
    found: dict[str, Any] = {}
    for road in ROADS:
        with tempfile.TemporaryDirectory(prefix="retort-road-") as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for name, files in road(Path(folder)):
                found[name] = {"files": len(files), "functions": sum(map(len, files.values())), "entered": files}
    return found


def main() -> None:
    """Print the table, and write the JSON where it is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="where to write which files ran")
    options = parser.parse_args()
    found = measure()
    print("| road | files | functions |", "|---|---:|---:|", sep="\n")
    for name, road in found.items():
        print(f"| {name} | {road['files']} | {road['functions']} |")
    if options.json:
        write_json(options.json, {"provenance": provenance(SOURCES), "roads": found})


if __name__ == "__main__":
    main()
