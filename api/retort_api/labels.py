"""Read the labels of jobs from requests."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

from fastapi import Query
from pydantic import Field
from retort.db.jobs import MOST_LABELS

from retort_api.errors import BadParameter

LABEL_KEY = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}$"
LABEL_VALUE = r"^[^\x00-\x1f\x7f]{0,255}$"
LABEL = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}=[^\x00-\x1f\x7f]{0,255}$"
_WANTED = r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,62}(=[^\x00-\x1f\x7f]{0,255})?$"

LabelKey = Annotated[str, Field(pattern=LABEL_KEY)]
LabelValue = Annotated[str, Field(pattern=LABEL_VALUE)]
Labels = Annotated[
    list[Annotated[str, Field(pattern=LABEL)]],
    Query(alias="label", max_length=MOST_LABELS, description="By which it is found again: `KEY=VALUE`, any number."),
]
WantedLabels = Annotated[
    list[Annotated[str, Field(pattern=_WANTED)]],
    Query(alias="label", max_length=MOST_LABELS, description="Only jobs with all of these: `KEY=VALUE`, or `KEY`."),
]


def parse_labels(given: Sequence[str]) -> dict[str, str]:
    """Return the labels of a submission by key.

    Raises:
        BadParameter: a key is given two values.

    """
    labels: dict[str, str] = {}
    for one in given:
        key, _, value = one.partition("=")
        if labels.setdefault(key, value) != value:
            raise BadParameter("query.label", f"gives {key} two values", hint="each key has one value")
    return labels


def parse_wanted(given: Sequence[str]) -> tuple[tuple[str, str | None], ...]:
    """Return the labels of a filter: each key with its value, None for any."""
    parts = (re.fullmatch(r"([^=]*)(?:=(.*))?", one, re.DOTALL) for one in given)
    return tuple((part[1], part[2]) for part in parts if part is not None)
