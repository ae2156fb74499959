"""What an attempt left behind, read from its files once its processes are gone."""

from __future__ import annotations

from engine.runs.events import events_of
from engine.runs.home import AttemptDir, RunDir
from engine.runs.journal import RunRecord
from engine.runs.lifecycle import Remains
from engine.runs.output import last_line_of
from engine.runs.submitted import runs_command
from store.exit_file import read_exit
from store.line_fields import last_line
from store.lines import Checkpoint, End


def remains_of(run: RunDir, record: RunRecord) -> Remains:
    """Read the files that the last attempt left."""
    attempt = run.attempt(record.attempt)
    checkpoint = run.last_checkpoint()
    return Remains(
        began=attempt.process.exists(),
        exit=read_exit(attempt.exit),
        end=last_line(attempt.events, End),
        last_words=_last_output_line(run, attempt),
        checkpoint=checkpoint[0] if checkpoint else _noted_checkpoint(run),
    )


def _noted_checkpoint(run: RunDir) -> int:
    """Return the last step at which a command has saved a checkpoint, wherever it keeps them; else -1."""
    if not runs_command(run):
        return -1
    saved = [line.step for line in events_of(run, Checkpoint) if isinstance(line, Checkpoint)]
    return max(saved, default=-1)


def _last_output_line(run: RunDir, attempt: AttemptDir) -> str | None:
    """Return the last line that was printed: by the worker or, if none was started, by the shim."""
    return last_line_of(attempt.stdout if attempt.path.exists() else run.shim_log)
