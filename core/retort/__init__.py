"""Retort distils YOLO detectors, and proves what the distillation bought."""

__version__ = "0.1.0"
