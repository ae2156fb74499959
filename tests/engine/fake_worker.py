"""A worker without torch: keeps the contract of logs, checkpoints, signals and exit codes.

What it does is told by the JSON in the first line of the run's `recipe_text`, which may be a comment; see `Script`.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.runs.home import RunDir
from finetui.files import write_json
from finetui.log import LogWriter


@dataclass(frozen=True)
class Script:
    steps: int = 3
    step_s: float = 0.01
    checkpoint_every: int = 2
    fail_at: int = -1  # `end` with an error, exit 4
    short_until: int = 0  # the attempts up to this end for want of memory, at their first step
    crash_at: int = -1  # an exception: exit 1, no `end`
    kill_self_at: int = -1  # SIGKILL
    deaf: bool = False  # ignores SIGTERM
    child: bool = False  # leaves a child process in its group
    look_every: int = (
        0  # steps between looks at held-out examples; they get better the nearer the rate is to 1e-3
    )


def main() -> int:
    run, number = RunDir(Path(sys.argv[1])), int(sys.argv[2])
    witness = alone_or_die(run, number)
    script = script_of(json.loads(run.meta.read_text())["recipe_text"])
    stop: list[int] = []
    signal.signal(signal.SIGTERM, signal.SIG_IGN if script.deaf else lambda signum, _: stop.append(signum))
    log = LogWriter(run.attempt(number).events, "worker", run.number, number)
    last = run.last_checkpoint()
    first = last[0] if last else 0
    log.write("resume", from_step=first)
    if script.look_every:
        log.write("plan", total_steps=script.steps)
        look(run, log, 0, script.steps)
    if script.child:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
        (run.path / "child.pid").write_text(str(child.pid))
    print("training", flush=True)
    for step in range(first + 1, script.steps + 1):
        time.sleep(script.step_s)
        log.write("metrics", step=step, values={"train/loss": 1 / step})
        if script.look_every and step % script.look_every == 0:
            look(run, log, step, script.steps)
        if stop:
            save(run, log, step)
            log.write("end", sync=True, status="cancelled", step=step)
            return 3
        if number <= script.short_until:
            log.write("end", sync=True, status="failed", step=step, error="out of memory", transient=True)
            return 4
        if step == script.fail_at:
            log.write("end", sync=True, status="failed", step=step, error="the loss is not a number")
            return 4
        if step == script.crash_at:
            raise RuntimeError("no such layer: lm_heed")
        if step == script.kill_self_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if step % script.checkpoint_every == 0:
            save(run, log, step)
    log.write("end", sync=True, status="finished", step=script.steps)
    witness.close()
    return 0


def script_of(text: str) -> Script:
    first = text.partition("\n")[0].removeprefix("# ")
    return Script(**json.loads(first)) if first.startswith("{") else Script()


def alone_or_die(run: RunDir, number: int) -> Any:
    """Leave a mark of every start; a second worker in the same run at the same time leaves `TWO`."""
    with (run.path / "starts.txt").open("a") as file:
        file.write(f"{number} {os.getpid()}\n")
    witness = (run.path / "witness").open("w")
    try:
        fcntl.flock(witness, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        (run.path / "TWO").touch()
    return witness


def look(run: RunDir, log: LogWriter, step: int, steps: int) -> None:
    """Score held-out examples: the loss falls to 2 nats, and to more with a rate away from 1e-3."""
    rate = json.loads(run.meta.read_text())["recipe"]["train"]["lr"] or 1e-3
    loss = 4.0 - (2.0 - abs(math.log10(rate / 1e-3))) * min(1.0, 2 * step / steps)
    ids = [f"example-{place}" for place in range(20)]
    nll = [10 * (loss + 0.01 * (place % 5)) for place in range(20)]
    log.write(
        "eval",
        step=step,
        suite="heldout",
        values={"loss": {"value": loss, "n": 20}},
        examples={"id": ids, "nll": nll, "tokens": [10] * 20},
    )


def save(run: RunDir, log: LogWriter, step: int) -> None:
    run.checkpoints.mkdir(exist_ok=True)
    unfinished = run.checkpoints / f".step-{step:06d}.{os.getpid()}"
    final = run.checkpoints / f"step-{step:06d}"
    if final.exists():
        return
    unfinished.mkdir()
    write_json(unfinished / "state.json", {"step": step})
    (unfinished / "COMPLETE").touch()
    unfinished.rename(final)
    log.write("checkpoint", sync=True, step=step, path=str(final.relative_to(run.path)), bytes=1)


if __name__ == "__main__":
    sys.exit(main())
