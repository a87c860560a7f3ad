"""Plan and report sweeps, without SQL."""
