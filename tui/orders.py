"""What came of an order to the daemon, in words: the same on the command line and on the screen."""

from __future__ import annotations

from typing import Any

from store.states import RunState


def done(action: str, answer: dict[str, Any]) -> str:
    """What is now so of the run, to be put after its number. `answer`: the daemon's reply to the action."""
    match action:
        case "cancel":
            return _stopped(answer, RunState.CANCELLED, "cancelled")
        case "pause":
            return _stopped(answer, RunState.PAUSED, "paused")
        case "resume":
            return "is queued again, from its last checkpoint if it has one"
        case "requeue":
            return f"has its recipe queued again as #{answer.get('run')}"
        case "priority":
            return f"has priority {answer.get('priority')}"
        case "hold":
            return "is held"
        case "release":
            return "waits for its turn only"
        case "start_now":
            return "starts as soon as there is a device for it"
        case "move":
            return "has another place in the queue"
        case "group":
            return f"is in the group {answer['group']}" if answer.get("group") else "is in no group"
        case "tag":
            return f"has the tags {' '.join(answer['tags'])}" if answer.get("tags") else "has no tag"
        case "remove":
            return "is removed"
        case "restore":
            return "is back"
        case "note":
            return "has a new note"
        case "name":
            return f"is called {answer.get('name')}"
    raise ValueError(action)


def _stopped(answer: dict[str, Any], state: RunState, word: str) -> str:
    """A run that waits is stopped at once, one with a worker when that has saved its work."""
    if answer.get("state") == state:
        return f"is {word}"
    return f"is being {word}: {answer.get('first', 'it saves a checkpoint first')}"
