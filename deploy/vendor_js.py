"""Copy third-party JavaScript for the pages from its npm packages.

``python deploy/vendor_js.py`` fetches the versions of the table with ``npm pack`` and refuses what has another digest;
``--write`` takes what comes, and writes its digests into the table. Node is needed for this alone.
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

VENDOR = Path(__file__).parent.parent / "api" / "retort_api" / "static" / "vendor"
TABLE = VENDOR / "vendored.json"


def main() -> int:
    """Fetch every package of the table; return how many files differ from it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write new digests instead of refusing them")
    write = parser.parse_args().write
    table = json.loads(TABLE.read_text())
    wrong = sum(vendor(package, write=write) for package in table["packages"])
    if write:
        TABLE.write_text(json.dumps(table, indent=2) + "\n")
    return wrong


def vendor(package: dict[str, Any], *, write: bool) -> int:
    """Copy one package's files; return how many of them were refused."""
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        named = f"{package['name']}@{package['version']}"
        subprocess.run(["npm", "pack", "--silent", "--pack-destination", folder, named], check=True, stdout=sys.stderr)  # noqa: S607
        (archive,) = Path(folder).glob("*.tgz")
        with tarfile.open(archive) as inside:
            for file in package["files"]:
                content = inside.extractfile(f"package/{file['from']}")
                assert content is not None, f"{named} has no {file['from']}"
                wrong += not _keep(file, content.read(), write=write)
    return wrong


def _keep(file: dict[str, Any], content: bytes, *, write: bool) -> bool:
    found = hashlib.sha256(content).hexdigest()
    if found != file["sha256"] and not write:
        sys.stderr.write(f"{file['to']}: has the SHA-256 {found}, not {file['sha256']}\n")
        return False
    file["sha256"] = found
    (VENDOR / file["to"]).write_bytes(content)
    return True


if __name__ == "__main__":
    sys.exit(main())
