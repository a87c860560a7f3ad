"""Keep the typed values of a refused form, with mistakes by field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fastapi.exceptions import RequestValidationError
from retort.errors import UserError

FIELDS_OF_CODES: Final = {"bad_address": "url", "project_not_found": "project"}
"""Which field an error is about that names none."""
_ODD = "String should match pattern"


@dataclass(frozen=True, slots=True)
class FormMistake:
    """One mistake in a form."""

    field: str
    """Empty where it is about none."""
    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class RefusedForm:
    """A form that was not taken."""

    action: str
    """The address that it was sent to."""
    typed: Mapping[str, Sequence[str]]
    mistakes: tuple[FormMistake, ...]

    @classmethod
    def of(
        cls, action: str, pairs: Sequence[tuple[str, str]], error: UserError | RequestValidationError
    ) -> RefusedForm:
        """Return the form of which *pairs* were sent, with what is wrong in it."""
        typed: dict[str, list[str]] = {}
        for name, value in pairs:
            typed.setdefault(name, []).append(value)
        return cls(action, typed, _mistakes(error, typed))

    def told(self, field: str) -> tuple[FormMistake, ...]:
        """Return the mistakes in a field; those in none, if it is empty."""
        return tuple(one for one in self.mistakes if one.field == field)

    def value(self, field: str) -> str:
        """Return what was typed into a field."""
        return (self.typed.get(field) or [""])[-1]


def _mistakes(error: UserError | RequestValidationError, typed: Mapping[str, object]) -> tuple[FormMistake, ...]:
    if isinstance(error, RequestValidationError):
        return tuple(_mistake(one["loc"], one["msg"]) for one in error.errors())
    return (FormMistake(_field_of(error, typed), error.message, error.hint or ""),)


def _mistake(place: Sequence[object], told: str) -> FormMistake:
    named = [part for part in place[1:] if isinstance(part, str)]
    message = "is not written as this field allows" if told.startswith(_ODD) else told.removeprefix("Input ")
    return FormMistake(named[0] if named else "", message)


def _field_of(error: UserError, typed: Mapping[str, object]) -> str:
    mistakes = getattr(error, "mistakes", ())
    named = mistakes[0].path.rpartition(".")[2] if mistakes else FIELDS_OF_CODES.get(error.code, "")
    return named if named in typed else ""
