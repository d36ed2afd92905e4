"""``python -m betanas``."""

from betanas.cli import main

main()
