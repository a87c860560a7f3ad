"""Make a new job by a form, or by its YAML."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

from fastapi import Query, Request, Response
from retort.access import Principal, Scope
from retort.db import advice, jobs, reruns
from retort.db.jobs import MOST_LABELS, JobNotFound, Submission
from retort.db.session import database_now
from retort.errors import FieldProblem, SpecError, UserError
from retort.spec import AnySpec, digest
from retort.spec.assignment import value_at
from retort.states import TERMINAL, JobState
from starlette.concurrency import run_in_threadpool

from retort_api.deps import AppState, Caller, Serving, is_job_id
from retort_api.errors import KINDS, OK
from retort_api.labels import LABEL, parse_labels
from retort_api.pages import job_choices
from retort_api.pages.job_choices import JobChoices, Wanted, bounds, choices, first_document, with_current
from retort_api.pages.new_job_advice import advice_request
from retort_api.pages.page_router import PageRouter
from retort_api.pages.rendering import render, see_other
from retort_api.pages.spec_commands import commands
from retort_api.pages.spec_fields import FIRST, NULL, State, controls
from retort_api.pages.spec_form import (
    EXPORTS,
    OTHER,
    edit,
    placed,
    posted_state,
    read_mapping,
    shown_sections,
    state_of,
)
from retort_api.pages.spec_text import lines_of, spec_text
from retort_api.schemas.validation import Validation
from retort_api.spec_validation import Rights, admit
from retort_api.terms import SubmissionTerms, on_behalf, refuse_priority
from retort_api.validation import admitted_document, validated

router = PageRouter()

_JOB = r"^job_[0-9a-f]{32}$"
_TEXT = r"^[^\x00-\x1f\x7f]{1,255}$"
_TOKEN = re.compile(r"[0-9a-f]{32}")
_LABEL = re.compile(LABEL)


@dataclass(frozen=True, slots=True)
class JobForm:
    """Content of the form on the page."""

    text: str
    """The YAML."""
    before: str
    """The YAML with which form and YAML were last in step."""
    state: State
    labels: str = ""
    """One a line."""
    priority: str = "0"
    parent: str = ""
    """The job whose spec it was."""
    token: str = ""
    """The same in every copy of this page: sent twice, the form makes one job."""
    act: str = ""
    """What the pressed button says."""

    @classmethod
    def of(cls, fields: Sequence[tuple[str, str]]) -> JobForm:
        """Return what a browser has sent, whose line ends are always those of DOS."""
        plain = [(name, value.replace("\r\n", "\n").replace("\r", "\n")) for name, value in fields]
        given = dict(plain)
        parent, token = given.get("parent", ""), given.get("token", "")
        return cls(
            text=given.get("spec", ""), before=given.get("before", ""), state=posted_state(plain),
            labels=given.get("labels", ""), priority=given.get("priority", "0"),
            parent=parent if is_job_id(parent) else "", token=token if _TOKEN.fullmatch(token) else uuid.uuid4().hex,
            act=given.get("do", ""),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Checked:
    """A checked form, with its spec or its problems."""

    form: JobForm
    document: dict[str, Any]
    problems: tuple[FieldProblem, ...] = ()
    spec: AnySpec | None = None
    told: Validation | None = None
    labels: Mapping[str, str] | None = None
    priority: int = 0
    code: str = ""
    """Of the refusal."""
    added: str = ""
    """Path of a group that has just been added."""


@router.page("/new", scope=Scope.JOBS_WRITE)
def show_new_job(
    *,
    request: Request,
    service: Serving,
    caller: Caller,
    from_: Annotated[str | None, Query(alias="from", pattern=_JOB)] = None,
    change: Annotated[list[Annotated[str, Query(pattern=_TEXT)]], Query()] = [],  # noqa: B006 - FastAPI copies
    dataset: Annotated[str | None, Query(pattern=_TEXT)] = None,
    teacher: Annotated[str | None, Query(pattern=_TEXT)] = None,
) -> Response:
    """Show the form, filled with defaults or an old job's spec.

    The address names changes to it.
    """
    offered = choices(service, caller)
    wanted = Wanted(from_, tuple(change), dataset, teacher)
    with service.read(caller) as session:
        document = first_document(session, wanted, offered)
        labels = {} if from_ is None else jobs.get(session, from_).labels
    text = spec_text(document)
    form = JobForm(
        text=text, before=text, state=state_of(document), parent=from_ or "", token=uuid.uuid4().hex,
        labels="\n".join(f"{name}={value}" for name, value in labels.items()),
    )  # fmt: skip
    checked = check(form, service, caller)
    if not document.get("data"):  # nobody has chosen yet: that is no mistake
        checked = replace(checked, problems=tuple(one for one in checked.problems if not one.path.startswith("data")))
    return _page(request, service, caller, offered, checked)


@router.form("/new", scope=Scope.JOBS_WRITE)
async def take_new_job(request: Request, service: Serving, caller: Caller) -> Response:
    """Check what the form says, and submit it where that was asked for."""
    async with request.form(max_fields=1000) as sent:
        fields = [(name, value) for name, value in sent.multi_items() if isinstance(value, str)]
    checked = await run_in_threadpool(check, JobForm.of(fields), service, caller)
    offered = await run_in_threadpool(choices, service, caller)
    asked = ("do", "submit") in fields
    if ("do", "advise") in fields:
        checked = await _ask(checked, offered, service, caller)
    if checked.spec is not None and asked:
        try:
            job_id, created = await _submit(checked, service, caller)
        except UserError as error:
            checked = _refused(checked, error)
        else:
            said = "The job is queued." if created else "This form had been sent before: here is its job."
            return see_other(request, f"/jobs/{job_id}", said)
    status = KINDS[checked.code].status if asked and checked.code else OK
    return await run_in_threadpool(partial(_page, request, service, caller, offered, checked, status=status))


def check(form: JobForm, service: AppState, caller: Principal) -> Checked:
    """Bring form and YAML into step, and check what they mean."""
    try:
        edited = edit(form.text, form.before, form.state, form.act)
    except SpecError as error:
        return Checked(form, _last_readable(form), error.problems, code=error.code)
    form = replace(form, text=edited.text, before=edited.text, state=state_of(edited.document))
    checked = Checked(form, edited.document, added=edited.added)
    problems: list[FieldProblem] = []
    try:
        labels, priority = _terms(form, service, caller)
        checked = replace(checked, labels=labels, priority=priority)
    except SpecError as error:
        problems += error.problems
    try:
        spec, warnings = admitted_document(edited.document, service, caller, caller.project)
    except SpecError as error:
        problems += error.problems
    else:
        told = validated(spec, warnings, service, caller, caller.project)
        checked = replace(checked, told=told, spec=None if problems else spec)
    return replace(checked, problems=tuple(problems), code="bad_spec" if problems else "")


def _last_readable(form: JobForm) -> dict[str, Any]:
    """Return the document with which form and YAML were last in step."""
    try:
        return read_mapping(form.before)
    except SpecError:
        return {}


def _terms(form: JobForm, service: AppState, caller: Principal) -> tuple[dict[str, str], int]:
    """Return the labels and the priority.

    Raises:
        SpecError: they are wrong, or not for this caller.

    """
    given = [line.strip() for line in form.labels.splitlines() if line.strip()]
    problems = [
        FieldProblem("labels", f"{line!r} is no label", "KEY=VALUE, one a line")
        for line in given
        if not _LABEL.fullmatch(line)
    ]
    if len(given) > MOST_LABELS:
        problems.append(FieldProblem("labels", f"there are {len(given)}", f"give at most {MOST_LABELS}"))
    priority = form.priority.strip() or "0"
    if not re.fullmatch(r"-?\d{1,3}", priority, re.ASCII) or abs(int(priority)) > 100:
        problems.append(FieldProblem("priority", f"{priority!r} is no priority", "a whole number from -100 to 100"))
    if problems:
        raise SpecError(problems)
    try:
        refuse_priority(caller, service.settings, int(priority))
        return parse_labels(given), int(priority)
    except UserError as error:
        place = "labels" if error.code == "bad_parameter" else "priority"
        raise SpecError([FieldProblem(place, error.message, error.hint)]) from error


async def _ask(checked: Checked, offered: JobChoices, service: AppState, caller: Principal) -> Checked:
    """Queue a job that measures teachers, once for each form and request; return the form, with problems if any."""
    try:
        request = advice_request(checked.document, offered)
        spec, warnings = await run_in_threadpool(admitted_document, request, service, caller, caller.project)
        service.disk.check()
        terms = _submission_terms(checked, spec, service, caller)
        submitted = await service.submissions(_submission(spec, terms, service, warnings))
    except UserError as error:
        return _refused(checked, error)
    if submitted.created:
        service.notifier.notify(submitted.job_id)
    return checked


def _submission_terms(checked: Checked, spec: AnySpec, service: AppState, caller: Principal) -> SubmissionTerms:
    return SubmissionTerms(
        project=caller.project, owner=caller.owner, priority=checked.priority, caller=caller,
        key_text=f"form-{checked.form.token}-{digest(spec)[:24]}", keep_s=service.settings.keep_keys_s,
        address="/new",
    )  # fmt: skip


def _submission(
    spec: AnySpec, terms: SubmissionTerms, service: AppState, warnings: tuple[str, ...], labels: Mapping[str, str] = {},
) -> Submission:  # fmt: skip
    return Submission(
        spec=spec, retries=service.settings.max_retries, project=terms.project, owner=terms.owner,
        priority=terms.priority, key=terms.key(spec), warnings=warnings, labels=labels,
    )  # fmt: skip


async def _submit(checked: Checked, service: AppState, caller: Principal) -> tuple[str, bool]:
    """Queue the job, once for each form and spec; return its id, and whether it is new."""
    assert checked.spec is not None
    assert checked.told is not None
    service.disk.check()
    terms = _submission_terms(checked, checked.spec, service, caller)
    if checked.form.parent:
        submitted = await run_in_threadpool(_clone, checked, service, terms)
    else:
        submission = _submission(checked.spec, terms, service, checked.told.warnings, checked.labels or {})
        submitted = await service.submissions(submission)
    if submitted.created:
        service.notifier.notify(submitted.job_id)
    return submitted.job_id, submitted.created


def _clone(checked: Checked, service: AppState, terms: SubmissionTerms) -> jobs.SubmittedJob:
    """Queue a job that another gave rise to."""
    assert checked.spec is not None
    spec, caller = checked.spec, terms.caller
    registry = service.registry(caller.project)
    with service.begin(caller) as session:
        anew = reruns.RerunTerms(
            now=database_now(session), retries=service.settings.max_retries, key=terms.key(spec),
            admit=lambda one: admit(one, Rights.of(caller, service.settings), registry),
            behalf=on_behalf(caller, service.settings),
        )  # fmt: skip
        return reruns.clone_as(
            session, checked.form.parent, spec, anew, labels=checked.labels or {}, priority=checked.priority
        )  # fmt: skip


def _refused(checked: Checked, error: UserError) -> Checked:
    """Return the form with why the job was not queued."""
    if isinstance(error, SpecError):
        return replace(checked, problems=error.problems, code=error.code)
    if isinstance(error, JobNotFound):
        checked = replace(checked, form=replace(checked.form, parent=""))
    return replace(checked, problems=(FieldProblem("$", error.message, error.hint),), code=error.code)


def _page(
    request: Request, service: AppState, caller: Principal, offered: JobChoices, checked: Checked, *, status: int = OK
) -> Response:  # fmt: skip
    form, document = checked.form, checked.document
    state = {**state_of(document), **form.state}
    data, weighed = state["data"][-1], _text(document, "student.weights")
    with service.read(caller) as session:
        measured, asked = bounds(session, data), advice.latest(session, data) if data else None
    known = {one.reference for one in offered.data}
    problems = placed(checked.problems, document)
    readable = all(one.path != "$" for one in checked.problems)
    return render(
        request, "new_job.html", title="New job", current="new", status=status,
        form=form, state=state, offered=offered, problems=problems, all_problems=checked.problems,
        lines=lines_of(form.text, [one.path for one in checked.problems]) if readable else {},
        told=checked.told, first=[controls()[path] for path in FIRST], sections=shown_sections(document),
        exports=EXPORTS, null=NULL, added=checked.added,
        focus=next(iter(problems), "") if form.act == "submit" else "",
        data=data if data in known else OTHER, other="" if data in known else data,
        teachers=with_current(offered.teachers, state["teacher"][-1]), bounds=measured,
        asked=asked if asked is not None and asked.state is not JobState.SUCCEEDED else None,
        waits=asked is not None and asked.state not in TERMINAL,
        students=with_current(offered.students, state["student"][-1] or weighed),
        commands=_commands(request, service, checked), task=document.get("task", "distill"),
        recipes=job_choices.recipes(),
    )  # fmt: skip


def _text(document: Mapping[str, Any], path: str) -> str:
    found = value_at(document, path)
    return found if isinstance(found, str) else ""


def _commands(request: Request, service: AppState, checked: Checked) -> Sequence[Any]:
    """Return what submits the same elsewhere; nothing while the form is wrong."""
    if checked.spec is None:
        return ()
    url = service.settings.url or f"{request.url.scheme}://{request.url.netloc}"
    return commands(checked.document, url.rstrip("/"), labels=checked.labels or {}, priority=checked.priority)
