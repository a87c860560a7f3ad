"""Client calls about keys, projects and browsers that log in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Json = dict[str, Any]


class KeyCalls:
    """Client calls about keys, projects and logins."""

    url: str
    _json: Callable[..., Json]
    _pages: Callable[..., Iterator[Json]]

    def whoami(self) -> Json:
        """Return owner, project, role and scopes of the key in use."""
        return self._json("GET", "/v1/me")

    def keys(self) -> Iterator[Json]:
        """Yield the API keys, newest first, page after page."""
        return self._pages("/v1/keys")

    def create_key(self, name: str, role: str, **about: Any) -> Json:
        """Create an API key; the answer alone holds its *secret*.

        *about* may name *project*, *owner*, *scopes* and *expires_in_s*.
        """
        given = {key: value for key, value in about.items() if value is not None}
        return self._json("POST", "/v1/keys", json={"name": name, "role": role, **given})

    def rotate_key(self, key_id: str | None = None, *, grace_s: float = 86_400.0) -> Json:
        """Rotate a key or the one in use; return the new key with *secret*."""
        path = "/v1/me/rotate" if key_id is None else f"/v1/keys/{key_id}/rotate"
        return self._json("POST", path, json={"grace_s": grace_s})

    def revoke_key(self, key_id: str) -> Json:
        """Revoke a key and return it."""
        return self._json("POST", f"/v1/keys/{key_id}/revoke")

    def projects(self) -> tuple[Json, ...]:
        """Return the projects by name."""
        return tuple(self._json("GET", "/v1/projects")["data"])

    def create_project(self, name: str) -> Json:
        """Create a project and return it."""
        return self._json("POST", "/v1/projects", json={"name": name})

    def login_link(self) -> str:
        """Return a link that logs a browser in once, within ten minutes."""
        return self.url + str(self._json("POST", "/v1/login-links")["path"])
