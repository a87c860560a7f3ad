"""Log in by a device code (RFC 8628), which a person approves elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, cast

from retort.client.answers import DeviceLogin, KeyWithSecret
from retort.client.client import Client
from retort.client.transport import ClientError

_SLOWER_S = 5.0
"""Longer between two questions, each time that the provider is asked too often."""
_AWAY = frozenset({429, 502, 503, 504})


def log_in(
    client: Client,
    show: Callable[[DeviceLogin], Any],
    *,
    name: str = "login",
    wait: Callable[[float], Any] = time.sleep,
) -> KeyWithSecret:
    """Return the key, with its *secret*, of whoever approves the login.

    Args:
        client: for the service; no key is needed.
        show: is given the login to be approved.
        name: of the key, for people.
        wait: lets so many seconds pass.

    Raises:
        ClientError: it was denied, nobody has approved it in time, or the service refuses the person.

    """
    login = client.begin_login()
    show(login)
    pause_s, left_s = float(login["interval_s"]), float(login["expires_in_s"])
    while left_s > 0:
        wait(pause_s)
        left_s -= pause_s
        try:
            answer = client.finish_login(login["device_code"], name)
        except ClientError as error:
            if error.status is not None and error.status not in _AWAY:
                raise
            pause_s = max(pause_s + _SLOWER_S, error.retry_after_s or 0.0)
            continue
        if "secret" in answer:
            return cast("KeyWithSecret", answer)
        pause_s += _SLOWER_S if answer["state"] == "slow_down" else 0.0
    raise ClientError("nobody has approved the login in time", code="login_expired", hint="begin again: retort login")
