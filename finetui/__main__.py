"""`finetui`, the command, and `python -P -m finetui`."""

from __future__ import annotations

import gc
from importlib import import_module

from finetui.start import prefer_own_packages

RARELY = 100_000  # objects made between two collections; 700 are usual


def main() -> None:
    """Run the command line; `tui` is imported by name, since this package lies below it."""
    # Imports make many objects, which stay: to look through them takes a tenth of a start.
    gc.set_threshold(RARELY)
    prefer_own_packages()
    import_module("tui.cli").main()


if __name__ == "__main__":
    main()
