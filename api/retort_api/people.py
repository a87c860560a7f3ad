"""Map a person's claims to owner, role and project, or refuse them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from retort.access import DEFAULT_OWNER, NAME, SCOPES, ClientRole
from retort.settings import Settings

from retort_api.id_tokens import LoginRefused

_ASK = "ask the operator of this service"


@dataclass(frozen=True, slots=True)
class Person:
    """Owner, project and role of somebody who has logged in."""

    owner: str
    project: str
    role: ClientRole


def admit(claims: Mapping[str, Any], settings: Settings) -> Person:
    """Return owner, project and role by the claims of an ID token.

    Raises:
        LoginRefused: nothing that the operator has set lets them in.

    """
    owner = name_of(claims, settings)
    if settings.oidc_domains and "*" not in settings.oidc_domains:
        domain = _email(claims).rpartition("@")[2]
        if domain not in {one.lower().lstrip("@") for one in settings.oidc_domains}:
            raise LoginRefused(f"people of {domain} may not come in here", hint=_ASK)
    return Person(owner, _project(claims, settings), _role(claims, settings))


def name_of(claims: Mapping[str, Any], settings: Settings) -> str:
    """Return the owner's name by the claims.

    Raises:
        LoginRefused: the claim is missing, or cannot be an owner's name.

    """
    named = _email(claims) if settings.oidc_name_claim == "email" else _text(claims, settings.oidc_name_claim)
    if not re.fullmatch(NAME, named) or named == DEFAULT_OWNER:
        told = f"your {settings.oidc_name_claim} at the provider cannot be a name here"
        raise LoginRefused(told, hint="1 to 63 letters, digits, dots, underscores, at signs and hyphens")
    return named


def _role(claims: Mapping[str, Any], settings: Settings) -> ClientRole:
    """Return the highest role that a person has."""
    if not settings.oidc_roles:
        return ClientRole(settings.login_role)
    found = _claim(claims, settings.oidc_role_claim)
    values = [found] if isinstance(found, str) else found if isinstance(found, list) else []
    roles = {settings.oidc_roles[one] for one in values if isinstance(one, str) and one in settings.oidc_roles}
    if not roles:
        told = f"nothing in your {settings.oidc_role_claim} at the provider gives you a role here"
        raise LoginRefused(told, hint=_ASK)
    return max((ClientRole(role) for role in roles), key=lambda role: len(SCOPES[role]))


def _project(claims: Mapping[str, Any], settings: Settings) -> str:
    if not settings.oidc_project_claim:
        return settings.login_project
    found = _claim(claims, settings.oidc_project_claim)
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if not isinstance(found, str) or not re.fullmatch(NAME, found):
        told = f"your {settings.oidc_project_claim} at the provider names no project"
        raise LoginRefused(told, hint=_ASK)
    return found


def _email(claims: Mapping[str, Any]) -> str:
    """Return the person's e-mail address, of which the provider must say that it is theirs."""
    address = _text(claims, "email")
    if not address.isascii() or address.count("@") != 1:  # some letters become ASCII when they are made small
        raise LoginRefused("your e-mail address at the provider cannot be a name here", hint=_ASK)
    if claims.get("email_verified") not in (True, "true"):
        told = "the provider does not say that your e-mail address is verified"
        raise LoginRefused(told, hint="verify it there, or have the operator name another claim")
    return address.lower()


def _text(claims: Mapping[str, Any], name: str) -> str:
    found = _claim(claims, name)
    if not isinstance(found, str) or not found:
        told = f"the provider says nothing of your {name}"
        raise LoginRefused(told, hint="the operator has to have the provider put it into the ID token")
    return found


def _claim(claims: Mapping[str, Any], name: str) -> Any:
    """Return a claim by its name, or by the way into it."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
