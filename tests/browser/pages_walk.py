"""The table of all pages, which the checks of every page go through: add yours here.

A page has a name, says who looks at it, and fills the service with what it shows; ``fill`` returns its address.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2
from playwright.sync_api import Browser, BrowserContext, Page, Response
from results import RESULT
from retort.access import ClientRole
from retort.constants import MAP, MAP50, Role
from retort.db import Database
from retort.protocol.events import MetricEvent, ProgressEvent, RunFailure, StageEvent
from retort.settings import Settings
from retort.spec.result import parse_result
from retort.storage import Store
from stored_results import stored
from support import job_pages, places
from support.api_harness import SPEC, SWEEP, Worker, listening
from support.identity import HEADERS, add_key
from support.job_pages import Seeded, seed
from support.mistake_filling import publish_mistakes
from support.registered import put_dataset, put_model
from support.review_filling import await_review

MOST_BYTES = 60_000
"""Of scripts and styles of one page, compressed."""


@dataclass
class Filled:
    """A service for pages to be looked at, and ways to fill it."""

    url: str
    client: httpx2.Client
    """An operator's."""
    database: Database
    worker: Worker
    folder: Path
    keys: dict[ClientRole, dict[str, str]] = field(default_factory=dict)
    kept: dict[str, Seeded] = field(default_factory=dict)
    """What pages share."""

    def submit(self, name: str, **changes: Any) -> str:
        """Queue a job; return its id."""
        answer = self.client.post("/v1/jobs", json={**SPEC, "name": name, **changes})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def headers(self, role: ClientRole) -> dict[str, str]:
        """Return the headers of somebody with *role*."""
        if role not in self.keys:
            self.keys[role] = add_key(self.database, f"walker-{role}", role, owner="ann")
        return self.keys[role]


@dataclass(frozen=True)
class WalkedPage:
    """One page, and what stands on it."""

    name: str
    """Of its pictures."""
    fill: Callable[[Filled], str]
    """Writes what it shows, and returns its address."""
    who: ClientRole | None = ClientRole.OPERATOR
    """None for a stranger."""
    shares: bool = False
    """One service with the others that do, for it looks the same whatever else that holds."""
    drawn: str = "html.js"
    """There is such an element once it has been drawn."""
    apart: bool = False
    """It is not of the pages' base: it has a policy of its own, which allows nothing that it does not name.

    Its scripts and styles are not weighed: a file that is read without the service has all that it needs inside, and
    the contract's page is a program of others.
    """
    scripts: bool = True


@contextmanager
def filled_service(template: Path, home: Path) -> Iterator[Filled]:
    """Serve an empty service that pages can be filled into."""
    with (
        listening(template, home, rate_limit="", login_limit="") as url,
        closing(Database(f"sqlite:///{home / 'retort.db'}")) as database,
        httpx2.Client(base_url=url, headers=HEADERS) as client,
    ):
        store = Store(Settings(home=home).store_url)
        yield Filled(url, client, database, Worker(database, store, home), home)


@contextmanager
def logged_in(browser: Browser, service: Filled, role: ClientRole | None, **look: Any) -> Iterator[BrowserContext]:
    """Open a browser's context in which somebody with *role* has logged in, as the page of the link does it."""
    context = browser.new_context(reduced_motion="reduce", **look)
    if role is not None:
        link = httpx2.post(f"{service.url}/v1/login-links", headers=service.headers(role)).json()["path"]
        answer = context.request.post(
            f"{service.url}/login", data={"token": link.partition("#")[2]}, headers={"Origin": service.url}
        )  # fmt: skip
        assert answer.ok, answer.text()
    yield context
    context.close()


