"""What a training takes of its machine is told once an epoch, and what nobody tells is left out."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from retort import nvml
from retort.pipeline.machine import MachineUse, gpus_of
from support.fake_nvml import Driver

GIB = 1 << 30


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    monkeypatch.setitem(sys.modules, "pynvml", made)
    return made


def test_on_a_cpu_there_are_speed_load_and_memory_of_the_run_and_no_figure_of_a_gpu():
    use, until = MachineUse(gpus_of("cpu", 1, None)), time.process_time() + 0.2
    while time.process_time() < until:
        pass
    told = use.of_epoch(640, 4.0)
    assert told.keys() == {"system/images_per_second", "system/cpu_percent", "system/memory_gib"}
    assert told["system/images_per_second"] == 160
    assert (told["system/cpu_percent"] or 0) > 0
    assert 0.01 < (told["system/memory_gib"] or 0) < 64
    assert "system/images_per_second" not in use.of_epoch(0, 4.0)


def test_memory_is_that_of_all_processes_of_the_run():
    use = MachineUse([])
    before = use.of_epoch(1, 1.0)["system/memory_gib"]
    grow = "import sys; kept = bytearray(200 << 20); kept[::4096] = b'x' * len(kept[::4096]); print('ready', flush=True); sys.stdin.read()"  # noqa: E501
    with subprocess.Popen([sys.executable, "-c", grow], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as loader:
        assert loader.stdout is not None
        loader.stdout.readline()
        during = use.of_epoch(1, 1.0)["system/memory_gib"]
        loader.communicate()
    assert before is not None
    assert during is not None
    assert during - before > 0.19


def test_of_several_gpus_the_fullest_the_hottest_the_mean_load_and_all_power_are_told(driver: Driver):
    driver.used = {0: 3 * GIB, 1: 9 * GIB, 2: 80 * GIB}
    later = int((time.time() + 60) * 1e6)
    driver.samples = {0: [(1, 0), (later, 90), (later, 70)], 1: [(later, 40)]}
    told = MachineUse(gpus_of("0", 2, None)).of_epoch(1, 1.0)
    figures = {name: value for name, value in told.items() if name.startswith("system/gpu")}
    assert figures == {
        "system/gpu_percent": 60.0, "system/gpu_memory_gib": 9.0, "system/gpu_temperature_c": 62,
        "system/gpu_power_w": 701.0,
    }  # fmt: skip


def test_what_a_driver_does_not_tell_is_no_zero(driver: Driver):
    driver.is_old = True
    (load,) = nvml.load(["1"], 0.0)
    assert (load.power_w, load.percent, load.memory_bytes) == (None, 44.0, 0), "no samples: the latest rate"
    assert "system/gpu_power_w" not in MachineUse(["1"]).of_epoch(1, 1.0)
    assert nvml.load(["7"], 0.0) == [nvml.GpuLoad()], "a GPU that is gone"
    assert not any("gpu" in name for name in MachineUse(["7"]).of_epoch(1, 1.0))


def test_the_gpus_of_a_run_are_those_that_it_sees(driver: Driver):
    assert gpus_of("1", 2, None) == ["1", "2"]
    assert gpus_of("0", 1, "GPU-22") == ["GPU-22ab"]
    driver.instances = {1: 2}
    assert gpus_of("0", 1, "MIG-11") == ["MIG-11"]
    driver.fails = 9
    assert gpus_of("0", 1, None) == []
