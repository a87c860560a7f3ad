"""The process of a run, without a service around it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from retort.confinement import Policy
from retort_worker.process import RunProcess
from retort_worker.watchdog import Fence
from support.worker_harness import eventually

TELL = (
    "import json, os, sys, tempfile; print(json.dumps([dict(os.environ), os.getsid(0) == os.getpid(), sys.argv[1:]]))"
)


def said(workdir: Path, environment: dict[str, str]) -> tuple[dict[str, str], bool, list[str]]:
    process = RunProcess.start((sys.executable, "-c", TELL), workdir, environment)
    eventually(process.ended)
    assert process.close() == 0
    variables, leads, arguments = json.loads((workdir / "run.log").read_text())
    return variables, leads, arguments


def test_a_run_leads_a_session_of_its_own_in_a_scrubbed_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("RETORT_STORE_URL", "s3://key:secret@bucket")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    variables, leads, arguments = said(tmp_path, {"CUDA_VISIBLE_DEVICES": "3"})
    assert leads
    assert arguments == [str(tmp_path / "spec.json"), str(tmp_path)]
    assert "RETORT_STORE_URL" not in variables
    expected = {"LC_ALL": "C.UTF-8", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "3", "HOME": str(tmp_path)}
    assert expected.items() <= variables.items()


_STEAL = """
import os, sys
from pathlib import Path
for pid in (os.environ["CUDA_WORKER"], "1", str(os.getppid())):
    try:
        print(Path(f"/proc/{pid}/environ").read_text())
    except OSError as error:
        print("refused", error.errno)
for name in ("HOME", "TMPDIR", "YOLO_CONFIG_DIR", "MPLCONFIGDIR", "TORCH_HOME", "XDG_CACHE_HOME"):
    folder = Path(os.environ[name])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own").write_text("mine")
"""


def test_a_run_cannot_read_the_workers_environment_and_writes_where_it_may(tmp_path: Path):
    """Same user: whatever a checkpoint made the run do could read the keys of the worker in /proc."""
    secret = f"WORKER_SECRET={os.urandom(8).hex()}"
    holder = subprocess.Popen(
        ["/bin/sleep", "600"], env={"WORKER_SECRET": secret.partition("=")[2]}
    )  # what is in this process's own /proc is from its start
    process = RunProcess.start((sys.executable, "-c", _STEAL), tmp_path, {"CUDA_WORKER": str(holder.pid)})
    eventually(process.ended)
    facts = process.facts()
    assert process.close() == 0
    holder.kill()
    holder.wait()
    log = (tmp_path / "run.log").read_text()
    assert secret not in log
    assert facts is not None
    if {"files", "processes"} & set(facts.in_force):
        assert log.startswith("refused")
    written = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("own")}
    assert {"own", ".cache", ".config", "work"} <= written


def test_the_temporary_folder_is_short_enough_for_sockets_and_goes_with_the_run(tmp_path: Path):
    workdir = tmp_path / ("long" * 20)
    workdir.mkdir()
    temporary = Path(said(workdir, {})[0]["TMPDIR"])
    assert len(str(temporary)) <= 70
    assert not temporary.exists()


def test_a_system_that_refuses_to_tell_of_exits_is_asked_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(_pid: int) -> int:
        raise PermissionError("seccomp")

    monkeypatch.setattr(os, "pidfd_open", refuse, raising=False)
    process = RunProcess.start((sys.executable, "-c", "import sys; sys.exit(3)"), tmp_path, {})
    deadline = time.monotonic() + 60
    while not process.ended():
        assert time.monotonic() < deadline
        process.wait(0.05)
    assert process.close() == 3


def test_waiting_for_a_run_ends_with_the_run_or_in_time(tmp_path: Path):
    process = RunProcess.start((sys.executable, "-c", "import sys; sys.exit(3)"), tmp_path, {})
    begun = time.monotonic()
    while not process.ended():
        process.wait(60.0 if hasattr(os, "pidfd_open") else 0.1)
    assert time.monotonic() - begun < 30
    assert process.close() == 3
    process = RunProcess.start((sys.executable, "-c", "import time; time.sleep(60)"), tmp_path, {})
    begun = time.monotonic()
    process.wait(0.2)
    assert time.monotonic() - begun >= 0.2
    assert not process.ended()
    assert process.close() == -9


def test_a_command_that_does_not_exist_is_an_error_of_the_world(tmp_path: Path):
    with pytest.raises(OSError, match="no-such-program"):
        RunProcess.start(("/no-such-program",), tmp_path, {})


def test_a_fence_that_nobody_renews_expires_once():
    fired: list[float] = []
    started = time.monotonic()
    with Fence(0.25, started, lambda: fired.append(time.monotonic())) as fence:
        eventually(lambda: fence.expired)
    assert len(fired) == 1
    assert 0.2 <= fired[0] - started < 0.25 + 1


def test_a_fence_counts_from_before_the_renewal_began():
    fired: list[float] = []
    started = time.monotonic()
    with Fence(0.25, started, lambda: fired.append(time.monotonic())) as fence:
        fence.renewed(started + 0.5)
        eventually(lambda: fence.expired)
    assert fired[0] - started >= 0.7


def test_the_worker_imports_neither_torch_nor_ultralytics():
    look = "import sys, retort_worker.__main__; sys.exit(bool({'torch', 'ultralytics'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", look], check=False).returncode == 0


def test_a_run_reads_its_inputs_and_writes_no_more_than_its_folder_and_its_projects_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What one project's run compiles is code, which another's run would load."""
    for name in ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR"):  # torch may have set them in this process
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "inputs").mkdir()
    (tmp_path / "inputs" / "image.png").write_bytes(b"pixels")
    (tmp_path / "secret").write_text("of another")
    (tmp_path / "run").mkdir()
    tries = (
        "import os, sys\n"
        "outer = os.path.dirname(os.getcwd())\n"
        "def tried(name, mode):\n"
        "    try:\n"
        "        open(os.path.join(outer, name), mode).close()\n"
        "        print(name, 'done')\n"
        "    except OSError as error:\n"
        "        print(name, 'refused')\n"
        "tried('inputs/image.png', 'r'); tried('inputs/image.png', 'a'); tried('secret', 'r')\n"
        "tried('compiled/mine/inductor/kernel', 'w'); tried('compiled/theirs', 'w'); tried('run/own', 'w')\n"
    )
    policy = Policy(read=(str(tmp_path / "inputs"),))
    compiled = tmp_path / "compiled" / "mine"
    process = RunProcess.start((sys.executable, "-c", tries), tmp_path / "run", {}, compiled=compiled, policy=policy)
    eventually(process.ended)
    facts = process.facts()
    assert process.close() == 0
    assert facts is not None
    said = (tmp_path / "run" / "run.log").read_text().splitlines()
    if "files" in facts.in_force:
        assert said == [
            "inputs/image.png done", "inputs/image.png refused", "secret refused",
            "compiled/mine/inductor/kernel done", "compiled/theirs refused", "run/own done",
        ]  # fmt: skip
