"""Expose Prometheus metrics: requests, open streams, jobs by state."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from retort.db import Database, garbage, jobs, upkeep, usage, workers
from retort.db.session import database_now
from retort.settings import Settings
from retort.states import JobState

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ServiceMetrics:
    """Prometheus metrics of one application, in a separate registry."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "retort_http_requests", "Answered requests.", ["method", "route", "status"], registry=self._registry
        )
        self.seconds = Histogram(
            "retort_http_request_duration_seconds",
            "Time from request to the last byte of the answer; streams left out.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self.streams = Gauge("retort_http_open_streams", "Event streams being sent.", registry=self._registry)
        self._registry.register(_Jobs(database))
        self._registry.register(_Kept(database, settings))

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _Kept(Collector):
    """Reads what is kept: bytes, trash, workers, free disk; nothing in it names a tenant."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings

    def collect(self) -> Iterator[GaugeMetricFamily]:
        try:
            with self._database.read() as session:
                now = database_now(session)
                kinds, trashed, waiting = (
                    usage.bytes_by_kind(session),
                    usage.trash_counts(session),
                    garbage.waiting(session),
                )
                running = workers.running(session, now=now, within_s=self._settings.lease_s)
                numbers = {
                    "retort_workers": ("Workers that run.", len(running)),
                    "retort_worker_slots": (
                        "Runs that the running workers supervise at a time.",
                        sum(one.slots for one in running),
                    ),
                    "retort_unreferenced_files": ("Stored files that wait for collection.", waiting.keys),
                    "retort_unreferenced_bytes": ("Bytes that wait for collection.", waiting.size_bytes),
                    "retort_database_bytes": ("Bytes of the database.", upkeep.size_bytes(self._database)),
                    "retort_broker_bytes": (
                        "Bytes of the embedded broker.",
                        upkeep.file_bytes(self._settings.broker_url),
                    ),
                }
        except Exception:  # noqa: BLE001 - as below
            return
        yield _labelled("retort_stored_bytes", "Bytes in the store by kind.", "kind", kinds)
        yield _labelled("retort_trash", "Things in the trash by kind.", "kind", trashed)
        for name, (about, value) in numbers.items():
            yield GaugeMetricFamily(name, about, value=value)
        yield _labelled("retort_disk_free_bytes", "Free bytes under the folders.", "folder", self._free())

    def _free(self) -> dict[str, int]:
        folders = {"home": self._settings.home, "work": self._settings.work_dir}
        if self._settings.store_url.startswith("file:"):
            folders["store"] = Path(url2pathname(urlsplit(self._settings.store_url).path))
        there = {name: folder for name, folder in folders.items() if folder is not None and folder.is_dir()}
        return {name: shutil.disk_usage(folder).free for name, folder in there.items()}


def _labelled(name: str, about: str, label: str, values: Mapping[str, int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, about, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family


class _Jobs(Collector):
    """Reads the database when Prometheus asks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def collect(self) -> Iterator[GaugeMetricFamily]:
        reachable = GaugeMetricFamily("retort_database_up", "Whether the database answered this scrape.")
        begun = time.monotonic()
        try:
            with self._database.read() as session:
                counts = jobs.counts(session)
            age_s = oldest_queued_age_s(self._database)
        except Exception:  # noqa: BLE001 - away, or without its tables: the other figures are wanted all the more
            reachable.add_metric([], 0)
            yield reachable
            return
        reachable.add_metric([], 1)
        yield reachable
        yield GaugeMetricFamily(
            "retort_database_scrape_seconds", "Time that reading the jobs took.", value=time.monotonic() - begun
        )
        states = GaugeMetricFamily("retort_jobs", "Jobs by state.", labels=["state"])
        for state in JobState:
            states.add_metric([state.value], counts.get(state, 0))
        yield states
        yield GaugeMetricFamily(
            "retort_oldest_queued_job_age_seconds", "Age of the oldest queued job; 0 when none waits.", value=age_s or 0
        )


def oldest_queued_age_s(database: Database) -> float | None:
    """Return the age in seconds of the queue's first job.

    None when the queue is empty.
    """
    with database.read() as session:
        waiting = jobs.oldest_queued(session)
        return None if waiting is None else database_now(session) - waiting.created_at
