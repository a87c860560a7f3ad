"""Tools for agents: an MCP server over the client of the service."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import Field

import retort
from retort.client.answers import Job, JobSummary
from retort.client.client import Client
from retort.errors import RetortError, UserError
from retort.states import TERMINAL, JobState

if TYPE_CHECKING:
    from mcp.server.mcpserver import MCPServer

Json = dict[str, Any]
Tool = TypeVar("Tool", bound=Callable[..., Any])
Action = Literal["cancel", "stop", "pause", "resume", "retry"]
JobId = Annotated[str, Field(description="Such as job_01985a3e7b0c7d4e8f1a2b3c4d5e6f70.")]
MOST_JOBS = 20
LONGEST_WAIT_S = 600.0
_INSTRUCTIONS = """Retort trains a small YOLO detector (student) under a large one (teacher), beside a control without
teacher, so that the gain is measured. From a folder of images to an INT8 student: service_status; send_images if the
service is on another machine; plan_job until the spec is right; start_job; wait_for_job until it has ended;
fetch_file for the INT8 file and report.html; predict to try it. The resource retort://guide has the whole way, with a
spec to start from. Claim no gain that result.verdict does not."""


def guide() -> str:
    """Return the guide for agents, which is ``skills/retort/SKILL.md`` in a checkout."""
    packed = Path(retort.__file__).with_name("_skills")
    skills = packed if packed.is_dir() else Path(retort.__file__).resolve().parents[2] / "skills"
    return (skills / "retort" / "SKILL.md").read_text(encoding="utf-8")


class Tools:
    """Tools of an agent for a service; each answer is small.

    Args:
        connect: gives a client, which is closed after each call.

    """

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect = connect

    def service_status(self) -> Json:
        """Show the running workers and the numbers of jobs.

        Without a worker, jobs wait.
        """
        with self._connect() as client:
            workers = [{name: one[name] for name in ("name", "slots", "gpus")} for one in client.workers()]
            busy = {state: _number(client.list(state=state)) for state in (JobState.QUEUED, JobState.RUNNING)}
        return {"url": client.url, "workers": workers, "jobs": {f"{state}": number for state, number in busy.items()}}

    def send_images(
        self,
        folder: Annotated[str, Field(description="Folder on this machine: data.yaml, images/ and labels/.")],
        name: Annotated[str, Field(description="Of the dataset; a later folder of the name is a new version.")],
    ) -> Json:
        """Send a folder of images with boxes, and wait until it is ready.

        The spec names it by the `reference` of the answer: {"data": {"dataset": reference}}.
        """
        with self._connect() as client:
            made = client.datasets.wait(client.datasets.push(Path(folder).expanduser(), name))
        return {each: made[each] for each in ("name", "reference", "state", "findings")}

    def plan_job(
        self, spec: Annotated[Json, Field(description="A job spec; the guide has one to start from.")]
    ) -> Json:
        """Check a job spec without starting it.

        The answer has warnings, and estimates of time, memory and cost as far as recorded jobs allow.
        """
        with self._connect() as client:
            found = client.validate(spec)
        return {name: found[name] for name in ("valid", "warnings", "estimate")}

    def start_job(
        self,
        spec: Annotated[Json, Field(description="A job spec that plan_job accepts.")],
        labels: Annotated[dict[str, str] | None, Field(description="By which the job is found again.")] = None,
        key: Annotated[
            str | None, Field(description="The same key and spec start one job, however often they are sent.")
        ] = None,
    ) -> Json:
        """Queue a distillation job, and return it with its id."""
        with self._connect() as client:
            return _summary(client.submit(spec, labels=labels, idempotency_key=key))

    def wait_for_job(
        self,
        job_id: JobId,
        seconds: Annotated[float, Field(ge=0, le=LONGEST_WAIT_S, description="How long to wait at most.")] = 50.0,
    ) -> Json:
        """Wait until a job has ended, and return where it stands.

        Call it again while `ended` is false; `eta_s` says for how long. The result is there once it has succeeded.
        """
        with self._connect() as client:
            try:
                return _standing(client, client.wait(job_id, timeout_s=seconds))
            except TimeoutError:
                return _standing(client, client.get(job_id))

    def find_jobs(
        self,
        words: Annotated[str | None, Field(description="That stand in the name or the labels.")] = None,
        state: JobState | None = None,
        order: Annotated[
            Literal["-created", "-finished", "-best", "name"], Field(description="`-best`: highest mAP first.")
        ] = "-created",
    ) -> Json:
        """List up to twenty jobs, newest first or in another order."""
        with self._connect() as client:
            found = client.list(q=words, state=state, order=order)
            return {"jobs": [_summary(job) for job, _ in zip(found, range(MOST_JOBS), strict=False)]}

    def act_on_job(self, job_id: JobId, action: Action) -> Json:
        """Cancel, pause, resume, stop or retry a job.

        To stop is to end the training early, with the best network so far.
        """
        with self._connect() as client:
            actions = {
                "cancel": client.cancel, "stop": client.stop, "pause": client.pause, "resume": client.resume,
                "retry": client.retry,
            }  # fmt: skip
            return _summary(actions[action](job_id))

    def extend_job(
        self,
        job_id: JobId,
        epochs: Annotated[int, Field(ge=1, description="Epochs to add, for student and control alike.")],
    ) -> Json:
        """Queue a job that adds epochs to one that has succeeded.

        Student and control continue from their last states. It is not the same as a job with more epochs from the
        start, and its result says so.
        """
        with self._connect() as client:
            return _summary(client.extend(job_id, epochs))

    def fetch_file(
        self,
        job_id: JobId,
        name: Annotated[str, Field(description="One of `files` of the job, such as student.pt or report.html.")],
        folder: Annotated[str, Field(description="Folder on this machine, made where it is not there.")],
    ) -> Json:
        """Download one file of a job into a folder, verified by its digest."""
        place = Path(folder).expanduser().resolve()
        path = (place / name).resolve()
        if not path.is_relative_to(place):
            raise UserError(f"{name!r} leads out of the folder", hint="name one of the job's files", code="bad_name")
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._connect() as client:
            return {"path": str(client.download(job_id, name, path)), "size_bytes": path.stat().st_size}

    def predict(
        self,
        job_id: JobId,
        image: Annotated[str, Field(description="Path of an image on this machine.")],
        confidence: Annotated[float, Field(ge=0.05, le=1)] = 0.25,
    ) -> Json:
        """Find boxes on an image with a job's last network.

        It works while the job runs, too.
        """
        with self._connect() as client:
            return {**client.predict(job_id, Path(image).expanduser(), confidence=confidence)}


def server(connect: Callable[[], Client]) -> MCPServer:
    """Return the MCP server, ready to run.

    Raises:
        UserError: the extra is not installed.

    """
    try:
        from mcp.server.mcpserver import MCPServer
    except ImportError as error:
        raise UserError("the MCP SDK is not installed", hint="pip install retort[mcp]", code="not_installed") from error
    made = MCPServer("retort", instructions=_INSTRUCTIONS, version=retort.__version__)
    tools = Tools(connect)
    offered: tuple[Callable[..., Any], ...] = (
        tools.service_status, tools.send_images, tools.plan_job, tools.start_job, tools.wait_for_job, tools.find_jobs,
        tools.act_on_job, tools.extend_job, tools.fetch_file, tools.predict,
    )  # fmt: skip
    for tool in offered:
        made.tool()(_explained(tool))
    made.resource("retort://guide", mime_type="text/markdown")(guide)
    return made


def _explained(tool: Tool) -> Tool:
    """Return *tool* with errors that an agent can act on."""

    @functools.wraps(tool)
    def explained(*args: Any, **named: Any) -> Any:
        with _as_tool_error():
            return tool(*args, **named)

    return explained  # type: ignore[return-value]


@contextmanager
def _as_tool_error() -> Iterator[None]:
    from mcp.server.mcpserver.exceptions import ToolError

    try:
        yield
    except RetortError as error:
        problem = getattr(error, "problem", {})
        mistakes = [f"{one['path']}: {one['detail']} ({one['hint']})" for one in problem.get("errors", ())]
        hint = f" Hint: {error.hint}" if error.hint else ""
        raise ToolError(f"{error.code}: {'; '.join(mistakes) or error.message}.{hint}") from error
    except OSError as error:
        raise ToolError(f"{error.filename}: {error.strerror}") from error


def _number(jobs: Iterator[JobSummary]) -> int | str:
    """Count jobs, up to a page: an agent needs no more."""
    found = sum(1 for _ in zip(jobs, range(MOST_JOBS + 1), strict=False))
    return found if found <= MOST_JOBS else f"more than {MOST_JOBS}"


def _summary(job: Mapping[str, Any]) -> Json:
    names = ("id", "name", "state", "stage", "progress", "eta_s", "labels", "failure")
    return {name: job[name] for name in names}


def _standing(client: Client, job: Job) -> Json:
    """Return where a job stands; once it has ended, its files and the figures that count."""
    told = {**_summary(job), "best": job["best"], "ended": job["state"] in TERMINAL}
    if job["state"] == "queued":
        told["waits_for"] = client.waiting(job["id"])["message"]
    if told["ended"]:
        told["files"] = [one["name"] for one in client.artifacts(job["id"])]
    if (result := job["result"]) is not None:
        told["result"] = {name: result.get(name) for name in ("verdict", "gain", "gap_closed", "exports")}
    return told
