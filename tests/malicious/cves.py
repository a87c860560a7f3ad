"""List how services of this kind were breached, each with what tries the same trick here.

A case is one of the corpus, by its name, or a checkpoint of ``support.malicious_checkpoints``; where the trick needs a
running service, it is a test.
"""

from __future__ import annotations

from typing import NamedTuple


class Breach(NamedTuple):
    """A way in that was found in another product."""

    product: str
    trick: str
    tried_by: tuple[str, ...]
    """Names of cases, and of tests as ``path::name``."""


_ACCESS = "tests/api/test_api_access.py"
_FETCH, _WEIGHTS = "tests/core/data/test_public_fetch.py", "tests/core/training/test_training_weights.py"
BREACHES: dict[str, Breach] = {
    "CVE-2026-2635": Breach(
        "MLflow", "an administrator whose password is shipped",
        ("tests/cli/test_keys.py::test_the_first_key_is_made_in_the_database_without_the_api",
         "tests/malicious/test_malicious_cves.py::test_no_secret_is_shipped"),
    ),
    "CVE-2026-0545": Breach(
        "MLflow", "routes for jobs beside the prefixes that ask who it is",
        (f"{_ACCESS}::test_a_route_without_a_scope_keeps_the_application_from_starting",
         f"{_ACCESS}::test_every_route_refuses_every_wrong_key_before_it_reads_anything"),
    ),
    "CVE-2026-2652": Breach(
        "MLflow", "another spelling of a route's address, which nobody guards",
        (f"{_ACCESS}::test_no_spelling_of_an_address_and_no_method_comes_past_the_key",),
    ),
    "CVE-2026-2033": Breach(
        "MLflow", "an artifact's path that leads out of the store",
        ("data set: data.yaml, images at a parent path (CVE-2026-2033)",
         "archive: a parent path (zip slip, CVE-2018-1002200), zip"),
    ),
    "CVE-2026-2614": Breach(
        "MLflow", "a source whose check is skipped: an address of a file", ("address: a file (CVE-2026-2614)",),
    ),
    "CVE-2024-3848": Breach(
        "MLflow", "a fragment that the check does not see, and the reader does",
        ("address: a fragment that skips a check (CVE-2024-3848)",),
    ),
    "CVE-2023-47116": Breach(
        "Label Studio", "a redirect, and a name that leads elsewhere at the second look",
        ("address: metadata of a cloud (CVE-2023-47116)",
         f"{_FETCH}::test_a_redirect_to_what_is_not_public_is_refused",
         f"{_FETCH}::test_a_name_that_leads_elsewhere_at_the_second_look_is_not_looked_up_twice"),
    ),
    "CVE-2022-36551": Breach(
        "Label Studio", "files of the server by the import of data, after anybody could register",
        ("address: a file (CVE-2026-2614)",
         f"{_ACCESS}::test_only_the_probes_the_login_and_the_pages_files_are_public"),
    ),
    "GHSA-f475": Breach(
        "Label Studio", "sessions forged with a key that is in the source",
        ("tests/malicious/test_malicious_cves.py::test_no_secret_is_shipped",
         "tests/api/test_api_keys.py::test_a_secret_opens_only_what_it_is_for"),
    ),
    "CVE-2023-47115": Breach(
        "Label Studio", "a page that was uploaded as a picture, served where the application is",
        ("data set: image, a page of the web (CVE-2023-47115, CVE-2026-65986)",
         "tests/api/test_api_origin.py::test_every_answer_carries_the_headers_that_keep_browsers_harmless"),
    ),
    "CVE-2025-25296": Breach(
        "Label Studio", "hostile text in a configuration that a page shows",
        ("tests/browser/test_browser_hostile.py::test_no_hostile_text_runs_in_a_page",),
    ),
    "CVE-2025-47783": Breach(
        "Label Studio", "hostile text in a request that a page shows",
        ("tests/browser/test_browser_hostile.py::test_no_hostile_text_runs_in_a_page",
         "tests/api/test_api_origin.py::test_no_route_reads_what_a_form_can_send"),
    ),
    "CVE-2026-23516": Breach(
        "CVAT", "a picture that is SVG, with a script in it",
        ("data set: image, SVG with a script (CVE-2026-23516)",
         "tests/browser/test_browser_hostile.py::test_no_hostile_text_runs_in_a_page"),
    ),
    "CVE-2026-65986": Breach(
        "CVAT", "a page among the files of data",
        ("data set: image, a page of the web (CVE-2023-47115, CVE-2026-65986)",
         "tests/api/test_api_origin.py::test_every_answer_carries_the_headers_that_keep_browsers_harmless"),
    ),
    "GHSA-6hjj": Breach(
        "Label Studio", "a filter that reaches columns of secrets",
        ("tests/api/test_api_job_list.py::test_no_filter_and_no_order_reaches_what_is_not_listed",),
    ),
    "CVE-2024-24590": Breach(
        "ClearML", "an artifact whose pickle runs where it is opened",
        ("calls os.system", "calls builtins.eval",
         f"{_WEIGHTS}::test_nothing_of_a_malicious_file_is_run_where_networks_are_loaded"),
    ),
    "oauth2-proxy": Breach(
        "oauth2-proxy", "a header of who it is from somebody who is not the proxy",
        ("tests/api/test_api_rates.py::test_a_trusted_header_names_people_from_configured_proxies_alone",),
    ),
}  # fmt: skip
