"""An agent gets from a folder of images to an INT8 student by the tools alone, in few calls."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp.client.client import Client as Session
from mcp.client.stdio import StdioServerParameters
from PIL import Image
from results import result
from retort import agents
from retort.db import Database, queue
from retort.db.session import database_now
from retort.settings import Settings
from retort.spec import parse_document, parse_spec
from retort.storage import Store
from retort_worker.context import WorkerContext
from retort_worker.dataset_intake import DatasetIntake
from retort_worker.predictions import PredictionLoop
from stored_results import EXPORTS
from support.api_harness import Worker, listening
from support.identity import OPERATOR

PREDICTOR = (sys.executable, str(Path(__file__).parents[1] / "support" / "scripted_predictor.py"))
MOST_CALLS = 12
NAMES = {
    "service_status", "send_images", "plan_job", "start_job", "wait_for_job", "find_jobs", "act_on_job", "extend_job",
    "fetch_file", "predict",
}  # fmt: skip


@contextmanager
def working(home: Path) -> Iterator[None]:
    """Do what a worker does: check datasets, take the jobs that are queued, publish their files, and answer images."""
    settings = Settings(home=home, database_url=f"sqlite:///{home / 'retort.db'}")
    stopped = threading.Event()
    with closing(Database(settings.database_url)) as database:
        store = Store(settings.store_url)
        context = WorkerContext(database, store, settings, "w:1:a", "here")
        predicting, intake = PredictionLoop(context, PREDICTOR), DatasetIntake(context, look_s=0.1)
        worker = Worker(database, store, home)
        thread = threading.Thread(target=_train_all, args=(worker, intake, stopped))
        thread.start()
        predicting.start()
        yield
        stopped.set()
        thread.join()
        predicting.stop()


def _train_all(worker: Worker, intake: DatasetIntake, stopped: threading.Event) -> None:
    while not stopped.wait(0.1):
        intake.take()
        with worker.database.read() as session:
            found = queue.claimable(session, now=database_now(session))
        for job in found:
            lease = worker.claim(job.job_id)
            for name in ("student.pt", "student-int8.onnx", "report.html"):
                worker.publish(lease, name, name.encode())
            worker.succeed(
                lease, result(exports=[{**EXPORTS["passed"], "path": "student-int8.onnx", "precision": "int8"}])
            )


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "cells"
    for part in ("train", "val"):
        for kind in ("images", "labels"):
            (folder / kind / part).mkdir(parents=True)
        Image.new("RGB", (32, 32), "red").save(folder / "images" / part / "a.png")
        (folder / "labels" / part / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [cell]\n")
    return folder


class Agent:
    """Calls tools, counts the calls, and reads what they say."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.calls: list[str] = []

    async def __call__(self, tool: str, **arguments: Any) -> Any:
        self.calls.append(tool)
        answer = await self._session.call_tool(tool, arguments)
        text = answer.content[0].text  # type: ignore[union-attr]
        return text if answer.is_error else json.loads(text)


async def distil(agent: Agent, images: Path, out: Path) -> Path:
    """Go the way that the guide describes, with one mistake on it."""
    status = await agent("service_status")
    assert status["jobs"] == {"queued": 0, "running": 0}
    sent = await agent("send_images", folder=str(images), name="cells")
    assert (sent["state"], sent["name"]) == ("ready", "cells")
    elsewhere = images.rename(images.with_name("elsewhere"))  # noqa: ASYNC240 - the service has what was sent alone
    spec = example()
    spec |= {"data": {"dataset": sent["reference"]}, "teacher": {"train": {"model": "yolov8s", "weights": None}}}
    refused = await agent("plan_job", spec={**spec, "training": {"epohs": 2}})
    assert "did you mean 'epochs'" in refused
    planned = await agent("plan_job", spec=spec)
    assert planned["valid"]
    job = await agent("start_job", spec=spec, labels={"project": "edge"}, key="one")
    while not (standing := await agent("wait_for_job", job_id=job["id"], seconds=20))["ended"]:
        assert len(agent.calls) < MOST_CALLS
    assert (standing["state"], standing["failure"]) == ("succeeded", None)
    (export,) = (one for one in standing["result"]["exports"] if one["precision"] == "int8")
    assert export["status"] == "passed"
    assert export["path"] in standing["files"]
    seen = await agent("predict", job_id=job["id"], image=str(elsewhere / "images" / "val" / "a.png"))
    assert seen["boxes"]
    fetched = await agent("fetch_file", job_id=job["id"], name=export["path"], folder=str(out))
    return Path(fetched["path"])


def example() -> dict[str, Any]:
    """The spec that the guide starts from."""
    (block,) = re.findall(r"```yaml\n(.*?)```", agents.guide(), re.DOTALL)
    lines = [line.removeprefix("   ") for line in block.splitlines()]
    found: dict[str, Any] = parse_document("\n".join(lines).encode())
    return found


def test_the_guides_spec_is_one_that_the_service_takes():
    spec = parse_spec(example())
    assert [(export.format, export.precision) for export in spec.exports] == [("onnx", "int8")]  # type: ignore[union-attr]


def test_an_agent_makes_an_int8_student_of_a_folder_of_images_in_few_calls(
    sqlite_template: Path, tmp_path: Path, images: Path
):
    home = tmp_path / "home"
    home.mkdir()
    program = StdioServerParameters(
        command=sys.executable, args=["-m", "retort.cli", "mcp"], env={**os.environ, "RETORT_KEY": OPERATOR}
    )

    async def trial(url: str) -> tuple[Path, list[str]]:
        program.args.extend(["--url", url])
        async with Session(program) as session:
            offered = (await session.list_tools()).tools
            assert {tool.name for tool in offered} == NAMES
            assert all(tool.description for tool in offered)
            agent = Agent(session)
            with anyio.fail_after(120):
                return await distil(agent, images, tmp_path / "out"), agent.calls

    with listening(sqlite_template, home) as url, working(home):
        path, calls = anyio.run(trial, url)
    assert path.read_bytes() == b"student-int8.onnx"
    assert len(calls) <= MOST_CALLS, calls
    assert calls.count("send_images") == 1


def test_a_tool_writes_no_file_outside_the_folder_that_it_is_given(tmp_path: Path):
    def never() -> Any:
        raise AssertionError

    for name in ("../evil", "/etc/evil", "a/../../evil"):
        with pytest.raises(Exception, match="leads out of the folder"):
            agents.Tools(never).fetch_file("job_x", name, str(tmp_path / "out"))


def test_the_skill_is_printed_and_names_only_commands_that_there_are():
    run = [sys.executable, "-m", "retort.cli"]
    printed = subprocess.run([*run, "skill"], capture_output=True, text=True, check=True).stdout
    helped = subprocess.run([*run, "--help"], capture_output=True, text=True, check=True).stdout
    assert printed == agents.guide()
    named = set(re.findall(r"`retort (\w+)", printed))
    assert {"submit", "wait", "download", "predict"} <= named
    assert [command for command in sorted(named) if not re.search(rf"\b{command}\b", helped)] == []


def test_the_service_has_an_overview_for_language_models_whose_addresses_there_are(small_client: Any):
    answer = small_client.get("/llms.txt", headers={"Authorization": ""})
    assert answer.status_code == 200
    assert answer.text.startswith("# Retort\n")
    paths = small_client.app.openapi()["paths"]
    for method, path in re.findall(r"`(GET|POST) (/v1/[^?`]+)", answer.text):
        assert method.lower() in paths[path], path
    for path in re.findall(r"\]\((/[^)]+)\)", answer.text):
        assert small_client.get(path).status_code == 200, path
