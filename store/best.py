"""Which value of a metric is its best, and by which result the held-out suite of each task is judged."""

from __future__ import annotations

from dataclasses import dataclass

# Of metrics whose name ends so, the greatest value is the best; of all others the least.
HIGHER_IS_BETTER = (
    "accuracy",
    "f1",
    "score",
    "match",
    "rouge1",
    "rouge2",
    "rougeL",
    "bleu",
    "chrf",
    "margin",
)


@dataclass(frozen=True)
class Judged:
    """What a task is judged by: the least is the best. `engine.flags.measure` has it example by example."""

    key: str  # of the results of an evaluation, in nats
    name: str  # in words
    per: str  # what it is the mean over: token, text or pair

    @property
    def unit(self) -> str:
        return f"nats per {self.per}"

    @property
    def metric(self) -> str:
        """The name of its curve."""
        return f"heldout/{self.key}"


_BY_TOKEN = Judged("loss", "loss", "token")
_OTHERS = {
    "classification": Judged("loss", "loss", "text"),
    # The likelihood of the chosen answers often falls while the preference is learned.
    "dpo": Judged("preference_loss", "preference loss", "pair"),
}


def judged_by(task: str | None) -> Judged:
    """What the held-out suite of a task is judged by; of a task that is not known, by the loss of its tokens."""
    return _OTHERS.get(task or "", _BY_TOKEN)


def sql_of_unit(column: str) -> str:
    """SQL for the unit of what a task is judged by, for the task in `column`; NULL where no task is known: the program
    that logged the loss has its own.
    """
    cases = " ".join(f"WHEN {column} = '{task}' THEN '{judged.unit}'" for task, judged in _OTHERS.items())
    return f"CASE WHEN {column} IS NULL THEN NULL {cases} ELSE '{_BY_TOKEN.unit}' END"


def sql_of_task(column: str, values: str) -> str:
    """SQL for what a task is judged by: `values` with `{metric}` filled in for the task in `column`."""
    cases = " ".join(
        f"WHEN '{task}' THEN {values.format(metric=judged.metric)}"
        for task, judged in _OTHERS.items()
        if judged.key != _BY_TOKEN.key
    )
    return f"CASE {column} {cases} ELSE {values.format(metric=_BY_TOKEN.metric)} END"
