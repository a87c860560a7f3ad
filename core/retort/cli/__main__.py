"""``python -m retort.cli`` is ``retort``."""

from retort.cli import main

main()
