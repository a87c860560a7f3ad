"""Apply retention, empty the trash, collect unreferenced bytes."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import count

import structlog

from retort.db import (
    Database,
    artifacts,
    audit,
    datasets,
    garbage,
    keys,
    predictions,
    retention,
    trash,
    upkeep,
    uploads,
    webhooks,
    workers,
)
from retort.db.models import GarbageRow
from retort.db.retention import RetentionPolicy, RetentionShare
from retort.db.session import database_now
from retort.settings import Settings
from retort.storage import Store

_PARTS = 256
"""Folders of the content-addressed store, by the digests' first byte."""
_PARTS_PER_ROUND = 16
_BROKEN_S = 86_400.0
_MARK_HINT = "its object named database says which; delete it where the other database is gone"
_log = structlog.get_logger()


def policy_of(settings: Settings) -> RetentionPolicy:
    """Return for how long the operator keeps what."""
    return RetentionPolicy(
        jobs_s=settings.keep_jobs_s,
        events_s=settings.keep_events_s,
        metrics_s=settings.keep_metrics_s,
        keys_s=settings.keep_keys_s,
        checkpoints_s=settings.keep_checkpoints_s,
        trash_s=settings.keep_trash_s,
    )


def open_store(settings: Settings, database: Database) -> Store:
    """Return the artifact store, whose collector knows what is about to be relied on."""

    def reclaim(key: str) -> None:
        with database.autocommit_read() as session:
            if session.get(GarbageRow, key) is None:
                return
        with database.begin() as session:
            garbage.reclaim(session, key, now=database_now(session))

    return Store(settings.store_url, before_put=reclaim)


@dataclass
class Taken:
    """Numbers of removed things by kind, and the freed bytes."""

    numbers: Counter[str] = field(default_factory=Counter)
    freed_bytes: int = 0
    done: bool = True
    """Nothing more can be taken now."""


