"""`finetui export`: from a run to a folder that others can use."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Any

from engine.basics.errors import ExportError
from finetui.start import program
from tui.cli.logs import find
from tui.cli.output import out_raw, print_json, say


def export(number: int, *, as_json: bool, **options: Any) -> None:
    """Print the folder that was made. The work is done in a process of its own, which imports torch."""
    run = find(number)
    request = {key: str(value) if isinstance(value, Path) else value for key, value in options.items()}
    command = program("engine.export", str(run.path), json.dumps(request))
    # What libraries print there goes by way of this process, too, whose stderr is made safe for a terminal.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        passing = threading.Thread(target=_pass_on, args=(process.stderr,))
        passing.start()
        try:
            _follow(process.stdout, as_json=as_json)
        finally:
            passing.join()
    if process.returncode != 0:
        raise ExportError("the export ended without a message; nothing was written")


def _follow(stdout: IO[bytes], *, as_json: bool) -> None:
    for line in stdout:
        entry = json.loads(line)
        if "say" in entry:
            say(entry["say"])
        elif "error" in entry:
            raise ExportError(entry["error"])
        elif as_json:
            print_json(entry["done"])
        else:
            out_raw(f"{entry['done']['path']}\n")


def _pass_on(stderr: IO[bytes]) -> None:
    """As it comes; a progress bar ends its states with a carriage return."""
    for piece in io.TextIOWrapper(stderr, encoding="utf-8", errors="replace", newline=""):
        sys.stderr.write(piece)
        sys.stderr.flush()
