"""The run that ``retort run`` starts sees little of the environment, and stops on SIGTERM as on Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from retort.cli import run
from retort.confinement import Policy
from retort.protocol.environment import allowed, run_environment
from support.worker_harness import eventually


def test_a_run_gets_what_the_worker_gives_and_no_key_or_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It got everything but RETORT_*."""
    for name in ("AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "GITHUB_TOKEN", "RETORT_DATABASE_URL", "SSH_AUTH_SOCK"):
        monkeypatch.setenv(name, "secret")
    with run._started(tmp_path, None, {}, Policy()) as process:
        environ = Path(f"/proc/{process.pid}/environ")
        variables = eventually(lambda: environ.read_bytes().decode()).split("\0")  # empty until it has begun
    given = dict(entry.partition("=")[::2] for entry in variables if entry)
    assert "secret" not in given.values()
    assert {**given, "TMPDIR": ""} == {**run_environment(os.environ, tmp_path)[0], "TMPDIR": ""}  # a new folder each
    assert (given["HOME"], given["PATH"]) == (str(tmp_path), os.environ["PATH"])


def test_the_gpus_that_a_user_has_chosen_reach_the_run():
    given = {"CUDA_VISIBLE_DEVICES": "1", "NVIDIA_VISIBLE_DEVICES": "all", "LC_ALL": "C", "KEY": "secret"}
    assert allowed(given) == {name: value for name, value in given.items() if name != "KEY"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_the_run_to_stop_and_the_second_ends_it(number: signal.Signals):
    """On SIGTERM the command died at once without a word."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    with run._stopping(process) as asked:
        os.kill(os.getpid(), number)
        assert asked.is_set()
        assert process.wait(60) == -signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_sigterm_before_the_run_has_begun_ends_the_command_as_ctrl_c_does():
    with pytest.raises(KeyboardInterrupt), run._interrupted_by_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
