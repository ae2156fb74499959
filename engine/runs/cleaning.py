"""What an ended run no longer needs: optimiser states that nothing resumes from, and old checkpoints.

Weights stay loadable: a checkpoint without its optimiser state can still be exported and scored, and is marked, so that
no run is resumed from it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from engine.runs.checkpoints import COMPLETE, seal
from engine.runs.home import WEIGHTS_ONLY, RunDir
from engine.runs.removed import bytes_of
from store.states import RunState

OF_RESUME = ("optimiser.pt", "rng.pt")  # files of a checkpoint that only a resume reads


@dataclass(frozen=True)
class Piece:
    """Something that can go."""

    checkpoint: Path
    whole: bool  # the checkpoint, else only what a resume reads of it
    bytes: int


def pieces(run: RunDir, state: str, best: int | None, *, checkpoints: bool) -> list[Piece]:
    """Return what of an ended or paused run can go. `best`: the step whose weights are the best, where that is known;
    with `checkpoints` all but the best and the last one go whole.

    A run that may be resumed keeps all of its last whole checkpoint, and of the one before it, should that be damaged.
    """
    whole = run.whole_checkpoints()
    last = whole[-1][0] if whole else None
    resumed_from = (
        {step for step, _ in run.resumable_checkpoints()[-2:]} if state != RunState.FINISHED else set()
    )
    freeable = []
    for step, path in whole:
        if checkpoints and step not in {best, last} | resumed_from:
            freeable.append(Piece(path, True, bytes_of(path)))
        elif step not in resumed_from and (size := sum(map(_size, _of_resume(path)))):
            freeable.append(Piece(path, False, size))
    return freeable


def free(piece: Piece) -> None:
    """Delete it; killed on the way, the checkpoint is whole, marked, or none. Raises OSError."""
    if piece.whole:
        (piece.checkpoint / COMPLETE).unlink(missing_ok=True)  # never whole while half deleted
        shutil.rmtree(piece.checkpoint)
        return
    (piece.checkpoint / WEIGHTS_ONLY).touch()
    files = _of_resume(piece.checkpoint)
    seal(piece.checkpoint, without=[file.name for file in files])
    for file in files:
        file.unlink()


def _of_resume(checkpoint: Path) -> list[Path]:
    return [checkpoint / name for name in OF_RESUME if (checkpoint / name).exists()]


def _size(file: Path) -> int:
    return file.stat().st_blocks * 512
