"""No error of Python reaches a terminal: one line with a class, and the traceback in a log that is named."""

from __future__ import annotations

import errno
import functools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from cli.commands import SPEC, Retort
from retort.cli import boundary, devices
from retort.cli.app import app
from retort.cli.render import failure_text
from retort.errors import UserError
from retort.foreign import extra_with, translate
from rich.console import Console
from support.fake_nvml import Driver


class Surprise(Exception):
    """An error of a class that nobody here knows."""


FAULTS = (
    ValueError("wrong"), Surprise("what?"), ImportError("TensorRT 11 has gone"), OSError(errno.EIO, "broken"),
    KeyError("k"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), RecursionError("deep"),
)  # fmt: skip


def commands(group: typer.Typer, *above: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command with the words that name it."""
    for one in group.registered_commands:
        yield (*above, one.name or one.callback.__name__.replace("_", "-")), one
    for more in group.registered_groups:
        assert more.typer_instance is not None
        yield from commands(more.typer_instance, *above, str(more.name or more.typer_instance.info.name))


COMMANDS = dict(commands(app))


@pytest.fixture(autouse=True)
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(boundary, "user_log_path", lambda _: tmp_path / "logs")
    return tmp_path / "logs" / "retort-cli.log"


def failing(original: Callable[..., Any], error: Exception) -> Callable[..., Any]:
    @functools.wraps(original)
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def needed(words: tuple[str, ...]) -> list[str]:
    """Return something for whatever the command insists on."""
    command: Any = typer.main.get_command(app)
    for word in words:
        command = command.commands[word]
    given: list[str] = []
    for parameter in command.params:
        if parameter.required:
            value = __file__ if getattr(parameter.type, "exists", False) else "1"
            given += [value] if parameter.param_type_name == "argument" else [parameter.opts[0], value]
    return given


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_fault_in_any_command_is_one_line_and_its_traceback_is_in_the_log(
    words: tuple[str, ...], retort: Retort, monkeypatch: pytest.MonkeyPatch, log: Path
):
    given, first = needed(words), list(COMMANDS).index(words)
    errors = FAULTS if words == ("run",) else [FAULTS[(first + further) % len(FAULTS)] for further in range(2)]
    for error in errors:
        with monkeypatch.context() as patch:
            patch.setattr(COMMANDS[words], "callback", failing(COMMANDS[words].callback, error))
            told = retort(*words, *given)

        assert told.code == 4, told
        assert "Traceback" not in told.out + told.err
        assert len(told.err.strip().splitlines()) == 1
        assert type(error).__name__ in told.err
        assert str(log) in told.err
    assert log.read_text().count("Traceback (most recent call last)") == len(errors)


def test_a_fault_is_json_where_json_was_asked_for(retort: Retort, monkeypatch: pytest.MonkeyPatch):
    command = COMMANDS["recipes",]
    monkeypatch.setattr(command, "callback", failing(command.callback, Surprise("what?")))
    error = retort("recipes", "--json").error
    assert (error["code"], error["message"], error["retryable"]) == ("internal", "Surprise: what?", False)


def test_a_folder_that_must_not_be_used_is_the_users_to_mend(retort: Retort, monkeypatch: pytest.MonkeyPatch):
    command = COMMANDS["recipes",]
    refused = PermissionError(errno.EACCES, "Permission denied", "/data/x")
    monkeypatch.setattr(command, "callback", failing(command.callback, refused))
    error = retort("recipes", "--json").error
    assert (error["code"], error["message"]) == ("bad_path", "/data/x cannot be used: Permission denied")


def test_a_home_that_is_a_file_is_the_users_to_mend_too(retort: Retort, tmp_path: Path):
    """It was "a mistake in Retort", with a traceback in the log."""
    (tmp_path / "home").write_text("a file")
    error = retort("up", "--home", tmp_path / "home", "--json").error
    assert (error["code"], error["message"]) == ("bad_path", f"{tmp_path / 'home'} cannot be used: File exists")


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("RETORT_SLOTS", "abc", "RETORT_SLOTS=abc: should be a valid integer"),
        ("RETORT_DATA_DIRS", "[1]", "name a folder, several with colons between them, or a JSON list of folders"),
        ("RETORT_DATA_DIRS", "[/data", "RETORT_DATA_DIRS"),
        ("RETORT_PORT", "99999", "RETORT_PORT=99999: should be less than or equal to 65535"),
        ("RETORT_SLOT", "2", "RETORT_SLOT is no setting: did you mean RETORT_SLOTS?"),
        ("RETORT_DATABASEURL", "x", "did you mean RETORT_DATABASE_URL?"),
        ("RETORT_LEASE_S", "6", "is shorter than two heartbeats"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named(
    name: str, value: str, told: str, retort: Retort, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(name, value)
    error = retort("data", "list", "--json").error
    assert error["code"] == "bad_settings"
    assert told in error["message"]


def test_a_gpu_that_is_not_there_is_told_before_anything_is_prepared(
    retort: Retort, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """It was a traceback, "a mistake in Retort"."""
    monkeypatch.setattr(devices, "num_gpus", lambda: 0)
    error = retort("run", SPEC, "--device", "0", "--out", tmp_path / "out", "--json").error
    assert (error["code"], error["message"]) == (
        "no_gpu", "there is no GPU 0: this machine has no GPU that its driver shows",
    )  # fmt: skip
    assert "--device cpu" in error["hint"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("wanted", "number", "chosen"), [
    (None, 0, "cpu"), (None, None, "cpu"), (None, 2, "0"), ("cpu", 2, "cpu"), ("1", 2, "1"), ("cuda:1", 2, "1"),
    ("0", None, "0"),
])  # fmt: skip
def test_a_device_is_chosen_by_wish_and_by_what_there_is(
    wanted: str | None, number: int | None, chosen: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(devices, "num_gpus", lambda: number)
    assert devices.choose(wanted) == chosen


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [
        ("cuda", "by its number: --device 0"), ("GPU", "by its number"), ("0,1", "resources.gpus"), ("-1", "cpu, or"),
        ("mps", "--device cpu"), ("", "cpu, or"), ("٣", "cpu, or"), ("cuda:", "cpu, or"), ("0.5", "cpu, or"),
    ],
)  # fmt: skip
def test_a_device_that_is_misspelt_is_told_how_to_spell_it(wanted: str, hint: str):
    """Some went to the run, where they became a mistake in Retort hours later."""
    with pytest.raises(UserError, match="is no device") as caught:
        devices.choose(wanted)
    assert hint in (caught.value.hint or "")
    assert caught.value.code == "usage"


@pytest.mark.skipif(bool(devices.num_gpus()), reason="this machine has a GPU")
def test_hidden_gpus_are_told_with_what_hides_them(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(UserError, match=r"\(CUDA_VISIBLE_DEVICES is ''\)") as caught:
        devices.choose("007")
    assert caught.value.message.startswith("there is no GPU 7")


def test_one_part_of_a_divided_gpu_is_all_that_a_run_sees(monkeypatch: pytest.MonkeyPatch):
    """The second part was named by its number, and PyTorch sees the first alone."""
    driver = Driver()
    driver.instances = {1: 2}
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices.seen_alone("2") == ("0", {"CUDA_VISIBLE_DEVICES": "MIG-11"})
    assert devices.seen_alone("cpu") == ("cpu", {})
    driver.instances = {}
    assert devices.seen_alone("2") == ("2", {})


def test_a_driver_that_does_not_answer_is_told_before_the_cpu_is_taken(monkeypatch: pytest.MonkeyPatch):
    driver = Driver()
    driver.fails = driver.NVML_ERROR_LIB_RM_VERSION_MISMATCH
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices.choose(None) == "cpu"
    [why] = devices.refused()
    assert "NVIDIA's driver does not answer" in why
    with pytest.raises(UserError) as caught:
        devices.choose("0")
    assert why in (caught.value.hint or "")


def test_a_word_that_is_no_device_is_refused(retort: Retort):
    error = retort("run", SPEC, "--device", "gpu", "--json").error
    assert (error["code"], error["message"]) == ("usage", "'gpu' is no device")


def test_a_light_install_says_what_is_missing_and_how_to_get_it(retort: Retort, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(devices, "find_spec", lambda _: None)
    error = retort("run", SPEC, "--json").error
    assert error["code"] == "not_installed"
    assert "pip install 'retort[train]'" in error["hint"]


def test_a_package_of_an_extra_is_known_wherever_it_is_missed():
    assert extra_with("ultralytics") == "train"
    assert extra_with("celery") == "api"  # the first that has it
    assert extra_with("no_such_package") is None
    told = translate(ModuleNotFoundError("No module named 'celery'", name="celery.app"))
    assert (told.code, told.hint) == ("not_installed", "pip install 'retort[api]'")


def printed(failure: dict[str, str]) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(failure_text(failure))
    return captured.get()


def test_the_traceback_of_a_failed_run_is_not_printed_but_named():
    failure = {"message": "x", "code": "internal", "log_excerpt": 'Traceback (most recent call last):\n  File "a.py"'}
    shown = printed(failure)
    assert "Traceback" not in shown
    assert re.search(r"traceback is in run\.log", shown)
    assert "CUDA is full" in printed({**failure, "log_excerpt": "CUDA is full"})
