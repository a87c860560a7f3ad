"""Serve the page that sends a dataset from a browser."""

from __future__ import annotations

from html import escape
from pathlib import Path

from fastapi import Response
from fastapi.responses import HTMLResponse
from retort import dataset_ref
from retort.access import ANY_KEY
from retort.data.archives import KINDS

from retort_api.deps import Router
from retort_api.errors import OK
from retort_api.file_response import DOCS_POLICY

router = Router("pages")

_TEMPLATES = Path(__file__).parent.parent / "templates"


@router.readable("/upload", scope=ANY_KEY, include_in_schema=False)
def show_upload() -> HTMLResponse:
    """Show the page on which people choose an archive or a folder."""
    page = _read("upload.html")
    pattern = dataset_ref.NAME.replace("-]", r"\-]")  # as browsers read patterns
    page = page.replace("{pattern}", escape(pattern)).replace("{kinds}", " ".join(sorted(KINDS)))
    return HTMLResponse(page, headers={"Content-Security-Policy": DOCS_POLICY})


@router.readable("/upload/start.js", scope=ANY_KEY, include_in_schema=False)
def get_upload_script() -> Response:
    """Send the page's script."""
    return Response(_read("upload.js"), OK, media_type="text/javascript")


@router.readable("/upload/page.css", scope=ANY_KEY, include_in_schema=False)
def get_upload_style() -> Response:
    """Send the page's style."""
    return Response(_read("upload.css"), OK, media_type="text/css")


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")
