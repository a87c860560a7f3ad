"""What a run and the worker that watches it say to each other."""
