"""The mirror: run directories go to another machine or a bucket as they grow, so that a lost box loses minutes.

rsync (over ssh) or rclone does the work, a process of its own each time. A run that is gone here stays there; inside a
run, what is gone here goes there too, or every checkpoint would be kept. The environment of commands stays on the box,
since it may hold tokens. A mirror belongs to one home, whose identity lies in it: two boxes never mix their runs.
"""

from __future__ import annotations

import logging
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from engine.runs.home import RunDir, run_dirs
from finetui.files import read_json, write_json
from finetui.home import Home

log = logging.getLogger("finetui.mirror")

RCLONE = "rclone:"  # before a target of rclone
LEFT_OUT = ("environment.json", "lock", "reserve", ".*.tmp", ".*.old", ".accepting-*")
BATCH = 100  # run directories for one process
VANISHED = 24  # rsync's code where files went while it copied: a pruned checkpoint
LONGEST_PROBLEM = 300
ASKING = "ssh -o BatchMode=yes -o ConnectTimeout=20"  # a password would be asked for without end
IDENTITY = "home.json"


class MirrorError(Exception):
    """What is wrong with a mirror, in a sentence."""


@dataclass(frozen=True)
class Target:
    """Where the mirror is: `host:folder` or a folder for rsync, `rclone:remote:folder` for rclone."""

    text: str

    @property
    def rclone(self) -> bool:
        return self.text.startswith(RCLONE)

    def below(self, name: str) -> str:
        return f"{self.text.removeprefix(RCLONE).rstrip('/')}/{name}"

    def up(self, runs: Sequence[Path]) -> list[list[str]]:
        """Return the commands that bring run directories there, as they are now."""
        if self.rclone:
            left_out = [word for name in LEFT_OUT for word in ("--exclude", name, "--exclude", f"{name}/**")]
            return [["rclone", "sync", *left_out, str(run), self.below(f"runs/{run.name}")] for run in runs]
        return [[*_rsync(), "--delete", *map(str, runs), self.below("runs/")]]

    def down(self, folder: Path) -> list[str]:
        """Return the command that brings all runs back into a folder."""
        if self.rclone:
            return ["rclone", "copy", self.below("runs"), str(folder)]
        return [*_rsync(), self.below("runs/"), f"{folder}/"]

    def file_up(self, path: Path) -> list[str]:
        """Return the command that brings a file there; rsync makes the last folder of the target where it is new."""
        if self.rclone:
            return ["rclone", "copyto", str(path), self.below(path.name)]
        return [*_rsync(), str(path), self.below("")]

    def file_down(self, name: str, path: Path) -> list[str]:
        here = self.below(name)
        return ["rclone", "copyto", here, str(path)] if self.rclone else [*_rsync(), here, str(path)]


def _rsync() -> list[str]:
    return [
        "rsync", "-a", "--no-owner", "--no-group", "--partial", "--chmod=go=", "--timeout=120", "-e", ASKING,
        *(f"--exclude={name}" for name in LEFT_OUT),
    ]  # fmt: skip


