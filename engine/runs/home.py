"""The run directories of a home and their files."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from finetui.home import Home
from store.paths import attempts_in, list_runs

WEIGHTS_ONLY = "WEIGHTS_ONLY"  # a file in a checkpoint that was cleaned (engine/runs/cleaning.py)
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
    def environment(self) -> Path:
        """The variables of the shell that queued a command. They may hold secrets, and are read by its owner alone."""
        return self.path / "environment.json"

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

    def cache(self, name: str) -> Path | None:
        """Return a directory of what the runs of a home share; None for a run outside a home."""
        return Home(self.path.parent.parent).cache / name if self.path.parent.name == "runs" else None

    def attempt(self, number: int) -> AttemptDir:
        return AttemptDir(self.path / "attempts" / str(number))

    def attempts(self) -> list[AttemptDir]:
        """Return the attempts in order; empty before the first start."""
        return [self.attempt(number) for number in attempts_in(self.path)]

    def last_checkpoint(self) -> tuple[int, Path] | None:
        """Return the step and directory of the last whole checkpoint that a run can resume from, or None."""
        return max(self.resumable_checkpoints(), default=None)

    def resumable_checkpoints(self) -> list[tuple[int, Path]]:
        """Return the whole checkpoints that still have what a resume reads, by step."""
        return [(step, path) for step, path in self.whole_checkpoints() if not (path / WEIGHTS_ONLY).exists()]

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
    try:
        return [RunDir(path) for path in list_runs(home.runs).runs.values()]
    except FileNotFoundError:
        return []
