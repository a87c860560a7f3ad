"""What a browser may do with pages and files that runs have made (Content-Security-Policy)."""

from __future__ import annotations

# A report's own inline scripts draw its charts. Sandboxed, they run as a page of nowhere: they can reach neither this
# service nor the network.
REPORT_POLICY = (
    "sandbox allow-scripts allow-downloads; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
FILE_POLICY = "sandbox; default-src 'none'"
# Plotly makes the program of its parallel coordinates as it runs. In the same sandbox it can reach no more for that.
SWEEP_POLICY = REPORT_POLICY.replace("script-src 'unsafe-inline'", "script-src 'unsafe-inline' 'unsafe-eval'")
# Swagger UI draws its icons from data: addresses; what is tried out goes to this service alone.
DOCS_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
