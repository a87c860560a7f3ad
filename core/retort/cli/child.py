"""Run a module that ends with its parent (stdin closes).

``python -m retort.cli.child MODULE``: a killed parent leaves no service behind that holds its port and its jobs.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading


def _end_with_parent() -> None:
    # os.read, not sys.stdin: a buffered object that another thread holds at exit makes the interpreter abort.
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_parent, daemon=True, name="parent").start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
