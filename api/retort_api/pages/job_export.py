"""Submit a job that makes one more file of a student that is published."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

from retort.access import Principal
from retort.db import Session, jobs, model_registry
from retort.db.idempotency import IdempotencyKey
from retort.db.models import JobRow, ModelRow
from retort.db.session import database_now
from retort.errors import UserError
from retort.exports import EXPORT_FORMATS
from retort.model_ref import ModelRef
from retort.spec import digest

from retort_api.deps import AppState
from retort_api.http import JSON, Body
from retort_api.pages.export_titles import FORMATS, ON_GPUS, export_title
from retort_api.terms import on_behalf
from retort_api.validation import admitted

_LONGEST_NAME = 63


@dataclass(frozen=True, slots=True)
class ExportForm:
    """A form that a student may be exported to."""

    format: str
    precision: str

    @property
    def value(self) -> str:
        """Its name in a form."""
        return f"{self.format}-{self.precision}"

    @property
    def title(self) -> str:
        """Its name for people."""
        return export_title(self.format, self.precision) + (" (needs a GPU)" if self.format in ON_GPUS else "")


def _forms() -> Iterator[ExportForm]:
    for name in FORMATS:
        for precision in get_args(EXPORT_FORMATS[name].model_fields["precision"].annotation):
            yield ExportForm(name, precision)


FORMS = tuple(_forms())


def published_student(session: Session, job: JobRow) -> ModelRow | None:
    """Return the registered model that is the job's student, if it is still there."""
    found = model_registry.versions(session, f"{job.name}-student", project=job.project)
    return next((model for model in found if model.job_id == job.id), None)


def submit_export(service: AppState, caller: Principal, job_id: str, form: str, key: str | None) -> str:
    """Queue an evaluation of the student with one export; return the new job's id."""
    chosen = next((one for one in FORMS if one.value == form), None)
    if chosen is None:
        hint = f"known: {', '.join(one.value for one in FORMS)}"
        raise UserError(f"there is no form {form}", code="bad_parameter", hint=hint)
    service.disk.check()
    with service.read(caller) as session:
        job = jobs.get(session, job_id)
        jobs.refuse_deleted(job)
        model = published_student(session, job)
    if model is None:
        hint = "a student is registered when it is published; look at the models"
        raise UserError(f"job {job_id} has no registered student to export", code="not_found", hint=hint)
    body = Body(json.dumps(_document(job, model, chosen)).encode(), JSON)
    spec, warnings = admitted(body, service, caller, job.project)
    behalf = on_behalf(caller, service.settings)
    owner = job.owner if behalf is None else behalf.owner
    kept = None if key is None else IdempotencyKey(key, owner, digest(spec), service.settings.keep_keys_s)
    with service.begin(caller) as session:
        made = jobs.submit(
            session, spec, now=database_now(session), retries=service.settings.max_retries, project=job.project,
            owner=owner, key=kept, warnings=warnings, labels=job.labels, parent=job,
        )  # fmt: skip
    service.notifier.notify(made.job_id)
    return made.job_id


def _document(job: JobRow, model: ModelRow, form: ExportForm) -> dict[str, object]:
    data = {name: value for name, value in job.spec["data"].items() if name in {"path", "dataset"} and value}
    name = f"{job.name[: _LONGEST_NAME - len(form.value) - 1]}-{form.value}"
    return {
        "task": "evaluate", "name": name, "data": data, "networks": [str(ModelRef(model.name, model.sha256))],
        "exports": [{"format": form.format, "precision": form.precision}],
    }  # fmt: skip
