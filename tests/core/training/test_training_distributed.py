"""A training on two processes: what they compute equals one process, and neither death nor stop leaves one behind."""

from __future__ import annotations

import errno
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from core.runs import Running, document, start
from core.training.pictures import Notebook
from core.training.two_ranks import half, pupil, step
from retort.constants import Role
from retort.errors import DataError, ModelError, Stopped, UserError
from retort.foreign import ForeignError, failed_gpu
from retort.protocol.events import FailedEvent, FinishedEvent, LogEvent, MetricEvent, StageEvent, StoppedEvent
from retort.spec import TrainingSpec
from retort.spec.hardware import Optimisation
from retort.training import comm
from retort.training.config import TrainConfig, TrainResult
from retort.training.distributed import launcher
from retort.training.distributed.messages import RankCallback, Receiver, messages_file
from retort.training.distributed.rank import RankConfig, _train

ROOTS = [str(Path(__file__).parents[2])]
LONG = {"epochs": 500, "imgsz": 64, "batch": 4, "checkpoint_every": 1, "close_mosaic": 0}


@pytest.fixture(scope="module")
def teacher(published: Callable[..., Path]) -> Path:
    return published("yolo11n")


@pytest.fixture(scope="module")
def pair(teacher: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two ranks has found; see two_ranks.py."""
    folder = tmp_path_factory.mktemp("pair")
    (folder / "teacher.pt").symlink_to(teacher)
    program = Path(__file__).with_name("two_ranks.py")
    path = os.pathsep.join([*ROOTS, os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts",
               "0", "--local-addr", "localhost", str(program), str(folder)]  # fmt: skip
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=120, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"rank-{rank}.pt", weights_only=True) for rank in range(2)]


def test_a_step_of_two_ranks_is_the_step_of_one_process_on_both_halves(
    pair: list[dict[str, Any]], teacher: Path
) -> None:
    alone = pupil(teacher)
    before = {name: value.clone() for name, value in alone.state_dict().items()}
    step(alone, alone, [half(0), half(1)], 1)
    after = alone.state_dict()
    moved = 0
    for name, value in pair[0]["state"].items():
        torch.testing.assert_close(value, pair[1]["state"][name], rtol=0, atol=0)
        torch.testing.assert_close(value, after[name], rtol=1e-4, atol=1e-5)
        moved += not torch.equal(value, before[name])
    assert moved > 100
    projectors = [name for name in after if name.startswith("projectors")]
    assert projectors
    assert all(not torch.equal(pair[0]["state"][name], before[name]) for name in projectors)


def test_every_rank_distils_with_terms_of_its_own_images(pair: list[dict[str, Any]], teacher: Path) -> None:
    for rank, found in enumerate(pair):
        alone = step(*(2 * [pupil(teacher)]), [half(rank)], 1)
        assert found["items"] == pytest.approx(alone, rel=1e-4)
        assert all(found["items"][f"kd/{label}"] > 0 for label in ("class_logits", "score_weighted_l2"))
    assert pair[0]["items"]["kd_loss"] != pytest.approx(pair[1]["items"]["kd_loss"])
    assert not any(pair[0]["taught"] + pair[1]["taught"])


def test_a_step_without_distillation_leaves_the_projectors_alone_and_waits_for_nobody(
    pair: list[dict[str, Any]],
) -> None:
    assert not any(pair[0]["silent"] + pair[1]["silent"])


def test_ranks_agree_on_scales_means_and_stops(pair: list[dict[str, Any]]) -> None:
    for rank, found in enumerate(pair):
        torch.testing.assert_close(found["scales"], torch.tensor([1.5 / 2, 1.5 / 2.5]))
        assert found["mean"] == 0.5
        assert found["any"] == (True, False)
        assert found["share"] == 2 - 2 * rank


@pytest.mark.train
def test_a_job_on_two_processes_trains_all_its_networks(tmp_path: Path) -> None:
    spec = document(tmp_path, control=False, exports=[], resources={"gpus": 2})
    running = start(tmp_path, spec)
    running.until(lambda event: isinstance(event, StageEvent) and event.stage == "distill")
    running.until(lambda event: isinstance(event, FinishedEvent))
    assert running.wait() == 0
    said = running.said()
    begun = [event for event in said if isinstance(event, LogEvent) and "2 CPU processes" in event.message]
    assert len(begun) == 2  # teacher and student
    measured = [event for event in said if isinstance(event, MetricEvent) and event.role is Role.STUDENT]
    trained = [event.values for event in measured if "train/kd_loss" in event.values]
    assert [event.step for event in measured if "train/kd_loss" in event.values] == [1, 2]
    for values in trained:
        assert all(value is not None and math.isfinite(value) for value in values.values())
        assert all((values[f"train/kd/{label}"] or 0) > 0 for label in ("class_logits", "dfl", "pearson"))
    assert (running.workdir / "artifacts" / "student.pt").is_file()
    assert len(list((running.workdir / "artifacts" / "checkpoints").glob("student-*.pt"))) == 2
    assert not _left(running)


@contextmanager
def training(home: Path, attempt: int) -> Iterator[tuple[Running, list[int]]]:
    """A job whose teacher is in its first epochs, and its ranks' processes."""
    spec = document(home, resources={"gpus": 2}, training=LONG)
    spec["teacher"]["train"]["epochs"] = 500
    running = start(home, spec, attempt=attempt)
    try:
        running.until(lambda event: isinstance(event, MetricEvent))
        yield running, _pids(running)
    finally:
        if running.process.poll() is None:
            running.kill()


@pytest.mark.train
def test_a_killed_rank_ends_the_job_with_its_name_and_leaves_no_process(tmp_path: Path) -> None:
    with training(tmp_path, 1) as (running, pids):
        killed_at = time.monotonic()
        os.kill(pids[1], signal.SIGKILL)
        code = running.wait()
        assert time.monotonic() - killed_at < 30
        last = running.said()[-1]
        assert (code, type(last)) == (1, FailedEvent), running.log()
        assert isinstance(last, FailedEvent)
        assert (last.failure.code, last.failure.retryable) == ("rank_lost", True)
        assert "rank 1" in last.failure.message
        assert "SIGKILL" in last.failure.message
        assert not _left(running)


@pytest.mark.train
def test_a_cancelled_job_stops_all_ranks_at_a_batch(tmp_path: Path) -> None:
    with training(tmp_path, 1) as (running, _):
        running.process.terminate()
        code = running.wait()
        assert (code, type(running.said()[-1])) == (75, StoppedEvent), running.log()
        assert "stopped in epoch" in running.log()
        assert not _left(running)


@pytest.mark.train
def test_ranks_do_not_outlive_a_run_that_is_killed(tmp_path: Path) -> None:
    with training(tmp_path, 1) as (running, _):
        running.kill()
        assert not _left(running)


def test_errors_come_back_as_what_they_were(tmp_path: Path) -> None:
    thrown: list[BaseException] = [
        ModelError("no", hint="yes"), DataError("bad", code="special"), Stopped("asked"),
        OSError(errno.ENOSPC, "full"), MemoryError("none"), ZeroDivisionError("surprise"),
    ]  # fmt: skip
    for error in thrown:
        RankCallback(tmp_path, 1).failed(error)
    receiver = Receiver(tmp_path, Notebook())
    receiver.read()
    found = receiver.failures
    assert [type(error) for error in found] == [ModelError, DataError, Stopped, OSError, MemoryError, RuntimeError]
    assert (found[0].message, found[0].hint, found[1].code) == ("no", "yes", "special")  # type: ignore[attr-defined]
    assert found[3].errno == errno.ENOSPC  # type: ignore[attr-defined]
    assert "ZeroDivisionError: surprise" in str(found[5])
    assert found[5].__notes__


def test_an_error_of_a_library_keeps_its_code_on_the_way_from_a_rank(tmp_path: Path) -> None:
    """It came back as ``internal``, a mistake in Retort, unless its text told its class."""
    RankCallback(tmp_path, 1).failed(failed_gpu("GPU 1 is lost", "look"))
    receiver = Receiver(tmp_path, Notebook())
    receiver.read()
    (found,) = receiver.failures
    assert isinstance(found, ForeignError)
    assert (found.message, found.hint, found.code, found.retryable) == ("GPU 1 is lost", "look", "cuda_error", True)


@pytest.mark.skipif(torch.cuda.device_count() > 1, reason="this machine has a GPU for each rank")
def test_a_rank_without_a_gpu_of_its_own_says_so_before_it_meets_the_others(
    tmp_path: Path, data_yaml: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MASTER_ADDR", "192.0.2.1")  # where nobody answers
    plan = TrainConfig(
        role=Role.STUDENT, model="yolov8n", weights=None, data_yaml=data_yaml, epochs=1, training=TrainingSpec(),
        folder=tmp_path, device="0",
    )  # fmt: skip
    with pytest.raises(ForeignError, match="a GPU of the run cannot be used") as caught:
        _train(RankConfig(plan, None, None), 1, RankCallback(tmp_path, 1))
    assert caught.value.code == "cuda_error"
    assert caught.value.hint


@pytest.mark.parametrize(
    ("device", "names", "expected"),
    [
        ("cpu", None, ("cpu", {})),
        ("0", "GPU-a,GPU-b", ("0", {})),
        ("2", None, ("0", {"CUDA_VISIBLE_DEVICES": "2,3"})),
        ("1", "5,3,GPU-c", ("0", {"CUDA_VISIBLE_DEVICES": "3,GPU-c"})),
    ],
)
def test_ranks_see_their_own_gpus_as_0_and_1(device: str, names: str | None, expected: tuple[str, dict[str, str]]):
    """Upstream's barriers take a rank's number for its GPU's: with two from GPU 2 on, they were on GPUs 0 and 1."""
    assert launcher.own_gpus(device, 2, names) == expected


def test_ranks_keep_their_own_statistics_by_whichever_name_torch_knows():
    class Before:
        """As below torch 2.13."""

        def __init__(self, module: object, broadcast_buffers: bool = True) -> None: ...

    assert comm.own_buffers(Before) == {"broadcast_buffers": False}
    assert comm.own_buffers(torch.nn.parallel.DistributedDataParallel) == {"forward_sync_buffers": False}


def test_the_watcher_hears_the_first_rank_only_and_only_whole_lines(tmp_path: Path) -> None:
    notebook = Notebook()
    receiver = Receiver(tmp_path, notebook)
    fitted = TrainResult(tmp_path / "best.pt", {"val/mAP50": None}, 3, 2)
    for rank in (1, 0):
        sender = RankCallback(tmp_path, rank)
        sender.joined()
        sender.metric(rank, {"x": 1.0})
        sender.checkpoint(rank, tmp_path / "a.pt", {})
        sender.progress(0.5)
        sender.log("hello", "warning", of=rank)
        sender.optimised((Optimisation(name="half precision", outcome=f"rank {rank}", whole=True),))
        sender.fitted(fitted)
    with messages_file(tmp_path).open("ab") as file:
        file.write(b'{"rank": 0, "kind": "progress"')
    receiver.read()
    receiver.read()
    assert (notebook.metrics, notebook.fractions, notebook.said) == ({0: {"x": 1.0}}, [0.5], ["warning: hello"])
    assert notebook.checkpoints == [(0, tmp_path / "a.pt", {})]
    assert [one.outcome for one in notebook.optimisations] == ["rank 0"]
    assert receiver.fitted == fitted
    assert receiver.pids == {0: os.getpid(), 1: os.getpid()}


def test_a_beat_of_the_first_rank_is_passed_on_once_and_needs_no_room_in_the_lines(tmp_path: Path) -> None:
    felt: list[str] = []

    class Feeling(Notebook):
        def alive(self, section: str) -> None:
            felt.append(section)

    messages_file(tmp_path).symlink_to("/dev/full")  # where a line would raise
    receiver = Receiver(tmp_path, Feeling())
    first, second = RankCallback(tmp_path, 0), RankCallback(tmp_path, 1)
    for section in ("setup", "step"):
        second.alive("checkpoint")
        first.alive(section)
        receiver._feel()
        receiver._feel()
    assert felt == ["setup", "step"]


@pytest.mark.train
def test_ranks_go_on_where_stopped_ranks_have_left_off(tmp_path: Path, data_yaml: Path) -> None:
    training = TrainingSpec(imgsz=64, batch=4, close_mosaic=0, checkpoint_every=100)
    plan = TrainConfig(
        role=Role.CONTROL, model="yolov8n", weights=None, data_yaml=data_yaml, epochs=3, training=training,
        folder=tmp_path, device="cpu",
    )  # fmt: skip
    first, second = Notebook(stop_after=6), Notebook()  # four batches an epoch
    with pytest.raises(Stopped):
        launcher.fit(plan, first, ranks=2)

    fitted = launcher.fit(plan, second, ranks=2)

    assert fitted.epochs == 3
    assert fitted.weights.is_file()
    done = max(first.metrics)
    assert 1 <= done < 3
    assert sorted(second.metrics) == list(range(done + 1, 4))
    assert any("going on after epoch" in line for line in second.said)


@pytest.mark.train
def test_more_gpus_than_there_are_is_said_before_anything_starts(tmp_path: Path, data_yaml: Path) -> None:
    plan = TrainConfig(
        role=Role.STUDENT, model="yolov8n", weights=None, data_yaml=data_yaml, epochs=1, training=TrainingSpec(),
        folder=tmp_path, device="0",
    )  # fmt: skip
    many = torch.cuda.device_count() + 1
    with pytest.raises(UserError, match=f"resources.gpus is {many}, but this run sees {many - 1}") as caught:
        launcher.fit(plan, Notebook(), ranks=many)
    assert caught.value.code == "too_few_gpus"
    assert not list(tmp_path.iterdir())


def _pids(running: Running) -> list[int]:
    return [
        pid
        for event in running.said()
        if isinstance(event, LogEvent) and "CPU processes" in event.message
        for pid in event.data["pids"]
    ]


def _left(running: Running) -> list[int]:
    """Processes of the ranks' sessions and of the run's group that still live five seconds on."""
    deadline = time.monotonic() + 5
    groups = {running.process.pid, *_pids(running)}
    assert len(groups) >= 3
    while (alive := _alive(groups)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return alive


def _alive(groups: set[int]) -> list[int]:
    """Processes in *groups* that are more than a line in the table, waiting to be reaped."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = path.read_text(errors="replace").rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(group) in groups and state not in "ZX":
            found.append(int(path.parent.name))
    return found
