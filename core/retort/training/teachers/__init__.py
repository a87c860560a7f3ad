"""Detectors of any kind that teach by their boxes; writing a file here registers one."""
