"""What the workers of a run said, over all its attempts."""

from __future__ import annotations

from typing import Any

from engine.runs.home import RunDir
from finetui.log import read_log

# The suite `heldout` with training examples in the prompt: what the base model says, scored once (evals/few_shot.py).
FEW_SHOT = "heldout_few_shot"


def events_of(run: RunDir) -> list[dict[str, Any]]:
    """The lines of all attempts in order, without those that a resume took back."""
    events: list[dict[str, Any]] = []
    for attempt in run.attempts():
        for entry in read_log(attempt.events):
            if entry.get("kind") == "resume":
                events = [old for old in events if old.get("step", -1) <= entry["from_step"]]
            events.append(entry)
    return events
