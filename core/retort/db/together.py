"""Group commit: what several threads want to write at a time goes into one transaction."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from retort.db.session import DatabaseUnavailable

Ask = TypeVar("Ask")
Answer = TypeVar("Answer")


class GroupCommit(Generic[Ask, Answer]):
    """Whoever gets to write does it for all who wait; a commit costs the same for one as for twenty.

    Args:
        write: writes all it is given in one transaction, and returns what to answer to each, in the same order;
            an answer that is an exception is raised to the one who asked.

    """

    def __init__(self, write: Callable[[Sequence[Ask]], Sequence[Answer | Exception]]) -> None:
        self._write = write
        self._waiting: deque[_Ticket[Ask, Answer]] = deque()
        self._turn = threading.Lock()

    def __call__(self, ask: Ask) -> Answer:
        """Return once *ask* is committed.

        Raises:
            DatabaseUnavailable: as ``Database.begin`` does; then this holds for all who were written together.
            Exception: what *write* answered or raised.

        """
        ticket: _Ticket[Ask, Answer] = _Ticket(ask)
        self._waiting.append(ticket)
        with self._turn:
            if ticket.answer is None:
                self._write_waiting()
        assert ticket.answer is not None
        if isinstance(ticket.answer, Exception):
            raise ticket.answer
        return ticket.answer

    def _write_waiting(self) -> None:
        batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            self._answer(batch)
        except DatabaseUnavailable as error:  # it may have been written all the same: nobody may write it again
            for ticket in batch:
                ticket.answer = DatabaseUnavailable(error.message)
        except Exception:  # noqa: BLE001 - one of them cannot be written: nothing was
            for ticket in batch:
                try:
                    self._answer([ticket])
                except Exception as error:  # noqa: BLE001 - it is raised to the one who asked
                    ticket.answer = error

    def _answer(self, batch: Sequence[_Ticket[Ask, Answer]]) -> None:
        answers = self._write([ticket.ask for ticket in batch])
        for ticket, answer in zip(batch, answers, strict=True):
            ticket.answer = answer


@dataclass(slots=True)
class _Ticket(Generic[Ask, Answer]):
    ask: Ask
    answer: Answer | Exception | None = None
