"""Serve the API contract as a Swagger UI page, without other hosts."""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated

from fastapi import Path, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from retort import chart_program
from retort.access import ANY_KEY, PUBLIC
from retort.errors import UserError

from retort_api import static_files
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
    "contrast.css": "text/css",
}
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Retort: REST API</title>
<link rel="icon" href="/docs/favicon.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="stylesheet" href="/docs/contrast.css">
<nav aria-label="Pages"><a href="/">Retort: jobs, data, models</a></nav>
<main id="swagger-ui"></main>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</html>
"""
# A file of its own, because the page's policy allows no script inside the page.
_START = """const page = document.getElementById("swagger-ui");
// What the program draws, for those who read it by ear or go through it by keyboard.
const mend = () => {
  for (const one of page.querySelectorAll("h3.opblock-tag:not([aria-level])")) one.setAttribute("aria-level", "2");
  for (const one of page.querySelectorAll("h4:not([aria-level])")) one.setAttribute("aria-level", "3");
  for (const one of page.querySelectorAll("h5:not([aria-level])")) one.setAttribute("aria-level", "4");
  for (const one of page.querySelectorAll("button a[href]")) one.removeAttribute("href");
  for (const one of page.querySelectorAll("pre.microlight:not([tabindex])")) one.tabIndex = 0;
  for (const one of page.querySelectorAll("select:not([aria-label])")) {
    one.setAttribute("aria-label", one.id === "servers" ? "Server" : "Choice");
  }
};
new MutationObserver(mend).observe(page, { childList: true, subtree: true });
SwaggerUIBundle({
  url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, defaultModelsExpandDepth: 0, docExpansion: "none",
});
"""
_CONTRAST = """body > nav { font: 16px system-ui, sans-serif; padding: 12px 20px; border-bottom: 1px solid #c9ced6; }
body > nav a { color: #0b5cad; margin-right: 20px; display: inline-block; padding: 4px 0; min-height: 24px; }
:focus-visible { outline: 2px solid #0b5cad; outline-offset: 2px; }
.swagger-ui .info .title small, .swagger-ui .info .title small.version-stamp { background: #454a52; }
.swagger-ui .info .title small.version-stamp { background: #33691e; }
.swagger-ui .info a, .swagger-ui .info .url, .swagger-ui .renderedMarkdown a { color: #0b5cad; }
.swagger-ui .parameter__in, .swagger-ui .parameter__deprecated { color: #454a52; }
.swagger-ui .microlight span[style*="211, 99, 99"] { color: #f4a6a6 !important; }
.swagger-ui .btn.authorize, .swagger-ui .btn.authorize span { border-color: #1d6b46; color: #1d6b46; }
.swagger-ui .btn.authorize svg { fill: #1d6b46; }
.swagger-ui .opblock .opblock-summary-method { background: #454a52; }
.swagger-ui .opblock.opblock-get .opblock-summary-method { background: #0b5cad; }
.swagger-ui .opblock.opblock-post .opblock-summary-method { background: #1d6b46; }
.swagger-ui .opblock.opblock-put .opblock-summary-method { background: #8a4b00; }
.swagger-ui .opblock.opblock-delete .opblock-summary-method { background: #b3261e; }
.swagger-ui .opblock.opblock-patch .opblock-summary-method { background: #0f6b62; }
"""
_OWN = {"start.js": _START, "contrast.css": _CONTRAST}
_OVERVIEW = """# Retort

> A service that distils YOLO detectors: a small student learns from a large teacher, beside an equal training without
> teacher, so that what the distillation bought is measured. INT8 files for edge devices come with it.

Requests carry `Authorization: Bearer rtt_...`. Refusals are problem documents (RFC 9457): decide by `code`, act by
`hint`; `errors` names each mistake of a spec. Send an `Idempotency-Key` with what makes something, and repeat freely.

## The way from images to an INT8 student

- `POST /v1/validate`: check a spec; estimates of time, memory and cost where recorded jobs tell
- `POST /v1/jobs`: queue it; the answer has the id
- `GET /v1/jobs/{job_id}?wait=50`: answers when the job has ended; `failure.hint` says what to change
- `GET /v1/jobs/{job_id}/artifacts`: its files; `result.exports` of the job says which is the INT8 one, and what it lost
- `POST /v1/jobs/{job_id}/predict`: an image in, boxes out, also while the job runs

## Reference

- [The contract](/openapi.json): OpenAPI 3.1, with examples
- [The spec](/v1/schema): JSON Schema of a job
- [Recipes](/v1/recipes): presets of the distillation section
- [The contract as a page](/docs)

## Optional

- `retort skill` prints a guide for agents with a shell; `retort mcp` is an MCP server with the same steps as tools
"""


@router.readable("/docs", scope=ANY_KEY, include_in_schema=False)
def show_contract() -> HTMLResponse:
    """Show the contract for people, who may try each operation."""
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": DOCS_POLICY})


@router.readable("/openapi.json", scope=ANY_KEY, include_in_schema=False)
def get_contract(request: Request) -> JSONResponse:
    """Send the OpenAPI document."""
    return JSONResponse(request.app.openapi())


@router.readable("/llms.txt", scope=PUBLIC, include_in_schema=False)
def get_overview() -> PlainTextResponse:
    """Send an overview of the service for language models."""
    return PlainTextResponse(_OVERVIEW, media_type="text/markdown")


_FOR_EVER = {
    "Cache-Control": "public, max-age=31536000, immutable",
    # Reports are sandboxed: pages of nowhere, to which everything is of another origin.
    "Access-Control-Allow-Origin": "*",
}


@router.readable("/static/{name}", scope=PUBLIC, include_in_schema=False)
def get_chart_program(name: Annotated[str, Path()]) -> Response:
    """Send the charts' program, the one copy for all reports; without a version, the one that is installed."""
    if name not in {chart_program.file_name(), "plotly.min.js"}:
        raise UserError(f"there is nothing at /static/{name}", code="not_found")
    headers = {**_FOR_EVER, **({} if name == chart_program.file_name() else {"Cache-Control": "no-cache"})}
    return Response(chart_program.program(), OK, headers, "text/javascript; charset=utf-8")


@router.readable("/static/{version}/{name:path}", scope=PUBLIC, include_in_schema=False)
def get_static_file(request: Request, version: Annotated[str, Path()], name: Annotated[str, Path()]) -> Response:
    """Send a file of the pages, which its address names with the version of all."""
    file = static_files.files().get(name)
    if file is None:
        raise UserError(f"there is nothing at /static/{version}/{name}", code="not_found")
    headers = {**_FOR_EVER, "Vary": "Accept-Encoding"}
    if version != static_files.version():  # somebody's page is older or newer than the service
        headers["Cache-Control"] = "no-cache"
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.compressed, OK, {**headers, "Content-Encoding": "gzip"}, file.media_type)
    return Response(file.content, OK, headers, file.media_type)


@router.readable("/docs/{name}", scope=PUBLIC, include_in_schema=False)
def get_asset(name: Annotated[str, Path()]) -> Response:
    """Send one of the page's files."""
    if name not in _MEDIA_TYPES:
        raise UserError(f"there is nothing at /docs/{name}", code="not_found")
    content = _OWN[name].encode() if name in _OWN else (_ASSETS / name).read_bytes()
    return Response(content, OK, media_type=_MEDIA_TYPES[name])
