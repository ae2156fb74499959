"""Runs of transformers' Trainer: `trainer_state.json` in its checkpoints."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from engine.curves.points import Point, whole
from engine.curves.trainer_state import TrainerState
from engine.importing.foreign import Candidate, Foreign, Unusable, stamp_of
from finetui.files import read_json
from store.states import RunState

_CHECKPOINT = re.compile(r"checkpoint-(\d{1,9})")
TIMES = (
    "trainer_state.json has no times: those of its points are when the first checkpoint with them was written"
)


def find(root: Path, files: Sequence[Path]) -> list[Candidate]:
    """Return the runs of the states below a folder: one for each folder with checkpoints."""
    runs: dict[Path, list[Path]] = {}
    for file in sorted(files):
        folder = file.parent.parent if _CHECKPOINT.fullmatch(file.parent.name) else file.parent
        runs.setdefault(folder, []).append(file)
    return [
        Candidate("trainer", str(folder), stamp_of(inside), partial(read, root, folder, tuple(inside)))
        for folder, inside in runs.items()
    ]


def read(root: Path, folder: Path, files: Sequence[Path]) -> Foreign:
    """Read a run. Raises Unusable, OSError."""
    states: list[tuple[int, float, Path, dict[str, Any]]] = []
    notes = []
    for path in files:
        try:
            state = read_json(path)
            if not isinstance(state.get("log_history"), list):
                raise ValueError("it has no log_history")
        except (OSError, ValueError) as error:
            notes.append(f"{path}: {error}")
            continue
        states.append((whole(state.get("global_step")) or 0, path.stat().st_mtime, path, state))
    if not states:
        raise Unusable(notes[0])
    states.sort(key=lambda one: one[:2])
    reached, ended, last, state = states[-1]
    reading = TrainerState(last).read()
    if not reading.points:
        raise Unusable(f"{last}: nothing was logged in it")
    first_entry = repr(state["log_history"][0]).encode()
    total = reading.total_steps
    finished = not total or reached >= total
    stops = sorted((step, t) for step, t, _, _ in states)
    return Foreign(
        id=f"{folder}#{zlib.crc32(first_entry):08x}",
        name=state.get("trial_name") or (str(folder.relative_to(root)) if folder != root else folder.name),
        created=min(t for _, t in stops),
        ended=ended,
        state=RunState.FINISHED if finished else RunState.CANCELLED,
        reason=None if finished else f"its last checkpoint is of step {reached} of {total}",
        config=_config(state),
        points=[
            Point(p.step, p.name, p.value, next((t for step, t in stops if step >= p.step), ended))
            for p in reading.points
        ],
        total_steps=total,
        checkpoints=[
            (int(named[1]), path.parent)
            for _, _, path, _ in states
            if (named := _CHECKPOINT.fullmatch(path.parent.name))
        ],
        notes=notes,
        remarks=[TIMES],
    )


def _config(state: dict[str, Any]) -> dict[str, Any]:
    """Return the few settings that are in the state itself."""
    names = ("max_steps", "num_train_epochs", "train_batch_size", "logging_steps", "eval_steps", "save_steps")
    chosen = {name: state[name] for name in names if state.get(name) is not None}
    parameters = state.get("trial_params")
    return {**chosen, **(parameters if isinstance(parameters, dict) else {})}
