"""Do one piece of work at a time in a thread, beside the training."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread


class BackgroundWork:
    """At most one piece of work in a thread.

    What follows on it, and what it raises, comes where ``wait`` or ``poll`` is called.
    """

    def __init__(self) -> None:
        self._under_way: tuple[Future[None], Callable[[], None]] | None = None

    @property
    def busy(self) -> bool:
        """Whether there is work that has not been waited for."""
        return self._under_way is not None

    def start(self, work: Callable[[], None], then: Callable[[], None]) -> None:
        """Wait for what is under way, then do *work* in a thread.

        *then* is called when it has been waited for.

        Raises:
            Exception: what the work before raised; the new one is not begun.

        """
        self.wait()
        future: Future[None] = Future()
        self._under_way = future, then
        Thread(target=_run, args=(work, future), name="background-work").start()

    def poll(self) -> None:
        """Do what follows on the work if it is done."""
        if self._under_way is not None and self._under_way[0].done():
            self.wait()

    def wait(self) -> None:
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
    except BaseException as error:  # noqa: BLE001 - it is raised where the work is waited for
        future.set_exception(error)
    else:
        future.set_result(None)