class Mirror:
    """The mirror of a home. One thread copies; `stop` ends what it is at."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._copied: dict[Path, float] = {}  # run directories → newest change that is there, Unix seconds
        self._target: Target | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self.problem: str | None = None
        self.done: float | None = None  # when all that there was had been copied, Unix seconds

    def copy(self, text: str) -> None:
        """Bring what is new to the target; nothing without one. What goes wrong is kept as `problem`."""
        if not text:
            self._target, self.problem = None, None
            return
        target = Target(text)
        try:
            self._copy(target)
        except MirrorError as error:
            if self.problem != str(error):
                log.warning("%s", error)
            self.problem = str(error)
        else:
            self.problem, self.done = None, time.time()

    def _copy(self, target: Target) -> None:
        if target != self._target:
            self._claim(target)
            self._target, self._copied = target, {}
        changed = {
            run.path: newest for run in run_dirs(self._home) if (newest := self._newest(run)) is not None
        }
        waiting = list(changed)
        while waiting and not self._stopped:
            some, waiting = waiting[:BATCH], waiting[BATCH:]
            for words in target.up(some):
                run(words, self._started)
            self._copied.update({path: changed[path] for path in some})

    def _newest(self, run: RunDir) -> float | None:
        """Return when a run last changed, before it is copied; None where that is there already."""
        places = [run.path, run.meta, run.journal, run.checkpoints, *(one.path for one in run.attempts())]
        places += [one.events for one in run.attempts()[-1:]]
        newest = max((path.stat().st_mtime for path in places if path.exists()), default=0.0)
        return newest if newest > self._copied.get(run.path, -1.0) else None

    def _claim(self, target: Target) -> None:
        """Write this home's identity into an empty mirror. Raises MirrorError for that of another home."""
        theirs = identity_there(target, self._started)
        ours = own_identity(self._home)
        if theirs == ours:
            return
        if theirs is not None:
            raise MirrorError(
                f"mirror: {target.text} is that of another home; give this one another folder, or bring its runs here "
                "first: finetui pull"
            )
        run(target.file_up(self._home.path / IDENTITY), self._started)

    def _started(self, child: subprocess.Popen[bytes]) -> None:
        self._child = child
        if self._stopped:
            self._kill()

    @property
    def busy(self) -> bool:
        """Whether something is being copied now."""
        return self._child is not None and self._child.poll() is None

    def stop(self) -> None:
        """End what is being copied; the next daemon copies the rest."""
        self._stopped = True
        self._kill()

    def _kill(self) -> None:
        if self._child is not None and self.busy:  # else its number may be another's
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._child.pid, signal.SIGTERM)


def own_identity(home: Home) -> str:
    """Return the identity of a home, made now where it has none. Raises MirrorError."""
    path = home.path / IDENTITY
    try:
        if path.exists():
            return str(read_json(path)["uuid"])
        identity = str(uuid.uuid4())
        write_json(path, {"uuid": identity})
    except (OSError, ValueError, KeyError) as error:
        raise MirrorError(f"mirror: {path} cannot be used ({error}); delete it") from None
    return identity


def identity_there(target: Target, started: Callable[[subprocess.Popen[bytes]], object] = id) -> str | None:
    """Return whose mirror it is; None where nothing is there yet. Raises MirrorError where it cannot be reached."""
    with tempfile.TemporaryDirectory(prefix="finetui-mirror-") as folder:
        path = Path(folder) / IDENTITY
        try:
            run(target.file_down(IDENTITY, path), started)
        except MirrorError as error:
            if any(words in str(error) for words in ("No such file", "not found", "doesn't exist")):
                return None
            raise
        try:
            return str(read_json(path)["uuid"]) if path.exists() else None
        except (OSError, ValueError, KeyError):
            raise MirrorError(f"mirror: {target.below(IDENTITY)} is damaged; delete it there") from None


def run(words: Sequence[str], started: Callable[[subprocess.Popen[bytes]], object] = id) -> None:
    """Run rsync or rclone to its end. Raises MirrorError with its last words."""
    if shutil.which(words[0]) is None:
        raise MirrorError(f"mirror: {words[0]} is not installed")
    with tempfile.TemporaryFile() as output:
        child = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        started(child)
        code = child.wait()
        output.seek(0)
        errors = output.read().decode(errors="replace").strip().splitlines()
    if code in (0, VANISHED):
        return
    why = "; ".join(_telling(errors))[:LONGEST_PROBLEM] or f"exit code {code}"
    raise MirrorError(f"mirror: {shlex.quote(words[0])} has failed: {why}")


def _telling(lines: Iterable[str]) -> list[str]:
    """Return the lines that say why, without rsync's own summary where there is more."""
    some = [line for line in lines if line.strip()]
    return [line for line in some if not line.startswith("rsync error:")][-2:] or some[-1:]
