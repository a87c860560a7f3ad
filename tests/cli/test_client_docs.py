"""The examples of docs/api-clients.md run as they are printed, and both clients do with webhooks what one does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
from cli.commands import ROOT, SPEC, environment
from core.training.pictures import draw
from retort.cli.spec import load
from retort.client import AsyncClient, Client

PAGE = ROOT / "docs" / "api-clients.md"
URL = "https://example.com/hook"


def test_the_examples_for_both_clients_run_as_they_are_printed(ready: dict[str, Any], key: str, tmp_path: Path):
    blocking, awaiting = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[:2]
    assert ("Client(url)" in blocking, "AsyncClient(url)" in awaiting) == (True, True)
    about = draw(tmp_path / "street", num_train=4, num_val=2)
    lines = about.read_text().splitlines(keepends=True)
    about.write_text("".join(line for line in lines if not line.startswith("path:")))
    (tmp_path / "spec.json").write_text(json.dumps(load(str(SPEC), ["name=first-job"])))
    given = f"import json\n\nurl = {ready['url']!r}\nspec = json.load(open('spec.json'))\n"
    told = []
    for example in (blocking, awaiting):
        done = subprocess.run(
            [sys.executable, "-c", given + example], cwd=tmp_path, env=environment(key=key), capture_output=True,
            text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told.append(done.stdout)
    assert (tmp_path / "student.pt").stat().st_size == 3_000_000
    assert "succeeded" in told[1]
    assert "student.pt" in told[1]


def test_both_clients_try_a_webhook_read_its_log_and_delete_it(service: str, key: str):
    seen: list[Any] = []
    with Client(service, key=key) as client:
        made = client.webhooks.create(URL, ["job.failed"], description="ours")
        tried = client.webhooks.test(made["id"])
        again = client.webhooks.redeliver(made["id"], tried["id"])
        assert again["id"] == tried["id"]
        changed = client.webhooks.change(made["id"], enabled=False)
        log = [one["id"] for one in client.webhooks.deliveries(made["id"])]
        fresh = client.webhooks.rotate(made["id"])["secret"]
        seen.append((changed["enabled"], log == [tried["id"]], tried["event"], fresh not in {None, made["secret"]}))
        client.webhooks.delete(made["id"])
        assert made["id"] not in {one["id"] for one in client.webhooks.list()}

    async def later() -> None:
        async with AsyncClient(service, key=key) as client:
            made = await client.webhooks.create(URL, ["job.failed"], description="ours")
            tried = await client.webhooks.test(made["id"])
            again = await client.webhooks.redeliver(made["id"], tried["id"])
            assert again["id"] == tried["id"]
            changed = await client.webhooks.change(made["id"], enabled=False)
            log = [one["id"] async for one in client.webhooks.deliveries(made["id"])]
            fresh = (await client.webhooks.rotate(made["id"]))["secret"]
            seen.append((changed["enabled"], log == [tried["id"]], tried["event"], fresh not in {None, made["secret"]}))
            await client.webhooks.delete(made["id"])
            assert made["id"] not in {one["id"] for one in await client.webhooks.list()}

    anyio.run(later)
    assert seen == [(False, True, "webhook.test", True)] * 2


def test_the_asynchronous_client_sends_a_dataset_in_parts_and_fetches_it_whole(service: str, key: str, tmp_path: Path):
    about = draw(tmp_path / "yard", num_train=4, num_val=2)
    lines = about.read_text().splitlines(keepends=True)
    about.write_text("".join(line for line in lines if not line.startswith("path:")))

    async def send() -> Any:
        progress: list[tuple[int, int]] = []
        async with AsyncClient(service, key=key) as client:
            dataset = await client.datasets.push(
                about.parent, "yard", progress=lambda done, of: progress.append((done, of))
            )
            made = await client.datasets.wait(dataset, timeout_s=60)
            assert progress[-1][0] == progress[-1][1] > 0
            path = await client.datasets.download(made["name"], str(made["sha256"]), tmp_path / "yard.tar")
            return made, path

    made, path = anyio.run(send)
    with Client(service, key=key) as client:
        again = client.datasets.push(about.parent, "yard")
    assert (made["state"], again["id"], path.stat().st_size) == ("ready", made["id"], made["size_bytes"])
