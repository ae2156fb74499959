"""What is made in a process of its own, since the screen imports neither tokenizer nor torch: reports, exports."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.basics.child import start
from engine.basics.errors import DataError, ExportError


class Reporting:
    """A report under way: on a recipe and its overrides, or `--run` and the directory of a run. `stdin`: the recipe,
    where its path is `-`.
    """

    def __init__(self, *arguments: str, stdin: str = "") -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the report
        self._child = start("engine.report", *arguments, stdin=stdin, stderr=self._stderr.fileno())

    def result(self) -> dict[str, Any]:
        """Wait for it. Raises DataError with the sentence that says why there is none."""
        out, code = self._child.read()
        with self._stderr as printed:
            printed.seek(0)
            err = printed.read().decode(errors="replace")
        if code != 0:
            raise DataError(err.strip() or "the report ended without a word")
        return dict(json.loads(out))

    def stop(self) -> None:
        """Nobody waits for it any more."""
        self._child.process.kill()


class Exporting:
    """An export or a scoring of factors under way (`engine.export`)."""

    def __init__(self, run: Path, request: dict[str, Any], stderr: int | None = None) -> None:
        """`stderr`: the descriptor on which libraries print, or nowhere."""
        self._child = start("engine.export", str(run), json.dumps(request), stderr=stderr)

    def entries(self) -> Iterator[dict[str, Any]]:
        """What it says, as it comes; `done` last. Raises ExportError with its sentence."""
        done = False
        for line in self._child.stdout:
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
        self._child.process.wait()

    def stop(self) -> None:
        """Nobody waits for it any more: it removes what is half written, and ends."""
        self._child.process.terminate()
