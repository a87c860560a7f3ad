"""One training in several processes of a machine."""
