"""Render jobs, events, results and advice on a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol, Self

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.progress_bar import ProgressBar
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from retort.cli.options import emit_line, say
from retort.constants import MAP, MAP50, Role
from retort.errors import printable
from retort.spec.advised import AdviceResult, MeasuredCandidate, UnusableCandidate
from retort.spec.arms import ArmFigures
from retort.spec.evaluated import EvaluationResult
from retort.spec.exported import MeasuredExport, UnmeasuredExport
from retort.spec.figures import SpeedFigures
from retort.spec.outcome import missing
from retort.spec.result import JobResult, Result, readable_result
from retort.states import JobState

_TRACEBACK = "Traceback (most recent call last)"
_COLOURS = {"recommended": "green", "possible": "yellow", "refused": "red"}
_RIGHT = {"mAP50", "mAP50-95", "parameters", "FLOPs", "step"}


def advice_parts(advice: AdviceResult) -> list[RenderableType]:
    """Return the table, the reasons and the recommendation."""
    said: list[RenderableType] = [_advice_table(advice), ""]
    for one in advice.candidates:
        said.append(Text.assemble(one.title, " is ", (one.verdict, _COLOURS[one.verdict])))
        said += [Text(f"  {reason}") for reason in one.reasons]
    return [*said, "", Text(advice.sentence, style="bold")]


def evaluation_parts(result: EvaluationResult) -> list[RenderableType]:
    """Return the table of networks, how each differs from the first, and the lines that give the same figures."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("network", "mAP50", "mAP50-95", "small", "medium", "large", "parameters", "latency p50", "px"):
        table.add_column(column, justify="left" if column == "network" else "right", no_wrap=True)
    for one in result.networks:
        sizes = [one.by_size[size].ap if size in one.by_size else None for size in ("small", "medium", "large")]
        table.add_row(
            one.title, score(one.map50), score(one.map), *map(score, sizes),
            f"{one.num_parameters:,}", _latency(one), str(one.imgsz),
        )  # fmt: skip
    first = result.networks[0]
    parts: list[RenderableType] = [table, Text(f"\non {result.num_images} images of the {first.split or 'val'} split")]
    parts += [Text(f"latency: {first.timed_as}")] if first.timed_as else []
    parts += [Text(one.sentence, style="bold") for one in result.differences]
    if result.exports:
        parts += ["", export_table(result.exports), *map(Text, export_notes(result.exports))]
    commands = [one.command for one in result.networks if one.command]
    return [*parts, *([Text("the same figures by plain Ultralytics:"), *map(Text, commands)] if commands else [])]


def _advice_table(advice: AdviceResult) -> Table:
    """Student and candidates side by side."""
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in ("", "model", "mAP50", "mAP50-95", "parameters", "FLOPs", "step", "weaker in", "verdict"):
        table.add_column(column, justify="right" if column in _RIGHT else "left", no_wrap=True)
    student = advice.student
    table.add_row(
        "student", student.model, _advice_score(student.map50), _advice_score(student.map),
        f"{student.num_parameters:,}", "1.0 x", "1.00 x", "", "",
    )  # fmt: skip
    for one in advice.candidates:
        table.add_row(*_advice_row(one), Text(one.verdict, style=_COLOURS[one.verdict]))
    return table


def _advice_row(one: MeasuredCandidate | UnusableCandidate) -> tuple[str, ...]:
    if isinstance(one, UnusableCandidate):
        return (one.title, "", "", "", "", "", "", "")
    return (
        one.title, one.model, _advice_score(one.map50), _advice_score(one.map), f"{one.num_parameters:,}",
        f"{one.capacity.gflops:.1f} x", f"{one.step.ratio:.2f} x",
        f"{len(one.weaker_classes)} of {len(one.ap_over_student)}" if one.ap_over_student else "",
    )  # fmt: skip


def _advice_score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


Json = Mapping[str, Any]

