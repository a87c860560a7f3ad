"""``retort mcp`` and ``retort skill``: for agents."""

from __future__ import annotations

from functools import partial

from retort import agents
from retort.cli.options import Url, connect, say


def mcp(url: Url = None) -> None:
    """Serve tools for agents over standard input and output (MCP); needs retort[mcp]."""
    agents.server(partial(connect, url)).run()


def skill() -> None:
    """Print SKILL.md: how an agent gets from a folder of images to an INT8 student."""
    say(agents.guide(), nl=False)
