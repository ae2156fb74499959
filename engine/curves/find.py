"""Files of curves and checkpoints below the folders that a command is watched in."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.curves import event_file, trainer_state, wandb_file

DEEPEST = 6  # folders below the one that is watched
MOST = 50_000  # entries looked at
SKIPPED = {"node_modules", "site-packages", "__pycache__"}
_CHECKPOINT = re.compile(r"checkpoint-(\d{1,9})")


@dataclass(frozen=True)
class Found:
    """What there is of an attempt: files of curves, and whole checkpoints by step."""

    files: tuple[Path, ...]
    checkpoints: dict[int, Path]
    whole: bool  # not if there were too many entries to look at all


def find(folders: Sequence[Path], since: float) -> Found:
    """Look through folders for what was changed at `since` (Unix seconds) or later, latest last. What cannot be read is
    not there; the files of another session's processes are not ours.
    """
    files: list[tuple[float, Path]] = []
    checkpoints: dict[int, Path] = {}
    count = 0
    for entry in (entry for folder in folders for entry in _walk(folder, DEEPEST)):
        count += 1
        if count > MOST:
            break
        name = entry.name
        if not (name == trainer_state.NAME or event_file.MARK in name or name.endswith(wandb_file.SUFFIX)):
            continue
        try:
            changed = entry.stat().st_mtime
        except OSError:
            continue
        path = Path(entry.path)
        if changed < since or _is_anothers(name):
            continue
        files.append((changed, path))
        # The Trainer writes its state when weights and optimiser are there.
        if name == trainer_state.NAME and (step := _CHECKPOINT.fullmatch(path.parent.name)):
            checkpoints[int(step[1])] = path.parent
    ordered = tuple(dict.fromkeys(path for _, path in sorted(files)))
    return Found(ordered, dict(sorted(checkpoints.items())), count <= MOST)


def _walk(folder: Path | str, deeper: int) -> Iterator[os.DirEntry[str]]:
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
            yield from _walk(entry.path, deeper - 1)


def _is_anothers(name: str) -> bool:
    """Whether an event file is named after a living process of this machine that belongs to another run."""
    # events.out.tfevents.SECONDS.HOST.PID.NUMBER
    named = re.fullmatch(r".*\.tfevents\.\d+\.(.+)\.(\d+)\.\d+(?:\..*)?", name)
    if named is None or named[1] != socket.gethostname():
        return False
    try:
        return os.getsid(int(named[2])) != os.getsid(0)
    except (OSError, OverflowError):
        return False
