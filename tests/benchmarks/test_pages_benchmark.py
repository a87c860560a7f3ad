"""The benchmark of pages still runs against the pages as they are."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from browser.test_browser_report import CHROMIUM

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "pages.py"


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")
def test_the_benchmark_fills_a_service_and_measures_its_pages(tmp_path: Path):
    command = [sys.executable, str(BENCHMARK), "--jobs", "60", "--points", "400", "--times", "1"]
    subprocess.run([*command, "--json", str(tmp_path / "out.json")], capture_output=True, text=True, check=False)
    lines = json.loads((tmp_path / "out.json").read_text())["lines"]
    assert len(lines) == 6
    assert all(line["median_ms"] > 0 for line in lines)
