"""Where the bytes of artifacts are kept."""

from retort.artifacts.store import Store, Stored

__all__ = ["Store", "Stored"]