COLOURS: dict[str, str] = {
    JobState.QUEUED: "yellow",
    JobState.RUNNING: "cyan",
    JobState.PAUSING: "blue",
    JobState.PAUSED: "blue",
    JobState.AWAITING_REVIEW: "yellow",
    JobState.CANCELLING: "magenta",
    JobState.SUCCEEDED: "green",
    JobState.FAILED: "red",
    JobState.CANCELLED: "magenta",
    JobState.EXPIRED: "red",
}
SHOWN_METRICS = {MAP50: "mAP50", MAP: "mAP50-95", "train/loss": "loss", "train/kd_loss": "distillation"}


class PrintableConsole(Console):
    """Console that spells out control characters in what it shows; styles are its own."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of *renderable*, without commands to the terminal in their text."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text, keep="\n\t"), style, control)


def console() -> Console:
    """Return a console on stdout; where stdout is no terminal it is wide and plain."""
    plain = PrintableConsole(highlight=False, soft_wrap=True)
    return plain if plain.is_terminal else PrintableConsole(highlight=False, width=200, no_color=True)


def jobs_table(jobs: Iterable[Json]) -> Table:
    """One line per job."""
    table = _table("job", "name", "state", "stage", "done", "mAP50", "created")
    for job in jobs:
        best = job.get("best") or {}
        table.add_row(
            job["id"], job["name"], _state(job["state"]), job.get("stage") or _place(job), share(job.get("progress")),
            score(best.get(MAP50)), clock(job["created_at"], "%Y-%m-%d %H:%M:%S"),
        )  # fmt: skip
    return table


def _place(job: Json) -> str:
    """Return in few words for what a job waits."""
    queue = job.get("queue") or {}
    if queue.get("reason") == "turn":
        return "" if queue["ahead"] is None else f"{queue['ahead']} ahead"
    return str(queue.get("reason") or "").replace("_", " ")


def audit_table(entries: Iterable[Json]) -> Table:
    """One line per change."""
    table = _table("at", "project", "owner", "action", "target", "outcome", "from")
    for one in entries:
        told = (one[name] for name in ("project", "owner", "action", "target", "outcome", "address"))
        table.add_row(clock(one["at"], "%Y-%m-%d %H:%M:%S"), *told)
    return table


def workers_page(workers: Sequence[Json]) -> RenderableType:
    """One line per worker, and one for each GPU that no run can have."""
    refused = [
        Text(f"GPU {device['name']}{_product(device)} of {worker['host']} is not used: {device['refused']}", "yellow")
        for worker in workers
        for device in worker.get("devices", ())
        if device["kind"] == "gpu" and device["refused"]
    ]
    return Group(_workers_table(workers), *refused, *map(_unconfined, filter(_lacks_confinement, workers)))


def _lacks_confinement(worker: Json) -> bool:
    told = worker.get("confinement") or {"mode": "best", "missing": {}}
    return told["mode"] == "off" or bool(told["missing"])


def _unconfined(worker: Json) -> Text:
    """Return a line on a worker that cannot confine runs, or not wholly."""
    told = worker["confinement"]
    lacking = "; ".join(f"{printable(part)}: {printable(why)}" for part, why in told["missing"].items())
    what = "runs are not confined" if told["mode"] == "off" else f"runs are not confined in {lacking}"
    return Text(f"worker {worker['name']}: {what}", "yellow")


def _product(device: Json) -> str:
    return f" ({printable(device['product'])})" if device["product"] else ""


def _gpus(worker: Json) -> str:
    """Return what a worker trains on: its GPUs by product, the CPU, or nothing."""
    devices = worker.get("devices", ())
    products = Counter(
        device["product"] or "GPU" for device in devices if device["kind"] == "gpu" and not device["refused"]
    )
    if worker["gpus"] and products:
        return ", ".join(f"{number} x {printable(product)}" for product, number in products.items())
    if worker["gpus"]:
        return str(worker["gpus"])
    return "none" if any(device["refused"] for device in devices if device["kind"] == "cpu") else "CPU"


def _workers_table(workers: Iterable[Json]) -> Table:
    table = _table("host", "GPUs", "runs at a time", "since", "worker")
    for worker in workers:
        since = clock(worker["started_at"], "%Y-%m-%d %H:%M:%S")
        table.add_row(worker["host"], _gpus(worker), str(worker["slots"]), since, worker["name"])
    return table


def job_page(job: Json) -> RenderableType:
    """All that matters about one job."""
    head = Table.grid(padding=(0, 2))
    head.add_row("job", f"{job['id']}  {job['name']}")
    head.add_row("state", Text.assemble(_state(job["state"]), f"  {job['stage']}" if job.get("stage") else ""))
    head.add_row("done", f"{share(job.get('progress'))}  {duration(job.get('eta_s'), 'to go')}".strip())
    if waits := waiting_text(job):
        head.add_row("waits", waits)
    for transition in job.get("transitions") or ():
        reason = f" ({transition['reason']})" if transition.get("reason") else ""
        head.add_row("", f"{clock(transition['at'])}  {transition['name']}{reason}")
    parts: list[RenderableType] = [head]
    if found := readable_result(job.get("result")):
        parts += ["", *result_parts(found)]
    if job.get("failure"):
        parts.append(failure_text(job["failure"]))
    return Group(*parts)


def waiting_text(job: Json) -> str:
    """Return for what a queued job waits: the end of a pause after a failure, or its turn."""
    if job["state"] != JobState.QUEUED:
        return ""
    attempts = job.get("attempts") or ()
    parts = [
        f"attempt {attempt['number']} failed: {failure['message']} [{failure['code']}]"
        for attempt in attempts[-1:]
        if (failure := attempt.get("failure"))
    ]
    waiting = job.get("queue") or {}
    if until := waiting.get("until"):
        parts.append(f"tried again at {clock(until)}")
    if waiting.get("reason") == "turn" and waiting["ahead"] is not None:
        before = waiting["ahead"]
        parts.append(f"{before} job{'' if before == 1 else 's'} before it" if before else "next in the queue")
        if start_s := waiting.get("estimated_start_s"):
            parts.append(f"starts in about {duration(start_s)}")
    elif waiting.get("message"):
        parts.append(waiting["message"])
    return "; ".join(parts)


def failure_text(failure: Json) -> Text:
    """Why work failed, what to do, and the end of the log."""
    text = Text(f"failed: {failure['message']} [{failure['code']}]", style="red")
    if failure.get("hint"):
        text.append(f"\nhint: {failure['hint']}", style="default")
    excerpt = (failure.get("log_excerpt") or "").rstrip()
    if _TRACEBACK in excerpt:
        text.append("\nthe traceback is in run.log, in the run's folder or among the job's artifacts", style="dim")
    elif excerpt:
        text.append(f"\n{excerpt}", style="dim")
    return text


def result_parts(result: Result) -> list[RenderableType]:
    """Return the renderables of a result: figures, exports and verdict, or advice."""
    if isinstance(result, AdviceResult):
        return advice_parts(result)
    if isinstance(result, EvaluationResult):
        return evaluation_parts(result)
    parts: list[RenderableType] = [result_table(result), *map(Text, measured_notes(result))]
    if result.arms:
        parts += ["", arms_table(result.arms), *(Text(f"- {one.sentence}") for one in result.arms)]
    if result.exports:
        parts += ["", export_table(result.exports), *map(Text, export_notes(result.exports))]
    if lost := missing(result.extras):
        parts += ["", Text("Missing, without harm to the student:"), *(Text(f"  {one.sentence}") for one in lost)]
    return [*parts, "", *verdict_parts(result)]


def measured_notes(result: JobResult) -> list[str]:
    """Return on what the networks were judged, what their last epochs reach, and how to repeat it."""
    student, roles = result.roles.student, result.roles.rows()
    if student.split is None:
        return []
    found = [f"judged on the {student.split} split, each image fitted into a {student.letterbox}"]
    if last := [f"{role} {score(figures.last.map)}" for role, figures in roles if figures.last is not None]:
        found.append(f"mAP50-95 of the last epoch, which nothing has chosen: {', '.join(last)}")
    if student.timed_as is not None:
        found.append(f"latency: {student.timed_as}")
    if student.command is not None:
        found.append(f"the same by plain Ultralytics: {student.command}")
    return found


def export_notes(exports: Sequence[MeasuredExport | UnmeasuredExport]) -> list[str]:
    """Return a warning for each export that differs from its request, and the conditions under which others hold."""
    told = [export for export in exports if export.reason]
    warnings = [f"{one.path}: {one.reason}" + (f"\n  {one.hint}" if one.hint else "") for one in told]
    measured = [one for one in exports if isinstance(one, MeasuredExport)]
    bases = [f"{one.path}: judged {judged}" for one in measured if (judged := _judged(one))]
    settings = [f"{one.path}: run by {one.runtime} on {one.settings}" for one in measured if one.settings is not None]
    return [*warnings, *bases, *settings]


def _judged(export: MeasuredExport) -> str:
    """Return in which shape an export was judged, and what PyTorch has there."""
    if export.base_map is None:
        return ""
    shape = f"at {export.shape[0]} by {export.shape[1]}" if export.shape else "in squares"
    at = f" with NMS at a score of {export.conf:g}" if export.conf is not None else ""
    free = ", without NMS" if export.boxes == "nms_free" else ""
    return f"{shape}{free}, where the student in PyTorch has {export.base_map:.4f}{at}"


def result_table(result: JobResult) -> Table:
    """Teacher, start, student and control side by side."""
    table = _table("", "model", "mAP50", "mAP50-95", "parameters", "file size", "latency p50")
    roles = result.roles
    rows = (("teacher", roles.teacher), ("start", roles.start), ("student", roles.student), ("control", roles.control))
    for role, found in rows:
        if found is not None:
            table.add_row(
                role, found.model, score(found.map50), score(found.map), f"{found.num_parameters:,}",
                size(found.size_bytes), _latency(found),
            )  # fmt: skip
    return table


def arms_table(arms: Sequence[ArmFigures]) -> Table:
    """Return the table of the further arms, each beside the student."""
    table = _table("arm", "mAP50", "mAP50-95", "student less it", "interval", "training")
    for one in arms:
        bounds = "" if one.interval is None else f"{one.interval.low * 100:+.1f} to {one.interval.high * 100:+.1f}"
        took = "" if one.training_s is None else f"{one.training_s:,.0f} s"
        table.add_row(
            one.arm, score(one.figures.map50), score(one.figures.map), f"{one.difference * 100:+.1f}", bounds, took
        )
    return table


def _latency(figures: SpeedFigures) -> str:
    return "" if figures.latency_ms is None else f"{figures.latency_ms.p50:.1f} ms"


def verdict_parts(result: JobResult) -> list[RenderableType]:
    """Return the verdict that was stored with a result, and what puts it in its place."""
    judged = result.verdict
    if judged is None:
        return [Text("This result is from before a verdict was kept with it; what was measured stands above.")]
    return [Text(judged.sentence, style="bold"), *(Text(f"- {caveat}") for caveat in judged.caveats)]


def export_table(exports: Sequence[MeasuredExport | UnmeasuredExport]) -> Table:
    """Return the table of exports: accuracy kept and cost."""
    table = _table("file", "status", "mAP50-95", "lost", "latency p50", "of PyTorch", "file size")
    for export in exports:
        table.add_row(
            export.path,
            Text(export.status, style="" if export.status == "passed" else "yellow"),
            *_kept_and_cost(export),
            "" if export.size_bytes is None else size(export.size_bytes),
        )
    return table


def _kept_and_cost(export: MeasuredExport | UnmeasuredExport) -> tuple[str, str, str, str]:
    if isinstance(export, UnmeasuredExport):
        return "", "", "", ""
    latency, ratio = f"{export.latency_ms.p50:.1f} ms", f"{export.latency_ratio:.2f} x"
    return score(export.map), f"{export.map_drop * 100:+.1f}", latency, ratio


_UNTOLD = frozenset({"progress", "saved"})
"""Events that say nothing to people."""


def epochs_of(job: Json) -> int | None:
    """Return how many epochs the student of *job* is trained for; None where that is not known."""
    training = (job.get("spec") or {}).get("training") or {}
    return training.get("epochs")


def event_line(event: Json, of: int | None = None, job_id: str | None = None) -> str | None:
    """Render one event as a line; None for one that says nothing to people.

    *of* is the number of planned epochs, *job_id* the job that commands in the line name.
    """
    kind, data = event["type"], event.get("data") or {}
    if kind in _UNTOLD:
        return None
    if kind == "metric":
        text = metric_text(data.get("role", ""), data.get("step", 0), data.get("values") or {}, of)
    elif kind == "health":
        advice = "" if data.get("verdict") == "healthy" else f". {data.get('cause')} {data.get('advice')}"
        text = f"{data.get('rule')}, epoch {data.get('epoch')}: {event.get('message')}{advice}"
    elif kind == "awaiting_review":
        command = f": retort review show {job_id}" if job_id else ""
        text = f"{data.get('num_images')} images wait to be looked at{command}"
    elif event.get("message"):
        text = event["message"]
    else:
        told = [str(data[key]) for key in ("state", "stage", "name", "role", "epoch", "reason") if data.get(key)]
        text = " ".join(dict.fromkeys(told))
    level = event.get("level") or "info"
    mark = f"{level}: " if level in {"warning", "error"} else ""
    return f"{clock(event['at'])}  {kind:<10}  {mark}{text}"


def metric_text(role: str, step: int, values: Json, of: int | None = None) -> str:
    """Render the figures of one epoch that people look at.

    *of* is the number of planned epochs, which a teacher's own training does not share, nor does each further arm.
    """
    planned = f" of {of}" if of and role not in {Role.TEACHER, Role.JOB} else ""
    shown = [f"{label} {score(values[name])}" for name, label in SHOWN_METRICS.items() if values.get(name) is not None]
    shown = shown or [f"{name} {score(value)}" for name, value in values.items()]
    return f"{role} epoch {step}{planned}  " + "  ".join(shown)


class TransferBar:
    """A progress bar for downloads, on stderr; silent where that is no terminal."""

    def __init__(self) -> None:
        console = PrintableConsole(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def of(self, name: str) -> Callable[[int, int], None]:
        """Add a line for one file; return what moves it."""
        task = self._progress.add_task(name, total=None)
        return lambda done, total: self._progress.update(task, completed=done, total=total)

    def say(self, text: str) -> None:
        """Print a result without tearing the bar."""
        console().print(text)


def transfer_bar() -> TransferBar:
    """Return a bar for downloads."""
    return TransferBar()


def score(value: float | None) -> str:
    """A metric with four digits; nothing when it is unknown."""
    return "" if value is None else f"{value:.4f}"


def share(value: float | None) -> str:
    """A fraction as per cent."""
    return "" if value is None else f"{value:.0%}"


def size(num_bytes: int) -> str:
    """A file size for people."""
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e5 else f"{num_bytes / 1e3:.1f} kB"


def duration(seconds: float | None, suffix: str = "") -> str:
    """Seconds as minutes and seconds, or as hours and minutes."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    text = f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
    return f"{text} {suffix}".strip()


