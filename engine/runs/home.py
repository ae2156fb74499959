"""The run directories of a home and their files."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from finetui.home import Home

RUN_NAME = r"(\d+)-[a-z0-9-]+"
CHECKPOINT_NAME = r"step-(\d+)"


@dataclass(frozen=True)
class RunDir:
    """`runs/000042-slug/`: the truth about one run."""

    path: Path

    @property
    def number(self) -> int:
        return int(self.path.name.split("-", 1)[0])

    @property
    def meta(self) -> Path:
        return self.path / "run.json"

    @property
    def journal(self) -> Path:
        return self.path / "journal.jsonl"

    @property
    def lock(self) -> Path:
        """Held (flock) by the shim of the active attempt."""
        return self.path / "lock"

    @property
    def shim_log(self) -> Path:
        return self.path / "shim.log"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def attempt(self, number: int) -> AttemptDir:
        return AttemptDir(self.path / "attempts" / str(number))

    def attempts(self) -> list[AttemptDir]:
        """Return the attempts in order; empty before the first start."""
        parent = self.path / "attempts"
        attempts = (
            [AttemptDir(path) for path in parent.iterdir() if path.name.isdigit()] if parent.is_dir() else []
        )
        return sorted(attempts, key=lambda attempt: attempt.number)

    def last_checkpoint(self) -> tuple[int, Path] | None:
        """Return the step and directory of the last whole checkpoint, or None."""
        return max(self.whole_checkpoints(), default=None)

    def whole_checkpoints(self) -> list[tuple[int, Path]]:
        """Return the whole checkpoints as (step, directory), by step. A directory of another name is a user's copy."""
        named = ((re.fullmatch(CHECKPOINT_NAME, path.name), path) for path in self.checkpoints.glob("step-*"))
        return sorted((int(name[1]), path) for name, path in named if name and (path / "COMPLETE").exists())


@dataclass(frozen=True)
class AttemptDir:
    """`attempts/N/`: one process life of a run."""

    path: Path

    @property
    def number(self) -> int:
        return int(self.path.name)

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def stdout(self) -> Path:
        return self.path / "stdout.log"

    @property
    def process(self) -> Path:
        """The identity of the shim and of the worker (pid, start time, boot)."""
        return self.path / "process.json"

    @property
    def exit(self) -> Path:
        return self.path / "exit.json"

    @property
    def reserve(self) -> Path:
        """Space on the disk for the last lines, while the attempt lives."""
        return self.path / "reserve"


def run_dirs(home: Home) -> list[RunDir]:
    """Return every acknowledged run (one with a `run.json`), by number. A directory of another name is no run."""
    runs: dict[int, RunDir] = {}
    for path in sorted(home.runs.glob("[0-9]*-*")):
        if not re.fullmatch(RUN_NAME, path.name) or not (path / "run.json").exists():
            continue
        run = RunDir(path)
        if run.number not in runs or not _is_copy(run):
            runs[run.number] = run
    return [runs[number] for number in sorted(runs)]


def _is_copy(run: RunDir) -> bool:
    """Whether a run's directory has another name than it was given: somebody copied it."""
    try:
        return f"{run.number:06d}-{json.loads(run.meta.read_text())['slug']}" != run.path.name
    except (OSError, ValueError, KeyError, TypeError):
        return True
