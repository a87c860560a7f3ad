"""Copy third-party JavaScript for pages and documentation from npm packages.

``python deploy/vendor_js.py`` fetches the versions of the tables with ``npm pack`` and refuses what has another digest;
``--write`` takes what comes, and writes its digests into them. Node is needed for this alone.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
TABLES = (ROOT / "api/retort_api/static/vendor/vendored.json", ROOT / "docs/javascripts/vendored.json")
"""Each names the files that lie beside it."""


def main() -> int:
    """Fetch every package of the tables; return how many files differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write new digests instead of refusing them")
    write = parser.parse_args().write
    return sum(vendor_table(path, write=write) for path in TABLES)


def vendor_table(path: Path, *, write: bool) -> int:
    """Copy the files of one table; return how many were refused."""
    table = json.loads(path.read_text())
    wrong = sum(vendor(package, path.parent, write=write) for package in table["packages"])
    if write:
        path.write_text(json.dumps(table, indent=2) + "\n")
    return wrong


def vendor(package: dict[str, Any], target: Path, *, write: bool) -> int:
    """Copy one package's files to *target*; return how many were refused."""
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        named = f"{package['name']}@{package['version']}"
        subprocess.run(["npm", "pack", "--silent", "--pack-destination", folder, named], check=True, stdout=sys.stderr)  # noqa: S607
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as inside:
            for file in package["files"]:
                content = inside.extractfile(f"package/{file['from']}")
                assert content is not None, f"{named} has no {file['from']}"
                wrong += not _keep(file, target, content.read(), write=write)
    return wrong


def _keep(file: dict[str, Any], target: Path, content: bytes, *, write: bool) -> bool:
    found = hashlib.sha256(content).hexdigest()
    if found != file["sha256"] and not write:
        sys.stderr.write(f"{file['to']}: has the SHA-256 {found}, not {file['sha256']}\n")
        return False
    file["sha256"] = found
    (target / file["to"]).write_bytes(content)
    return True


if __name__ == "__main__":
    sys.exit(main())
