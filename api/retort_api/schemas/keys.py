"""API keys and projects."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field
from retort.access import NAME, ClientRole, Principal, Scope
from retort.db.identity_models import KeyRow

from retort_api.schemas.jobs import ResponseModel, row_fields

Label = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._@-]{0,62}$")]
Name = Annotated[str, Field(pattern=rf"^{NAME}$")]
_YEARS_S = 10 * 366 * 86_400


class KeyRequest(BaseModel):
    """A key to be made."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: Label
    """For people, to tell keys apart."""
    role: ClientRole
    project: Name | None = None
    """Left out: the caller's."""
    owner: Name | None = None
    """To whom what is submitted with it belongs; left out: the caller."""
    scopes: Annotated[tuple[Scope, ...], Field(min_length=1)] | None = None
    """Fewer than the role's; left out: all of them."""
    expires_in_s: Annotated[float, Field(gt=0, le=_YEARS_S, strict=True)] | None = None
    """Left out: it does not expire."""


class RotateRequest(BaseModel):
    """How a key is replaced."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    grace_s: Annotated[float, Field(ge=0, le=30 * 86_400)] = 86_400.0
    """For so long the old key still works."""


class ProjectRequest(BaseModel):
    """A project to be made."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: Name


class Login(BaseModel):
    """The secret of a one-time link."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    token: Annotated[str, Field(max_length=200)]


class Key(ResponseModel):
    """An API key, without its secret."""

    id: str
    name: str
    prefix: str
    """Beginning of the secret."""
    role: ClientRole
    scopes: tuple[Scope, ...]
    project: str
    owner: str
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    """To within ten minutes."""

    @classmethod
    def of(cls, row: KeyRow) -> Key:
        """Return the row as it is shown."""
        return cls.model_validate(row_fields(row, cls))


class KeyWithSecret(Key):
    """A new API key with its secret, which is shown this once."""

    secret: str


class KeyPage(ResponseModel):
    """API keys, newest first."""

    data: tuple[Key, ...]
    next_cursor: str | None
    has_more: bool


class Caller(ResponseModel):
    """Who a request comes from."""

    owner: str
    project: str
    role: ClientRole
    scopes: tuple[Scope, ...]
    key_id: str

    @classmethod
    def of(cls, principal: Principal) -> Caller:
        """Return the principal as it is shown."""
        return cls(
            owner=principal.owner, project=principal.project, role=principal.role,
            scopes=tuple(sorted(principal.scopes)), key_id=principal.key_id,
        )  # fmt: skip


class Project(ResponseModel):
    """People who share jobs, data and models."""

    name: str
    created_at: datetime


class Projects(ResponseModel):
    """All projects, by name."""

    data: tuple[Project, ...]


class LoginLink(ResponseModel):
    """A link that logs a browser in, once."""

    path: str
    """Behind the service's address. What follows the # is not sent to any server when it is opened."""
    expires_at: datetime


class LoggedIn(ResponseModel):
    """A browser that has logged in."""

    next: str
    """Where to go."""
    expires_at: datetime


class LoginWays(ResponseModel):
    """How people can log in here."""

    issuer: str | None
    """OpenID provider; null where there is none, and keys and one-time links are the only way."""
    browser: str | None
    """Where a browser begins."""
    device: str | None
    """Where a program without a browser begins."""


class DeviceLogin(ResponseModel):
    """A login that a person approves in any browser (RFC 8628)."""

    device_code: str
    """For the program that waits; nobody else is to see it."""
    user_code: str
    """For the person, who compares or enters it."""
    verification_uri: str
    verification_uri_complete: str | None
    """The same with the code in it."""
    expires_in_s: float
    interval_s: float
    """Between two questions whether it is approved."""


class DeviceCode(BaseModel):
    """The login that is asked about."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)

    device_code: Annotated[str, Field(min_length=1, max_length=2048, pattern=r"^[!-~]+$")]
    name: Label = "login"
    """Of the key that is made, for people."""


class DeviceWaiting(ResponseModel):
    """Nobody has decided yet."""

    state: Literal["pending", "slow_down"]
    """After ``slow_down`` five seconds more are to lie between two questions."""


class ProviderAnswer(BaseModel):
    """What a provider sends a browser back with (OpenID Connect Core 3.1.2.5, RFC 9207)."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    code: str = ""
    state: str = ""
    error: str = ""
    iss: str = ""
