"""`finetui`, the command, and `python -P -m finetui`."""

from __future__ import annotations

from importlib import import_module

from finetui.start import prefer_own_packages


def main() -> None:
    """Run the command line; `tui` is imported by name, since this package lies below it."""
    prefer_own_packages()
    import_module("tui.cli").main()


if __name__ == "__main__":
    main()
