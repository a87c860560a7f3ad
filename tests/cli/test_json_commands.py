"""Every command prints JSON where it is asked to: one document a line on stdout, an error as one on stderr."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli.commands import SPEC, Retort
from cli.test_completion import commands
from core.training.pictures import draw
from house.source import ROOT
from retort.cli.app import app
from retort.errors import UNPRINTABLE
from typer.main import get_command

Submitted = Callable[[str, int], str]
ASKED = {
    "up": "--home {file}", "submit": "{spec} --set name=finish --set training.epochs=1", "ls": "", "get": "{job}",
    "watch": "{job}", "top": "--once", "compare": "{job} {other}", "open": "{job}", "logs": "{job}", "workers": "",
    "drain": "nobody", "wait": "{job}", "cancel": "{job}", "stop": "{job}", "pause": "{job}", "resume": "{job}",
    "retry": "{job}", "extend": "{job} --epochs 1", "clone": "{job}", "priority": "{job} 0", "label": "{job} a=b",
    "predict": "{job} {file}", "download": "{job} student.pt --out {folder}", "keep": "{other}", "delete": "{other}",
    "restore": "{other}", "prune": "--dry-run", "usage": "", "audit": "--limit 3", "quota": "default", "whoami": "",
    "login": "--url http://127.0.0.1:9", "logout": "--url http://127.0.0.1:9", "sweep": "{file}", "sweeps": "",
    "sweep-get": "nothing", "sweep-watch": "nothing", "sweep-cancel": "nothing", "sweep-best": "nothing",
    "sweep-report": "nothing --out {folder}/sweep.html", "init": "{data} --out {folder}/made.yaml", "doctor": "",
    "run": "{file}", "advise": "{file}", "eval": "{file} --data {folder}/none",
    "export": "{file} --data {folder}/none --format onnx", "validate": "{spec}", "recipes": "",
    "review show": "{job}", "review sheet": "{job} --out {folder}/sheet.html", "review export": "{job}",
    "review import": "{job} --from {file}", "review accept": "{job}", "review reject": "{job}",
    "review complete": "{job}", "datasets push": "{data} --name yard --no-wait", "datasets list": "",
    "datasets show": "dataset:none", "datasets pull": "dataset:none", "datasets rm": "dataset:none",
    "keys create": "walk --role viewer", "keys list": "", "keys rotate": "key_none", "keys revoke": "key_none",
    "projects list": "", "projects create": "walk", "webhooks list": "",
    "webhooks create": "https://93.184.215.14/hook", "webhooks rotate": "nothing", "webhooks enable": "nothing",
    "webhooks rm": "nothing", "webhooks test": "nothing", "webhooks deliveries": "nothing",
    "webhooks redeliver": "nothing nothing", "models show": "none", "models push": "{file} --name none",
    "models pull": "none@12345678", "data demo": "{folder}/demo --train 2 --val 2 --imgsz 32", "data check": "{data}",
    "data convert": "{folder}/none {folder}/converted", "data list": "", "data fetch": "none",
}  # fmt: skip
"""What each command is asked; many are asked for what is not there, or cannot be done."""


def documents(text: str) -> list[Any]:
    """Return the documents, one a line."""
    assert not UNPRINTABLE.findall(text.replace("\n", ""))
    return [json.loads(line) for line in text.splitlines()]


def test_every_command_prints_one_document_a_line_and_nothing_beside_it(
    served: Retort, submitted: Submitted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with_json = {
        " ".join(path)
        for path, command in commands(get_command(app))
        if any("--json" in parameter.opts for parameter in command.params)
    }
    assert set(ASKED) == with_json
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("no spec\N{CYRILLIC SMALL LETTER A}")
    places = {"file": tmp_path / "file", "folder": tmp_path, "data": draw(tmp_path / "yard", num_train=2, num_val=2)}
    places |= {"job": submitted("finish", 1), "other": submitted("finish", 1), "spec": SPEC}
    assert served("wait", places["other"]).code == 0

    done = []
    for command, asked in ASKED.items():
        ended = served(*command.split(), *asked.format_map(places).split(), "--json")
        if ended.code == 4:
            assert ended.out == "", command
            assert list(documents(ended.err)[-1]) == ["error"], command
        else:
            assert documents(ended.out), (command, ended)
            done.append(command)
    assert len(done) >= 30, done


def test_only_one_place_prints_so_that_no_command_prints_beside_it():
    """A ``print`` elsewhere would reach pipes that expect JSON, with whatever strangers have named."""
    folder = ROOT / "core" / "retort" / "cli"
    printing = re.compile(r"(?<![\w.])(print|typer\.echo|sys\.stdout\.write)\(")
    found = {path.name for path in folder.rglob("*.py") if printing.search(path.read_text())}

    assert found == {"app.py", "options.py", "machine.py"}, "version and help; emit, say and note; a child's program"