def clock(at: str | float, shape: str = "%H:%M:%S") -> str:
    """Local time of a moment, given in RFC 3339 or in Unix seconds."""
    moment = datetime.fromtimestamp(at, UTC) if isinstance(at, int | float) else datetime.fromisoformat(at)
    return moment.astimezone().strftime(shape)


_NUMBERS = frozenset({"done", "mAP50", "mAP50-95", "parameters", "file size", "latency p50", "lost", "of PyTorch"})


def _state(state: str) -> Text:
    return Text(state, style=COLOURS.get(state, ""))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        right = column in _NUMBERS
        table.add_column(column, justify="right" if right else "left", no_wrap=True)
    return table


class Screen(Protocol):
    """Display of a running job."""

    def show(self, job: Json, events: Iterable[Json]) -> None:
        """Show the job as it stands, and what has happened since the last time."""


class JsonLines:
    """Print each event as one JSON line."""

    def show(self, job: Json, events: Iterable[Json]) -> None:  # noqa: ARG002 - programs get the job at the end
        """Print the events."""
        for event in events:
            emit_line(event)


class Lines:
    """Each event as a readable line, with the progress beside it."""

    def __init__(self, epochs: int | None) -> None:
        self._epochs = epochs

    def show(self, job: Json, events: Iterable[Json]) -> None:
        """Print the events that say something."""
        for event in events:
            if line := event_line(event, self._epochs, job.get("id")):
                eta = duration(job.get("eta_s"), "to go")
                say(f"{line}  [{share(job.get('progress'))} {eta}".rstrip() + "]")


