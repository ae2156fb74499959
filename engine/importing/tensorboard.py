"""Runs of TensorBoard: folders with event files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from engine.curves.event_file import EventFile
from engine.curves.points import Point
from engine.importing.foreign import Candidate, Foreign, Unusable, span, stamp_of
from store.states import RunState

# Folders of one run beside or below each other: of Keras, and of PyTorch's `add_hparams`.
_TRAIN, _HELDOUT = ("train", "training"), ("eval", "val", "valid", "validation", "test")
_HPARAMS_FOLDER = re.compile(r"\d{9,11}\.\d+")
# events.out.tfevents.SECONDS.HOST.PID.NUMBER
_NAMED = re.compile(r".*\.tfevents\.\d+\.(?P<host>.+?)(?:\.\d+\.\d+)?(?:\.v2)?")
SILENT = "TensorBoard does not say how a run ended"


def find(root: Path, files: Sequence[Path]) -> list[Candidate]:
    """Return the runs of the event files below a folder."""
    folders: dict[Path, list[Path]] = {}
    for file in sorted(files):
        folders.setdefault(file.parent, []).append(file)
    runs: dict[Path, list[Path]] = {}
    for folder, inside in folders.items():
        runs.setdefault(_run_of(folder, folders), []).extend(inside)
    return [
        Candidate("tensorboard", str(folder), stamp_of(inside), partial(read, root, folder, tuple(inside)))
        for folder, inside in runs.items()
    ]


def _run_of(folder: Path, folders: dict[Path, list[Path]]) -> Path:
    """Return the folder of the run that an event file's folder is of."""
    above = folder.parent
    if above in folders and (folder.name in (*_TRAIN, *_HELDOUT) or _HPARAMS_FOLDER.fullmatch(folder.name)):
        return above
    both = any(above / name in folders for name in _TRAIN) and any(
        above / name in folders for name in _HELDOUT
    )
    if both and folder.name in (*_TRAIN, *_HELDOUT):
        return above
    if above in folders and _main_tag(folder, folders[folder]):
        return above
    return folder


def read(root: Path, folder: Path, files: Sequence[Path]) -> Foreign:
    """Read a run. Raises Unusable, OSError, and ImportError without TensorBoard."""
    points: list[Point] = []
    config: dict[str, Any] = {}
    notes: list[str] = []
    firsts: list[tuple[float, str]] = []  # of each file, when it was begun
    negative = 0
    for path in files:
        file = EventFile(path)
        tag = _main_tag(path.parent, [path]) if path.parent != folder else None
        begun = None
        for event in file.events():
            begun = event.wall_time if begun is None else begun
            found = list(file.points(event))
            points += [_of_main(point, tag, path.parent.name) for point in found] if tag else found
            for value in event.summary.value:
                config.update(_config_of(value))
            negative += event.step < 0 and len(event.summary.value)
        if problem := file.damage(last=True):
            notes.append(f"{path}: {problem}")
        if begun is not None:
            firsts.append((begun, path.name))
    if not points:
        raise Unusable(notes[0] if notes else f"{folder}: its event files hold no scalars")
    if negative:
        notes.append(f"{folder}: {negative} measures at steps below 0 are left out")
    created, ended = span(points, *(begun for begun, _ in firsts))
    begun, name = min(firsts)
    host = _NAMED.fullmatch(name)
    return Foreign(
        id=f"{name}@{begun:.6f}",
        name=str(folder.relative_to(root)) if folder != root else folder.name,
        created=created,
        ended=ended,
        state=RunState.FINISHED,
        config=config,
        host=host["host"] if host else None,
        points=points,
        notes=notes,
        remarks=[SILENT],
    )


def _main_tag(folder: Path, files: Sequence[Path]) -> str | None:
    """Return the tag of a folder that PyTorch's `add_scalars` has made, which begins its name."""
    with suppress(OSError, ImportError):
        for event in EventFile(files[0]).events():
            for value in event.summary.value:
                return value.tag if folder.name.startswith(value.tag.replace("/", "_") + "_") else None
    return None


def _of_main(point: Point, tag: str, folder: str) -> Point:
    """Return a measure of `add_scalars` under the name that it was given there."""
    kind = folder.removeprefix(tag.replace("/", "_") + "_")
    return Point(point.step, f"{point.name}/{kind}", point.value, point.t)


def _config_of(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield what a summary says of the run's configuration: hyperparameters, or the arguments of a Trainer."""
    plugin = value.metadata.plugin_data
    if plugin.plugin_name == "hparams" and value.tag == "_hparams_/session_start_info":
        from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

        with suppress(Exception):  # of a later TensorBoard
            for name, held in HParamsPluginData.FromString(plugin.content).session_start_info.hparams.items():
                if kind := held.WhichOneof("kind"):
                    yield name, getattr(held, kind)
    elif value.tag in ("args/text_summary", "args") and value.tensor.string_val:
        with suppress(ValueError):
            arguments = json.loads(value.tensor.string_val[0])
            yield from (arguments.items() if isinstance(arguments, dict) else ())