class Keeper:
    """Applies retention and collects garbage, in small transactions.

    Any number of them may run at a time.
    """

    def __init__(self, database: Database, store: Callable[[], Store], settings: Settings) -> None:
        self._database = database
        self._store = store
        self._settings = settings
        self._policy = policy_of(settings)
        self._next_part = 0
        self._deadline = float("inf")

    def plan(self) -> tuple[list[RetentionShare], garbage.Garbage]:
        """Return what a round would take now, and what waits for the collector."""
        with self._database.read() as session:
            now = database_now(session)
            return retention.plan(session, self._policy, now=now), garbage.waiting(session)

    def round(self, *, budget_s: float = float("inf")) -> Taken:
        """Take all that is to go, for at most about *budget_s* seconds."""
        self._deadline = time.monotonic() + budget_s
        taken = Taken()
        self.apply_policy(taken)
        self.empty_trash(taken)
        if self._owns_store():
            self.collect(taken)
            self.find_strays(taken)
            self.tidy_saved(taken)
            self.tidy_incoming(taken)
        if self._in_time():
            taken.numbers["broker messages"] += upkeep.tidy_broker(self._settings.broker_url)
            upkeep.shrink(self._database)
        taken.done = self._in_time()
        return taken

    def apply_policy(self, taken: Taken) -> None:
        """Move to the trash, and delete, what has been kept for long enough."""
        policy, now = self._policy, self._now()
        self._repeat(taken, "jobs to the trash", partial(retention.trash_old_jobs, policy=policy, now=now))
        self._once(taken, "sweeps to the trash", partial(retention.trash_old_sweeps, policy=policy, now=now))
        if policy.events_s is not None:
            self._repeat(taken, "jobs without events", partial(retention.drop_events, before=now - policy.events_s))
        if policy.metrics_s is not None:
            self._repeat(taken, "jobs without curves", partial(retention.drop_metrics, before=now - policy.metrics_s))
        if policy.keys_s is not None:
            self._repeat(taken, "idempotency keys", partial(retention.drop_keys, before=now - policy.keys_s))
        drop_uploads = partial(datasets.drop_uploads, before=now - self._settings.keep_uploads_s, now=now)
        self._repeat(taken, "uploads", drop_uploads)
        self._forget(taken, now)
        if policy.checkpoints_s is not None:
            spare = partial(retention.drop_checkpoints, before=now - policy.checkpoints_s, now=now)
            self._repeat(taken, "checkpoints", spare)

    def _forget(self, taken: Taken, now: float) -> None:
        """Delete what people need no longer look up: entries of the log, ended keys, deliveries, what has gone."""
        settings = self._settings
        if settings.keep_audit_s is not None:
            self._repeat(taken, "audit entries", partial(audit.prune, before=now - settings.keep_audit_s))
        if settings.keep_ended_keys_s is not None:
            self._repeat(taken, "ended keys", partial(keys.forget, before=now - settings.keep_ended_keys_s))
        self._repeat(taken, "deliveries", partial(webhooks.forget, before=now - settings.keep_deliveries_s))
        self._once(taken, "predictions", partial(predictions.forget, now=now))
        self._once(taken, "workers", partial(workers.forget, now=now))

    def empty_trash(self, taken: Taken) -> None:
        """Delete for good what has been in the trash for long enough."""
        now = self._now()
        before = now - self._policy.trash_s
        with self._database.read() as session:
            over = trash.expired_jobs(session, before=before)
        while over and self._in_time():
            for job_id in over:
                with self._database.begin() as session:
                    begun = trash.begin_purge(session, job_id, before=before, now=now)
                if begun:
                    self._delete_saved(job_id)
                    with self._database.begin() as session:
                        trash.purge_job(session, job_id, now=now)
                    taken.numbers["jobs for good"] += 1
            with self._database.read() as session:
                following = trash.expired_jobs(session, before=before)
            over = [job_id for job_id in following if job_id not in over]
        self._repeat(taken, "datasets for good", partial(datasets.purge, before=before, now=now))
        self._repeat(taken, "others for good", partial(trash.purge_small, before=before, now=now))

    def _owns_store(self) -> bool:
        """Return False for a store that another database has marked as its own: nothing is collected there."""
        with self._database.begin() as session:
            mark = garbage.store_mark(session)
        if self._store().claim(mark):
            return True
        _log.warning("nothing is collected: the store belongs to another database", store=_MARK_HINT)
        return False

    def collect(self, taken: Taken) -> None:
        """Delete bytes that nothing has pointed to for the grace period."""
        store = self._store()
        while self._in_time():
            with self._database.begin() as session:
                now = database_now(session)
                before = garbage.horizon(session, now=now, grace_s=self._settings.keep_unreferenced_s)
                chosen = garbage.give_up(session, before=before)
            with self._database.begin() as session:
                gone = garbage.collect(session, store.delete)
            taken.numbers["files"] += gone.keys
            taken.freed_bytes += gone.size_bytes
            if not gone.keys and not chosen:
                return

    def find_strays(self, taken: Taken, *, parts: int = _PARTS_PER_ROUND) -> None:
        """Mark unreferenced bytes in the next *parts* of the store."""
        store = self._store()
        for _ in range(parts):
            if not self._in_time():
                return
            part, self._next_part = self._next_part, (self._next_part + 1) % _PARTS
            for page in store.objects(part):
                self._mark_strays({found.key: (found.size_bytes, found.modified_at) for found in page}, taken)
        store.delete_parts(before=time.time() - _BROKEN_S)

    def _mark_strays(self, found: Mapping[str, tuple[int, float]], taken: Taken) -> None:
        with self._database.read() as session:
            now = database_now(session)
            before = garbage.horizon(session, now=now, grace_s=self._settings.keep_unreferenced_s)
            old = [key for key, (_, modified_at) in found.items() if modified_at < before]
            strays = garbage.unknown(session, old)
        if strays:
            with self._database.begin() as session:
                garbage.mark(session, [(key, found[key][0]) for key in strays], now=database_now(session))
            taken.numbers["strays"] += len(strays)

    def tidy_saved(self, taken: Taken) -> None:
        """Delete the saved states of jobs that cannot be resumed."""
        store, settings = self._store(), self._settings
        for _ in count():
            with self._database.begin() as session:
                now = database_now(session)
                forgotten = artifacts.forget_old_recovery(
                    session, before=now - settings.keep_saved_s, succeeded_before=now - settings.keep_last_state_s
                )
            if not forgotten or not self._in_time():
                break
        saved = store.saved_jobs()
        with self._database.read() as session:
            over = artifacts.without_recovery(session, saved)
            needed = artifacts.saved_keys(session)
        for job_id in over:
            store.delete_saved(job_id, but=needed)
            taken.numbers["saved states"] += 1

    def tidy_incoming(self, taken: Taken) -> None:
        """Delete parts that clients sent to the store for uploads that have ended."""
        store = self._store()
        for page in store.incoming():
            with self._database.read() as session:
                before = database_now(session) - self._settings.keep_unreferenced_s
                awaited = uploads.open_ones(session, {one.upload_id for one in page})
            over = [one for one in page if one.upload_id not in awaited and one.modified_at < before]
            store.drop_incoming(over)
            taken.numbers["parts of ended uploads"] += len(over)

    def _delete_saved(self, job_id: str) -> None:
        """Delete what a job on its way out has saved, but for what another goes on from."""
        with self._database.read() as session:
            needed = artifacts.saved_keys(session, but=job_id)
        self._store().delete_saved(job_id, but=needed)

    def _repeat(self, taken: Taken, kind: str, work: Callable[..., int]) -> None:
        while self._in_time() and self._once(taken, kind, work):
            pass

    def _once(self, taken: Taken, kind: str, work: Callable[..., int]) -> int:
        with self._database.begin() as session:
            number = work(session)
        taken.numbers[kind] += number
        return number

    def _now(self) -> float:
        with self._database.read() as session:
            return database_now(session)

    def _in_time(self) -> bool:
        return time.monotonic() < self._deadline
