"""Re-export the context of a stage from ``retort.pipeline.context`` for extensions."""

from retort.pipeline.context import Context

__all__ = ["Context"]
