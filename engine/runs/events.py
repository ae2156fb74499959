"""The events that the workers of a run logged, over all its attempts."""

from __future__ import annotations

from engine.runs.home import RunDir
from store.line_fields import Bad, read_lines
from store.lines import Resume, WorkerLine

# The suite `heldout` with training examples in the prompt, scored once with the base model (training/few_shot.py).
FEW_SHOT = "heldout_few_shot"


def events_of(run: RunDir, *kinds: type[WorkerLine], before: int | None = None) -> list[WorkerLine]:
    """Return the lines of these kinds in order, of all attempts or of those before one. Lines that a resume superseded
    and lines that cannot be read are skipped.
    """
    by_kind: dict[str, type[WorkerLine]] = {kind.kind: kind for kind in (Resume, *kinds)}
    events: list[WorkerLine] = []
    for attempt in run.attempts():
        if before is not None and attempt.number >= before:
            break
        own = [line for _, line in read_lines(attempt.events, by_kind) if not isinstance(line, Bad)]
        for line in own:
            if isinstance(line, Resume):
                events = line.kept(events)
        events += [line for line in own if isinstance(line, kinds)]
    return events
