"""Trackers that misbehave, and jobs that want any."""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator
from typing import Any

from retort.db import jobs
from retort.db.session import database_now
from retort.spec import parse_spec
from support.worker_harness import House, document

PATIENCE_S = 120.0
"""MLflow takes its time on a loaded machine; only a failing test waits for so long."""
WANDB = {"wandb": {"project": "cells"}}
MLFLOW = {"mlflow": {"experiment": "cells"}}

_SERVE = "from retort.tracking.__main__ import leave; leave()"
WITHOUT_LIBRARIES = (sys.executable, "-c", f"import sys; sys.modules.update(wandb=None, mlflow=None); {_SERVE}")
"""As on a worker that has none of them."""
HANGING = (sys.executable, "-c", "import time; time.sleep(600)")
DYING = (sys.executable, "-c", "import os; os._exit(9)")
RAISING = (
    sys.executable,
    "-c",
    f"import sys; import retort.tracking.mlflow as found; found.Mlflow.metric = lambda *_: 1 / 0; {_SERVE}",
)
MISSING = ("/nowhere/python",)


def submit(house: House, script: str, tracking: dict[str, Any], *, epochs: int = 3) -> str:
    """Submit a job that plays *script*, and wants these trackers."""
    spec = parse_spec({**document(house.home, script, epochs=epochs), "tracking": tracking})
    with house.database.begin() as session:
        return jobs.submit(session, spec, now=database_now(session), retries=3).job_id


def warnings_of(house: House, job_id: str) -> list[str]:
    """What the job's owner is told of its trackers."""
    return [event.message or "" for event in house.events(job_id) if event.type == "log" and event.level == "warning"]


def told_mlflow(house: House) -> tuple[Any, dict[str, list[tuple[int, float]]]]:
    """The one run that MLflow has, and its curves."""
    import mlflow

    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{house.home / 'tracking' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("cells")
    (run,) = client.search_runs([experiment.experiment_id])
    curves = {
        name: [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    return run, curves


def told_wandb(house: House) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What the run of Weights & Biases was told: its configuration, and its rows."""
    from wandb.proto import wandb_internal_pb2

    config: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    for path in sorted((house.home / "tracking" / "wandb").glob("offline-run-*/run-*.wandb")):
        for data in _logged(path.read_bytes()):
            record = wandb_internal_pb2.Record.FromString(data)
            if record.WhichOneof("record_type") == "run":
                about = {item.key: json.loads(item.value_json) for item in record.run.config.update}
                config |= {"id": record.run.run_id, "project": record.run.project, **about}
            if record.WhichOneof("record_type") == "history":
                items = record.history.item
                rows.append({item.key or item.nested_key[0]: json.loads(item.value_json) for item in items})
    return config, rows


def _logged(data: bytes) -> Iterator[bytes]:
    """Yield the records of a file in LevelDB's log format, as Weights & Biases writes it."""
    block, at, record = 32_768, 7, b""
    while at + 7 <= len(data):
        if block - at % block < 7:  # too little for a header: the rest of the block is empty
            at += block - at % block
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in {1, 4}:  # whole, or the last part
            yield record
            record = b""