class Board:
    """A live picture: progress, time to go, and the latest figures of teacher, student and control."""

    def __init__(self, live: Live, epochs: int | None) -> None:
        self._live = live
        self._planned = epochs
        self._epochs: dict[str, int] = {}
        self._values: dict[str, dict[str, float | None]] = {}

    def show(self, job: Json, events: Iterable[Json]) -> None:
        """Take in the events, and draw."""
        for event in events:
            data = event.get("data") or {}
            if event["type"] == "metric":
                self._epochs[data["role"]] = data["step"]
                self._values.setdefault(data["role"], {}).update(data["values"])
            elif line := event_line(event, self._planned, job.get("id")):
                self._live.console.print(Text(line, style="dim"))
        self._live.update(self._picture(job), refresh=True)

    def _picture(self, job: Json) -> RenderableType:
        progress = job.get("progress") or 0.0
        head = Text.assemble(
            (f"{job['name']}  ", "bold"), (job["state"], COLOURS.get(job["state"], "")),
            f"  {job.get('stage') or ''}  {share(progress)}  {duration(job.get('eta_s'), 'to go')}",
        )  # fmt: skip
        bar = Table.grid()  # a bar by itself does not end its line
        bar.add_row(ProgressBar(total=1.0, completed=progress, width=60))
        waits = waiting_text(job)
        return Group(head, bar, *([Text(f"waits: {waits}")] if waits else []), self._figures())

    def _figures(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        columns = self._columns(self._live.console.width)
        for title in ("", "epoch", *columns.values()):
            table.add_column(title, justify="right" if title else "left", no_wrap=True)
        for role, values in self._values.items():
            planned = f" of {self._planned}" if self._planned and role != Role.TEACHER else ""
            figures = (score(values.get(name)) for name in columns)
            table.add_row(role, f"{self._epochs[role]}{planned}", *figures)
        return table

    def _columns(self, width: int) -> dict[str, str]:
        """Return the metrics that fit beside each other whole, by name, the most important first."""
        losses = {name: SHOWN_METRICS.get(name, name.removeprefix("train/")) for name in self._names()}
        left = width - _ROLE_WIDTH
        shown: dict[str, str] = {}
        for name, title in {**SHOWN_METRICS, **losses}.items():
            left -= max(len(title), _SCORE_WIDTH) + 2
            if left < 0:
                break
            if name in {MAP50, MAP} or name in losses:
                shown[name] = title
        return shown

    def _names(self) -> list[str]:
        """Return the losses that have been measured, whole before their parts."""
        found = {name for values in self._values.values() for name in values}
        losses = [name for name in found if name.startswith("train/") and name.endswith("loss")]
        return [*sorted(losses), *sorted(name for name in found if name.startswith("train/kd/"))]


_ROLE_WIDTH = len("teacher  999 of 999  ")
_SCORE_WIDTH = len("0.1234")


@contextmanager
def screen(*, as_json: bool, epochs: int | None = None) -> Iterator[Screen]:
    """Choose how to show a job of so many *epochs*, and put the terminal back at the end."""
    console = PrintableConsole(highlight=False)
    if as_json:
        yield JsonLines()
    elif not console.is_terminal:
        yield Lines(epochs)
    else:
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            yield Board(live, epochs)