class PageWatch:
    """What a page loads, and what its console complains of."""

    def __init__(self, page: Page) -> None:
        self.complaints: list[str] = []
        self.policies: list[str] = []
        self._weighed: dict[str, Response] = {}
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda said: self.complaints.append(said.text) if said.type == "error" else None)
        page.on("response", self._note)

    def _note(self, answer: Response) -> None:
        kind = answer.request.resource_type
        if kind in {"script", "stylesheet"} and answer.frame.parent_frame is None:
            self._weighed[answer.url] = answer
        if kind == "document":
            self.policies.append(answer.headers.get("content-security-policy", ""))

    def weight(self) -> int:
        """Return how many bytes of scripts and styles it loads, compressed."""
        return sum(len(gzip.compress(answer.body(), 9, mtime=0)) for answer in self._weighed.values())


def _empty(_service: Filled) -> str:
    return "/?q=nothing-has-this-name"


def _jobs(service: Filled) -> str:
    """Jobs in every state that people meet, with names as long as may be."""
    waiting = service.submit("waits-for-a-worker")
    service.client.patch(f"/v1/jobs/{waiting}", json={"labels": {"line": "7", "camera": "north"}})
    lease = service.worker.claim(service.submit("street-cells-yolo11n"))
    scored = MetricEvent(n=2, at=1, role=Role.STUDENT, step=3, values={MAP50: 0.61, MAP: 0.42})
    progress = ProgressEvent(n=3, at=2, progress=0.43, eta_s=4980)
    service.worker.record(lease, StageEvent(n=1, at=0, stage="distill"), scored, progress)
    service.worker.succeed(service.worker.claim(service.submit("bottles-" + "x" * 55)), RESULT)
    failed = service.worker.claim(service.submit("night-shift"))
    memory = RunFailure(
        code="out_of_memory", message="the GPU has no memory left at batch 64", hint="try training.batch: 32",
        retryable=False,
    )  # fmt: skip
    service.worker.fail(failed, memory)
    service.client.post(f"/v1/jobs/{service.submit('not-wanted')}/cancel")
    return "/"


def _new_job(service: Filled) -> str:
    """Datasets and models to choose from, one with doubts."""
    doubt = {"severity": "warning", "code": "few_boxes", "message": "the class blue has few boxes", "hint": "more"}
    put_dataset(service.database, service.worker.store, service.folder, "bottles-" + "x" * 50)
    put_dataset(service.database, service.worker.store, service.folder, "street", findings=[doubt])
    put_model(service.database, service.worker.store, service.folder, "street-teacher")
    return "/new?change=training.batch=0"


def _new_job_open(_service: Filled) -> str:
    """Open every section of the form, by something wrong in each."""
    wrong = (
        "data.max_missing_labels=7", "teacher.weight=0", "teacher.ensemble=[{}]", "distillation.weak_teacher=x",
        "distillation.losses=[{kind: pearson}, {kind: dfl, weight: x}]", "training.mosaic=7", "training.lr=7",
        "arms=[x]", "exports=[{format: onnx, nms: 7}]", "tracking.wandb={}", "resources.gpus=0", "name=all",
        "data.dataset=coco128", "teacher.weights=yolo11l.pt",
    )  # fmt: skip
    return f"/new?{urlencode([('change', one) for one in wrong])}"


def _review(service: Filled) -> str:
    job = service.submit("cells-to-review")
    await_review(service.worker, job)
    return f"/jobs/{job}/review"


def _data(service: Filled) -> str:
    """Datasets in every state."""
    places.ready_dataset(service.database, service.worker.store, service.folder, "street-cells")
    places.refused_dataset(service.database, "night")
    places.begun_dataset(service.database, "just-sent")
    return "/data"


def _refused(service: Filled) -> str:
    places.refused_dataset(service.database, "night")
    return "/data/night"


def _dataset(service: Filled) -> str:
    """A dataset with doubts, copies, two versions, and a job that uses it."""
    summary = {**places.SUMMARY, "names": ["cell", "nucleus", "debris with a long name " + "x" * 60]}
    reference = places.ready_dataset(
        service.database, service.worker.store, service.folder, "street-cells", summary=summary
    )  # fmt: skip
    service.submit("uses-it", data={"dataset": reference})
    return "/data/street-cells"


