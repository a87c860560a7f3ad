"""Advice about teachers: what was measured, judged by rules that have sources."""
