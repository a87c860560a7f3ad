"""Lines about the API: submissions, polls, lists and curves in tables of any size, downloads."""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2 as httpx
from retort.db import artifacts, job_list, jobs, queue
from retort.db.models import Base, JobRow, MetricRow
from retort.db.session import database_now
from retort.spec import parse_spec
from retort.states import JobState
from retort.storage import Store
from service_stand import Load, Stand, answers, eventually, load, percentile, post, with_key
from sqlalchemy import insert

CONNECTIONS = 16


def accept(stand: Stand, *, seconds: float, connections: int = CONNECTIONS) -> Load:
    """Submit the same spec, each time as a new job, as fast as it goes."""
    script = post(json.dumps(stand.document()))
    return load(
        f"{stand.url}/v1/jobs", seconds=seconds, connections=connections, script=with_key(stand.headers, script)
    )


def poll(stand: Stand, *, seconds: float) -> Load:
    """Ask for a job that has not changed."""
    job = f"{stand.url}{_submit(stand)}"
    etag = httpx.get(job, headers=stand.headers, trust_env=False).headers["ETag"]
    known = {**stand.headers, "If-None-Match": etag}
    assert httpx.get(job, headers=known, trust_env=False).status_code == 304
    return load(job, seconds=seconds, connections=CONNECTIONS, script=with_key(known))


def get(stand: Stand, *, seconds: float) -> Load:
    """Ask for a whole job."""
    return load(
        f"{stand.url}{_submit(stand)}", seconds=seconds, connections=CONNECTIONS, script=with_key(stand.headers)
    )


def latencies(stand: Stand, paths: list[str], *, times: int) -> list[float]:
    """Return the milliseconds that each of *times* answers took, one after the other, over *paths* in turn."""
    taken = []
    with httpx.Client(base_url=stand.url, headers=stand.headers, trust_env=False, timeout=60) as client:
        for number in range(times):
            begun = time.perf_counter()
            client.get(paths[number % len(paths)]).raise_for_status()
            taken.append((time.perf_counter() - begun) * 1e3)
    return taken[times // 10 :]


LISTS = ["/v1/jobs", "/v1/jobs?state=succeeded", "/v1/jobs?state=queued&state=failed&limit=50"]


def fill_jobs(stand: Stand, number: int) -> str:
    """Make the table of jobs *number* rows long, most of them ended; return the id of one with a curve."""
    spec = parse_spec(stand.document())
    with stand.database.begin() as session:
        first = jobs.submit(session, spec, now=database_now(session), retries=0).job_id
        row = dict(session.execute(Base.metadata.tables["jobs"].select()).mappings().first() or {})
        measured = {"job_id": first, "role": "student", "name": "val/mAP50-95", "attempt": 1, "at": 1.0}
        session.execute(insert(MetricRow), [{**measured, "step": step, "value": step / 300} for step in range(1, 301)])
    states = [JobState.SUCCEEDED] * 7 + [JobState.FAILED, JobState.CANCELLED, JobState.QUEUED]
    for begun in range(1, number, 10_000):
        indices = range(begun, min(begun + 10_000, number))
        rows = [{**row, "id": f"job_{index:032x}", "state": states[index % 10]} for index in indices]
        with stand.database.begin() as session:
            session.execute(insert(JobRow), rows)
    return first


def fill_metrics(stand: Stand, number: int) -> None:
    """Make the table of metric points *number* rows longer, other jobs' rows."""
    with stand.database.begin() as session:
        ids = [job.id for job in job_list.page(session, limit=1000)][1:]
    names = ["train/box_loss", "train/cls_loss", "val/mAP50", "val/mAP50-95"]
    steps = -(-number // (len(ids) * len(names)))
    for job_id in ids:
        measured = {"job_id": job_id, "role": "student", "attempt": 1, "at": 1.0, "value": 0.5}
        rows = [{**measured, "name": name, "step": step} for name in names for step in range(steps)]
        with stand.database.begin() as session:
            session.execute(insert(MetricRow), rows)


Paths = list[str]


def flatness(
    small: Stand, large: Stand, paths: tuple[Paths, Paths], *, rounds: int, times: int
) -> tuple[float, float, float]:
    """Return the p99 in ms in the small and in the large tables, and the median ratio of interleaved rounds."""
    sides: tuple[list[float], list[float]] = ([], [])
    ratios = []
    for _ in range(rounds):
        slowest = []
        for side, stand in enumerate((small, large)):
            found = latencies(stand, paths[side], times=times)
            sides[side].extend(found)
            slowest.append(percentile(found, 0.99))
        ratios.append(slowest[1] / slowest[0])
    return percentile(sides[0], 0.99), percentile(sides[1], 0.99), statistics.median(ratios)


def publish(stand: Stand, size_mib: int) -> tuple[str, Path]:
    """Publish a file of *size_mib* on a new job; return its address and its path in the store."""
    path = stand.folder / "big.bin"
    block = bytes(range(256)) * 4096
    path.write_bytes(block * size_mib)
    kept = Store((stand.folder / "artifacts").as_uri()).put(path)
    file = artifacts.NewArtifact("big.bin", "job", kept.sha256, kept.size_bytes, "application/octet-stream", kept.key)
    with stand.database.begin() as session:
        now = database_now(session)
        job_id = jobs.submit(session, parse_spec(stand.document()), now=now, retries=0).job_id
        lease = queue.claim(session, job_id, worker="w", host="h", now=now, lease_s=1e6)
        assert lease is not None
        artifacts.record(session, lease, file, now=now)
    return f"{stand.url}/v1/jobs/{job_id}/artifacts/big.bin", stand.folder / "artifacts" / kept.key


def download(url: str, headers: Mapping[str, str] | None = None) -> float:
    """Return the MB/s of one download by curl, which throws it away."""
    told = [option for name, value in (headers or {}).items() for option in ("-H", f"{name}: {value}")]
    told = subprocess.run(
        ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code} %{speed_download}", *told, url],
        capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert told[0] == "200", told
    return float(told[1]) / 1e6


@contextmanager
def nginx(folder: Path, file: Path, port: int) -> Iterator[str]:
    """Serve *file* by nginx with sendfile; give its address."""
    folder.mkdir(parents=True)
    (folder / "nginx.conf").write_text(
        f"daemon off; pid {folder}/pid; error_log {folder}/error.log; worker_processes 1; user root;\n"
        f"events {{}}\nhttp {{ access_log off; sendfile on; server {{ listen 127.0.0.1:{port}; "
        f"location / {{ alias {file.parent}/; }} }} }}\n"
    )
    process = subprocess.Popen(["nginx", "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}/{file.name}"
        eventually(lambda: answers(url))
        yield url
    finally:
        process.terminate()
        process.wait()


def interleaved(sides: list[Callable[[], float]], rounds: int) -> list[list[float]]:
    """Measure the sides in turn, *rounds* times; return each side's figures."""
    found: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, figures in zip(sides, found, strict=True):
            figures.append(side())
    return found


def _submit(stand: Stand) -> Any:
    return stand.submit().headers["Location"]
