"""Renew a claim while something is done under it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from retort.db import DatabaseUnavailable
from retort.settings import Settings


class ClaimLost(Exception):
    """Another worker may be at it: nothing more is written."""


@contextmanager
def held(name: str, settings: Settings, renew: Callable[[], bool]) -> Iterator[threading.Event]:
    """Renew a claim until the block is left.

    The event says that it is lost.
    """
    lost, over = threading.Event(), threading.Event()

    def beat() -> None:
        held_until = time.monotonic() + settings.lease_s
        while not over.wait(settings.heartbeat_s) and not lost.is_set():
            try:
                asked = time.monotonic()
                if not renew():
                    lost.set()
                held_until = asked + settings.lease_s
            except DatabaseUnavailable:
                if time.monotonic() > held_until:
                    lost.set()

    thread = threading.Thread(target=beat, name=f"lease-{name}", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        over.set()
        thread.join()
