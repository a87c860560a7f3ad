"""Read PyTorch checkpoints as plain values: nothing in them is imported, made or called."""
