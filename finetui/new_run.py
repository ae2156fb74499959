"""The directory of a run that a program logs by itself: whole or absent, as the daemon makes those of its own runs.

From there on the daemon, whenever there is one, treats it as any other run; only it writes to the journal again. What
the lines mean is in docs/architecture.md.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetui.files import read_json, sync, write_json
from finetui.home import Home
from finetui.identity import identify
from finetui.log import LogWriter
from finetui.numbers import last_number, next_number
from finetui.plain import plain
from finetui.provenance import git_commit, loaded_versions, user_name

UNFINISHED = ".logging-"  # prefix of a directory that is not a run yet
RUN_JSON = "run.json"


@dataclass(frozen=True)
class Start:
    """What is known of a run as it begins."""

    name: str
    config: dict[str, Any]
    tags: tuple[str, ...] = ()
    group: str | None = None
    note: str = ""
    project: str | None = None
    directions: Mapping[str, bool] = field(default_factory=dict)  # by metric: whether higher is better


def make_run(home: Home, start: Start) -> Path:
    """Make the directory of a run of this process; durable when this returns. Raises OSError, and StoreError where the
    home cannot be used.
    """
    home.create()
    commit = git_commit(Path.cwd())  # may take a while, so before others are kept waiting
    with next_number(home, last_number(home) + 1) as number:
        _clear_unfinished(home)  # nobody else is at it: the number is ours
        slug = slugify(start.name)
        unfinished = home.runs / f"{UNFINISHED}{number:06d}-{slug}"
        final = home.runs / f"{number:06d}-{slug}"
        try:
            unfinished.mkdir(mode=0o700)
            _fill(unfinished, number, slug, start, commit)
            unfinished.rename(final)
        except OSError:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        sync(home.runs)
    return final


def rewrite(run: Path, name: str, config: dict[str, Any], directions: Mapping[str, bool]) -> None:
    """Put another name, config and word on what is better in place of those of a run. Raises OSError, ValueError."""
    path = run / RUN_JSON
    body = read_json(path)
    versions = {**body.get("versions", {}), **loaded_versions()}
    more = {"name": name, "higher_is_better": dict(directions), "recipe": config, "versions": versions}
    write_json(path, {**body, **more})


def slugify(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].rstrip("-") or "run"


def word_of(text: str) -> str:
    """Return a text as one word, as tags and groups are."""
    return re.sub(r"[\s,:]+", "-", text).strip("-")[:100]


def _fill(run: Path, number: int, slug: str, start: Start, commit: str | None) -> None:
    """Write what a run begins with, durably."""
    body = {
        "version": 1,
        "uuid": str(uuid.uuid4()),
        "number": number,
        "name": start.name,
        "slug": slug,
        "created": time.time(),
        "logged": True,
        "project": start.project,
        "python": platform.python_version(),
        "git_commit": commit,
        "cwd": str(Path.cwd()),
        "command": sys.argv[:100],
        "user": user_name(),
        "host": socket.gethostname(),
        "versions": loaded_versions(),
        "higher_is_better": dict(start.directions),
        "recipe": plain(start.config),
    }
    write_json(run / RUN_JSON, body)
    own = identify(os.getpid())
    journal = LogWriter(run / "journal.jsonl", "journal", number)
    journal.write("submitted", state="queued", priority=0, processes=1, logged=True)
    for kind, fields in _words(start):
        journal.write(kind, **fields)
    journal.write("starting", attempt=1, state="starting")
    journal.write("running", attempt=1, state="running", **(own.to_dict() if own else {}))
    journal.close()  # syncs
    events = LogWriter(run / "attempts" / "1" / "events.jsonl", "worker", number, 1)
    events.write("phase", phase="training", step=0)
    events.close()
    for directory in (run / "attempts" / "1", run / "attempts", run):
        sync(directory)


def _words(start: Start) -> Iterable[tuple[str, dict[str, Any]]]:
    if start.tags:
        yield "tagged", {"tags": list(start.tags)}
    if start.group:
        yield "grouped", {"group": start.group}
    if start.note:
        yield "note", {"text": start.note}


def _clear_unfinished(home: Home) -> None:
    """Remove what a program left that was killed while it made its run."""
    for path in home.runs.glob(f"{UNFINISHED}*"):
        shutil.rmtree(path, ignore_errors=True)
