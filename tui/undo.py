"""Undo: what takes back each thing that a key did to runs, the latest first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from finetui.errors import StoreError, Unavailable
from store.states import ACTIVE, WAITING, RunState

MOST = 50  # acts that are kept
NOT_UNDONE = "not undone"
# Of a run's `run.json`: what a submission says of its recipe.
OF_RECIPE = ("recipe", "recipe_text", "datasets", "git_commit", "versions", "gpu_memory", "name")


@dataclass(frozen=True)
class Step:
    """What takes an order to the daemon back, for one run."""

    run: int
    action: str
    body: dict[str, Any]
    done: str  # what is so then, where the daemon's answer does not say it

    def take(self, client: Any) -> str:
        """Raises StoreError."""
        answer = client.action(self.action, run=self.run, **self.body)
        return self.done or _state_in_words(answer["state"])


@dataclass(frozen=True)
class Act:
    """One thing that was done, to one run or to several."""

    what: str  # `cancel of #12`
    steps: Sequence[Step] = ()
    locally: Callable[[], str] | None = (
        None  # what the screen alone knows of: does it, and says what is so then
    )
    why_not: str = ""  # why it cannot be taken back


@dataclass
class Acts:
    """What has been done in this session and not been taken back."""

    _acts: list[Act] = field(default_factory=list)

    def keep(self, act: Act) -> bool:
        """False where there is nothing to say of it."""
        if not (act.steps or act.locally or act.why_not):
            return False
        self._acts = [*self._acts, act][-MOST:]
        return not act.why_not

    def last(self) -> Act | None:
        """The latest act, which is forgotten with this."""
        return self._acts.pop() if self._acts else None


def step_of(action: str, run: int, answer: dict[str, Any]) -> Step | None:
    """What takes an order back that the daemon has answered; None where nothing does."""
    match action:
        case "remove":
            return Step(run, "restore", {}, "back")
        case "name" if "before" in answer:
            return Step(run, "name", {"name": answer["before"]}, f"named {answer['before']} again")
        case "requeue" if "run" in answer:
            return copy_step(answer["run"])
    before = answer.get("before")
    if before is None or action == "start_now":
        return None
    return Step(run, "put_back", {"order": action, "before": before}, _done(action, before))


def copy_step(run: int) -> Step:
    """What undoes that a run was made from another one."""
    return Step(run, "cancel", {}, "cancelled, which was made")


def recipe_step(run: int, meta: dict[str, Any]) -> Step:
    """What gives a run the recipe back that it had. `meta`: its run.json before the change."""
    body = {key: meta[key] for key in OF_RECIPE if key in meta}
    return Step(run, "edit", body, "with its former recipe")


def _done(action: str, before: dict[str, Any]) -> str:
    match action:
        case "priority":
            return f"of priority {before['priority']} again"
        case "move":
            return "at its former place"
        case "hold" | "release":
            return "held again" if before["held"] else "waiting as before"
        case "tag":
            return f"tagged {' '.join(before['tags'])} again" if before["tags"] else "without tags again"
        case "note":
            return "with its former note" if before["note"] else "without a note again"
        case "group":
            return f"in the group {before['group']} again" if before["group"] else "in no group again"
    return ""


def _state_in_words(state: str) -> str:
    if state in WAITING:
        return "queued again, in its place"
    if state in ACTIVE:
        return "going on as soon as it has stopped"
    return f"{RunState(state)} again"


def take_back(client: Any, act: Act) -> str:
    """Take every step back, and say what came of it, run by run. Raises Unavailable where no daemon answers."""
    outcomes: dict[str, list[int]] = {}
    for step in reversed(act.steps):
        try:
            outcome = step.take(client)
        except Unavailable:
            raise
        except StoreError as error:
            outcome = f"{NOT_UNDONE}: {error}"
        outcomes.setdefault(outcome, []).append(step.run)
    in_order = sorted(outcomes.items(), key=lambda one: min(one[1]))
    return "; ".join(f"{_numbers(sorted(runs))} {outcome}" for outcome, runs in in_order)


def _numbers(runs: Sequence[int]) -> str:
    """`#3 #5–#9`: each run is named, a row of them by its ends."""
    spans: list[list[int]] = []
    for run in runs:
        if spans and run == spans[-1][1] + 1:
            spans[-1][1] = run
        else:
            spans.append([run, run])
    return " ".join(f"#{first}" if first == last else f"#{first}–#{last}" for first, last in spans)
