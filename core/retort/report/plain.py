"""Render a result as a page without template, chart or picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from retort.spec.outcome import missing
from retort.spec.result import JobResult
from retort.spec.verdict import Verdict

_NONE = "\N{EN DASH}"
_PAGE = """<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>{name} · Retort</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; }}
td, th {{ padding: .3rem .8rem; border-bottom: 1px solid #ccc; text-align: left; }}
pre {{ overflow-x: auto; background: #f4f4f4; padding: 1rem; }}</style></head>
<body>
<h1>{name}</h1>
<p><strong>{sentence}</strong></p>
{caveats}{parts}<p>The full report could not be made; this page has its figures.</p>
<h2>Who reached what</h2>
{roles}
{arms}{pilot}<h2>Exports</h2>
{exports}
<h2>What is missing</h2>
{missing}
<h2>The result, as programs read it</h2>
<pre>{document}</pre>
</body>
</html>
"""


def plain_page(name: str, judged: Verdict, result: JobResult) -> str:
    """Return a page with the verdict, the figures and the whole result."""
    roles = [(role, _points(found.map50), _points(found.map), found.model) for role, found in result.roles.known()]
    arms = [(one.arm, _points(one.figures.map50), _points(one.figures.map), one.sentence) for one in result.arms]
    parts = [(one.part, one.network, one.less, _points(one.difference), one.sentence) for one in judged.parts]
    exports = [(export.path, export.status.replace("_", " "), export.reason or "") for export in result.exports]
    return _PAGE.format(
        name=escape(name),
        sentence=escape(judged.sentence),
        caveats=_list(judged.caveats) if judged.caveats else "",
        parts=_table(("brought by", "network", "less", "points", "what it shows"), parts) if parts else "",
        roles=_table(("role", "mAP50", "mAP50-95", "model"), roles),
        arms=f"<h2>Further arms</h2>\n{_table(('arm', 'mAP50', 'mAP50-95', 'what it shows'), arms)}\n" if arms else "",
        pilot="" if result.pilot is None else f"<h2>The pilot</h2>\n<p>{escape(result.pilot.sentence)}</p>\n",
        exports=_table(("file", "status", "why"), exports),
        missing=_list(one.sentence for one in missing(result.extras)),
        document=escape(result.model_dump_json(indent=2)),
    )


def _points(value: float | None) -> str:
    return _NONE if value is None else f"{value * 100:.1f}"


def _list(lines: Iterable[str]) -> str:
    shown = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{shown}</ul>" if shown else "<p>Nothing.</p>"


def _table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return "<p>None.</p>"
    head = "".join(f"<th>{escape(one)}</th>" for one in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
