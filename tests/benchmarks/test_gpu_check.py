"""The GPU check still runs, as far as it can without a GPU, and says which part failed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import core.conftest  # noqa: F401  # prepares the environment
import gpu_loop
import gpu_parts
import pytest
from gpu_check import TINY, Part, check, parts_of
from support import fake_nvml

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_check.sh"
CPU = {"device": "cpu"}
PROGRAM = """
import json, subprocess, sys, threading
from pathlib import Path
Path(sys.argv[-1]).write_text(json.dumps({"measured": 1}))
child = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
print(child.pid, flush=True)
"""


def part(folder: Path, name: str, ending: str, limit_s: float = 30, **more: bool) -> Part:
    program = folder / f"{name}.py"
    program.write_text(PROGRAM + ending)
    return Part(name, limit_s, (str(program),), **more)


def test_a_part_that_fails_or_hangs_is_named_with_what_it_had_measured(tmp_path: Path):
    hang = "threading.Event().wait()"
    parts = [
        part(tmp_path, "sound", "sys.stdout.flush()"),
        part(tmp_path, "broken", "raise ValueError('no such kernel')"),
        part(tmp_path, "stuck", hang, limit_s=2),
        part(tmp_path, "asked_whether_it_hangs", hang, limit_s=2, may_hang=True),
        part(tmp_path, "for_a_gpu", "", needs_cuda=True),
    ]
    found = check(parts, tmp_path, about=CPU)
    assert json.loads((tmp_path / "gpu-check.json").read_text()) == found
    assert found["failed"] == ["broken", "stuck"]
    told = found["parts"]
    assert [one["state"] for one in told.values()] == ["ok", "failed", "timed out", "timed out", "skipped"]
    assert told["broken"]["last_line"] == "ValueError: no such kernel"
    for name in ("sound", "broken", "stuck"):
        assert told[name]["figures"] == {"measured": 1}
        child = int((tmp_path / f"{name}.txt").read_text().split()[0])
        assert ended(child)


def ended(pid: int) -> bool:
    """Return True if the process is gone; nobody may have asked yet for how it ended."""
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_part_for_which_no_time_is_left_is_named(tmp_path: Path):
    found = check([part(tmp_path, "late", "")], tmp_path, about=CPU, budget_s=1)
    assert found["parts"]["late"] == {"state": "no time left"}
    assert found["failed"] == ["late"]


@pytest.mark.train
@pytest.mark.timeout(1300)  # a minute of one core; a busy machine takes four
def test_every_part_is_played_through_without_a_gpu(tmp_path: Path):
    chosen = {"DEVICE": "cpu", "SIZE": "tiny", "PYTHON": sys.executable, "OUT": str(tmp_path), "BUDGET": "1200"}
    done = subprocess.run([SCRIPT], env={**os.environ, **chosen}, capture_output=True, text=True, check=False)
    found = json.loads((tmp_path / "gpu-check.json").read_text())
    assert (done.returncode, found["failed"]) == (0, []), done.stdout + done.stderr
    told = found["parts"]
    assert list(told) == [one.name for one in parts_of(TINY, "cpu")]
    assert {name for name, one in told.items() if one["state"] == "skipped"} == {
        "recording_thread_local", "recording_global", "recording_thread_local_emptying", "test_recording",
        "test_two_gpus", "test_compiled",
    }  # fmt: skip
    figures = {name: one["figures"] for name, one in told.items() if one["state"] == "ok"}
    small = figures["hardware_memory_loader_variants"]
    assert small["hardware"]["torch"]
    assert small["hardware"]["why_not"]
    assert small["memory"]["estimated_gib"] > 0
    assert (figures["tests"]["passed"], figures["tests"]["not_passed"]) == (2, [])
    assert figures["step_yolo11n"]["ours_over_native"] > 0
    [loops] = (found for name, found in figures.items() if name.startswith("loop_"))
    assert list(loops) == ["ours", "native", "control", "loose+compiled"]
    assert all(side["step_ms"] > 0 and side["profiled_steps"] == 1 for side in loops.values())
    assert all(0 <= side["loader_stall"] < 1 for side in loops.values())
    assert 0 < loops["ours"]["validation_share"] <= loops["ours"]["beside_training_share"] < 1
    assert loops["loose+compiled"]["facts"] == ["student compiled: 2 of 2 layers"]
    assert loops["ours"]["facts"] == [], "a CPU records nothing"
    assert figures["job"]["state"] == "succeeded"
    assert any("this run is on the CPU" in line for line in figures["job"]["told"])
    assert all(one["images_per_s"] > 0 for one in small["loader"].values())
    assert {"as_it_is_ms", "deterministic_ms", "cudnn_benchmark_ms", "tf32_ms", "colors_ms"} <= set(small["variants"])
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 1 << 20


def test_what_a_worker_makes_of_the_gpus_is_told_of_each(monkeypatch: pytest.MonkeyPatch):
    driver = fake_nvml.Driver()
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    told: dict[str, object] = {}
    gpu_parts.driver(told.update)
    assert told["driver"] == "580.159.04"
    assert len(told["worker_sees"]) == len(driver.processes) == len(told["worker_finds_unused"])  # type: ignore[arg-type]
    assert {"nvml_mib_0", "nvml_mib_1", "nvml_mib_2"} <= set(told)


def test_shares_of_an_epoch_leave_out_what_was_validated_before_it():
    moments = [
        ("on_val_start", 0.0), ("on_val_end", 5.0), ("on_train_epoch_start", 10.0), ("on_train_epoch_end", 18.0),
        ("on_val_start", 18.0), ("on_val_end", 19.0), ("on_fit_epoch_end", 20.0),
    ]  # fmt: skip
    assert gpu_loop.shares(moments) == {"validation_share": 0.1, "beside_training_share": 0.2}
