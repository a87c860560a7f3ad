"""The context of a stage, under the name that extensions import; it lives in ``retort.pipeline.context``."""

from retort.pipeline.context import Context

__all__ = ["Context"]
