"""The service's benchmark still runs against the service as it is."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "service.py"


def test_the_benchmark_measures_and_prints_its_lines():
    command = [sys.executable, str(BENCHMARK), "--quick", "--only", "points", "--json", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = json.loads(done.stdout)
    assert [set(line) for line in lines] == [{"line", "figure", "goal", "ok"}] * 2
    assert done.returncode == (0 if all(line["ok"] for line in lines) else 1)
    assert "metric points" in lines[0]["line"]
