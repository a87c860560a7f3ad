"""Define the errors for users, and the retry policy per failure code.

RetortError
├── UserError            something in the request must change; a retry cannot help
│   ├── SpecError        the spec document is wrong (holds one Problem per mistake)
│   ├── DataError        the dataset is missing or malformed
│   ├── DataChanged      the dataset changed while a job was using it
│   ├── ModelError       weights are missing, corrupt or unsafe
│   ├── TeacherMismatch  teacher and student do not fit each other under the losses
│   ├── NotDistilling    the teacher does not teach: a check of the liveness contract broke
│   ├── Diverged         the loss or the weights are not finite
│   └── OutOfMemory      the device is too small for the batch
├── Stopped              the work was asked to stop, and did
│   └── AwaitingReview   the work stopped by itself: people have to look at something first
└── TransientError           the world failed (disk, network, a lost process); a retry may help
    └── FetchError       something could not be downloaded

Programmers' mistakes are assertions, not members of this tree.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass

from retort.redaction import redact

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says when there is no room for a file."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One mistake in a document: its place, message and hint.

    The hint says what would be right.
    """

    path: str
    """Dotted path into the document, such as ``distillation.losses.0.temperature``."""
    message: str
    hint: str | None = None


# Control characters, line ends other than \n, marks that turn the direction of reading or that nobody sees, and bytes
# that are no UTF-8.
UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)


def printable(text: str, *, keep: str = "") -> str:
    """Spell out characters that a terminal would obey, but for those in *keep*."""
    if text.isprintable():
        return text

    def spelled(found: re.Match[str]) -> str:
        return found[0] if found[0] in keep else found[0].encode("unicode_escape").decode()

    return UNPRINTABLE.sub(spelled, text)


class RetortError(Exception):
    """Base of all errors: a code, a message and a hint.

    The *code* is stable, the *message* is for people, and the *hint* says what to do.
    """

    code = "internal"
    retryable = False

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        message = printable(redact(message), keep="\n\t")
        super().__init__(message)
        self.message = message
        self.hint = None if hint is None else printable(redact(hint), keep="\n\t")
        self.code = code or type(self).code


class UserError(RetortError):
    """The request must change before it can succeed."""

    code = "bad_request"


class SpecError(UserError):
    """The spec document is wrong; every mistake found is listed."""

    code = "bad_spec"

    def __init__(self, problems: list[FieldProblem]) -> None:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{first.path}: {first.message}{more}", hint=first.hint)
        self.problems = tuple(problems)


class DataError(UserError):
    """The dataset is missing or malformed."""

    code = "bad_data"


class DataChanged(UserError):
    """The dataset, or a file of weights, changed while a job was using it."""

    code = "data_changed"


class ModelError(UserError):
    """The weights are missing, corrupt, unsafe, or of another architecture."""

    code = "bad_model"


class TeacherMismatch(UserError):
    """Teacher and student do not match under the losses.

    The losses are those of the spec.
    """

    code = "teacher_mismatch"


class Diverged(UserError):
    """Training diverged to non-finite numbers, and the rollback did not help."""

    code = "diverged"


class NotDistilling(UserError):
    """The teacher does not teach, or is being changed.

    To continue would train something else than was asked for.
    """

    code = "not_distilling"


class OutOfMemory(UserError):
    """The device is too small for batch, image size or networks."""

    code = "out_of_memory"


class CannotExtend(UserError):
    """More epochs cannot be added to a training as it ended."""

    code = "cannot_extend"


class Stopped(RetortError):
    """The work stopped on request; nothing is wrong."""

    code = "stopped"


class AwaitingReview(Stopped):
    """The work waits until people have reviewed *num_images* images.

    It stopped by itself; nothing is wrong.
    """

    def __init__(self, message: str, *, num_images: int) -> None:
        super().__init__(message)
        self.num_images = num_images


class TransientError(RetortError):
    """The environment failed; the same request may succeed later."""

    code = "unavailable"
    retryable = True


WorldError = TransientError
"""The former name, which programs outside import."""


