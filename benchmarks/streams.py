"""Measure what idle event streams and half-open requests cost the API.

Prints one JSON document: latencies of the API beside the streams, growth of its memory, its processor time, and how
soon half-open requests were closed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import httpx2 as httpx
from service_stand import Stand, percentile, standing

REQUESTS = 1000
REST_S = 10.0
"""For so long the streams are left alone while the processor's time is measured."""


def main() -> None:
    """Measure, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--half-open", type=int, default=300)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        urls = (f"sqlite:///{home / 'retort.db'}", f"sqla+sqlite:///{home / 'broker.db'}")
        with standing(home, *urls, max_streams_each=chosen.streams) as stand:
            stand.start_api()
            print(json.dumps(asyncio.run(_measure(stand, chosen.streams, chosen.half_open)), indent=2))


async def _measure(stand: Stand, streams: int, half_open: int) -> dict[str, Any]:
    """Follow ten jobs by many streams, ask for one meanwhile, and leave requests half open."""
    process = stand.processes[0].pid
    async with httpx.AsyncClient(base_url=stand.url, headers=stand.headers, timeout=60, trust_env=False) as client:
        jobs = [await _submitted(client, stand, n) for n in range(10)]
        alone = await _latencies(client, jobs[0])
        before = _memory_mib(process)
        followers = [await _follow(stand, jobs[n % len(jobs)]) for n in range(streams)]
        beside = await _latencies(client, jobs[0])
        cpu = _cpu_s(process)
        await asyncio.sleep(REST_S)
        cpu_share = (_cpu_s(process) - cpu) / REST_S
        growth = _memory_mib(process) - before
        closed_s = await _half_open(stand.port, half_open)
        for _, writer in followers:
            writer.close()
    return {
        "streams": streams,
        "p99_ms_alone": round(percentile(alone, 0.99) * 1000, 1),
        "p99_ms_beside_streams": round(percentile(beside, 0.99) * 1000, 1),
        "memory_growth_mib": round(growth, 1),
        "cpu_share_of_a_core_while_idle": round(cpu_share, 3),
        "half_open": half_open,
        "half_open_closed_after_s": round(closed_s, 1),
    }


async def _submitted(client: httpx.AsyncClient, stand: Stand, number: int) -> str:
    answer = await client.post("/v1/jobs", json=stand.document(f"idle-{number}"))
    answer.raise_for_status()
    job_id: str = answer.json()["id"]
    return job_id


async def _latencies(client: httpx.AsyncClient, job_id: str) -> list[float]:
    found = []
    for _ in range(REQUESTS):
        begun = time.monotonic()
        (await client.get(f"/v1/jobs/{job_id}")).raise_for_status()
        found.append(time.monotonic() - begun)
    return found


async def _follow(stand: Stand, job_id: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a stream and read it up to the first event."""
    reader, writer = await asyncio.open_connection("127.0.0.1", stand.port)
    key = f"Authorization: {stand.headers['Authorization']}"
    writer.write(f"GET /v1/jobs/{job_id}/stream HTTP/1.1\r\nHost: 127.0.0.1\r\n{key}\r\n\r\n".encode())
    await asyncio.wait_for(reader.readuntil(b"event: state"), 60)
    return reader, writer


async def _half_open(port: int, number: int) -> float:
    """Begin requests and wait until the service has closed all of them; return how long that took."""
    opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(number)]
    begun = time.monotonic()
    for _, writer in opened:
        writer.write(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
    await asyncio.wait_for(asyncio.gather(*(reader.read() for reader, _ in opened)), 120)
    return time.monotonic() - begun


def _memory_mib(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _cpu_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
