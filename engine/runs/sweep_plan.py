"""The plan of a sweep that goes on by itself: `sweeps/UUID.json` in the home.

A sweep whose runs are all queued at once needs none but to be added to later. What is there to do for the others (runs
to propose, losers to stop, a limit to keep) is done by a process of its own, engine/search/, which reads the plan and
the results, and keeps no other state: it may be killed at any moment.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from engine.recipe.sweep import BadSweep, Sweep
from engine.recipe.sweep import read as read_section
from finetui.files import read_json, write_json
from finetui.home import Home

QUEUING = "its runs are being queued"  # `done` until the command that submits it has queued the first


class Plan(BaseModel):
    """A sweep as it was submitted, and how far it is."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: int = 1
    uuid: str
    recipe: dict[str, Any]  # what the file says, without its sweep
    section: dict[str, Any]  # the sweep, as the file has it
    path: str  # of the recipe, for messages
    folder: str  # where the paths in it start
    common: dict[str, Any] = {}  # of all submissions of its runs
    runs: int  # that there are to be
    given: list[
        dict[str, Any]
    ] = []  # the values of the runs that were queued, those that were removed later, too
    done: str | None = None  # why there is nothing more to do

    @property
    def to_come(self) -> int:
        """Return how many runs are still to be queued."""
        return max(0, self.runs - len(self.given)) if self.sweep.search != "grid" else 0

    @property
    def sweep(self) -> Sweep:
        """Raises BadSweep."""
        return read_section(self.section)


def plan_path(home: Home, uuid: str) -> Path:
    return home.sweeps / f"{uuid}.json"


def read_plan(home: Home, uuid: str) -> Plan | None:
    """Return the plan of a sweep; None where there is none. Raises OSError, ValueError."""
    try:
        plan = Plan.model_validate(read_json(plan_path(home, uuid)))
        _ = plan.sweep
    except FileNotFoundError:
        return None
    except BadSweep as bad:
        raise ValueError(f"{bad.key}: {bad.sentence}") from None
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"]) from None
    return plan


def write_plan(home: Home, plan: Plan) -> None:
    """Durable when this returns. Raises OSError."""
    home.sweeps.mkdir(exist_ok=True, mode=0o700)
    write_json(plan_path(home, plan.uuid), plan.model_dump(mode="json"))


def open_plans(home: Home) -> tuple[list[Plan], list[str]]:
    """Return the plans for which there is more to do, and sentences about those that cannot be read."""
    plans, problems = [], []
    for path in sorted(home.sweeps.glob("*.json")):
        try:
            plan = read_plan(home, path.stem)
        except (OSError, ValueError) as error:
            problems.append(f"{path} cannot be read ({error}): its sweep stands still")
            continue
        if plan is not None and plan.done is None:
            plans.append(plan)
    return plans, problems
