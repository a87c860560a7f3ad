"""People log in on the command line by a device code; the key is kept for that service alone, until they log out."""

from __future__ import annotations

import json
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli.commands import Retort, environment
from retort.client import credentials, device_login
from retort.client.client import Client
from retort.client.transport import ClientError
from support.api_harness import listening
from support.openid_provider import BROWSER, DEVICE, ProviderProcess, Visitor


@pytest.fixture(scope="module")
def address(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory, openid: ProviderProcess) -> Iterator[str]:
    """Where a service listens whose people log in at the provider."""
    home = tmp_path_factory.mktemp("login")
    given = {"oidc_issuer": openid.issuer, "oidc_client_id": BROWSER, "oidc_device_client_id": DEVICE}
    with listening(sqlite_template, home, **given, oidc_roles="ml-team=submitter") as url:
        yield url


@pytest.fixture(autouse=True)
def configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folders, which are nobody's."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("RETORT_HOME", str(tmp_path / "home"))
    return tmp_path / "config" / "retort"


class Clock:
    """Lets time pass at once; something may happen meanwhile."""

    def __init__(self, *happens: Any) -> None:
        self.pauses: list[float] = []
        self._happens = list(happens)

    def __call__(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if self._happens and (act := self._happens.pop(0)):
            act()


def approved(address: str, configuration: Path) -> tuple[str, str]:
    """Run the command, approve what it shows, and return all that it has printed, and what of it is for programs."""
    command = [sys.executable, "-m", "retort.cli", "login", "--url", address, "--json"]
    given = environment(home=configuration.parent.parent / "home")
    with subprocess.Popen(
        command, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:  # fmt: skip
        assert process.stderr
        shown = process.stderr.readline() + process.stderr.readline()
        Visitor("ann").decide(re.findall(r"http\S+\?user_code=\w+", shown)[0])
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return shown + out + err, out


def refused(address: str, headers: dict[str, str]) -> bool:
    """Return True if a key opens nothing any more."""
    with Client(address, key=headers["Authorization"][7:]) as client:
        try:
            client.whoami()
        except ClientError as error:
            return error.status == 401
    return False


def test_the_command_waits_until_the_code_is_approved_and_keeps_the_key_for_that_service_alone(
    address: str, retort: Retort, configuration: Path
):
    told, out = approved(address, configuration)
    assert json.loads(out)["owner"] == "ann@example.org"
    assert "rtt_" not in told

    (kept,) = configuration.rglob("*.json")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    assert "ann@example.org in the project default, submitter" in retort("whoami", "--url", address).out
    for elsewhere in (address.replace("http:", "https:"), f"{address}1", address.replace("127.0.0.1", "localhost")):
        assert credentials.headers(elsewhere) == {}

    first = credentials.headers(address)
    approved(address, configuration)
    second = credentials.headers(address)
    assert refused(address, first), "the next login has ended it"
    assert not refused(address, second)
    assert retort("logout", "--url", address).code == 0
    assert not kept.exists()
    assert refused(address, second)
    again = retort("logout", "--url", address, "--json")
    assert (again.code, again.error["code"]) == (4, "not_logged_in")


def test_a_login_that_is_interrupted_keeps_nothing(address: str, configuration: Path):
    # A shell's background has its children ignore the signal, which tests may be.
    heard = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from retort.cli import main; main()"
    )
    command = [sys.executable, "-c", heard, "login", "--url", address]
    given = environment(home=configuration.parent.parent / "home")
    with subprocess.Popen(command, env=given, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        try:
            assert "enter the code" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130
    assert not configuration.exists()


def test_a_login_asks_at_the_providers_pace_and_slower_when_it_is_told(address: str):
    shown: list[dict[str, Any]] = []
    with Client(address) as client:
        clock = Clock(None, None, lambda: Visitor("ann").decide(shown[0]["verification_uri_complete"]))
        key = device_login.log_in(client, shown.append, wait=clock)

    assert key["owner"] == "ann@example.org"
    # The provider answers: pending, slow down, approved.
    assert clock.pauses == [1.0, 1.0, 6.0]


def test_a_login_that_is_denied_ends_at_once_and_one_that_nobody_approves_in_time(
    address: str, openid: ProviderProcess
):
    shown: list[dict[str, Any]] = []
    with Client(address) as client:
        for happens, code in (
            (lambda: Visitor("ann").decide(shown[-1]["verification_uri_complete"], "deny"), "login_refused"),
            (lambda: openid.expire(shown[-1]["device_code"]), "login_expired"),
        ):
            clock = Clock(happens)
            with pytest.raises(ClientError) as caught:
                device_login.log_in(client, shown.append, wait=clock)
            assert (caught.value.code, len(clock.pauses)) == (code, 1)


def test_nobody_is_waited_for_longer_than_the_code_is_valid(address: str):
    class Hurried(Client):
        def begin_login(self) -> dict[str, Any]:
            return {**super().begin_login(), "expires_in_s": 7.0}

    clock = Clock()
    with Hurried(address) as client, pytest.raises(ClientError) as caught:
        device_login.log_in(client, lambda _: None, wait=clock)
    assert caught.value.code == "login_expired"
    assert clock.pauses == [1.0, 1.0, 6.0]


def test_a_key_that_has_ended_is_not_sent_and_a_chosen_one_goes_first(address: str, monkeypatch: pytest.MonkeyPatch):
    from retort.access import new_secret

    key = {"id": "key_1", "owner": "ann", "project": "default", "role": "reader", "secret": new_secret()}
    credentials.keep_login(address, {**key, "expires_at": "2001-01-01T00:00:00+00:00"})
    assert credentials.headers(address) == {}
    credentials.keep_login(address, {**key, "expires_at": "2901-01-01T00:00:00+00:00"})
    assert credentials.headers(f"{address}/") == {"Authorization": f"Bearer {key['secret']}"}
    monkeypatch.setenv("RETORT_KEY", chosen := new_secret())
    assert credentials.headers(address) == {"Authorization": f"Bearer {chosen}"}


def test_a_key_of_a_service_that_is_away_is_forgotten_and_the_command_says_what_is_left_to_do(retort: Retort):
    from retort.access import new_secret

    away = "http://127.0.0.1:9"
    key = {"id": "key_1", "owner": "ann", "project": "default", "role": "reader", "secret": new_secret()}
    credentials.keep_login(away, {**key, "expires_at": "2901-01-01T00:00:00+00:00"})
    ended = retort("logout", "--url", away, "--json")
    assert (ended.code, ended.error["code"]) == (4, "not_revoked")
    assert "keys revoke key_1" in ended.error["hint"]
    assert credentials.read_login(away) is None
