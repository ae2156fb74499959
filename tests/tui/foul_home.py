"""A home whose runs have control characters in every text that a name, a worker, a model or data may bring.

Harmless ones: the sequence would set the title of the window to `x`.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from made_home import NOW, finish, make_run, raise_flag, say, train

from finetui.home import Home
from finetui.log import LogWriter

# A title, a colour, a C1 control, marks of direction, half a character, and a line that nobody said.
FOUL = "<\x1b]2;x\x07\x1b[31m\x9b1m\u202eabc\u2066\ud800\x7f\u2028\rFORGED\nFORGED>"
SHOWN_FOUL = FOUL.replace("\ud800", "")  # what can be passed as an argument
# Words of finetui's own, by which it finds its way; all other texts are foul.
_OWN = {
    "kind",
    "state",
    "status",
    "log",
    "source",
    "uuid",
    "sweep",
    "slug",
    "level",
    "boot_id",
    "phase",
    "path",
    "task",
}
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def fill(home: Home) -> None:
    """Run 1 is finished, with flags that a recipe can fix; run 2 has failed, and its recipe is foul, too."""
    home.create()
    for number in (1, 2):
        run = make_run(home, number, f"run-{number}")
        run.meta.write_text(json.dumps(json.loads(run.meta.read_text()) | {"sweep": "a sweep"}))
        log = train(run, 80, floor=1.0)
        raise_flag(log, 40, "overfitting", "heldout")
        raise_flag(log, 80, "forgetting", "general", "critical", slice="prose")
        values = {name: {"value": 1.0, "lo": 0.5, "hi": 2.0, "n": 2} for name in ("loss", f"mine{FOUL}")}
        log.write("eval", step=80, suite=f"general{FOUL}", values=values, t=NOW)
        log.write("metrics", step=80, values={f"train/mine{FOUL}": 1.0, f"mine{FOUL}": 1.0}, t=NOW)
        log.write("log", level="warning", message="a word", t=NOW)
        if number == 1:
            finish(run, log)
        else:
            log.write("end", status="failed", step=80, error="why", t=NOW)
            say(run, "ended", state="failed", reason="why", attempt=1, exit_code=4, t=NOW)
        run.attempt(1).stdout.write_bytes(f"first{SHOWN_FOUL}\n".encode() * 3 + b"\xff\x9b2J\nlast\n")
        _spoil_file(run.meta, recipe=number == 2)
        for path in (run.journal, run.attempt(1).events):
            _spoil_file(path)
    hardware = LogWriter(home.hardware_log, "hardware")
    hardware.write("device", name="gpu0", label="a GPU", t=NOW)
    hardware.write(
        "sample", t=NOW, values={"gpu0/util": 1.0, "gpu0/memory_total_gb": 8.0, f"gpu1{FOUL}/util": 2.0}
    )
    hardware.close()
    _spoil_file(home.hardware_log)


def _spoil_file(path: Path, *, recipe: bool = False) -> None:
    lines = path.read_text().splitlines()
    if path.suffix == ".json":
        lines = ["".join(lines)]
    made = []
    for line in lines:
        body = json.loads(line)
        spoilt = spoil(body)
        if "recipe" in body and not recipe:
            spoilt["recipe"] = body["recipe"]
        made.append(json.dumps(spoilt) + "\n")
    path.write_text("".join(made))


def spoil(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: inner if key in _OWN and not isinstance(inner, dict) else spoil(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [spoil(inner) for inner in value]
    if value in (
        "heldout",
        "general",
        "loss",
        "overfitting",
        "forgetting",
        "gpu0",
    ):  # named queries look for them
        return value
    return value + FOUL if isinstance(value, str) else value


def dirt(written: str) -> list[str]:
    """What of a text a terminal would obey, but for finetui's own colours."""
    found = [char for char in _COLOUR.sub("", written) if not (char.isprintable() or char in "\n\t")]
    return [*map(repr, found), *(["foreign colour"] if "\x1b[31m" in written else [])]
