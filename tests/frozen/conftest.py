"""The option that writes the golden files anew, and the fixture that compares with them."""

from __future__ import annotations

import pytest
from frozen.golden import Golden


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--freeze", action="store_true", help="write tests/frozen/golden anew instead of comparing")


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """Compares with the committed files, or writes them with ``pytest tests/frozen --freeze``."""
    return Golden(freeze=bool(request.config.getoption("--freeze", default=False)))
