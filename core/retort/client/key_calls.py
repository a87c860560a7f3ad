"""Describe the calls about keys, projects and browsers that log in."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from retort.client.answers import Caller, DeviceLogin, DeviceWaiting, Key, KeyWithSecret, LoginLink, LoginWays, Project
from retort.client.calls import Call, Listing, Steps, given, pages
from retort.client.operations import call, listing, steps


class KeyCalls:
    """Calls about keys, projects and logins."""

    url: str

    @call
    def whoami(self) -> Call[Caller]:
        """Return owner, project, role and scopes of the key in use."""
        return Call("GET", "/v1/me")

    @listing
    def keys(self) -> Listing[Key]:
        """Yield the API keys, newest first, page after page."""
        return pages("/v1/keys")

    @call
    def create_key(self, /, name: str, role: str, **about: Any) -> Call[KeyWithSecret]:
        """Create an API key; the answer alone holds its *secret*.

        *about* may name *project*, *owner*, *scopes* and *expires_in_s*.
        """
        return Call("POST", "/v1/keys", {"json": {"name": name, "role": role, **given(**about)}})

    @call
    def rotate_key(self, key_id: str | None = None, *, grace_s: float = 86_400.0) -> Call[KeyWithSecret]:
        """Rotate a key or the one in use; return the new key with *secret*."""
        path = "/v1/me/rotate" if key_id is None else f"/v1/keys/{key_id}/rotate"
        return Call("POST", path, {"json": {"grace_s": grace_s}})

    @call
    def revoke_key(self, key_id: str) -> Call[Key]:
        """Revoke a key and return it."""
        return Call("POST", f"/v1/keys/{key_id}/revoke")

    @call
    def projects(self) -> Call[tuple[Project, ...]]:
        """Return the projects by name."""
        return Call("GET", "/v1/projects", reading="data")

    @call
    def create_project(self, name: str) -> Call[Project]:
        """Create a project and return it."""
        return Call("POST", "/v1/projects", {"json": {"name": name}})

    @steps
    def login_link(self, page: str | None = None) -> Steps[str]:
        """Return a link that logs a browser in once, within ten minutes.

        It leads to a *page* of the service, such as ``/jobs/JOB``.
        """
        link: LoginLink = yield Call("POST", "/v1/login-links")
        path, mark, secret = link["path"].partition("#")
        return self.url + path + (f"?{urlencode({'next': page}, safe='/')}" if page else "") + mark + secret

    @call
    def login_ways(self) -> Call[LoginWays]:
        """Return how people can log in here; *device* is null where only links do."""
        return Call("GET", "/v1/login")

    @call
    def begin_login(self) -> Call[DeviceLogin]:
        """Begin a login that a person approves in any browser."""
        return Call("POST", "/v1/login/device")

    @call
    def finish_login(self, device_code: str, name: str = "login") -> Call[KeyWithSecret | DeviceWaiting]:
        """Return the key of whoever has approved a login, or its *state*."""
        return Call("POST", "/v1/login/device/key", {"json": {"device_code": device_code, "name": name}})

    @call
    def log_out(self) -> Call[None]:
        """End the key in use, where a login gave it."""
        return Call("POST", "/v1/logout", reading="nothing")