def _models(service: Filled) -> str:
    """Models from a job and from outside."""
    trained = service.submit("street")
    places.model(service.database, service.worker.store, service.folder, "street-student", job_id=trained)
    places.model(service.database, service.worker.store, service.folder, "teacher-from-outside")
    return "/models"


def _model(service: Filled) -> str:
    _models(service)
    return "/models/street-student"


def _workers(service: Filled) -> str:
    """Workers that train, are drained, and cannot use their GPU; a queue with reasons."""
    places.worker(service.database, "gpu-box:4711:1f2e3d4c", gpus=2)
    places.worker(
        service.database, "old-box:12:aa55aa55", host="old-box", gpus=0, refused="its driver is too old: 470.1"
    )
    service.client.post("/v1/workers/old-box:12:aa55aa55/drain")
    service.worker.claim(service.submit("in-training"))
    service.submit("too-large", resources={"gpus": 4})
    service.submit("next")
    return "/workers"


def _webhook(service: Filled) -> str:
    """A webhook with a delivery on its way."""
    wanted = {"url": "https://1.1.1.1/hooks/retort", "events": ["job.failed"], "description": "operators' chat"}
    made = service.client.post("/v1/webhooks", json=wanted).json()["id"]
    service.client.post(f"/v1/webhooks/{made}/test")
    return f"/settings/webhooks/{made}"


def _trash(service: Filled) -> str:
    """Something of several kinds in the trash."""
    digest = places.model(service.database, service.worker.store, service.folder, "not-needed")
    service.client.delete(f"/v1/models/not-needed/{digest}")
    job_id = service.submit("thrown-away")
    service.client.post(f"/v1/jobs/{job_id}/cancel")
    service.client.delete(f"/v1/jobs/{job_id}")
    return "/settings/trash"


def _compare(service: Filled) -> str:
    """Jobs with curves and results, one with an interval without zero, one that still runs."""
    return "/compare?" + "&".join(f"job={job_id}" for job_id in compared_jobs(service))


def compared_jobs(service: Filled) -> list[str]:
    """Queue, run and end four jobs that differ."""
    found = []
    for place, (name, lr, student) in enumerate((
        ("plain", 0.01, 0.45), ("faster-" + "x" * 40, 0.02, 0.52), ("slow", 0.005, 0.41),
        ("runs", 0.1, 0.3),
    )):  # fmt: skip
        training = {"epochs": 12, "optimizer": "SGD", "lr": lr}
        job_id = service.submit(name, training=training)
        found.append(job_id)
        lease = service.worker.claim(job_id)
        reached = [(epoch, student * (1 - 0.8**epoch)) for epoch in range(1, 13)]
        curve = [
            MetricEvent(
                n=epoch, at=epoch, role=Role.STUDENT, step=epoch,
                values={MAP: score, MAP50: 1.3 * score, "train/loss": 5 / epoch},
            )
            for epoch, score in reached
        ]  # fmt: skip
        service.worker.record(lease, *curve)
        if name != "runs":
            service.worker.succeed(lease, parse_result(compared_result(student, place)))
    return found


def compared_result(student: float, place: int) -> dict[str, Any]:
    """Return a result whose student has its own latency and classes."""
    result = stored(student=student)
    own = result["roles"]["student"]
    own["latency_ms"] = {"p50": 5.0 + 2 * place, "p90": 6.5 + 2 * place}
    own["last"] = {"map50": student, "map": student - 0.01 * place}
    own["per_class"] = {
        "red": {"ap50": student, "ap": student}, "<b>blue</b>": {"ap50": student, "ap": student - 0.1 * place},
    }  # fmt: skip
    return result


