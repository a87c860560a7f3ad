"""How soon pages are painted and renewed with many jobs and many points, in a real browser.

    python benchmarks/pages.py [--jobs 10000] [--points 1000000] [--times 5] [--json FILE]

The rows go straight into SQLite, and the service answers in a process of its own. Times are medians, in milliseconds; a
busy machine slows them. What is countable (statements, rows, bytes) is held by tests/api/test_api_page_costs.py.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import httpx2 as httpx
from playwright.sync_api import Browser, Page, sync_playwright
from provenance import provenance, write_json
from retort.constants import MAP, MAP50, Role
from retort.db import Lease, events, jobs, queue
from retort.db.models import MetricRow
from retort.db.session import add, database_now
from retort.protocol.events import MetricEvent, StageEvent
from retort.spec import parse_spec
from service_stand import Stand

NAMES = (
    MAP, MAP50, "train/loss", "train/box_loss", "train/cls_loss", "train/dfl_loss", "val/box_loss", "val/cls_loss",
    "train/kd_loss", "train/kd/class_logits", "train/kd/pearson", "lr/weight", "lr/bias", "health/kl_foreground",
    "health/cosine_P3", "teacher/mAP50-95",
)  # fmt: skip
CONTROLS = (MAP, MAP50, "train/loss", "train/box_loss")
CURVES = (*((Role.STUDENT, name) for name in NAMES), *((Role.CONTROL, name) for name in CONTROLS))
_PAINTED = """new Promise((done) => new PerformanceObserver((list) => done(list.getEntries()[0].startTime))
  .observe({type: 'paint', buffered: true}))"""
_DRAWN = """async () => {
  while (!document.querySelector('#chart-map canvas')) await new Promise((next) => requestAnimationFrame(next));
  return performance.now();
}"""
_UPDATED = """async ([step, values]) => {
  const began = performance.now(), at = new Date().toISOString();
  document.dispatchEvent(new CustomEvent('job-metric', {detail: {role: 'student', step, values, at}}));
  await new Promise((next) => requestAnimationFrame(() => setTimeout(next, 0)));
  return performance.now() - began;
}"""


def fill_jobs(stand: Stand, number: int) -> Lease:
    """Queue so many jobs, and begin one more; return its lease."""
    spec = parse_spec(stand.document())
    with stand.database.begin() as session:
        now = database_now(session)
        labels = [{"line": str(at % 7)} for at in range(number)]
        jobs.submit_all(session, [jobs.Submission(spec=spec, retries=0, labels=one) for one in labels], now=now)
        job_id = jobs.submit(session, spec, now=now, retries=1).job_id
        lease = queue.claim(session, job_id, worker="w", host="h", now=now, lease_s=1e6)
    assert lease is not None
    return lease


def fill_points(stand: Stand, lease: Lease, number: int) -> int:
    """Write so many points, noise that no curve of a training is as bad as; return the last epoch."""
    chance, epochs = random.Random(0), number // len(CURVES)  # noqa: S311 - noise
    for first in range(1, epochs + 1, 2000):
        rows = [
            {"job_id": lease.job_id, "role": role.value, "name": name, "step": step, "attempt": 1,
             "value": chance.random(), "at": 1e9 + step}
            for step in range(first, min(first + 2000, epochs + 1))
            for role, name in CURVES
        ]  # fmt: skip
        with stand.database.begin() as session:
            add(session, MetricRow, rows)
    return epochs


def painted(page: Page, url: str, times: int) -> list[float]:
    """Open a page so many times; return after how many milliseconds each was painted first."""
    found = []
    for _ in range(times):
        page.goto(url)
        found.append(float(page.evaluate(_PAINTED)))
    return found


def drawn(page: Page, url: str, times: int) -> list[float]:
    """Open the page of charts so many times; return when its first chart stood."""
    found = []
    for _ in range(times):
        page.goto(url)
        found.append(float(page.evaluate(_DRAWN)))
    return found


def updated(page: Page, epochs: int, times: int) -> list[float]:
    """Let an epoch's values come, again and again; return how long drawing them holds the page up."""
    values = dict.fromkeys(NAMES, 0.5)
    found = []
    for at in range(times):
        page.wait_for_timeout(300)
        found.append(float(page.evaluate(_UPDATED, [epochs + 1 + at, values])))
    return found


