"""Serve the API contract as a Swagger UI page, without other hosts."""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated

from fastapi import Path, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from retort.access import ANY_KEY, PUBLIC
from retort.errors import UserError

from retort_api.deps import Router
from retort_api.errors import OK
from retort_api.file_response import DOCS_POLICY

router = Router("pages")

# The package's own FastAPIOffline would replace our application; its folder of assets is all that is wanted.
_ASSETS = files("fastapi_offline") / "static"
_MEDIA_TYPES = {
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
    "favicon.png": "image/png",
    "start.js": "text/javascript",
}
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Retort: REST API</title>
<link rel="icon" href="/docs/favicon.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</html>
"""
# A file of its own, because the page's policy allows no script inside the page.
_START = """SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, defaultModelsExpandDepth: 0,
});
"""


@router.readable("/docs", scope=ANY_KEY, include_in_schema=False)
def show_contract() -> HTMLResponse:
    """Show the contract for people, who may try each operation."""
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": DOCS_POLICY})


@router.readable("/openapi.json", scope=ANY_KEY, include_in_schema=False)
def get_contract(request: Request) -> JSONResponse:
    """Send the OpenAPI document."""
    return JSONResponse(request.app.openapi())


@router.readable("/docs/{name}", scope=PUBLIC, include_in_schema=False)
def get_asset(name: Annotated[str, Path()]) -> Response:
    """Send one of the page's files."""
    if name not in _MEDIA_TYPES:
        raise UserError(f"there is nothing at /docs/{name}", code="not_found")
    content = _START.encode() if name == "start.js" else (_ASSETS / name).read_bytes()
    return Response(content, OK, media_type=_MEDIA_TYPES[name])
