"""Do one piece of work at a time in a thread, beside the training."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread


class BackgroundWork:
    """At most one piece of work in a thread, whose outcome belongs to the thread that gave it.

    What follows on it, and what it raises, comes where ``settle`` or ``poll`` is called.
    """

    def __init__(self) -> None:
        self._under_way: tuple[Future[None], Callable[[], None]] | None = None

    @property
    def busy(self) -> bool:
        """Whether there is work that has not been settled."""
        return self._under_way is not None

    def start(self, work: Callable[[], None], then: Callable[[], None]) -> None:
        """Settle what is under way, then do *work* in a thread.

        *then* is called when it is settled.

        Raises:
            Exception: what the work before raised; the new one is not begun.

        """
        self.settle()
        future: Future[None] = Future()
        self._under_way = future, then
        Thread(target=_run, args=(work, future), name="background-work").start()

    def poll(self) -> None:
        """Settle what is under way if it is done."""
        if self._under_way is not None and self._under_way[0].done():
            self.settle()

    def settle(self) -> None:
        """Wait for what is under way, and do what follows on it.

        Raises:
            Exception: what the work raised; nothing follows on it then.

        """
        if self._under_way is None:
            return
        future, then = self._under_way
        try:
            future.result()
        finally:
            self._under_way = None
        then()


def _run(work: Callable[[], None], future: Future[None]) -> None:
    try:
        work()
    except BaseException as error:  # noqa: BLE001 - it is raised where the work is settled
        future.set_exception(error)
    else:
        future.set_result(None)
