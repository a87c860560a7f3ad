"""Starts the ranks of one training and waits for them: torchrun's launcher, which says in a file which rank was lost.

``python -m retort.training.distributed.torchrun ORDER RANKS VERDICT``. Standard input is passed on to the ranks.
"""

from __future__ import annotations

import json
import signal
import sys
import uuid
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch


def main(order: str, number: int, verdict: Path) -> int:
    """Run the ranks once; when one of them ends badly, the rest are ended and *verdict* is written."""
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=number,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",  # the machine's own name need not be known to any resolver
        max_restarts=0,
        monitor_interval=0.1,
        shutdown_timeout=5,
    )
    try:
        elastic_launch(config, sys.executable)("-m", "retort.training.distributed.rank", order)
    except ChildFailedError as error:
        verdict.write_text(json.dumps([_told(rank, failure) for rank, failure in error.failures.items()]))
        return 1
    except SignalException:
        return 1
    return 0


def _told(rank: int, failure: Any) -> dict[str, Any]:
    """Return a rank's end; the launcher's own SIGTERM to the survivors is not one."""
    return {
        "rank": rank,
        "code": failure.exitcode,
        "ended": failure.exitcode == -signal.SIGTERM,
        "at": failure.timestamp,
        "pid": failure.pid,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])))
