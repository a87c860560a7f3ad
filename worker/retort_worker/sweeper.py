"""The sweeper: keeps as many trials of each sweep under way as it asks for, and ends what is hopeless or complete."""

from __future__ import annotations

import threading
from typing import Any

import structlog
from retort.db import Database, clock, sweeping
from retort.sweeps.decisions import decide

from retort_worker.slots import Slots

_log = structlog.get_logger()


class Sweeper:
    """A thread that looks at the live sweeps every *look_s*; any number of workers may do so at a time.

    It decides from what it reads, outside of any transaction that writes; a decision is carried out only if the sweep
    is still as it was read, so that two workers never carry out both of theirs.
    """

    def __init__(self, database: Database, slots: Slots, *, look_s: float) -> None:
        self._database = database
        self._slots = slots
        self._look_s = look_s
        self._thread = threading.Thread(target=self._run, name="sweeper", daemon=True)
        self._seen: dict[str, tuple[Any, ...]] = {}

    def start(self) -> None:
        """Begin; it ends by itself when the worker drains."""
        self._thread.start()

    def _run(self) -> None:
        rest = threading.Event()
        while not self._slots.draining:
            try:
                self.sweep()
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look must come
                _log.warning("sweeping failed", error=str(error))
            rest.wait(self._look_s)

    def sweep(self) -> int:
        """Move on each sweep that can be; return how many were."""
        with self._database.read() as session:
            pulses = {sweep_id: sweeping.pulse(session, sweep_id) for sweep_id in sweeping.live(session)}
        changed = [sweep_id for sweep_id, pulse in pulses.items() if self._seen.get(sweep_id) != pulse]
        self._seen = {sweep_id: pulse for sweep_id, pulse in self._seen.items() if sweep_id in pulses}
        moved = 0
        for sweep_id in changed:
            try:
                done = self.move_on(sweep_id)
            except Exception as error:  # noqa: BLE001 - whatever it is, the other sweeps must go on
                _log.warning("sweep not moved on", sweep=sweep_id, error=str(error))
                continue
            moved += done
            if not done:
                self._seen[sweep_id] = pulses[sweep_id]
        return moved

    def move_on(self, sweep_id: str) -> bool:
        """Decide about one sweep, and carry it out; False when there is nothing to do."""
        with self._database.read() as session:
            standing = sweeping.look(session, sweep_id)
        decision = decide(standing.spec, standing.state, standing.trials, standing.failure)
        if not decision:
            return False
        with self._database.begin() as session:
            done = sweeping.carry_out(session, standing, decision, now=clock.now(session))
        if done and decision.begun:
            self._slots.wake()
        if done:
            _log.info(
                "sweep moved on", sweep=sweep_id, begun=sorted(decision.begun), ended=sorted(decision.ended),
                pruned=sorted(decision.pruned), state=decision.state and str(decision.state),
            )  # fmt: skip
        return True
