"""Verify datasets and weights that users name, before a run."""
