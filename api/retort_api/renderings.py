"""Jobs as they were shown last, so that asking for one again and again does not read it again and again."""

from __future__ import annotations

import threading
from collections import OrderedDict

_MOST = 256


class Renderings:
    """The latest version of each of the jobs asked for most recently, as the bytes of an answer."""

    def __init__(self) -> None:
        self._shown: OrderedDict[str, tuple[int, bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, job_id: str, version: int) -> bytes | None:
        """Return that version of the job, if it was the last that was shown."""
        with self._lock:
            kept_version, shown = self._shown.get(job_id, (0, b""))
            if kept_version != version:
                return None
            self._shown.move_to_end(job_id)
            return shown

    def put(self, job_id: str, version: int, shown: bytes) -> None:
        """Keep *shown* until there is a newer version, or others are asked for."""
        with self._lock:
            self._shown[job_id] = version, shown
            self._shown.move_to_end(job_id)
            while len(self._shown) > _MOST:
                self._shown.popitem(last=False)
