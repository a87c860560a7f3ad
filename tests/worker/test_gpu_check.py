"""Which GPUs a worker finds, which it refuses, and why; a program stands for PyTorch where a GPU would have to be."""

from __future__ import annotations

import json
import random
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from retort import nvml
from retort.db import workers
from retort.db.session import database_now
from retort_worker import gpu_check, gpus, worker
from retort_worker.gpus import CPU, Device, DevicePool
from retort_worker.loops import Announcer, Housekeeper
from retort_worker.worker import JobWorker
from support.fake_nvml import Driver
from support.worker_harness import House

TOO_OLD = "the driver 535.54 is too old"


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    made = Driver()
    monkeypatch.setitem(sys.modules, "pynvml", made)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return made


def torch_refuses(**reasons: str) -> gpu_check.Ask:
    """Answer as PyTorch would that cannot use these GPUs."""

    def ask(names: Sequence[str]) -> Mapping[str, str]:
        return {name: why for name in names if (why := reasons.get(f"gpu{name}"))}

    return ask


def found(house: House, *, ask: gpu_check.Ask, **changes: object) -> DevicePool:
    return gpu_check.find(house.with_settings(**changes), ask=ask)


@pytest.mark.usefixtures("driver")
def test_a_gpu_that_pytorch_cannot_use_gets_no_slot_and_is_told_once(
    small_house: House, capsys: pytest.CaptureFixture[str]
):
    """With a driver from before this PyTorch's CUDA each job of the worker failed on it."""
    refusing = torch_refuses(gpu1=TOO_OLD)
    pool = found(small_house, ask=refusing)
    gpu_check.look(pool, ask=refusing)

    assert (pool.num_slots, pool.most_gpus, pool.refused()) == (2, 2, {"1": TOO_OLD})
    wide = pool.take(2)
    assert wide is not None
    assert wide.gpus == ("0", "2")
    assert capsys.readouterr().out.count(TOO_OLD) == 1
    told = {device["name"]: device for device in pool.declared()}
    assert {name: device["refused"] for name, device in told.items()} == {"0": None, "2": None, "1": TOO_OLD}
    assert (told["0"]["product"], told["0"]["memory_bytes"]) == ("NVIDIA H100 80GB HBM3", 80 << 30)
    assert (told["0"]["compute_capability"], told["0"]["driver"]) == ("9.0", "580.159.04")


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(("fallback", "allowed"), [(False, False), (True, True)])
def test_where_no_gpu_can_be_used_the_cpu_stands_in_only_if_the_operator_allows_it(
    small_house: House, *, fallback: bool, allowed: bool
):
    refusing = torch_refuses(gpu0=TOO_OLD, gpu1=TOO_OLD, gpu2=TOO_OLD)
    pool = found(small_house, ask=refusing, cpu_fallback=fallback, slots=3)

    assert (pool.num_slots, pool.most_gpus, pool.cpu_allowed) == (1, None, allowed)
    device = pool.take(1)
    assert device is not None
    assert (device.name, device.cpu_allowed) == ("cpu", allowed)
    assert [one["refused"] is None for one in pool.declared() if one["kind"] == "cpu"] == [allowed]


