"""Intake: what strangers name (datasets, weights) becomes verified files that a run may rely on."""
