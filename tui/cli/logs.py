"""`finetui logs`: what the workers of a run printed, read from its directory."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

from engine.runs import journal
from engine.runs.home import RunDir, run_dirs
from finetui.errors import StoreError
from finetui.files import open_regular
from finetui.home import home
from tui.cli.output import out_raw, print_json_line

POLL_S = 0.3


def logs(number: int, *, follow: bool, as_json: bool) -> None:
    """Print all attempts' stdout in order; with `follow`, go on until the run ends. JSON: each of its lines as one."""
    run = find(number)
    offsets: dict[Path, int] = {}
    while True:
        record = journal.read(run)  # before the text, so that the last lines are not missed
        ends = not follow or not (record.waiting or record.active)
        _print_new(run, offsets, as_json=as_json, whole=not ends)
        if ends:
            return
        time.sleep(POLL_S)


def find(number: int) -> RunDir:
    """The run's directory. Raises StoreError if there is no such run."""
    for run in run_dirs(home()):
        if run.number == number:
            return run
    raise StoreError(f"there is no run #{number}; `finetui ls` lists them")


def _print_new(run: RunDir, offsets: dict[Path, int], *, as_json: bool, whole: bool) -> None:
    """Print what was written since. JSON with `whole`: a line that lacks its end waits for it."""
    for attempt in run.attempts():
        path = attempt.stdout
        if not path.exists():
            continue
        if path not in offsets and attempt.number > 1 and not as_json:
            out_raw(f"--- attempt {attempt.number} ---\n")
        try:
            with open_regular(path) as file:
                file.seek(offsets.get(path, 0))
                text = file.read()
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}") from None
        if as_json and whole:
            text = text[: text.rfind(b"\n") + 1]
        offsets[path] = offsets.get(path, 0) + len(text)
        if not as_json:
            out_raw(_shown(text))
            continue
        for line in text.decode(errors="replace").splitlines():
            print_json_line({"run": run.number, "attempt": attempt.number, "text": line})
    sys.stdout.flush()


def _shown(text: bytes) -> str:
    """For a terminal, a progress bar keeps what it showed last: each of its states begins the line anew."""
    decoded = text.decode(errors="replace")
    return re.sub(r"[^\n]*\r(?=[^\r\n])", "", decoded) if sys.stdout.isatty() else decoded
