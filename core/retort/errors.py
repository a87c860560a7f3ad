"""The exceptions that people meet.

RetortError
├── UserError            something in the request must change; a retry cannot help
│   ├── SpecError        the spec document is wrong (holds one Problem per mistake)
│   ├── DataError        the dataset is missing or malformed
│   ├── ModelError       weights are missing, corrupt or unsafe
│   ├── TeacherMismatch  teacher and student do not fit each other under the losses
│   ├── NotDistilling    the teacher does not teach: a check of the liveness contract broke
│   ├── Diverged         the loss or the weights are not finite
│   └── OutOfMemory      the device is too small for the batch
├── Stopped              the work was asked to stop, and did
│   └── AwaitingReview   the work stopped by itself: people have to look at something first
└── WorldError           the world failed (disk, network, a lost process); a retry may help
    └── FetchError       something could not be downloaded

Programmers' mistakes are assertions, not members of this tree.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system says when there is no room for a file."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a document: where, what is wrong, and what would be right."""

    path: str
    """Dotted path into the document, such as ``distillation.losses.0.temperature``."""
    message: str
    hint: str | None = None


class RetortError(Exception):
    """Base of all errors with a stable *code*, a *message* for people and a *hint* that says what to do."""

    code = "internal"
    retryable = False

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code or type(self).code


class UserError(RetortError):
    """The request must change before it can succeed."""

    code = "bad_request"


class SpecError(UserError):
    """The spec document is wrong; every mistake found is listed."""

    code = "bad_spec"

    def __init__(self, problems: list[Problem]) -> None:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{first.path}: {first.message}{more}", hint=first.hint)
        self.problems = tuple(problems)


class DataError(UserError):
    """The dataset is missing or malformed."""

    code = "bad_data"


class ModelError(UserError):
    """The weights are missing, corrupt or unsafe, or do not fit the architecture that is to have them."""

    code = "bad_model"


class TeacherMismatch(UserError):
    """Teacher and student do not fit each other under the losses of the spec."""

    code = "teacher_mismatch"


class Diverged(UserError):
    """Training left the finite numbers, and going back did not help."""

    code = "diverged"


class NotDistilling(UserError):
    """The teacher does not teach, or is being changed: going on would train something else than was asked for."""

    code = "not_distilling"


class OutOfMemory(UserError):
    """The device is too small for the batch, the image size or the networks."""

    code = "out_of_memory"


class Stopped(RetortError):
    """The work was asked to stop, and did; nothing is wrong."""

    code = "stopped"


class AwaitingReview(Stopped):
    """The work stopped by itself until people have looked at *num_images* images; nothing is wrong."""

    def __init__(self, message: str, *, num_images: int) -> None:
        super().__init__(message)
        self.num_images = num_images


class WorldError(RetortError):
    """The world failed; the same request may succeed later."""

    code = "unavailable"
    retryable = True


class FetchError(WorldError):
    """Something could not be downloaded."""

    code = "fetch_failed"
