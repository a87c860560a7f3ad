"""Read PyTorch checkpoints as plain values: nothing in them is imported, made or called."""

REFUSED = 65
"""Exit code of a conversion that has refused its file (EX_DATAERR of sysexits.h)."""
