"""Every way by which services of this kind were breached is tried here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from malicious import addresses, archives, documents, files  # noqa: F401 - they add their cases
from malicious.cases import CASES
from malicious.cves import BREACHES
from retort.settings import Settings
from support.malicious_checkpoints import corpus

ROOT = Path(__file__).parents[2]
_LISTED = """
CVE-2026-2635 CVE-2026-0545 CVE-2026-2652 CVE-2026-2033 CVE-2026-2614 CVE-2024-3848 CVE-2023-47116 CVE-2022-36551
GHSA-f475 CVE-2023-47115 CVE-2025-25296 CVE-2025-47783 CVE-2026-23516 CVE-2026-65986 GHSA-6hjj CVE-2024-24590
oauth2-proxy
"""
KNOWN = _LISTED.split()
"""What was looked up about MLflow, Label Studio, CVAT, ClearML and proxies of logins."""


def test_each_breach_that_is_known_of_others_is_tried():
    assert BREACHES.keys() == set(KNOWN)
    assert [name for name, breach in BREACHES.items() if not breach.tried_by] == []


@pytest.mark.parametrize("name", BREACHES)
def test_what_tries_a_breach_exists(name: str):
    for one in BREACHES[name].tried_by:
        path, _, test = one.partition("::")
        if test:
            assert re.search(rf"^\s*def {test}\(", (ROOT / path).read_text(), re.MULTILINE), one
        else:
            assert one in CASES or one in corpus(), one


def test_no_secret_is_shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for variable in ("RETORT_HOME", "RETORT_KEY"):
        monkeypatch.delenv(variable, raising=False)
    settings = Settings(home=tmp_path)
    secrets = [name for name in type(settings).model_fields if re.search("secret$|password$|^key$|_key$|token$", name)]
    assert len(secrets) >= 4
    assert [name for name in secrets if getattr(settings, name)] == []
