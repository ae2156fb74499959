"""The process that exports or scales a run: it imports torch, and this one does not."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from engine.basics.errors import ExportError
from engine.runs.home import RunDir
from finetui.start import program
from tui.cli.output import say


def export_folder(run: RunDir, **options: Any) -> dict[str, Any]:
    """Write a folder, and return what was made. Raises ExportError."""
    request = {"kind": None, **options}
    return work(
        run, {key: str(value) if isinstance(value, Path) else value for key, value in request.items()}
    )


def work(
    run: RunDir, request: dict[str, Any], scored: Callable[[dict[str, Any]], None] = lambda _: None
) -> dict[str, Any]:
    """Return what the process has done; it says its progress on stderr, and `scored` is called with each factor that
    it has scored. Raises ExportError.
    """
    command = program("engine.export", str(run.path), json.dumps(request))
    # What libraries print there goes by way of this process, too, whose stderr is made safe for a terminal.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        passing = threading.Thread(target=_pass_on, args=(process.stderr,))
        passing.start()
        try:
            done = _follow(process.stdout, scored)
        finally:
            passing.join()
    if done is None:
        raise ExportError("the export ended without a message; nothing was written")
    return done


def _follow(stdout: IO[bytes], scored: Callable[[dict[str, Any]], None]) -> dict[str, Any] | None:
    done = None
    for line in stdout:
        entry = json.loads(line)
        if "say" in entry:
            say(entry["say"])
        elif "point" in entry:
            scored(entry["point"])
        elif "error" in entry:
            raise ExportError(entry["error"])
        else:
            done = dict(entry["done"])
    return done


def _pass_on(stderr: IO[bytes]) -> None:
    """As it comes; a progress bar ends its states with a carriage return."""
    for piece in io.TextIOWrapper(stderr, encoding="utf-8", errors="replace", newline=""):
        sys.stderr.write(piece)
        sys.stderr.flush()
