"""Which GPUs a run gets, and which no run gets any more."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from retort import nvml
from retort.protocol.environment import run_environment
from retort_worker import gpus
from retort_worker.gpus import CPU, DevicePool, GpuUsage
from support.fake_nvml import Driver

GIB, MIB = 1 << 30, 1 << 20


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    monkeypatch.setitem(sys.modules, "pynvml", made)
    return made


def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert nvml.visible(None) == nvml.visible("0,1") == []
    assert gpus.gpu_usage(["0"]) == {}


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (None, ["0", "1", "2"]), ("2, 1", ["2", "1"]), ("GPU-11", ["GPU-11ab"]), ("GPU-22ab,0", ["GPU-22ab", "0"]),
        ("", []), ("-1", []), ("none", []), ("NoDevFiles", []), ("void", []), ("cuda:0", []), ("GPU-", []),
        ("0,0", ["0"]), ("1,7,0", ["1"]), ("1,-1,0", ["1"]), ("3", []), ("GPU-33", []),
    ],
)  # fmt: skip
def test_gpus_are_those_that_cuda_would_show_each_once(names: str | None, shown: list[str]):
    """Words for no GPU each gave a slot that failed every job; a GPU named twice gave two slots."""
    assert nvml.visible(names) == shown


def test_a_divided_gpu_is_as_many_as_it_has_instances(driver: Driver):
    """CUDA shows the first instance alone, unless they are named by their UUIDs."""
    driver.instances = {1: 2, 2: 0}
    assert nvml.visible(None) == ["0", "MIG-10", "MIG-11"]
    assert nvml.visible("1,0") == ["MIG-10", "MIG-11", "0"]
    assert nvml.visible("MIG-11") == ["MIG-11"]


def test_a_run_counts_gpus_as_the_driver_does_and_is_told_what_hosts_tell_the_gpus_libraries(tmp_path: Path):
    host = {
        "NCCL_P2P_DISABLE": "1", "PYTORCH_CUDA_ALLOC_CONF": "x", "GLOO_SOCKET_IFNAME": "eth0",
        "TORCHINDUCTOR_CACHE_DIR": "/c", "TRITON_CACHE_DIR": "/t", "CC": "gcc", "CUDA_VISIBLE_DEVICES": "1",
    }  # fmt: skip
    secret = {"AWS_SECRET_ACCESS_KEY": "x", "RETORT_DATABASE_URL": "x", "HF_TOKEN": "x"}
    told, _ = run_environment(host | secret | {"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, tmp_path)
    assert told | host == told
    assert told["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID", "nvidia-smi's numbers, which the worker watches"
    assert not secret.keys() & told.keys()


def test_what_one_run_compiles_the_next_one_finds(tmp_path: Path):
    """Inductor keeps it in the temporary folder, CUDA and PyTorch at home: both were the job's."""
    names = ("TORCHINDUCTOR_CACHE_DIR", "CUDA_CACHE_PATH", "PYTORCH_KERNEL_CACHE_PATH")
    told = []
    for job in ("one", "two"):
        (tmp_path / job).mkdir()
        environment, _ = run_environment({}, tmp_path / job, compiled=tmp_path / "compiled")
        told.append([environment[name] for name in names])
        assert environment["HOME"] == str(tmp_path / job)
    assert told[0] == told[1]
    assert len(set(told[0])) == 3
    assert all(Path(path).is_relative_to(tmp_path / "compiled") and Path(path).is_dir() for path in told[0])
    chosen, _ = run_environment({names[0]: "/mine"}, tmp_path / "one", compiled=tmp_path / "compiled")
    assert chosen[names[0]] == "/mine", "as the operator says"


