"""A home of ten runs over two data sets with fixed figures, of which the questions of docs/sql.md are asked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fake_home import T0, FakeHome, FakeRun

from finetui.files import read_json, write_json
from finetui.log import LogWriter

DAY = 86_400.0
NOW = T0 + 7 * DAY  # when the questions are asked
STEPS = 100
LOOKS = (0, 25, 50, 75, 100)
TOKENS = 20  # of an example
TOPICS = ("refund", "login", "invoice", "export", "dates", "holidays")


@dataclass(frozen=True)
class Story:
    """One run: what is in its recipe, and how its losses go, in nats per token."""

    name: str
    method: str = "lora"
    rank: int | None = 16
    lr: float = 2e-4
    seed: int = 0
    data: str = "support"
    learned: float = 0.60  # by how much the held-out loss falls
    forgotten: float = 0.02  # by how much the general loss rises
    best: int = STEPS  # step from which the held-out loss rises again
    minutes: float = 40.0
    torch: str = "2.9.1"
    parent: int | None = None


STORIES = {
    1: Story("support-full", "full", None, 2e-5, learned=0.78, forgotten=0.31, best=50, minutes=90),
    2: Story("support-r16"),
    3: Story("support-r16-seed1", seed=1, learned=0.57),
    4: Story("support-r16-seed2", seed=2, learned=0.62),
    5: Story("support-r4", rank=4, learned=0.52, minutes=38),
    6: Story("support-r64", rank=64, learned=0.61, forgotten=0.06, minutes=46),
    7: Story(
        "support-full-fix", "full", None, 2e-5, learned=0.74, forgotten=0.09, best=75, minutes=104, parent=1
    ),
    8: Story("code-r16", data="code", learned=0.41, torch="2.8.0", minutes=55),
    9: Story("code-qlora", "qlora", data="code", learned=0.37, minutes=62),
    10: Story("code-r16-hot", lr=2e-2, data="code", parent=8),
}


def make(path: Path) -> FakeHome:
    home = FakeHome(path)
    for number, story in STORIES.items():
        run = _run(home, number, story)
        if number == 10:
            _diverges(run, story)
        elif number == 9:
            _resumes(run, story)
        else:
            _begin(run, story, 1)
            _train(run, story, 1, 0, STEPS)
            _finish(run, story, 1)
    _hardware(home)
    return home


def _run(home: FakeHome, number: int, story: Story) -> FakeRun:
    method = {"name": story.method} | ({"r": story.rank} if story.rank else {})
    data = {"train": f"{story.data}.jsonl", "heldout": "10%"}
    if number == 7:
        data["replay"] = {"ratio": 0.2}  # type: ignore[assignment]
    run = home.run(number, story.name, method=method, data=data, train={"lr": story.lr}, seed=story.seed)
    run.clock = T0 + (number - 1) * 6 * 3600
    meta = run.path / "run.json"
    body = read_json(meta)
    body |= {
        "created": run.clock - 60 * number,
        "versions": {"torch": story.torch},
        "parent": story.parent and f"uuid-{story.parent}",
        "datasets": [
            {
                "role": "train",
                "source": f"{story.data}.jsonl",
                "fingerprint": f"{story.data}-file",
                "rows": 900,
            }
        ],
    }
    if number == 7:
        body["fixes"] = [
            {"flag": "forgetting", "level": "warn", "key": "data.replay.ratio", "old": None, "new": "0.2",
             "action": "Mix general text into training.", "source": "ibrahim2024"},
        ]  # fmt: skip
    write_json(meta, body)
    return run


def _begin(run: FakeRun, story: Story, attempt: int) -> None:
    run.journal(
        "starting", state="starting", attempt=attempt, device="gpu0", threads=4, price=2.5, t=run.clock
    )
    run.journal("running", state="running", attempt=attempt, pid=2000 + attempt, t=run.clock)
    rank = story.rank or 0
    run.write(
        "plan", attempt, t=run.clock, total_steps=STEPS, tokens_per_step=8192, train_examples=810,
        heldout_examples=len(TOPICS), parameters=2_600_000, trainable=rank * 4096 or 2_600_000,
        precision="bf16", device="NVIDIA H100", max_length=512, train_set=f"{story.data}-rows",
        heldout_set=f"{story.data}-held", heldout_tokens=TOKENS * len(TOPICS),
    )  # fmt: skip
    run.write(
        "memory", attempt, t=run.clock, step=0, cause="probe", measured_mb=6000.0 + 40 * rank,
        predicted_mb=6100.0 + 44 * rank, limit_mb=80_000.0, micro_tokens=8192, device="cuda",
    )  # fmt: skip


def _train(run: FakeRun, story: Story, attempt: int, first: int, last: int) -> None:
    began = run.clock
    for step in range(first, last + 1):
        t = began + 60 * story.minutes * (step - first) / STEPS
        run.clock = t
        if step > first:
            values = {"train/loss": _loss(story, step) - 0.05, "train/tokens": 8192.0 * step,
                      "train/tokens_per_s": 8192 * STEPS / (60 * story.minutes)}  # fmt: skip
            run.write("metrics", attempt, step=step, t=t, values=values)
        if step in LOOKS and (step > first or step == 0):
            _look(run, story, attempt, step, t)
        if step == 50:
            run.write("checkpoint", attempt, step=step, path="checkpoints/step-000050", bytes=52_000_000, t=t)
            (run.path / "checkpoints" / "step-000050").mkdir(parents=True, exist_ok=True)
            (run.path / "checkpoints" / "step-000050" / "COMPLETE").touch()
    if story.method == "full" and last == STEPS:
        _forgets(run, story, attempt)


def _loss(story: Story, step: int) -> float:
    """Held-out loss: it falls to the best step, and rises a little from there on."""
    return 2.0 - story.learned * min(1.0, step / story.best) ** 0.5 + 0.002 * max(0, step - story.best)


def _look(run: FakeRun, story: Story, attempt: int, step: int, t: float) -> None:
    for suite, loss in (("heldout", _loss(story, step)), ("general", 3.0 + story.forgotten * step / STEPS)):
        hard = [1.0 + 0.1 * (at - 2.5) for at in range(len(TOPICS))]
        ids = [f"{story.data}-{suite}-{topic}" for topic in TOPICS]
        values = {"loss": {"value": loss, "lo": loss - 0.04, "hi": loss + 0.04, "n": len(ids)}}
        scored = {
            "id": ids,
            "nll": [round(loss * part * TOKENS, 6) for part in hard],
            "tokens": [TOKENS] * len(ids),
            "right": [max(0, round(TOKENS * (1.35 - loss * part / 2.2))) for part in hard],
        }
        if step == 0:
            texts = [{"id": id, "prompt": f"About {topic}?", "target": f"An answer about {topic}."}
                     for id, topic in zip(ids, TOPICS, strict=True)]  # fmt: skip
            run.write("examples", attempt, suite=suite, rows=texts, t=t)
        run.write("eval", attempt, step=step, suite=suite, values=values, examples=scored, seconds=12.0, t=t)


def _forgets(run: FakeRun, story: Story, attempt: int) -> None:
    action = {"text": "Mix general text into training.", "change": {"data.replay.ratio": 0.2}}
    level = "warn" if story.forgotten > 0.2 else "watch"
    run.write(
        "flag", attempt, step=STEPS, flag="forgetting", level=level, suite="general", effect=story.forgotten,
        lo=story.forgotten - 0.03, hi=story.forgotten + 0.03, n=6, message="general text got worse",
        actions=[action], state="raised", t=run.clock,
    )  # fmt: skip


def _finish(run: FakeRun, story: Story, attempt: int) -> None:
    seconds = 60 * story.minutes
    timing = {
        "train_s": seconds - 96,
        "train_tokens": 8192 * STEPS,
        "looks": 4,
        "eval_s": 96.0,
        "save_s": 3.0,
    }
    run.write(
        "memory", attempt, t=run.clock, step=STEPS, cause="end", measured_mb=6100.0 + 40 * (story.rank or 90),
        predicted_mb=6100.0 + 44 * (story.rank or 90), limit_mb=80_000.0, micro_tokens=8192, device="cuda",
    )  # fmt: skip
    run.write("end", attempt, status="finished", step=STEPS, timing=timing, t=run.clock)
    run.write_exit(attempt, ended=run.clock)
    run.journal("ended", state="finished", attempt=attempt, exit_code=0, signal=None, t=run.clock)


def _resumes(run: FakeRun, story: Story) -> None:
    """Killed at step 60 and gone on with from the checkpoint of step 50, three hours later."""
    _begin(run, story, 1)
    _train(run, story, 1, 0, 60)
    run.write_exit(1, ended=run.clock, exit_code=None, signal=9)
    run.journal("interrupted", state="interrupted", attempt=1, signal=9, checkpoint=50, t=run.clock)
    run.clock += 3 * 3600
    _begin(run, story, 2)
    run.write("resume", 2, from_step=50, t=run.clock)
    _train(run, story, 2, 50, STEPS)
    _finish(run, story, 2)


def _diverges(run: FakeRun, story: Story) -> None:
    _begin(run, story, 1)
    _look(run, story, 1, 0, run.clock)
    for step in range(1, 8):
        run.clock += 20
        loss = 2.0 * 1.5**step if step < 7 else math.nan
        run.write(
            "metrics", 1, step=step, t=run.clock, values={"train/loss": loss, "train/tokens": 8192.0 * step}
        )
    why = "the loss is not a number from step 7 on"
    run.write("end", 1, status="failed", step=7, error=why, t=run.clock)
    run.write_exit(1, ended=run.clock, exit_code=1)
    run.journal("ended", state="failed", attempt=1, exit_code=1, signal=None, reason=why, t=run.clock)


def _hardware(home: FakeHome) -> None:
    """A sample every minute: busy while a run trains, idle between two."""
    log = LogWriter(home.path / "hardware.jsonl", "hardware")
    log.write("device", name="gpu0", label="NVIDIA H100", t=T0)
    busy = [(T0 + (number - 1) * 6 * 3600, story.minutes * 60) for number, story in STORIES.items()]
    for minute in range(0, 3 * 24 * 60, 1):
        t = T0 + 60.0 * minute
        works = any(start <= t < start + length for start, length in busy)
        values: dict[str, Any] = {"cpu/percent": 40.0 if works else 3.0, "gpu0/util": 92.0 if works else 0.0}
        log.write("sample", t=t, values=values)
    log.close()
