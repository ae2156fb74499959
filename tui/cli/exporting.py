"""The process that exports or scales a run: it imports torch, and this one does not."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.basics.errors import ExportError
from engine.runs.home import RunDir
from tui.cli.output import say
from tui.reports import Exporting


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
    # What libraries print there goes by way of this process, too, whose stderr is made safe for a terminal.
    printed, write = os.pipe()
    try:
        exporting = Exporting(run.path, request, stderr=write)
    finally:
        os.close(write)
    passing = threading.Thread(target=_pass_on, args=(printed,))
    passing.start()
    done: dict[str, Any] = {}
    try:
        for entry in exporting.entries():
            if "say" in entry:
                say(entry["say"])
            elif "point" in entry:
                scored(entry["point"])
            else:
                done = dict(entry["done"])
    except ExportError:  # its own words: it ends by itself
        raise
    except BaseException:
        exporting.stop()
        raise
    finally:
        exporting.wait()
        passing.join()
    return done


def _pass_on(printed: int) -> None:
    """As it comes; a progress bar ends its states with a carriage return."""
    with open(printed, encoding="utf-8", errors="replace", newline="") as pieces:
        for piece in pieces:
            sys.stderr.write(piece)
            sys.stderr.flush()
