"""The doctor says what this machine lacks, each with the fix, and fails only where work is hindered."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from cli.commands import Retort, key_of
from retort import nvml
from retort.cli.doctor import machine
from retort.cli.doctor import service as services
from retort.cli.doctor.command import findings
from retort.settings import Settings


def by_name(found: Any) -> dict[str, Any]:
    return {one.name: one for one in found}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home")


def test_a_sound_machine_with_a_service_has_nothing_that_hinders_work(retort: Retort, ready: dict[str, Any]):
    told = retort("doctor", "--json", url=ready["url"])
    found = {one["name"]: one for one in told.json["checks"]}

    assert (told.code, told.json["ok"]) == (0, True)
    assert found["service"]["status"] == found["key"]["status"] == found["torch"]["status"] == "ok"
    assert "Retort" in found["service"]["detail"]
    assert all(one["fix"] for one in found.values() if one["status"] != "ok")
    assert key_of(ready) not in json.dumps(told.json)


def test_settings_that_cannot_be_read_are_named_and_nothing_else_is_guessed(
    monkeypatch: pytest.MonkeyPatch, retort: Retort
):
    monkeypatch.setenv("RETORT_PORT", "99999")
    told = retort("doctor", "--json")

    assert told.code == 1
    assert told.json["checks"][-1]["name"] == "settings"
    assert "RETORT_PORT=99999" in told.json["checks"][-1]["detail"]


def test_a_service_that_is_named_and_silent_fails_and_one_that_nobody_named_does_not():
    url = "http://127.0.0.1:9"

    assert next(services.service(url, None, named=True)).status == "failed"
    assert next(services.service(url, None, named=False)).status == "ok"


def test_a_key_that_is_none_is_told_and_not_shown(service: str):
    (found,) = services.service(service, "rtt_wrong", named=True)

    assert (found.name, found.status) == ("service", "failed")
    assert "rtt_wrong" not in f"{found.detail}{found.fix}"


def test_a_port_that_another_program_has_is_told(settings: Settings):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        busy = settings.model_copy(update={"port": taken.getsockname()[1]})
        assert services.port(busy, busy.url).status == "warning"


def test_a_home_is_a_folder_of_this_user_alone(settings: Settings, tmp_path: Path):
    assert services.home(settings).status == "ok"
    settings.home.mkdir(mode=0o755)
    settings.home.chmod(0o755)
    assert services.home(settings).status == "warning"
    settings.home.chmod(0o700)
    assert services.home(settings).status == "ok"
    file = tmp_path / "file"
    file.touch()
    for wrong in (file, file / "below"):
        assert services.home(settings.model_copy(update={"home": wrong})).status == "failed"


def test_each_disk_is_asked_once_and_too_little_room_fails(settings: Settings):
    assert len(list(services.disk(settings))) == 1
    (full,) = services.disk(settings.model_copy(update={"min_free_bytes": 1 << 60}))
    assert (full.status, "RETORT_MIN_FREE_BYTES" in full.detail) == ("failed", True)


def test_a_database_and_a_broker_that_do_not_answer_are_told_without_their_passwords(tmp_path: Path):
    silent = Settings(
        home=tmp_path,
        database_url="postgresql://me:hidden-word@127.0.0.1:9/retort",
        broker_url="redis://:hidden-word@127.0.0.1:9",
    )
    found = [services.database(silent), services.broker(silent)]

    assert [one.status for one in found] == ["failed", "warning"]
    assert all(one.fix and "hidden-word" not in f"{one.detail}{one.fix}" for one in found)


@pytest.mark.parametrize(
    ("torch", "name", "fix"),
    [
        ({"cuda": None, "gpus": 0}, "cuda", "built for CUDA"),
        ({"cuda": "13.2", "gpus": 0, "trouble": "driver too old"}, "cuda", "update NVIDIA's driver"),
        ({"cuda": "13.2", "gpus": 1}, "gpu", None),
    ],
)
def test_a_gpu_that_pytorch_cannot_use_is_told_with_the_fix(
    monkeypatch: pytest.MonkeyPatch, torch: dict[str, Any], name: str, fix: str | None
):
    monkeypatch.setattr(nvml, "describe", lambda _: [nvml.GpuDescription("0", "NVIDIA L4", 24 << 30, driver="450.1")])
    monkeypatch.setattr(nvml, "driver", lambda: ("450.1", "11.0"))
    last = machine._gpus(torch)[-1]

    assert (last.name, last.status) == (name, "ok" if fix is None else "failed")
    assert fix is None or fix in str(last.fix)


def test_a_light_install_is_told_what_it_cannot_do_and_how_to_change_that(monkeypatch: pytest.MonkeyPatch):
    real = machine.find_spec
    monkeypatch.setattr(machine, "find_spec", lambda name: None if name in {"torch", "ncnn"} else real(name))
    found = by_name([*machine.packages(), *machine.torch(), *machine.exporters()])

    assert found["packages: train"].status == "warning"
    assert found["packages: train"].fix == "pip install 'retort[train]'"
    assert "torch" not in found


def test_an_exporter_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch):
    real = machine.find_spec
    monkeypatch.setattr(machine, "find_spec", lambda name: None if name == "ncnn" else real(name))
    found = by_name(machine.exporters())

    assert found["exports: ncnn"].status == "warning"
    assert "ncnn" not in found["exports"].detail


def test_confinement_that_is_off_or_lacks_a_part_is_told(settings: Settings):
    off = machine.confinement(settings.model_copy(update={"confinement": "off"}))
    without = machine.confinement(settings.model_copy(update={"confinement_without": ("network",)}))

    assert (off.status, without.status) == ("warning", "warning")
    assert "network" in without.detail


def test_every_finding_that_is_not_sound_has_a_fix(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("RETORT_HOME", str(tmp_path))
    monkeypatch.setattr(machine, "torch", list)

    assert [one for one in findings("http://127.0.0.1:9") if one.status != "ok" and not one.fix] == []
