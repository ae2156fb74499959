"""Runs of W&B: `run-ID.wandb`, which it writes online and offline alike."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from engine.curves.points import Point, number
from engine.curves.wandb_file import WandbFile, points_of, value_of
from engine.importing.foreign import Candidate, Foreign, Unusable, at_steps, span, stamp_of
from finetui.names import our_name
from store.states import RunState

_RUN = re.compile(r"run-(.+)\.wandb")


def find(files: Sequence[Path]) -> list[Candidate]:
    """Return the runs of files: those of one id in one folder of W&B are one run, which was resumed."""
    runs: dict[tuple[Path, str], list[Path]] = {}
    for file in sorted(files):
        named = _RUN.fullmatch(file.name)
        runs.setdefault((file.parent.parent, named[1] if named else file.name), []).append(file)
    return [
        Candidate("wandb", str(inside[0]), stamp_of(inside), partial(read, tuple(inside)))
        for inside in runs.values()
    ]


class _Records:
    """What the records of a run add up to."""

    def __init__(self) -> None:
        self.run: Any = None
        self.environment: Any = None
        self.exit: Any = None
        self.points: list[Point] = []
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.samples: list[tuple[float | None, str, float]] = []

    def add(self, record: Any) -> None:
        kind = record.WhichOneof("record_type")
        match kind:
            case "run":
                self.run, self.exit = record.run, None  # one that is resumed has not ended
                self._configure(record.run.config)
            case "config":
                self._configure(record.config)
            case "environment" if self.environment is None:  # what follows adds the hardware
                self.environment = record.environment
            case "history":
                self.points += points_of(record.history)
            case "summary":
                for item in record.summary.update:
                    self.summary[".".join(item.nested_key) or item.key] = value_of(item.value_json)
            case "stats":
                self._sample(record.stats)
            case "exit":
                self.exit = record.exit

    def _configure(self, config: Any) -> None:
        for item in config.update:
            value = value_of(item.value_json)
            if item.nested_key:
                inner = self.config
                for key in item.nested_key[:-1]:
                    if not isinstance(inner.get(key), dict):
                        inner[key] = {}
                    inner = inner[key]
                inner[item.nested_key[-1]] = value
            elif not item.key.startswith("_wandb"):
                self.config[item.key] = value
        for item in config.remove:
            self.config.pop(item.key, None)

    def _sample(self, stats: Any) -> None:
        t = stats.timestamp.seconds + stats.timestamp.nanos / 1e9
        for item in stats.item:
            value = number(value_of(item.value_json))
            if value is not None:
                self.samples.append((t, item.key, value))

    def last_values(self) -> list[Point]:
        """Return what is in the summary alone, at the last step."""
        named = {point.name for point in self.points}
        last = max(self.points, key=lambda point: point.step, default=Point(0, "", 0.0))
        values = {
            our_name(key): number(value) for key, value in self.summary.items() if not key.startswith("_")
        }
        return [
            Point(last.step, name, value, last.t)
            for name, value in values.items()
            if value is not None and name not in named and name != "train/global_step"
        ]


def read(files: Sequence[Path]) -> Foreign:
    """Read a run. Raises Unusable, OSError, and ImportError without W&B's library."""
    records, notes = _Records(), []
    for path in files:
        try:
            for record in WandbFile(path).records():
                records.add(record)
        except ValueError as error:
            notes.append(f"{path}: {error}; what comes after it is missing")
    run = records.run
    if run is None:
        raise Unusable(notes[0] if notes else f"{files[0]}: it does not say of which run it is")
    points = [*records.points, *records.last_values()]
    started = run.start_time.seconds + run.start_time.nanos / 1e9
    created, ended = span(records.points, started or None)
    if records.exit is not None:
        ended = max(ended, started + records.exit.runtime)
    state, reason = _state(records.exit)
    system = records.environment
    return Foreign(
        id=f"{run.project}/{run.run_id}",
        name=run.display_name or run.run_id,
        created=created,
        ended=ended,
        state=state,
        reason=reason,
        exit_code=records.exit.exit_code if records.exit is not None else None,
        config={key: value for key, value in records.config.items() if not key.startswith("_wandb")},
        tags=list(run.tags),
        group=run.run_group or run.sweep_id or None,
        note=run.notes,
        user=_metadata(files[-1]).get("username"),
        host=run.host or None,
        python=run.telemetry.python_version or None,
        versions=_versions(files[-1], run),
        git_commit=run.git.commit or (system.git.commit if system is not None else "") or None,
        folder=(system.root if system is not None else "") or None,
        points=[*points, *at_steps(records.samples, records.points)],
        more={
            key: value
            for key, value in {
                "project": run.project, "entity": run.entity, "job_type": run.job_type, "sweep": run.sweep_id,
                "program": system.program if system is not None else "",
                "arguments": list(system.args) if system is not None else [],
            }.items()
            if value
        },
        notes=notes,
    )  # fmt: skip


def _state(ended: Any) -> tuple[RunState, str | None]:
    if ended is None:
        return RunState.CANCELLED, "W&B's file does not say that it ended: it was killed, or goes on"
    if ended.exit_code == 0:
        return RunState.FINISHED, None
    return RunState.FAILED, f"it ended with exit code {ended.exit_code}"


def _metadata(path: Path) -> dict[str, Any]:
    """Return what W&B keeps beside its file where it is online."""
    try:
        metadata = json.loads((path.parent / "files" / "wandb-metadata.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _versions(path: Path, run: Any) -> dict[str, str]:
    """Return the libraries that were installed, as far as W&B has kept them."""
    versions = {"wandb": run.telemetry.cli_version} if run.telemetry.cli_version else {}
    try:
        lines = (path.parent / "files" / "requirements.txt").read_text().splitlines()
    except (OSError, ValueError):
        return versions
    pinned = (line.partition("==") for line in lines if "==" in line)
    wanted = {"torch", "transformers", "peft", "trl", "accelerate", "datasets", "bitsandbytes"}
    return {
        **versions,
        **{name.strip(): version.strip() for name, _, version in pinned if name.strip() in wanted},
    }
