"""Where things are: the home, its run directories, their files."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

# The kernel allows 107 bytes for the path of a Unix socket.
LONGEST_SOCKET_PATH = 100


@dataclass(frozen=True)
class Home:
    """`$FINETUI_HOME`: one daemon, one store, all runs."""

    path: Path

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    @property
    def store(self) -> Path:
        return self.path / "store.duckdb"

    @property
    def socket(self) -> Path:
        """`daemon.sock`, or a short path under the temporary directory where that would be too long."""
        path = self.path / "daemon.sock"
        if len(str(path)) <= LONGEST_SOCKET_PATH:
            return path
        digest = hashlib.sha256(str(self.path).encode()).hexdigest()[:12]
        return Path(tempfile.gettempdir()) / f"finetui-{os.getuid()}-{digest}" / "daemon.sock"

    @property
    def lock(self) -> Path:
        return self.path / "daemon.lock"

    @property
    def daemon_log(self) -> Path:
        return self.path / "daemon.log"

    @property
    def hardware_log(self) -> Path:
        return self.path / "hardware.jsonl"

    @property
    def config(self) -> Path:
        return self.path / "config.toml"

    def create(self) -> None:
        """Make the directories, closed to other users."""
        for path in (self.path, self.runs, self.socket.parent):
            path.mkdir(parents=True, exist_ok=True, mode=0o700)


def home() -> Home:
    """This process's home: `$FINETUI_HOME`, `$XDG_DATA_HOME/finetui` or `~/.local/share/finetui`."""
    if explicit := os.environ.get("FINETUI_HOME"):
        return Home(Path(explicit).expanduser().absolute())
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Home(Path(data).absolute() / "finetui")


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
        """In order; empty before the first start."""
        parent = self.path / "attempts"
        found = (
            [AttemptDir(path) for path in parent.iterdir() if path.name.isdigit()] if parent.is_dir() else []
        )
        return sorted(found, key=lambda attempt: attempt.number)

    def last_checkpoint(self) -> tuple[int, Path] | None:
        """Step and directory of the last whole checkpoint, or None."""
        whole = [path for path in self.checkpoints.glob("step-*") if (path / "COMPLETE").exists()]
        return max(((int(path.name.removeprefix("step-")), path) for path in whole), default=None)


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
        """Who the shim and the worker are (pid, start time, boot)."""
        return self.path / "process.json"

    @property
    def exit(self) -> Path:
        return self.path / "exit.json"

    @property
    def reserve(self) -> Path:
        """Room on the disk for last words, while the attempt lives."""
        return self.path / "reserve"


def run_dirs(home: Home) -> list[RunDir]:
    """Every acknowledged run (one with a `run.json`), by number."""
    found = [RunDir(path) for path in home.runs.glob("[0-9]*-*") if (path / "run.json").exists()]
    return sorted(found, key=lambda run: run.number)
