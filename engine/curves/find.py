"""Files of curves and checkpoints below the folders that a command is watched in."""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.basics.process import identify, is_below
from engine.curves import event_file, trainer_state, wandb_file

DEEPEST = 6  # folders below the one that is watched
MOST = 50_000  # entries looked at
SKIPPED = {"node_modules", "site-packages", "__pycache__"}
_CHECKPOINT = re.compile(r"checkpoint-(\d{1,9})")


@dataclass(frozen=True)
class Found:
    """What there is of an attempt: files of curves, and whole checkpoints by step."""

    files: tuple[Path, ...]
    others: frozenset[Path]  # files of curves of processes that do not belong to this run
    checkpoints: tuple[tuple[int, Path], ...]
    whole: bool  # not if there were too many entries to look at all


def find(folders: Sequence[Path], since: float) -> Found:
    """Look through folders for what was changed at `since` (Unix seconds) or later, latest last. What cannot be read is
    not there.
    """
    files: list[tuple[float, Path]] = []
    others: set[Path] = set()
    checkpoints: set[tuple[int, Path]] = set()
    count = 0
    for entry in (entry for folder in folders for entry in walk(folder, DEEPEST)):
        count += 1
        if count > MOST:
            break
        name = entry.name
        if not (name == trainer_state.NAME or event_file.MARK in name or name.endswith(wandb_file.SUFFIX)):
            continue
        try:
            status = entry.stat()
        except OSError:
            continue
        path = Path(entry.path)
        if status.st_mtime < since or not stat.S_ISREG(status.st_mode):
            continue
        if _is_anothers(name):
            others.add(path)
            continue
        files.append((status.st_mtime, path))
        # The Trainer writes its state when weights and optimiser are there.
        if name == trainer_state.NAME and (step := _CHECKPOINT.fullmatch(path.parent.name)):
            checkpoints.add((int(step[1]), path.parent))
    ordered = tuple(dict.fromkeys(path for _, path in sorted(files)))
    return Found(ordered, frozenset(others), tuple(sorted(checkpoints)), count <= MOST)


def walk(folder: Path | str, deeper: int) -> Iterator[os.DirEntry[str]]:
    """Yield the files below a folder; not those in hidden ones, nor behind links."""
    try:
        with os.scandir(folder) as entries:
            known = list(entries)
    except OSError:
        return
    for entry in known:
        try:
            is_folder = entry.is_dir(follow_symlinks=False)
        except OSError:
            continue
        if not is_folder:
            yield entry
        elif deeper and not entry.name.startswith(".") and entry.name not in SKIPPED:
            yield from walk(entry.path, deeper - 1)


def _is_anothers(name: str) -> bool:
    """Whether an event file is named after a living process of this machine that is not below this one."""
    # events.out.tfevents.SECONDS.HOST.PID.NUMBER
    named = re.fullmatch(r".*\.tfevents\.\d+\.(.+)\.(\d{1,9})\.\d+(?:\..*)?", name)
    if named is None or named[1] != socket.gethostname():
        return False
    pid = int(named[2])
    return identify(pid) is not None and pid != os.getpid() and not is_below(pid, os.getpid())