def _compare_images(service: Filled) -> str:
    """Two jobs whose reports have the same image."""
    ids = [service.submit(name) for name in ("first", "second")]
    for job_id in ids:
        lease = service.worker.claim(job_id)
        service.worker.publish(lease, "report.html", job_pages.report("first", job_id), media_type="text/html")
        service.worker.succeed(lease, RESULT)
    return f"/compare/images?job={ids[0]}&job={ids[1]}"


def _compare_sweep(service: Filled) -> str:
    """Trials of a sweep that has ended."""
    sweep_id = service.client.post("/v1/sweeps", json=SWEEP).json()["id"]
    service.worker.try_all(sweep_id, lambda one: 1 / one["distillation.losses.0.temperature"])
    return f"/compare?sweep={sweep_id}"


def _mistakes(service: Filled) -> str:
    job = service.submit("street-with-mistakes")
    publish_mistakes(service.worker, service.worker.claim(job), ("car", "person", "bicycle " + "x" * 60))
    return f"/jobs/{job}/mistakes"


def _job(which: str, tab: str = "") -> Callable[[Filled], str]:
    """Show a tab of a job that runs, has failed or has succeeded."""

    def fill(service: Filled) -> str:
        return f"/jobs/{getattr(seeded(service), which)}{tab}"

    return fill


def seeded(service: Filled) -> Seeded:
    """Write the jobs at which people look, once."""
    found = service.kept.get("jobs")
    if found is None:
        found = service.kept["jobs"] = seed(service.worker)
    return found


def _report(service: Filled) -> str:
    return f"/v1/jobs/{seeded(service).succeeded}/artifacts/report.html"


def _sweep(service: Filled) -> str:
    sweep_id = service.client.post("/v1/sweeps", json=SWEEP).json()["id"]
    service.worker.try_all(sweep_id, lambda one: 1 / one["distillation.losses.0.temperature"])
    return f"/v1/sweeps/{sweep_id}/report"


PAGES: Sequence[WalkedPage] = (
    WalkedPage("login", lambda _: "/login?next=/models", who=None, shares=True),
    WalkedPage("problem", lambda _: "/jobs-that-are-not", shares=True),
    WalkedPage("jobs-first", lambda _: "/"),
    WalkedPage("jobs-empty", _empty, shares=True),
    WalkedPage("jobs", _jobs),
    WalkedPage("new-job", _new_job),
    WalkedPage("new-job-open", _new_job_open, shares=True),
    WalkedPage("review", _review, shares=True),
    WalkedPage("mistakes", _mistakes, shares=True),
    WalkedPage("data-empty", lambda _: "/data?deleted=true", shares=True),
    WalkedPage("data", _data),
    WalkedPage("dataset", _dataset, shares=True),
    WalkedPage("dataset-refused", _refused, shares=True),
    WalkedPage("models", _models),
    WalkedPage("model", _model, shares=True),
    WalkedPage("workers", _workers),
    WalkedPage("settings", lambda _: "/settings", shares=True),
    WalkedPage("settings-keys", lambda _: "/settings/keys", shares=True),
    WalkedPage("settings-webhooks", lambda _: "/settings/webhooks"),
    WalkedPage("settings-webhook", _webhook, shares=True),
    WalkedPage("settings-quotas", lambda _: "/settings/quotas", shares=True),
    WalkedPage("settings-retention", lambda _: "/settings/retention", shares=True),
    WalkedPage("settings-trash", _trash),
    WalkedPage("settings-audit", lambda _: "/settings/audit"),
    WalkedPage("compare", _compare, shares=True),
    WalkedPage("compare-choice", lambda _: "/compare"),
    WalkedPage("compare-sweep", _compare_sweep, shares=True),
    WalkedPage("compare-images", _compare_images, shares=True),
    WalkedPage("job", _job("running"), shares=True),
    WalkedPage("job-failed", _job("failed"), shares=True),
    WalkedPage("job-succeeded", _job("succeeded"), shares=True),
    WalkedPage("job-charts", _job("running", "/charts"), shares=True),
    WalkedPage("job-health", _job("running", "/health"), shares=True),
    WalkedPage("job-evaluation", _job("succeeded", "/evaluation"), shares=True),
    WalkedPage("job-samples", _job("succeeded", "/samples"), shares=True),
    WalkedPage("job-files", _job("succeeded", "/files"), shares=True),
    WalkedPage("job-try", _job("succeeded", "/try"), shares=True),
    WalkedPage("job-log", _job("succeeded", "/log"), shares=True),
    WalkedPage("job-spec", _job("succeeded", "/spec"), shares=True),
    WalkedPage("job-report", _job("succeeded", "/report"), shares=True),
    WalkedPage("report", _report, shares=True, drawn="#chart-tradeoff svg .trace", apart=True),
    WalkedPage("sweep-report", _sweep, shares=True, drawn="#chart-parallel .trial", apart=True, scripts=False),
    WalkedPage("docs", lambda _: "/docs", shares=True, drawn="#operations-tag-jobs", apart=True),
    WalkedPage("login-refused", lambda _: "/login/oidc", who=None, shares=True, drawn="h1"),
)