class FetchError(TransientError):
    """A download failed."""

    code = "fetch_failed"


@dataclass(frozen=True, slots=True)
class FailureClass:
    """Retry policy of a failure code."""

    cause: str
    retries: int = 0
    """How often a job is tried again after this failure, within the job's own budget."""
    delay_s: float = 0.0
    """Pause before the first of these retries; each further one waits twice as long."""

    def pause_s(self, earlier: int) -> float:
        """Return the seconds before the next retry after *earlier* retries."""
        return float(min(self.delay_s * 2**earlier, LONGEST_PAUSE_S))


LONGEST_PAUSE_S = 600.0
AS_BUDGETED = 1_000_000
"""Only the job's own budget bounds these retries."""

CLASSES: dict[str, FailureClass] = {
    # The request must change.
    "bad_spec": FailureClass("The spec cannot be carried out as it stands."),
    "bad_data": FailureClass("The dataset is missing or malformed."),
    "data_changed": FailureClass("Data or weights changed while the job was using them."),
    "bad_model": FailureClass("Weights are missing, corrupt or unsafe."),
    "bad_export": FailureClass("The student cannot be written in a format that was asked for."),
    "teacher_mismatch": FailureClass("Teacher and student do not fit each other under the losses of the spec."),
    "not_distilling": FailureClass("The teacher does not teach, or is being changed."),
    "diverged": FailureClass("The loss, the weights or the final figures are not finite numbers."),
    "cannot_extend": FailureClass("The training that is to be extended is not there as it ended."),
    "out_of_memory": FailureClass("The batch does not fit on the GPU, or the job not into the machine's memory."),
    "no_gpu": FailureClass("There is no GPU that can be used, and nothing allows the CPU in its place."),
    "not_installed": FailureClass("A package that the work needs is not installed."),
    "bad_path": FailureClass("A file or folder cannot be used as it stands."),
    "bad_address": FailureClass("A URL is malformed, or leads to an address that is not public."),
    "too_few_gpus": FailureClass("The job asks for more GPUs than the worker has."),
    "timeout": FailureClass("The job has run for as long as its spec allows."),
    "tracker_failed": FailureClass("A tracker was switched off; the run went on without it."),
    # The world failed; it may be in order next time.
    "lost_worker": FailureClass("The worker died, or was cut off from the database.", AS_BUDGETED),
    "killed": FailureClass("Something killed the run, most likely the machine out of memory.", 2, 10),
    "crashed": FailureClass("The run died without a last word.", 2, 10),
    "cuda_error": FailureClass("The GPU or its driver failed.", 2, 10),
    "rank_lost": FailureClass("One of the processes that train together died.", 2, 10),
    "shared_memory": FailureClass("Shared memory is too small for the processes that load images.", 1),
    "stuck": FailureClass("The run lived, but did not get on.", 2, 10),
    "stopped": FailureClass("Something else than Retort told the run to stop.", 3, 10),
    "disk_full": FailureClass("The disk of the working folder is full.", 3, 60),
    "fetch_failed": FailureClass("Published weights, or a known data set, could not be downloaded.", 5, 15),
    "store_unavailable": FailureClass("The artifact store cannot be reached or written.", 5, 15),
    "not_stored": FailureClass("A file of the run could not be brought into the store.", 3, 15),
    "folder_busy": FailureClass("An earlier run of the job still holds its working folder.", 5, 15),
    "unconfined": FailureClass("The worker's host cannot confine the run as its operator demands.", 3, 60),
    "bad_journal": FailureClass("The run's journal cannot be read.", 1),
    "bad_workdir": FailureClass("The run's working folder is not in order.", 1),
    "unavailable": FailureClass("The worker's machine failed.", 3, 15),
    # A mistake of ours.
    "internal": FailureClass("Retort made a mistake, or met something that it did not foresee."),
}


def failure_class(code: str) -> FailureClass:
    """Return the retry policy of a failure *code*.

    A code that is not listed is retried like a failed machine.
    """
    return CLASSES.get(code, CLASSES["unavailable"])
