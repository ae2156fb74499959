"""A home of two runs whose examples, their losses and the answers to them are known one by one."""

from __future__ import annotations

from typing import Any

import made_home
from made_home import NOW, make_run, raise_flag

from finetui.home import Home
from finetui.log import LogWriter

CHAT, PROSE = ("c0", "c1", "c2"), ("p0", "p1", "p2")
LONG = "The target of h0 begins here, " + "and goes on, " * 30 + "and here it ends."


def fill(home: Home) -> None:
    home.create()
    for number in (1, 2):
        run = make_run(home, number, f"looked-{number}")
        log = made_home.begin(run, NOW)
        _examples(log)
        for step in (0, 10, 20):
            _look(log, number, step)
        if number == 1:
            raise_flag(log, 20, "forgetting", "general", slice="prose")
        made_home.finish(run, log)


def _examples(log: LogWriter) -> None:
    for suite, names in (("general", CHAT + PROSE), ("heldout", ("h0", "h1"))):
        rows = [
            {"id": name, "prompt": f"Ask {name}?", "target": LONG if name == "h0" else f"Say {name}."}
            for name in names
        ]
        log.write("examples", suite=suite, rows=rows, t=NOW)


def _look(log: LogWriter, number: int, step: int) -> None:
    """Of run 1: `p2` gets worst, `c0` best; the look at step 10 scores a part. Of run 2 nothing changes."""
    names = CHAT + PROSE if step != 10 else ("c0", "p2")
    rise = {"c0": -0.5, "p1": 0.2, "p2": 0.6} if number == 1 else {}
    _evaluate(log, "general", step, {name: 2 + rise.get(name, 0) * step / 20 for name in names},
              slice=["chat" if name in CHAT else "prose" for name in names])  # fmt: skip
    _evaluate(log, "heldout", step, {"h0": 3 - 0.05 * step * number, "h1": 3 - 0.01 * step})
    _evaluate(log, "heldout_few_shot", step, {"h0": 1.0, "h1": 1.0}) if step == 0 else None
    text = "It returns the old name." if step < 20 else f"It returns the new name of run {number}."
    log.write("sample", step=step, index=0, prompt="Ask h0?", text=text, t=NOW)


def _evaluate(log: LogWriter, suite: str, step: int, losses: dict[str, float], **more: Any) -> None:
    count = len(losses)
    log.write("eval", step=step, suite=suite, seconds=1.0, t=NOW,
              values={"loss": {"value": sum(losses.values()) / count, "n": count}},
              examples={"id": list(losses), "nll": [10 * loss for loss in losses.values()], "tokens": [10] * count,
                        "right": [4 + step // 10] * count, **more})  # fmt: skip
