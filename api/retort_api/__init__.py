"""Serve the REST API: queue jobs, show them, send their files."""
