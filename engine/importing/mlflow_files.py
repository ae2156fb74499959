"""MLflow's runs in folders, `mlruns/EXPERIMENT/RUN/`, as versions before 3.7 kept them by default."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from engine.importing import mlflow
from engine.importing.foreign import Candidate, Foreign, Look, Unusable, stamp_of
from engine.importing.mlflow import Facts, Measure

META = "meta.yaml"
_STATUSES = {"1": "RUNNING", "2": "SCHEDULED", "3": "FINISHED", "4": "FAILED", "5": "KILLED"}


def find(metas: list[Path]) -> Look:
    """Return the runs of these files that describe one, the earliest first."""
    found, problems = [], []
    for path in metas:
        try:
            meta = _meta(path)
            if "run_id" not in meta and "run_uuid" not in meta:  # of an experiment
                continue
            if meta.get("lifecycle_stage") == "deleted":
                problems.append((str(path.parent), "deleted in MLflow: not imported"))
                continue
            stamp = stamp_of([path, *_files(path.parent / "metrics")])
        except (OSError, ValueError) as error:
            problems.append((str(path), str(error)))
            continue
        candidate = Candidate("mlflow", str(path.parent), stamp, partial(read, path))
        found.append((str(meta.get("start_time")), candidate))
    return Look([candidate for _, candidate in sorted(found, key=lambda one: one[0])], problems)


def read(path: Path) -> Foreign:
    """Read a run. Raises Unusable, OSError."""
    folder = path.parent
    try:
        meta = _meta(path)
        uuid = str(meta.get("run_id") or meta["run_uuid"])
        facts = Facts(
            id=uuid,
            name=str(meta.get("run_name") or ""),
            status=_STATUSES.get(str(meta.get("status")), str(meta.get("status"))),
            started=mlflow.seconds(meta.get("start_time")),
            ended=mlflow.seconds(meta.get("end_time")),
            user=str(meta.get("user_id") or "") or None,
            experiment=_experiment(folder.parent),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise Unusable(f"{path}: {error}") from None
    return mlflow.foreign(
        facts, _words(folder / "params"), _words(folder / "tags"), _measures(folder / "metrics")
    )


def _meta(path: Path) -> dict[str, Any]:
    """Raises OSError, and ValueError where it is none."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        meta = YAML(typ="safe", pure=False).load(path.read_bytes())
    except YAMLError as error:
        raise ValueError(str(error).splitlines()[0]) from None
    if not isinstance(meta, dict):
        raise ValueError("it holds no run")
    return meta


def _experiment(folder: Path) -> str:
    try:
        return str(_meta(folder / META).get("name") or folder.name)
    except (OSError, ValueError):
        return folder.name


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder: the name of a metric may have slashes."""
    for above, _, names in os.walk(folder):
        for name in sorted(names):
            yield Path(above, name)


def _words(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text(errors="replace").removesuffix("\n")
        for path in _files(folder)
    }


def _measures(folder: Path) -> Iterator[Measure]:
    """Yield the metrics, a line each: milliseconds, value, step. Raises Unusable."""
    for path in _files(folder):
        name = str(path.relative_to(folder))
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            parts = line.split()
            try:
                step = int(parts[2]) if len(parts) > 2 else 0  # the oldest versions had none
                yield Measure(name, step, int(parts[0]) / 1000, float(parts[1]))
            except (ValueError, IndexError):
                raise Unusable(f"{path}: line {number} is no measure: {line[:80]!r}") from None
