"""Describe a flag in words, from the fields of its line in the log or of its row in the store.

Screen, command line and model card all use these texts. Imports nothing that takes time.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

Fields = Mapping[str, Any]

GRAVEST_FIRST = ("critical", "warn", "watch", "info")
SHARES = ("memorised", "endless", "repeating")  # flags whose effect is a share, not a loss


def newest(flags: Iterable[Fields]) -> list[Fields]:
    """Return the latest line of every flag of a suite, with how bad it was at its worst (`worst_level`, `worst_step`)
    where it is less than that now; the gravest first, what was withdrawn last.
    """
    lines: dict[tuple[Any, Any], list[Fields]] = {}
    for flag in sorted(flags, key=lambda flag: (flag["step"], flag.get("t") or 0)):
        lines.setdefault((flag["flag"], flag.get("suite")), []).append(flag)
    order = {level: place for place, level in enumerate(GRAVEST_FIRST)}

    def place(flag: Fields) -> int:
        return order.get(flag["level"], len(order))

    found = []
    for of_one in lines.values():
        last, worst_line = of_one[-1], min(of_one, key=place)
        worse = place(worst_line) < place(last)
        now = {"worst_level": worst_line["level"], "worst_step": worst_line["step"]} if worse else {}
        found.append({**last, **now} if now else last)
    return sorted(found, key=lambda flag: (is_withdrawn(flag), place(flag)))


def is_withdrawn(flag: Fields) -> bool:
    return flag.get("state") == "withdrawn"


def level(flag: Fields) -> str:
    """Return `warn`, or `withdrawn`: nothing is wrong any more."""
    return "withdrawn" if is_withdrawn(flag) else str(flag["level"] or "")


def when(flag: Fields) -> str:
    """Return `since step 30`, `from step 30 to 60` of a flag that was withdrawn."""
    return f"from step {since(flag)} to {flag['step']}" if is_withdrawn(flag) else f"since step {since(flag)}"


def history(flag: Fields) -> str:
    """Return what became of a flag, in a sentence; empty where it was only raised."""
    state, step = flag.get("state"), flag.get("step")
    worst_seen = f"{flag['worst_level']} at step {flag['worst_step']}" if flag.get("worst_level") else ""
    at_worst = f"; at its worst {worst_seen}" if worst_seen else ""
    match state:
        case "confirmed":
            return f"confirmed at step {step}{at_worst}"
        case "weakened":
            return f"weakened at step {step}{at_worst}"
        case "fading":
            return f"not seen at step {step}: the next look withdraws it, or confirms it{at_worst}"
        case "withdrawn":
            return f"withdrawn at step {step}{at_worst}"
    return f"at its worst {worst_seen}" if worst_seen else ""


def where(flag: Fields) -> str:
    """Return `general, slice prose`; the suite alone where there are no slices, `training` for the steps themselves."""
    suite = "training" if flag.get("suite") == "train" else str(flag.get("suite") or "")
    return f"{suite}, slice {flag['slice']}" if flag.get("slice") else suite


def since(flag: Fields) -> int:
    return int(flag["step"] if flag.get("since_step") is None else flag["since_step"])


def evidence(flag: Fields) -> list[tuple[str, str]]:
    """Return what was measured, as (name, value): what became of it, effect with interval, on how many, tokens,
    forecast.
    """
    rows = [
        ("now", history(flag)),
        ("effect", _effect(flag)),
        ("seen on", _counts(flag)),
        ("tokens", _tokens(flag)),
    ]
    return [(name, text) for name, text in [*rows, ("forecast", _forecast(flag))] if text]


def advice(flag: Fields) -> list[str]:
    """Return what to do, in order, each with its key in the literature list of docs/flags.md."""
    actions = as_list(flag.get("actions"))
    if not actions:  # a log from before actions were written down
        return [str(sentence) for sentence in as_list(flag.get("advice"))]
    return [
        f"{action['text']} [{action['source']}]" if action.get("source") else str(action["text"])
        for action in actions
        if isinstance(action, Mapping) and "text" in action  # else another program wrote the line
    ]


def worst(flag: Fields, texts: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return the worst examples: (loss before → after, nats per token; the text, or the id where it is not known)."""
    examples = [example for example in as_list(flag.get("worst")) if isinstance(example, Mapping)]
    return [
        (
            f"{example['before']:.2f} → {example['after']:.2f}",
            " ".join(texts.get(str(example["id"]), str(example["id"])).split()),
        )
        for example in examples
        if "id" in example and all(isinstance(example.get(key), int | float) for key in ("before", "after"))
    ]


def as_list(value: Any) -> list[Any]:
    """Return a list that may have come as JSON; empty if it is none."""
    try:
        decoded = json.loads(value) if isinstance(value, str) else value
    except ValueError:
        return []
    return list(decoded) if isinstance(decoded, list | tuple) else []


def _effect(flag: Fields) -> str:
    if flag.get("effect") is None:
        return ""
    share = "{:.1%}" if flag["effect"] < 0.1 else "{:.0%}"  # 2.5% is not 2%
    form = share if _is_share(flag) else "{:+.3f}"
    text = form.format(flag["effect"]) + (
        "" if _is_share(flag) else f" nats per {flag.get('per') or 'token'}"
    )
    return text + _interval(flag, "95%", form)


def _is_share(flag: Fields) -> bool:
    return flag["flag"] in SHARES or (flag["flag"] == "leak" and flag.get("lo") is None)


def _interval(bounds: Fields, level: str, form: str) -> str:
    if bounds.get("lo") is None or bounds.get("hi") is None:
        return ""
    return f" ({level} interval {form.format(bounds['lo'])} to {form.format(bounds['hi'])})"


def _counts(flag: Fields) -> str:
    if not flag.get("n"):
        return ""
    if flag.get("suite") == "train":
        return f"{flag['n']} steps"
    looks = f", at look {flag['looks']}" if flag.get("looks") else ""
    return f"{flag['n']} examples{looks}"


def _tokens(flag: Fields) -> str:
    if flag.get("lost") is None or flag.get("gained") is None:
        return ""
    return f"{flag['lost']} lost (right under the base, wrong now), {flag['gained']} gained"


def _forecast(flag: Fields) -> str:
    """Describe the forecast: an object of its own in the log, four columns in the store."""
    forecast = flag.get("forecast")
    if forecast is None:
        return ""
    if not isinstance(forecast, Mapping):
        forecast = {
            "step": flag["forecast_step"],
            "value": forecast,
            "lo": flag["forecast_lo"],
            "hi": flag["forecast_hi"],
        }
    if forecast["value"] is None:
        return ""
    return f"{forecast['value']:+.3f} at step {forecast['step']}{_interval(forecast, '80%', '{:+.3f}')}"
