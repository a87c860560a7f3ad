"""Define the files and events between a run and its worker."""
