"""All reports share one copy of the charts' program, and each can be had whole."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from fastapi.testclient import TestClient
from retort import chart_program
from retort.constants import Role
from retort.db import Lease
from retort.protocol.events import ArtifactEvent
from retort.storage import Store
from retort_worker.uploader import ArtifactUploader
from support import job_pages
from support.api_harness import Worker

PAGE = f"<!doctype html><h1>report</h1>{chart_program.embedded()}<script>Plotly</script>".encode()


def stored(folder: Path, store: Store, name: str, page: bytes) -> bytes:
    """Return what a worker stores of a page that a run publishes."""
    (folder / "page.html").write_bytes(page)
    uploader = ArtifactUploader(store, folder, "job_1", 1)
    uploader.on_event(ArtifactEvent(n=1, at=0, name=name, role=Role.JOB, path="page.html"))
    uploader.wait(60)
    [found] = uploader.uploaded()
    uploader.close()
    return b"".join(store.read(found.key))


def test_a_report_is_stored_without_the_program_and_no_other_file_is_changed(tmp_path: Path):
    store = Store((tmp_path / "store").as_uri())
    lean = stored(tmp_path, store, "report.html", PAGE)
    assert len(lean) < 500 < len(PAGE)
    assert stored(tmp_path, store, "notes.html", PAGE) == PAGE
    assert stored(tmp_path, store, "report.html", b"<p>plain</p>") == b"<p>plain</p>"
    assert chart_program.self_contained(lean) == PAGE


def test_the_shared_program_is_what_the_report_s_digest_says_and_never_changes(small_client: TestClient):
    page = chart_program.shared(PAGE, 4).decode()
    found = re.search(r'src="../../../../(static/[^"]+)" integrity="sha384-([^"]+)"', page)
    assert found is not None
    answer = small_client.get(f"/{found[1]}", headers={"Authorization": "", "Origin": "null"})
    assert answer.status_code == 200
    assert base64.b64encode(hashlib.sha384(answer.content).digest()).decode() == found[2]
    assert answer.headers["Content-Type"].startswith("text/javascript")
    assert "immutable" in answer.headers["Cache-Control"]
    assert answer.headers["Access-Control-Allow-Origin"] == "*"
    assert small_client.get("/static/plotly.min.js").headers["Cache-Control"] == "no-cache"
    for name in ("plotly-0.1.min.js", "..%2Fpyproject.toml", "widgetbundle.js"):
        assert small_client.get(f"/static/{name}").status_code == 404


def test_a_report_can_be_had_with_the_program_inside(client: TestClient, worker: Worker, lease: Lease):
    worker.publish(lease, "report.html", chart_program.shared(PAGE, 4), media_type="text/html")
    address = f"/v1/jobs/{lease.job_id}/artifacts/report.html"
    lean = client.get(address)
    whole = client.get(address, params={"self_contained": True})
    assert (len(lean.content) < 500, whole.content) == (True, PAGE)
    assert chart_program.policy("report") in lean.headers["Content-Security-Policy"]
    assert whole.headers["Content-Security-Policy"].startswith("sandbox allow-scripts")
    assert whole.headers["ETag"] != lean.headers["ETag"]
    again = client.get(address, params={"self_contained": True}, headers={"If-None-Match": whole.headers["ETag"]})
    assert again.status_code == 304


def test_the_scripts_of_a_page_run_by_their_digests_and_those_of_other_versions_are_replaced():
    policy = chart_program.policy("report")
    assert "unsafe" not in policy
    for element in (chart_program.drawing("report"), chart_program.embedded()):
        text = element.removeprefix("<script>").removesuffix("</script>").encode()
        assert f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'" in policy
    data = '<script type="application/json" id="charts">[]</script>'
    present = f"<head>{chart_program.styles()}</head>{data}\n{chart_program.drawing('report')}".encode()
    earlier = f"<head>{chart_program.styles()}</head>{data}\n<script>draw()</script>".encode()
    unstyled = present.replace(chart_program.styles().encode(), b"")
    assert [chart_program.draws(page) for page in (present, earlier, unstyled)] == [True, False, False]
    assert {chart_program.redrawn(page) for page in (present, earlier, unstyled)} == {present}


def test_the_styles_of_a_page_apply_by_their_digests_whatever_version_wrote_them(
    client: TestClient, worker: Worker, lease: Lease
):
    def digest(style: bytes) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(style).digest()).decode()}'"

    earlier = (
        b"<head><style>p { color: red }</style></head><p>x" + b"y" * chart_program.HEAD_BYTES + b"<style>b{}</style>"
    )
    worker.publish(lease, "report.html", earlier, media_type="text/html")
    address = f"/v1/jobs/{lease.job_id}/artifacts/report.html"
    whole = client.get(address)
    etag = {"If-None-Match": whole.headers["ETag"]}
    answers = [
        whole, client.head(address), client.get(address, headers=etag),
        client.get(address, headers={"Range": "bytes=9-20"}), client.get(address, params={"self_contained": True}),
    ]  # fmt: skip
    assert [answer.status_code for answer in answers] == [200, 200, 304, 206, 200]
    for answer in answers:
        directives = answer.headers["Content-Security-Policy"].split("; ")
        assert f"style-src {digest(b'p { color: red }')}" in directives
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
    many = b"".join(b"<style>a%d{}</style>" % number for number in range(500))
    assert len(chart_program.style_policy(many)) < 500
    assert chart_program.style_policy(b"<p>plain") == "style-src 'none'"
    page = (chart_program.styles() + "<style>p{}</style>").encode()
    assert digest(b"/* of the charts */") in chart_program.style_policy(page)


def test_a_report_has_no_style_that_its_policy_would_refuse():
    """Attributes cannot be named by digests; elements are, where they stand in the first bytes."""
    page = job_pages.report("street", "job_1")
    inline = page.partition(b"<main>")[2]
    assert re.findall(rb"\sstyle\s*=", inline) == []
    assert inline.count(b"<style") == 0
    assert page.index(b"<main>") < chart_program.HEAD_BYTES / 2
    assert page.count(b"<style") == len(re.findall(rb"'sha256-", chart_program.style_policy(page).encode())) + 1


def test_a_report_of_an_earlier_version_gets_the_program_of_today():
    old = chart_program.shared(PAGE, 4).replace(chart_program.file_name().encode(), b"plotly-1.2.3.min.js")
    assert chart_program.self_contained(old) == PAGE
    reference = chart_program.reference_in(old)
    assert reference is not None
    assert reference.file_name == "plotly-1.2.3.min.js"
    assert not reference.fits(b"another program")
