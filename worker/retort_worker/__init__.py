"""The worker: claims jobs, supervises their runs, and brings what they say and make into the service."""
