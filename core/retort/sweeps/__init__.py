"""Sweeps without SQL: which parameters come next, which trials are hopeless, and the page that shows it all."""
