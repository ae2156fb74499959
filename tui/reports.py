"""The report on data, made in a process of its own: the screen imports no tokenizer."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from engine.basics.errors import DataError
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
