"""`finetui export`: from a run to a folder that others can use."""

from __future__ import annotations

from typing import Any

from tui.cli.exporting import export_folder
from tui.cli.logs import find
from tui.cli.output import out_path, print_json


def export(number: int, *, as_json: bool, **options: Any) -> None:
    """Print the folder that was made."""
    made = export_folder(find(number), **options)
    if as_json:
        print_json(made)
    else:
        out_path(made["path"])
