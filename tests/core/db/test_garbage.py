"""No history of publishing, deleting and collecting loses bytes that a row points to, nor keeps any others for ever."""

from __future__ import annotations

import hashlib
import shutil
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from results import RESULT
from retort.db import Database, Lease, artifacts, garbage, model_registry, queue, transitions, trash
from retort.db.artifacts import NewArtifact
from retort.db.garbage import BytesCollected
from retort.db.model_registry import NewModel
from retort.db.models import ArtifactRow, Base, GarbageRow, ModelRow
from retort.errors import UserError
from retort.model_ref import ModelRef
from retort.spec import JobSpec
from retort.storage import Store, Stored
from sqlalchemy import String, select
from support.db_harness import T0, Shop

GRACE_S = 3600.0
KEEP_TRASH_S = 10_000.0


class Killed(Exception):
    """The process ends here."""


@dataclass
class Attempt:
    """A running attempt, and what it has stored and not yet recorded."""

    lease: Lease
    stored: list[tuple[str, Stored]]


class Histories(RuleBasedStateMachine):
    """Publishers, deleting clients and collectors that interrupt each other, on a clock that the test turns."""

    template: Path
    spec: JobSpec

    def __init__(self) -> None:
        super().__init__()
        self.folder = TemporaryDirectory()
        home = Path(self.folder.name)
        self.shop = Shop(Database(f"sqlite:///{shutil.copy(self.template, home / 'retort.db')}"), self.spec)
        self.database = self.shop.database
        self.store = Store((home / "store").as_uri(), before_put=self._reclaim)
        self.file = home / "file"
        self.now = T0
        self.attempts: list[Attempt] = []
        self.ended: list[str] = []

    def teardown(self) -> None:
        self._settle()
        self.database.close()
        self.folder.cleanup()

    def _reclaim(self, key: str) -> None:
        with self.database.begin() as session:
            garbage.reclaim(session, key, now=self.now)

    def _put(self, content: int) -> Stored:
        self.file.write_bytes(bytes([content]) * (content + 1))
        return self.store.put(self.file)

    @rule(seconds=st.sampled_from([1.0, 600.0, GRACE_S + 1, KEEP_TRASH_S + 1]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: len(self.attempts) < 3)
    @rule()
    def begin(self) -> None:
        job_id = self.shop.queued(now=self.now)
        with self.database.begin() as session:
            lease = queue.claim(session, job_id, worker="w", host="h", now=self.now, lease_s=1e9)
        assert lease is not None
        self.attempts.append(Attempt(lease, []))

    @precondition(lambda self: self.attempts)
    @rule(which=st.integers(0, 2), name=st.sampled_from("ab"), content=st.integers(0, 3))
    def store_file(self, which: int, name: str, content: int) -> None:
        """Of a file that is stored now and announced at some later time."""
        self.attempts[which % len(self.attempts)].stored.append((name, self._put(content)))

    @precondition(lambda self: any(one.stored for one in self.attempts))
    @rule()
    def record(self) -> None:
        attempt = next(one for one in self.attempts if one.stored)
        name, stored = attempt.stored.pop(0)
        made = NewArtifact(name, "job", stored.sha256, stored.size_bytes, "x/y", stored.key)
        with self.database.begin() as session:
            assert artifacts.record(session, attempt.lease, made, now=self.now) is not None

    @precondition(lambda self: self.attempts)
    @rule(which=st.integers(0, 2))
    def end(self, which: int) -> None:
        attempt = self.attempts.pop(which % len(self.attempts))
        with self.database.begin() as session:
            assert transitions.succeed(session, attempt.lease, now=self.now, result=RESULT)
        self.ended.append(attempt.lease.job_id)

    @rule(content=st.integers(0, 3), name=st.sampled_from("mn"), between=st.booleans())
    def push_model(self, content: int, name: str, between: bool) -> None:
        """Of weights from outside; the collector may come between storing and registering."""
        stored = self._put(content)
        if between:
            self.collect()
        with self.database.begin() as session:
            model = NewModel(name=name, sha256=stored.sha256, size_bytes=stored.size_bytes, key=stored.key)
            model_registry.register(session, model, now=self.now)

    @rule(what=st.sampled_from(["job", "artifact", "model"]), which=st.integers(0, 9), back=st.booleans())
    def delete_or_restore(self, what: str, which: int, back: bool) -> None:
        with suppress(UserError), self.database.begin() as session:
            if what == "model":
                models = session.execute(select(ModelRow.name, ModelRow.sha256).order_by(ModelRow.id)).all()
                if models:
                    reference = ModelRef(*models[which % len(models)])
                    undo, do = trash.restore_model, trash.delete_model
                    undo(session, reference) if back else do(session, reference, now=self.now)
            elif self.ended:
                job_id = self.ended[which % len(self.ended)]
                if what == "job":
                    trash.restore_job(session, job_id) if back else trash.delete_job(session, job_id, now=self.now)
                elif back:
                    trash.restore_artifact(session, job_id, "a")
                else:
                    trash.delete_artifact(session, job_id, "a", now=self.now)

    @rule(killed=st.booleans())
    def empty_trash(self, killed: bool = False) -> None:
        before = self.now - KEEP_TRASH_S
        with self.database.begin() as session:
            trash.purge_small(session, before=before, now=self.now)
            over = trash.expired_jobs(session, before=before)
        for job_id in over:
            with self.database.begin() as session:
                begun = trash.begin_purge(session, job_id, before=before, now=self.now)
            with suppress(Killed), self.database.begin() as session:
                if begun:
                    trash.purge_job(session, job_id, now=self.now)
                if killed:
                    raise Killed

    @rule()
    def give_up(self) -> None:
        with self.database.begin() as session:
            before = garbage.horizon(session, now=self.now, grace_s=GRACE_S)
            garbage.give_up(session, before=before)

    @rule(killed=st.sampled_from(["", "before", "after", "half way"]))
    def sweep(self, killed: str = "") -> None:
        def remove(keys: Any) -> None:
            if killed == "before":
                raise Killed
            self.store.delete(keys[:1] if killed == "half way" else keys)
            if killed:
                raise Killed

        with suppress(Killed), self.database.begin() as session:
            garbage.collect(session, remove)

    @rule()
    def collect(self) -> None:
        self.give_up()
        self.sweep()

    @rule()
    def find_strays(self) -> None:
        found = {one.key: one.size_bytes for part in range(256) for page in self.store.objects(part) for one in page}
        with self.database.begin() as session:
            strays = garbage.unknown(session, list(found))
            garbage.mark(session, [(key, found[key]) for key in strays], now=self.now)

    def _referenced(self) -> set[str]:
        with self.database.read() as session:
            return {key for row in (ArtifactRow, ModelRow) for key in session.scalars(select(row.key))}

    @invariant()
    def what_is_pointed_to_is_there(self) -> None:
        for key in self._referenced():
            assert self.store.size(key) is not None, key

    def _settle(self) -> None:
        """End all, and let the collector have its time: nothing is left but what a row points to."""
        while self.attempts:
            self.end(0)
        for _ in range(3):
            self.now += KEEP_TRASH_S + GRACE_S + 1
            self.empty_trash()
            self.find_strays()
            self.now += GRACE_S + 1
            self.collect()
        left = {one.key for part in range(256) for page in self.store.objects(part) for one in page}
        assert left == self._referenced()
        with self.database.read() as session:
            assert session.scalars(select(GarbageRow.key)).all() == []


def test_collectors_publishers_and_clients_in_any_order_lose_nothing_and_leave_nothing(
    sqlite_template: Path, spec: JobSpec
):
    case = type("Case", (Histories,), {"template": sqlite_template, "spec": spec})
    run_state_machine_as_test(case, settings=settings(max_examples=12, stateful_step_count=40))


def test_every_column_with_a_key_of_the_store_is_among_the_pointers():
    known = {(pointer.table.name, pointer.name) for pointer in garbage.POINTERS}  # type: ignore[attr-defined]
    keys = {
        (name, column.name) for name, rows in Base.metadata.tables.items() for column in rows.columns
        if isinstance(column.type, String) and column.type.length == 255 and column.name == "key"
    }  # fmt: skip
    assert keys - {("garbage", "key"), ("idempotency_keys", "key")} == known


SHA = hashlib.sha256(b"x").hexdigest()
KEY = f"sha256/{SHA[:2]}/{SHA}"
FILE = NewArtifact("student.pt", "student", SHA, 1, "a/b", KEY)


def test_a_publisher_waits_for_a_deletion_under_way_and_stores_the_bytes_again(shop: Shop, tmp_path: Path):
    store = Store((tmp_path / "store").as_uri())
    (tmp_path / "x").write_bytes(b"x")
    store.put(tmp_path / "x")
    lease = shop.running(now=T0 + 10)
    with shop.database.begin() as session:
        garbage.mark(session, [(KEY, 1)], now=T0)
        assert garbage.give_up(session, before=T0 + 1) == [KEY]
    with pytest.raises(BytesCollected), shop.database.begin() as session:
        artifacts.record(session, lease, FILE, now=T0 + 11)
    with shop.database.begin() as session:
        assert garbage.collect(session, store.delete) == garbage.Garbage(1, 1)
    assert store.size(KEY) is None
    store.put(tmp_path / "x")
    with shop.database.begin() as session:
        assert artifacts.record(session, lease, FILE, now=T0 + 12) is not None
        assert not garbage.reclaim(session, KEY, now=T0 + 12)


def test_bytes_that_another_row_points_to_are_never_given_up(shop: Shop):
    lease = shop.running()
    with shop.database.begin() as session:
        artifacts.record(session, lease, FILE, now=T0)
        garbage.mark(session, [(KEY, 1)], now=T0)
        assert garbage.give_up(session, before=T0 + 1) == []
        assert garbage.waiting(session) == garbage.Garbage(0, 0)


def test_nothing_is_given_up_that_an_attempt_may_have_stored_since_it_began(shop: Shop):
    shop.running(now=T0 + 100)
    with shop.database.begin() as session:
        garbage.mark(session, [(KEY, 1)], now=T0 + 200)
        assert garbage.horizon(session, now=T0 + 1e6, grace_s=GRACE_S) == T0 + 100
        assert garbage.give_up(session, before=garbage.horizon(session, now=T0 + 1e6, grace_s=GRACE_S)) == []


def test_a_replaced_file_of_the_same_name_is_marked_for_collection(shop: Shop):
    lease = shop.running()
    other = hashlib.sha256(b"y").hexdigest()
    with shop.database.begin() as session:
        artifacts.record(session, lease, FILE, now=T0)
        later = NewArtifact("student.pt", "student", other, 1, "a/b", f"sha256/{other[:2]}/{other}")
        artifacts.record(session, lease, later, now=T0)
    assert [row["key"] for row in shop.rows("garbage")["garbage"]] == [KEY]


def test_two_collectors_never_take_the_same_key(database_url: str, shop: Shop):
    with shop.database.begin() as session:
        garbage.mark(session, [(f"sha256/{n:02x}/{n:064x}", 1) for n in range(9)], now=T0)
        garbage.give_up(session, before=T0 + 1)
    if shop.database.engine.dialect.name == "sqlite":
        return  # one writer at a time
    taken: list[str] = []
    with closing(Database(database_url)) as other, shop.database.begin() as one:
        garbage.collect(one, taken.extend, limit=5)
        with other.begin() as two:
            garbage.collect(two, taken.extend, limit=9)
    assert sorted(taken) == [f"sha256/{n:02x}/{n:064x}" for n in range(9)]
