"""The environment of Ultralytics, prepared before a stage imports it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from retort.training import environment

environment.prepare(Path(tempfile.mkdtemp(prefix="retort-ultralytics-")))
