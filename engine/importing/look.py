"""What there is to import at a path."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from engine.curves import event_file, trainer_state, wandb_file
from engine.curves.find import walk
from engine.importing import mlflow_database, mlflow_files, tensorboard, trackio, trainer, wandb
from engine.importing.database import is_database, opened
from engine.importing.foreign import Candidate, Look, Tool, Unusable
from finetui.home import Home
from store.paths import RUN_NAME

DEEPEST = 12  # folders below the one that is named
TOOLS: tuple[Tool, ...] = get_args(Tool)
_DATABASES = (".db", ".sqlite", ".sqlite3")


def home_at(path: Path) -> Home | None:
    """Return the home at a path; None where there is none."""
    try:
        inside = (path / "runs").iterdir()
        is_home = any(RUN_NAME.fullmatch(run.name) and (run / "run.json").is_file() for run in inside)
    except OSError:
        return None
    return Home(path.absolute()) if is_home else None


def look(path: Path, tool: Tool | None = None) -> Look:
    """Find the runs of other tools at a path, of one tool or of all. Raises Unusable."""
    root = path.absolute()
    if not root.exists():
        raise Unusable(f"{path} does not exist")
    if not root.is_dir():
        return _of_files(root.parent, [root], tool)
    entries = (entry for entry in walk(root, DEEPEST) if not entry.is_symlink())
    return _of_files(root, [Path(entry.path) for entry in entries if _may_be_one(entry.name)], tool)


def _may_be_one(name: str) -> bool:
    return (
        event_file.MARK in name
        or name in (trainer_state.NAME, mlflow_files.META)
        or name.endswith((wandb_file.SUFFIX, *_DATABASES))
    )


def _of_files(root: Path, files: list[Path], tool: Tool | None) -> Look:
    """Sort files by their tool."""
    events = [file for file in files if event_file.MARK in file.name and not _is_artifact(file)]
    states = [file for file in files if file.name == trainer_state.NAME and not _is_artifact(file)]
    logs = [file for file in files if file.name.endswith(wandb_file.SUFFIX)]
    metas = [file for file in files if file.name == mlflow_files.META]
    problems: list[tuple[str, str]] = []
    candidates: list[Candidate] = []
    looks = [_databases([file for file in files if file.suffix in _DATABASES], tool)]
    if tool in (None, "mlflow"):
        looks.append(mlflow_files.find(sorted(metas)))
    for part in looks:
        candidates += part.candidates
        problems += part.problems
    of_events = tensorboard.find(root, events) if tool in (None, "tensorboard") else []
    candidates += of_events
    if tool in (None, "wandb"):
        candidates += wandb.find(logs)
    if tool in (None, "trainer"):
        for candidate in trainer.find(root, states):
            below = any(Path(other.place).is_relative_to(candidate.place) for other in of_events)
            if below:
                why = "its event files are imported instead; --from trainer imports its trainer_state.json"
                problems.append((candidate.place, why))
            else:
                candidates.append(candidate)
    return Look(candidates, problems)


def _is_artifact(file: Path) -> bool:
    """Whether a file is what a run has given MLflow to keep: a copy."""
    return "mlruns" in file.parts and "artifacts" in file.parts


def _databases(files: list[Path], tool: Tool | None) -> Look:
    candidates: list[Candidate] = []
    problems: list[tuple[str, str]] = []
    for path in sorted(files):
        if not is_database(path):
            continue
        try:
            tables = _tables(path)
            if tables >= mlflow_database.TABLES and tool in (None, "mlflow"):
                part = mlflow_database.find(path)
                candidates += part.candidates
                problems += part.problems
            elif tables >= trackio.TABLES and tool in (None, "trackio"):
                candidates += trackio.find(path)
        except Unusable as error:
            problems.append((str(path), str(error)))
    return Look(candidates, problems)


def _tables(path: Path) -> set[str]:
    with opened(path) as database:
        return {row["name"] for row in database.rows("SELECT name FROM sqlite_master WHERE type = 'table'")}
