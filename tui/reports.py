"""What is made in a process of its own, since the screen imports neither tokenizer nor torch: reports, exports."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.basics.errors import DataError, ExportError
from finetui.start import program


class Reporting:
    """A report under way: on a recipe and its overrides, or `--run` and the directory of a run."""

    def __init__(self, *arguments: str) -> None:
        command = program("engine.report", *arguments)
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def result(self) -> dict[str, Any]:
        """Wait for it. Raises DataError with the sentence that says why there is none."""
        out, err = self._process.communicate()
        if self._process.returncode != 0:
            raise DataError(err.strip() or "the report ended without a word")
        return dict(json.loads(out))

    def stop(self) -> None:
        """Nobody waits for it any more."""
        self._process.kill()


class Exporting:
    """An export or a scoring of factors under way (`engine.export`)."""

    def __init__(self, run: Path, request: dict[str, Any], stderr: int = subprocess.DEVNULL) -> None:
        command = program("engine.export", str(run), json.dumps(request))
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
            errors="replace",
        )
        self.stderr = self._process.stderr  # what libraries print; None unless it was asked for

    def entries(self) -> Iterator[dict[str, Any]]:
        """What it says, as it comes; `done` last. Raises ExportError with its sentence."""
        assert self._process.stdout is not None
        done = False
        for line in self._process.stdout:
            entry = json.loads(line)
            if "error" in entry:
                raise ExportError(entry["error"])
            done = done or "done" in entry
            yield entry
        if not done:
            raise ExportError("it ended without a message; nothing was written")

    def result(self) -> dict[str, Any]:
        """Wait for it. Raises ExportError."""
        return next(dict(entry["done"]) for entry in self.entries() if "done" in entry)

    def wait(self) -> None:
        """Until the process has ended."""
        self._process.wait()

    def stop(self) -> None:
        """Nobody waits for it any more: it removes what is half written, and ends."""
        self._process.terminate()
