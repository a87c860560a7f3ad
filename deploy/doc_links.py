"""Replace links that leave the documentation by their text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

LINK = re.compile(r"\[([^\]]*)\]\(((?:\.\./)+[^)\s]+)\)")


def on_page_markdown(markdown: str, *, page: Any, config: Any, **_: Any) -> str:
    """Keep a page's links within the site, which has no copy of the repository's other files."""
    docs = Path(config["docs_dir"]).resolve()
    here = (docs / page.file.src_uri).parent

    def inside(found: re.Match[str]) -> str:
        target = (here / found.group(2).partition("#")[0]).resolve()
        if target.is_relative_to(docs):
            return found.group()
        if not target.exists():
            raise FileNotFoundError(f"{page.file.src_uri} links to {found.group(2)}, which is not there")
        return found.group(1)

    return LINK.sub(inside, markdown)
