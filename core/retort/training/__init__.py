"""Training, evaluating and publishing detectors: the only package that imports torch and Ultralytics.

Call ``environment.prepare`` before importing any other module of it.
"""
