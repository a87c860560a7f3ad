"""Convert one file: ``python -m retort.checkpoints FILE NAME [state]``.

The converted network goes to stdout, and what is wrong to stderr as JSON. With ``state`` it is tensors without one.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from retort.checkpoints import REFUSED, converted, opening
from retort.errors import ModelError


def main(path: str, name: str, *state: str) -> int:
    """Write the network in the file *path* to stdout; with *state*, its tensors."""
    try:
        if state:
            archive, tensors, metadata = opening.open_tensors(Path(path), name)
            with os.fdopen(os.dup(1), "wb") as to:
                converted.write_rows(archive, tensors, metadata, to)
            return 0
        archive, described, tensors = opening.open_checkpoint(Path(path), name)
        with os.fdopen(os.dup(1), "wb") as to:
            converted.write(archive, described, tensors, to)
    except ModelError as error:
        sys.stderr.write(json.dumps([error.message, error.hint]))
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
