"""What is known of a run before it starts, as lines: memory, size, looks, disk, notes, and the runs of a sweep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.basics.errors import RecipeError
from engine.basics.safe_text import one_line
from engine.basics.wording import duration, size
from engine.evals.cost import Cost
from tui.lines.recipe_draft import Draft
from tui.lines.text import Line, wrap

LABEL = 9  # columns
GB = 1e9


@dataclass(frozen=True)
class Forecast:
    """What `finetui estimate` and `finetui check` say of a recipe; `refusal`: why it would not be queued."""

    estimate: dict[str, Any] | None = None
    check: dict[str, Any] | None = None
    refusal: str = ""

    @property
    def is_whole(self) -> bool:
        return self.check is not None or bool(self.refusal)


def lines(draft: Draft, forecast: Forecast | None, free: Mapping[str, float], width: int) -> list[Line]:
    """`forecast`: None while it is being made; `free`: the last readings of the hardware, by key."""
    if draft.problems:
        return [line for text in draft.complaints for line in _labelled("wrong", text, "bad", width)]
    forecast = forecast or Forecast()
    found: list[Line] = []
    if not forecast.is_whole:
        found.append([("checking the recipe and its data …", "dim")])
    if forecast.refusal:
        found += _labelled("refused", forecast.refusal, "bad", width)
    if forecast.estimate:
        found += _memory(forecast.estimate, free, width)
    if forecast.check:
        found += _check(forecast.check, free, width)
    return [*found, [], *_runs(draft, width)]


def verdict(draft: Draft, forecast: Forecast | None) -> tuple[str, str]:
    """In a word, and its style: whether it may be queued."""
    if draft.problems:
        return f"{len(draft.problems)} wrong", "bad"
    if forecast and forecast.refusal:
        return "refused", "bad"
    if forecast and forecast.estimate and not forecast.estimate["fits"]:
        return "does not fit", "bad"
    return ("may start", "good") if forecast and forecast.is_whole else ("checking …", "dim")


def _memory(estimate: dict[str, Any], free: Mapping[str, float], width: int) -> list[Line]:
    device, fits = estimate["device"], estimate["fits"]
    measured = estimate["correction"]["runs"]
    source = f"corrected by {measured} run{'s' * (measured > 1)}" if measured else "by formula"
    text = f"about {size(estimate['total_bytes'])}, {source}; "
    text += f"{device} has {size(estimate['memory_bytes'])}"
    if available := _free(device, free):
        text += f", {size(available * GB)} free now"
    found = _labelled("memory", text, "text" if fits else "bad", width)
    if not fits:
        found += _labelled("", "it does not fit", "bad", width)
    for remedy in estimate["remedies"]:
        ending = "fits" if remedy["fits"] else "still too much"
        found += _labelled("", f"{remedy['change']}: {size(remedy['total_bytes'])}, {ending}", "warn", width)
    return found


def _free(device: str, values: Mapping[str, float]) -> float:
    """GB that are free on the GPU with most of it, or in the machine; 0 where nothing is known."""
    if device == "cpu":
        return max(0.0, values.get("ram/total_gb", 0.0) - values.get("ram/used_gb", 0.0))
    totals = {key.split("/")[0]: value for key, value in values.items() if key.endswith("memory_total_gb")}
    return max(
        (total - values.get(f"{gpu}/memory_used_gb", 0.0) for gpu, total in totals.items()), default=0.0
    )


def _check(check: dict[str, Any], free: Mapping[str, float], width: int) -> list[Line]:
    run = check["runs"][0]
    looks, disk = run["looks"], run["disk"]
    facts = []
    tokens = f", about {run['tokens']:,} tokens" if run["tokens"] else ""
    facts.append(
        ("data", f"{run['train_examples']:,} to train on{tokens}; {run['heldout_examples']:,} held out")
    )
    if run["steps"]:
        facts.append(("steps", f"about {run['steps']:,} of {run['step_tokens']:,} tokens"))
    if looks:
        source = (
            f"measured by run #{looks['measured_by']}" if looks["measured_by"] else "estimated from tokens"
        )
        facts.append(("looks", f"{looks['looks']}, about {looks['share']:.0%} of the time, {source}"))
        facts.append(("time", _time(check["runs"])))
    if disk:
        room = f"; {free['disk/free_gb']:.0f} GB free" if "disk/free_gb" in free else ""
        facts.append(("disk", f"up to {size(disk['total'])}, {size(disk['weights'])} at the end{room}"))
    found = [line for label, text in facts for line in _labelled(label, text, "text", width)]
    notes = dict.fromkeys(note for one in check["runs"] for note in one["warnings"])
    for note in (*notes, *check["token_warnings"]):
        found += _labelled("note", note, "warn", width)
    return found


def _time(runs: list[dict[str, Any]]) -> str:
    """Of one run, and of all runs of a sweep, with what they will cost where an hour has a price."""
    known = [run["looks"]["seconds"] for run in runs if run["looks"] and run["looks"]["seconds"] is not None]
    if len(known) < len(runs):
        return "not known before a run of the same model and method has ended here"
    costs = [run["cost"] for run in runs if run["cost"] is not None]
    text = str(Cost(**runs[0]["looks"]).time())
    if len(runs) > 1:
        text += f"; {duration(sum(known))} for all {len(runs)} runs"
    return f"{text}; costs about {sum(costs):.2f}" if costs else text


def _runs(draft: Draft, width: int) -> list[Line]:
    """The runs that a sweep makes, by name."""
    file = draft.file
    if isinstance(file, RecipeError) or file.sweep is None:
        return []
    more = f", and {file.more_to_come} more whose values follow from results" if file.more_to_come else ""
    head: Line = [(f"a sweep of {len(file.recipes)} run{'s' * (len(file.recipes) > 1)}{more}", "title")]
    names = [one_line(str(recipe.name)) for recipe in file.recipes]
    return [head, *([("  ", ""), (piece, "text")] for name in names for piece in wrap(name, width - 2))]


def _labelled(label: str, text: str, style: str, width: int) -> list[Line]:
    pieces = wrap(one_line(text), max(10, width - LABEL))
    return [
        [
            (f"{label if at == 0 else '':<{LABEL}}", style if style in ("bad", "warn") else "key"),
            (piece, style),
        ]
        for at, piece in enumerate(pieces)
    ]