@pytest.mark.parametrize("chosen", ["", "-1", "none", "NoDevFiles", "void"])
@pytest.mark.usefixtures("driver")
def test_an_operator_who_wants_no_gpu_gets_a_worker_for_the_cpu(
    small_house: House, monkeypatch: pytest.MonkeyPatch, chosen: str
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    pool = found(small_house, ask=torch_refuses())
    assert (pool.take(1), pool.cpu_allowed, [one["kind"] for one in pool.declared()]) == (CPU, True, ["cpu"])


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("chosen", ["3", "7,0", "cuda:0", "GPU-33"])
def test_a_name_that_is_no_gpu_here_is_a_mistake_and_no_choice_of_the_cpu(
    small_house: House, monkeypatch: pytest.MonkeyPatch, chosen: str
):
    """With CUDA_VISIBLE_DEVICES=3 on a machine with three GPUs the worker trained on the CPU."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    pool = found(small_house, ask=torch_refuses())
    first = chosen.partition(",")[0]
    assert not pool.cpu_allowed
    assert f"names {first!r}, and this machine has 3 GPUs, from 0 on" in pool.refused()[first]


def test_a_divided_gpu_without_parts_takes_no_other_with_it(driver: Driver):
    driver.instances = {1: 0}
    assert nvml.visible("1,0") == ["0"]
    assert {gpu.name: gpu.refused is None for gpu in nvml.describe("1,0")} == {"0": True, "1": False}
    assert any("nvidia-smi mig" in (gpu.refused or "") for gpu in nvml.describe(None))


def test_a_part_of_a_gpu_has_its_own_memory_and_the_whole_ones_capability(driver: Driver):
    driver.instances = {2: 2}
    [part, _] = [gpu for gpu in nvml.describe("2") if gpu.refused is None]
    assert (part.name, part.memory_bytes, part.compute_capability) == ("MIG-20", 10 << 30, "9.0")
    assert part.product == "NVIDIA H100 80GB HBM3 MIG 1g.10gb"


def test_a_run_on_several_gpus_gets_whole_ones_only():
    """A process sees one part of a divided GPU alone, so that the second rank would have found none."""
    pool = DevicePool(gpus=["MIG-10", "0", "MIG-11", "1"])
    assert (pool.num_slots, pool.most_gpus) == (4, 2)
    wide = pool.take(2)
    assert wide is not None
    assert wide.gpus == ("0", "1")
    assert pool.take(2) is None
    assert [device.gpus for device in (pool.take(1), pool.take(1)) if device] == [("MIG-10",), ("MIG-11",)]
    assert DevicePool(gpus=["MIG-10", "MIG-11"]).most_gpus == 1


@pytest.mark.parametrize(
    ("error", "plugged", "is_refused"),
    [
        (12, False, False), (28, True, False), (9, False, False), (9, True, True), (18, False, True),
        (12, True, True),  # a container without the library, but with the GPU
    ],
)  # fmt: skip
def test_a_driver_that_does_not_answer_is_no_machine_without_gpus(
    driver: Driver, tmp_path: Path, error: int, *, plugged: bool, is_refused: bool
):
    """After an update of the driver, before the restart, its library refuses: workers trained on the CPU."""
    driver.fails = error
    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "vendor").write_text("0x10de\n" if plugged else "0x8086\n")
    (tmp_path / "0000:01:00.0" / "class").write_text("0x030200\n")
    files = tmp_path / "dev"
    files.mkdir()
    (files / ("nvidia0" if plugged else "nvidiactl")).touch()
    described = nvml.describe(None, bus=tmp_path, devices=files)
    assert [gpu.name for gpu in described] == (["0"] if is_refused else [])
    why = "NVIDIA_DRIVER_CAPABILITIES" if error == 12 else "NVIDIA's driver does not answer"
    assert all(why in (gpu.refused or "") for gpu in described)


def test_a_gpu_whose_driver_comes_after_the_worker_is_taken_in(
    driver: Driver, small_house: House, monkeypatch: pytest.MonkeyPatch
):
    driver.fails = driver.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    pool = found(small_house, ask=torch_refuses())
    assert (pool.most_gpus, list(pool.refused())) == (None, ["0"])

    driver.fails = None
    monkeypatch.setattr(gpu_check, "unusable", torch_refuses(gpu2=TOO_OLD))
    Housekeeper(small_house.workshop(), pool).try_refused_gpus()

    assert (pool.usable(), pool.refused()) == (("0", "1"), {"2": TOO_OLD})
    assert (pool.num_slots, pool.most_gpus, pool.cpu_allowed) == (2, 2, False)


@pytest.mark.usefixtures("driver")
def test_a_gpu_that_hangs_is_not_tried_again(small_house: House):
    """Each try would leave a process inside the driver, which nothing can kill."""
    asked: list[str] = []

    def hangs(names: Sequence[str]) -> Mapping[str, str]:
        asked.extend(names)
        return {"1": "PyTorch did not answer within 180 s"} if "1" in names else {}

    pool = found(small_house, ask=hangs)
    gpu_check.look(pool, ask=hangs)
    assert asked == ["0", "1", "2"]
    assert (pool.usable(), list(pool.refused())) == (("0", "2"), ["1"])


def program(tmp_path: Path, text: str) -> tuple[str, ...]:
    (tmp_path / "check.py").write_text(f"import json, os, sys, time\n{text}\n")
    return sys.executable, str(tmp_path / "check.py")


def test_each_gpu_is_tried_alone_and_with_a_runs_variables(tmp_path: Path):
    seen = "[os.environ[name] for name in ('CUDA_VISIBLE_DEVICES', 'CUDA_DEVICE_ORDER')] + [os.environ.get('SECRET')]"
    command = program(tmp_path, f"print('a warning'); print(json.dumps({{'why': json.dumps({seen})}}))")
    told = gpu_check.unusable(["1", "MIG-20"], environment={"PATH": "/bin", "SECRET": "x"}, command=command)
    assert {gpu: json.loads(why) for gpu, why in told.items()} == {
        gpu: [gpu, "PCI_BUS_ID", None] for gpu in ("1", "MIG-20")
    }


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("print(json.dumps({'why': None}))", None),
        (
            "sys.exit('no module named torch')",
            "PyTorch ended with exit code 1 when it was asked: no module named torch",
        ),
        ("os.kill(os.getpid(), 11)", "PyTorch ended with signal 11 when it was asked: without a word"),
        ("time.sleep(60)", "PyTorch did not answer within 1 s"),
    ],
)
def test_a_pytorch_that_falls_over_or_hangs_is_a_reason_too(tmp_path: Path, text: str, why: str | None):
    told = gpu_check.unusable(["0"], command=program(tmp_path, text), timeout_s=1 if "sleep" in text else 60)
    assert told.keys() == ({"0"} if why else set())
    assert told.get("0", "").startswith(why or "")


def test_a_thread_that_dies_loses_neither_slot_nor_gpu(
    small_house: House, monkeypatch: pytest.MonkeyPatch, driver: Driver
):
    """Where the driver could not be asked before or after a run, the worker had a slot less for ever."""
    pool = DevicePool(gpus=["0"])
    slots = JobWorker(small_house.workshop(), pool)
    job_id = small_house.submit("finish")

    def fails(*_: object, **__: object) -> dict[str, gpus.GpuUsage]:
        raise ValueError("the driver's library fell over")

    with monkeypatch.context() as patch:
        patch.setattr(worker.gpus, "gpu_usage", fails)
        [thread] = slots.start()
        thread.join()
    assert (pool.num_free, pool.quarantined()) == (0, ["0"])
    Housekeeper(small_house.workshop(), pool).release_gpus()
    assert (pool.num_free, pool.most_gpus) == (1, 1)
    assert small_house.attempts(job_id)
    assert driver.processes[0] == []


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_no_slot_is_lost_and_no_gpu_is_given_out_twice(seed: int):
    draw = random.Random(seed)
    names = ["0", "1", "2", "MIG-30", "MIG-31"]
    pool = DevicePool(draw.choice([0, 2, 5]), names)
    held: list[Device] = []
    for _ in range(200):
        match draw.choice(["take", "take", "give back", "unclean", "refuse", "renew", "release"]):
            case "take":
                device = pool.take(draw.choice([1, 1, 2, 3]))
                held += [device] if device is not None else []
            case "give back" | "unclean" as how if held:
                device = held.pop(draw.randrange(len(held)))
                pool.give_back(device, unclean=device.gpus[:1] if how == "unclean" else ())
            case "refuse" if held and held[-1].gpus:  # as after its run
                device = held.pop()
                pool.refuse(device.gpus[0], TOO_OLD)
                pool.give_back(device)
            case "renew":
                pool.renew({name: nvml.GpuDescription(name) for name in names}, usable=list(pool.refused()), refused={})
            case "release" if pool.quarantined():
                pool.release(pool.quarantined()[0])
        given = [gpu for device in held for gpu in device.gpus]
        assert len(given) == len(set(given))
        assert not {*given} & {*pool.quarantined(), *pool.refused()}
    for device in held:
        pool.give_back(device)
    for gpu in pool.quarantined():
        pool.release(gpu)
    pool.renew({name: nvml.GpuDescription(name) for name in names}, usable=list(pool.refused()), refused={})
    assert sorted(pool.usable()) == sorted(names)
    assert pool.num_free == pool.num_slots


def test_a_thread_that_cannot_begin_gives_its_slot_back(small_house: House, monkeypatch: pytest.MonkeyPatch):
    pool = DevicePool(2)
    slots = JobWorker(small_house.workshop(), pool)
    for _ in range(2):
        small_house.submit("finish")

    def full(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    assert slots.start() == []
    assert pool.num_free == 2
    assert slots.join(0)


def test_a_job_whose_gpu_fails_under_it_goes_back_into_the_queue_and_the_gpu_gets_no_more(
    small_house: House, monkeypatch: pytest.MonkeyPatch, driver: Driver
):
    """It failed for good, and so did the next ones."""
    monkeypatch.setattr(gpu_check, "unusable", torch_refuses(gpu0="it has fallen off the bus"))
    pool = DevicePool(gpus=["0", "1"])
    job_id = small_house.submit("no-gpu", retries=2)
    [thread] = JobWorker(small_house.workshop(), pool).start()
    thread.join()

    job = small_house.job(job_id)
    assert (job.state, job.retries_left) == ("queued", 2)
    assert (pool.usable(), pool.refused()) == (("1",), {"0": "it has fallen off the bus"})
    assert any("GPU 0: it has fallen off the bus" in (event.message or "") for event in small_house.events(job_id))
    assert driver.processes[0] == []


def test_a_whole_worker_whose_pytorch_finds_no_driver_leaves_jobs_for_the_gpu_and_takes_those_for_any(
    small_house: House, monkeypatch: pytest.MonkeyPatch
):
    """The driver's own library shows a GPU, as with a driver that is too old; PyTorch, really asked, cannot use it."""
    (small_house.home / "pynvml.py").write_text(
        "import sys\nfrom support.fake_nvml import Driver\nsys.modules[__name__] = Driver()\n"
    )
    monkeypatch.setenv("PYTHONPATH", f"{small_house.home}:{Path(__file__).parents[1]}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    waits, runs = small_house.submit("finish"), small_house.submit("show-inputs", require_gpu=False)
    small_house.worker()

    assert small_house.wait(runs).state == "succeeded"
    assert small_house.attempts(runs)[0].device == "cpu"
    assert small_house.job(waits).state == "queued"
    with small_house.database.read() as session:
        [row] = workers.running(session, now=database_now(session), within_s=60)
    assert [(one["kind"], bool(one["refused"])) for one in row.devices] == [("gpu", True), ("cpu", True)]
    assert small_house.log().count("GPU cannot be used") == 1
    [told] = [event.data for event in small_house.events(runs) if event.message == "inputs"]
    assert (told["device"], told["cpu_allowed"]) == ("cpu", False)


@pytest.mark.usefixtures("driver")
def test_a_worker_declares_its_devices(house: House):
    pool = found(house, ask=torch_refuses(gpu0=TOO_OLD))
    Announcer(house.workshop(), pool).announce()
    with house.database.read() as session:
        [row] = workers.running(session, now=database_now(session), within_s=60)
    assert (row.slots, row.gpus) == (2, 2)
    assert [(one["kind"], one["name"], one["refused"]) for one in row.devices] == [
        ("gpu", "1", None), ("gpu", "2", None), ("gpu", "0", TOO_OLD),
    ]  # fmt: skip