ROUTES: Mapping[str, str] = {
    "/": "jobs-first jobs-empty jobs",
    "/login": "login",
    "/login/oidc": "login-refused",
    "/new": "new-job new-job-open",
    "/jobs/{job_id}/review": "review",
    "/jobs/{job_id}/mistakes": "mistakes",
    "/data": "data-empty data",
    "/data/{name}": "dataset dataset-refused",
    "/models": "models",
    "/models/{name}": "model",
    "/workers": "workers",
    "/settings": "settings",
    "/settings/keys": "settings-keys",
    "/settings/webhooks": "settings-webhooks",
    "/settings/webhooks/{webhook_id}": "settings-webhook",
    "/settings/quotas": "settings-quotas",
    "/settings/retention": "settings-retention",
    "/settings/trash": "settings-trash",
    "/settings/audit": "settings-audit",
    "/compare": "compare compare-choice compare-sweep",
    "/compare/images": "compare-images",
    "/jobs/{job_id}": "job job-failed job-succeeded",
    "/jobs/{job_id}/charts": "job-charts",
    "/jobs/{job_id}/health": "job-health",
    "/jobs/{job_id}/evaluation": "job-evaluation",
    "/jobs/{job_id}/samples": "job-samples",
    "/jobs/{job_id}/files": "job-files",
    "/jobs/{job_id}/try": "job-try",
    "/jobs/{job_id}/log": "job-log",
    "/jobs/{job_id}/spec": "job-spec",
    "/jobs/{job_id}/report": "job-report",
    "/v1/jobs/{job_id}/artifacts/{name:path}": "report",
    "/v1/sweeps/{sweep_id}/report": "sweep-report",
    "/docs": "docs",
}
"""Routes that answer with a page, and the names of those that are walked."""
OTHER_FILES = (
    "/v1/jobs/{job_id}/artifacts/tensorboard", "/v1/jobs/{job_id}/review/export",
    "/v1/datasets/{name}/{version}/content", "/v1/datasets/{name}/{version}/previews/{number}.jpg",
    "/v1/models/{name}/{sha256}", "/v1/downloads/{token}", "/metrics", "/static/{name}",
    "/static/{version}/{name:path}", "/docs/{name}", "/compare.csv", "/data/{name}/classes.csv",
    "/jobs/{job_id}/charts/{name}.csv", "/jobs/{job_id}/evaluation/precision.csv",
    "/jobs/{job_id}/evaluation/confusion.csv", "/jobs/{job_id}/samples/{number}", "/login/oidc/callback", "/upload",
    "/jobs/{job_id}/samples/images/{number}",
)  # fmt: skip
"""Routes that send a file, or lead to a walked page, or show it under another address."""
