"""All that the database is made of in one file, which `tar` unpacks: the logs of every run, the plans of sweeps and the
configuration. No weights, no checkpoints; no environments of commands, which may hold tokens.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.basics.errors import QueueError
from engine.runs.home import RunDir, run_dirs
from finetui.files import open_regular, whole_file
from finetui.home import Home

ENDS = (".tar.gz", ".tgz")
SUFFIXES = {".json", ".jsonl", ".yaml", ".yml", ".log", ".txt", ".md"}
FAST = 3  # level of gzip: logs get little smaller beyond it


@dataclass(frozen=True)
class Backup:
    """What was written."""

    path: Path
    runs: int
    files: int
    bytes: int


def write(home: Home, path: Path, tell: Callable[[str], object]) -> Backup:
    """Write a backup, whole or not at all. What grows meanwhile is in it as far as it was. Raises QueueError."""
    if not path.name.endswith(ENDS):
        raise QueueError(f"{path.name} is to be a name that ends in {' or '.join(ENDS)}")
    if path.exists():
        raise QueueError(f"{path} is there already; give another name")
    runs, files = run_dirs(home), 0
    try:
        with whole_file(path) as temporary:
            temporary.touch(mode=0o600)
            with tarfile.open(temporary, "w:gz", compresslevel=FAST) as archive:
                for done, run in enumerate(runs):
                    files += sum(_add(archive, home, file) for file in _of_run(run))
                    tell(f"{done + 1:,} of {len(runs):,} runs are written")
                files += sum(
                    _add(archive, home, file) for file in [home.config, *sorted(home.sweeps.glob("*"))]
                )
    except OSError as error:
        raise QueueError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        tell("")
    return Backup(path, len(runs), files, path.stat().st_size)


def _of_run(run: RunDir) -> Iterator[Path]:
    for folder in (run.path, *(attempt.path for attempt in run.attempts())):
        for path in sorted(folder.iterdir()):
            if path.suffix in SUFFIXES and path != run.environment and not path.name.startswith("."):
                yield path


def _add(archive: tarfile.TarFile, home: Home, path: Path) -> bool:
    """Add a file as far as it is written now. False for what is none, or is gone."""
    try:
        file = open_regular(path)
    except OSError:
        return False
    with file:
        archive.addfile(archive.gettarinfo(arcname=str(path.relative_to(home.path)), fileobj=file), file)
    return True
