"""The program of ``make chaos`` starts: all that it imports is there, in the order that it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_it_explains_itself():
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-m", "chaos", "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--quick" in done.stdout
