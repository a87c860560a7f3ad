"""Expose Prometheus metrics: requests, open streams, jobs by state."""

from __future__ import annotations

import time
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from retort.db import Database, jobs
from retort.db.session import database_now
from retort.states import JobState

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class ServiceMetrics:
    """Prometheus metrics of one application, in a separate registry."""

    def __init__(self, database: Database) -> None:
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

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


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
