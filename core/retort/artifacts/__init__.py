"""Where the bytes of artifacts are kept."""

from retort.artifacts.store import BytesMissing, Store, Stored, StoreUnavailable

__all__ = ["BytesMissing", "Store", "StoreUnavailable", "Stored"]
