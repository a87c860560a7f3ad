"""Write a measured gain into the table of records; what chance could have made is refused.

    python benchmarks/quality_records.py RESULT.json --arm balanced [--against equal_time] [--set NAME]

RESULT.json is what ``quality.py`` has written, in ``benchmarks/results``: it is the record's log. A record is a gain
with p < 0.01 by the paired t test over seeds; over several sets where ``--set`` is left out. A later record of the same
set, start, arm and opponent takes the place of the earlier one.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from quality_summary import joined

RECORDS = Path(__file__).with_name("records.md")
LARGEST_P = 0.01
"""Above it a gain is no record."""
LEAST_SEEDS = 3
"""Pairs of each set: with fewer a small p says more of the luck of two runs than of the arm."""
HEAD = f"""\
# Records

Gains of mAP50-95 that [`quality.py`](quality.py) has measured, in points, as
[`quality_records.py`](quality_records.py) writes them: a row needs p < {LARGEST_P:g} by the paired t test over at least
{LEAST_SEEDS} seeds. What was measured and is no record stands in the same logs.

| set | start | arm | against | difference | 95 % interval | p | seeds | commit | log |
|---|---|---|---|---|---|---|---|---|---|
"""


class NoRecordError(Exception):
    """What was measured is no record; the message says why."""


def row(result: dict[str, Any], log: str, *, arm: str, against: str, name: str | None) -> str:
    """Return the record's line of the table.

    Raises:
        NoRecordError: it is none.

    """
    sets = result["sets"] if name is None else {name: result["sets"][name]} if name in result["sets"] else {}
    key = f"minus_{against}_by_seed"
    values = {one: entry["summary"].get(arm, {}).get(key) for one, entry in sets.items()}
    if not values or None in values.values():
        raise NoRecordError(f"{log} does not compare {arm} with {against} on {name or 'all of its sets'}")
    seeds = min(map(len, values.values()))
    if seeds < LEAST_SEEDS:
        raise NoRecordError(f"{seeds} seeds: a record needs {LEAST_SEEDS} or more of each set")
    found = joined(values)
    if found["mean"] <= 0:
        raise NoRecordError(f"{arm} is {100 * found['mean']:+.2f} points beside {against}: that is no gain")
    if found["p"] >= LARGEST_P:
        raise NoRecordError(f"p is {found['p']:.3g}: a record needs less than {LARGEST_P:g}")
    low, high = found["interval"]
    start = result["settings"].get("student_weights") or "random"
    cells = [
        ", ".join(values), start, arm, against, f"{100 * found['mean']:+.2f}", f"{100 * low:+.2f} to {100 * high:+.2f}",
        f"{found['p']:.2g}", str(seeds), (result["commit"] or "unknown")[:10], f"[{log}](results/{log})",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def with_row(table: str, added: str) -> str:
    """Return the table with a row added, in the place of one about the same."""
    same = added.split(" | ")[:4]
    rows = [line for line in table.splitlines() if line.startswith("| ") and not line.startswith("| set ")]
    kept = [line for line in rows if line.split(" | ")[:4] != same]
    return HEAD + "".join(f"{line}\n" for line in sorted([*kept, added]))


def main() -> None:
    """Add a record, or say why there is none."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("result", type=Path)
    parser.add_argument("--arm", required=True)
    parser.add_argument("--against", default="plain")
    parser.add_argument("--set", dest="name", help="one set alone; left out, the mean over all sets of the file")
    parser.add_argument("--records", type=Path, default=RECORDS)
    options = parser.parse_args()
    result = json.loads(options.result.read_text())
    try:
        added = row(result, options.result.name, arm=options.arm, against=options.against, name=options.name)
    except NoRecordError as error:
        raise SystemExit(f"no record: {error}") from error
    before = options.records.read_text() if options.records.exists() else HEAD
    options.records.write_text(with_row(before, added))
    print(added)


if __name__ == "__main__":
    main()