def followed(stand: Stand, page: Page, lease: Lease, epochs: int, times: int) -> list[float]:
    """Record an epoch as a worker does; return after how many milliseconds the page's chart shows it."""
    told = "document.querySelector('#chart-map .legend li').textContent"
    found = []
    for at in range(times):
        value = 0.001 * (at + 1)
        event = MetricEvent(n=2 + at, at=1e9, role=Role.STUDENT, step=epochs + 100 + at, values={MAP: value})
        with stand.database.begin() as session:
            events.record(session, lease, [event], now=database_now(session), lease_s=1e6, journal_offset=2 + at)
        began = float(page.evaluate("performance.now()"))
        page.wait_for_function(f"(value) => {told}.includes(value)", arg=f"{value:.4g}", polling=10)
        found.append(float(page.evaluate("performance.now()")) - began)
    return found


@contextmanager
def opened(browser: Browser, stand: Stand) -> Iterator[Page]:
    """Open a page in which somebody is logged in."""
    with closing(browser.new_context(viewport={"width": 1440, "height": 900})) as context:
        link = httpx.post(f"{stand.url}/v1/login-links", headers=stand.headers, trust_env=False).json()["path"]
        page = context.new_page()
        page.goto(stand.url + link)
        page.wait_for_url(f"{stand.url}/")
        yield page


def measure(stand: Stand, browser: Browser, lease: Lease, epochs: int, times: int) -> list[dict[str, Any]]:
    """Return the lines of the table."""
    charts = f"{stand.url}/jobs/{lease.job_id}/charts"
    lines: list[dict[str, Any]] = []

    def line(what: str, goal: float | None, found: Callable[[], list[float]]) -> None:
        middle = median(figures := found())
        lines.append(
            {"line": what, "median_ms": round(middle), "all_ms": [round(one) for one in figures], "goal": goal}
        )

    with opened(browser, stand) as page:
        line("jobs: first paint", 500, lambda: painted(page, f"{stand.url}/", times))
        line("jobs of a label, by name: first paint", 500,
             lambda: painted(page, f"{stand.url}/?label=line%3D3&order=name", times))  # fmt: skip
        line("charts of a job: first paint", 1500, lambda: painted(page, charts, times))
        line("charts of a job: first chart drawn", None, lambda: drawn(page, charts, times))
        page.wait_for_timeout(3000)
        line("an epoch: shown, from the record on", None, lambda: followed(stand, page, lease, epochs, times))
        line("an epoch: the page is held up", 200, lambda: updated(page, epochs + 200, times))
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Fill a service, measure, print a table; 1 where a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--json", metavar="FILE", type=Path)
    asked = parser.parse_args(arguments)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder) / "home"
        stand = Stand(home, f"sqlite:///{home / 'retort.db'}", "memory://", {"rate_limit": "", "login_limit": ""})
        with closing(stand):
            lease = fill_jobs(stand, asked.jobs)
            with stand.database.begin() as session:
                said = [StageEvent(n=1, at=1e9, stage="distill")]
                events.record(session, lease, said, now=database_now(session), lease_s=1e6, journal_offset=1)
            epochs = fill_points(stand, lease, asked.points)
            stand.start_api()
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            lines = measure(stand, browser, lease, epochs, asked.times)
            browser.close()
    for one in lines:
        goal = "-" if one["goal"] is None else f"<= {one['goal']} ms"
        missed = one["goal"] is not None and one["median_ms"] > one["goal"]
        print(
            f"{one['line']:45}{one['median_ms']:6} ms   {goal:11}{'MISSED' if missed else 'ok' if one['goal'] else ''}"
        )
    if asked.json is not None:
        write_json(asked.json, {"provenance": provenance(), "jobs": asked.jobs, "points": asked.points, "lines": lines})
    return int(any(one["goal"] is not None and one["median_ms"] > one["goal"] for one in lines))


if __name__ == "__main__":
    sys.exit(main())