def test_a_run_whose_worker_can_keep_nothing_compiles_for_itself(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    environment, _ = run_environment({}, tmp_path, compiled=tmp_path / "file" / "compiled")
    assert "TORCHINDUCTOR_CACHE_DIR" not in environment


def test_on_a_cpu_there_are_as_many_runs_as_slots_however_many_processes_they_make():
    pool = DevicePool(2)
    assert (pool.num_free, pool.most_gpus) == (2, None)
    assert pool.take(8) is CPU
    assert pool.take(1) is CPU
    assert pool.take(1) is None
    pool.give_back(CPU)
    assert pool.num_free == 1


def test_each_run_has_its_gpus_alone_and_sees_no_other():
    pool = DevicePool(8, ["0", "1", "2", "3"])
    assert pool.num_slots == 4
    first, wide = pool.take(1), pool.take(2)
    assert first is not None
    assert wide is not None
    assert (first.name, first.index, first.environment) == ("cuda:0", "0", {"CUDA_VISIBLE_DEVICES": "0"})
    assert (wide.gpus, wide.environment) == (("1", "2"), {"CUDA_VISIBLE_DEVICES": "1,2"})
    assert pool.take(2) is None
    pool.give_back(first)
    again = pool.take(2)
    assert again is not None
    assert again.gpus == ("0", "3")


def test_with_fewer_slots_than_gpus_a_run_still_gets_only_what_it_asks_for():
    pool = DevicePool(1, ["0", "1", "2", "3"])
    device = pool.take(1)
    assert device is not None
    assert device.gpus == ("0",)
    assert (pool.num_free, pool.take(1)) == (0, None)


def test_a_gpu_that_is_not_clean_is_not_given_out_until_it_is_released():
    pool = DevicePool(2, ["0", "1"])
    device = pool.take(2)
    assert device is not None
    pool.give_back(device, unclean=["0"])
    assert (pool.quarantined(), pool.num_free, pool.most_gpus) == (["0"], 1, 1)
    last = pool.take(1)
    assert last is not None
    assert last.gpus == ("1",)
    assert pool.take(1) is None
    pool.release("0")
    assert (pool.quarantined(), pool.num_free, pool.most_gpus) == ([], 1, 2)


def test_a_gpu_is_clean_when_nobody_new_uses_it_and_its_memory_is_free_again(driver: Driver):
    driver.processes[1], driver.used[1] = [7], 3 * GIB  # somebody else's
    before = gpus.gpu_usage(["0", "1", "2"])
    assert before["1"] == GpuUsage(frozenset({7}), 3 * GIB)
    assert gpus.dirty_gpus(before, patience_s=0) == []
    driver.processes[0] = [99]
    driver.used[2] = GIB
    assert gpus.dirty_gpus(before, patience_s=0) == ["0", "2"]
    driver.processes[1], driver.used[1] = [], 0
    assert gpus.dirty_gpus({"1": before["1"]}, patience_s=0) == []


def test_a_driver_gets_a_moment_to_free_what_a_run_held():
    before = {"0": GpuUsage(frozenset(), 0)}
    looks = iter(
        [{"0": GpuUsage(frozenset({5}), GIB)}, {"0": GpuUsage(frozenset(), GIB)}, {"0": GpuUsage(frozenset(), 0)}]
    )
    assert gpus.dirty_gpus(before, patience_s=60, look=lambda _: next(looks)) == []


def test_a_gpu_that_the_driver_has_lost_is_not_clean(driver: Driver):
    before = gpus.gpu_usage(["0", "2"])
    del driver.processes[2]
    assert gpus.dirty_gpus(before, patience_s=0) == ["2"]
    assert gpus.is_unused("0")
    assert not gpus.is_unused("2")


def test_what_the_driver_keeps_for_itself_on_an_idle_h200_is_nobodys_use(driver: Driver):
    driver.used[0], driver.reserved = 3 * MIB, 615 * MIB  # as driver 580.159.04 said: 618 MiB by version 1
    assert gpus.gpu_usage(["0"])["0"] == GpuUsage(frozenset(), 3 * MIB)
    assert gpus.is_unused("0")
    driver.used[0] = GIB
    assert not gpus.is_unused("0")


def test_a_driver_from_before_version_2_is_asked_as_before(driver: Driver):
    driver.is_old, driver.used[0], driver.reserved = True, 3 * MIB, 300 * MIB
    assert gpus.gpu_usage(["0"])["0"].memory_bytes == 303 * MIB
    assert gpus.is_unused("0")
