"""`finetui export`: from a run to a folder that others can use."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from engine.basics.errors import ExportError
from finetui.start import program
from tui.cli.logs import find
from tui.cli.output import out_raw, print_json, say


def export(number: int, *, as_json: bool, **options: Any) -> None:
    """Print the folder that was made. The work is done in a process of its own, which imports torch."""
    run = find(number)
    request = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    command = program("engine.export", str(run.path), json.dumps(request))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            entry = json.loads(line)
            if "say" in entry:
                say(entry["say"])
            elif "error" in entry:
                raise ExportError(entry["error"])
            elif as_json:
                print_json(entry["done"])
            else:
                out_raw(f"{entry['done']['path']}\n")
    if process.returncode != 0:
        raise ExportError("the export ended without a message; nothing was written")
