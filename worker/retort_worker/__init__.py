"""Run the worker: claim jobs, supervise runs, record events and files."""
