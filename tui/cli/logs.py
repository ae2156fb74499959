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
from tui.cli.output import out_raw, print_json_line, say
from tui.lines.log_levels import Level, LevelReader

POLL_S = 0.3


def logs(number: int, *, follow: bool, least: Level = Level.DEBUG, as_json: bool = False) -> None:
    """Print all attempts' stdout in order, lines of `least` and graver; with `follow`, go on until the run ends. JSON:
    each of its lines as one.
    """
    run = find(number)
    if journal.read(run).logged:
        say(f"run #{number} is logged by its own program, which prints where it was started")
        return
    outputs: dict[Path, _Output] = {}
    while True:
        record = journal.read(run)  # before the text, so that the last lines are not missed
        goes_on = follow and (record.waiting or record.active)
        _print_new(run, outputs, least, goes_on=goes_on, as_json=as_json)
        if not goes_on:
            return
        time.sleep(POLL_S)


class _Output:
    """What an attempt has printed, as far as it is read."""

    def __init__(self) -> None:
        self.offset = 0
        self._reader, self._begun = LevelReader(), ""

    def of_level(self, text: str, least: Level, *, ends: bool) -> list[str]:
        """The whole lines of a text that are grave enough; a line that has only begun waits for its rest."""
        *whole, begun = (self._begun + text).split("\n")
        self._begun = "" if ends else begun
        lines = [*whole, *([begun] if ends and begun else [])]
        return [line for line in lines if self._reader.of(_last_state(line)) >= least]


def find(number: int) -> RunDir:
    """The run's directory. Raises StoreError if there is no such run."""
    for run in run_dirs(home()):
        if run.number == number:
            return run
    raise StoreError(f"there is no run #{number}; `finetui ls` lists them")


def _print_new(
    run: RunDir, outputs: dict[Path, _Output], least: Level, *, goes_on: bool, as_json: bool
) -> None:
    for attempt in run.attempts():
        path = attempt.stdout
        if not path.exists():
            continue
        if path not in outputs and attempt.number > 1 and not as_json:
            out_raw(f"--- attempt {attempt.number} ---\n")
        output = outputs.setdefault(path, _Output())
        try:
            with open_regular(path) as file:
                file.seek(output.offset)
                text = file.read()
        except OSError as error:
            raise StoreError(f"{path} cannot be read: {error.strerror}") from None
        output.offset += len(text)
        shown = text.decode(errors="replace")
        if least is Level.DEBUG and not as_json:
            out_raw(_shown(shown))
            continue
        for line in output.of_level(shown, least, ends=not goes_on):
            if as_json:
                print_json_line({"run": run.number, "attempt": attempt.number, "text": line})
            else:
                out_raw(_shown(f"{line}\n"))
    sys.stdout.flush()


def _shown(text: str) -> str:
    """For a terminal, a progress bar keeps what it showed last: each of its states begins the line anew."""
    return re.sub(r"[^\n]*\r(?=[^\r\n])", "", text) if sys.stdout.isatty() else text


def _last_state(line: str) -> str:
    """What a line with a progress bar showed last."""
    return line.rstrip("\r").rsplit("\r", 1)[-1]
