"""The worker's word: every event to the log, the same story as text to stdout."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.basics.statistics import Measure
from engine.basics.wording import size
from engine.evals.score import TEMPERATURES, Scores
from engine.flags.flag import Flag
from engine.memory.estimate import MIB
from engine.runs.rank_log import RankLog
from engine.tasks.prepare import Suite
from finetui.log import LogWriter

SECONDS_BETWEEN_STEPS = 1.0  # of text; the log has every step


class Report:
    """Writes `events.jsonl` and prints one line per thing that happens."""

    def __init__(self, log: LogWriter | RankLog) -> None:
        self._log = log
        self._last_step_line = 0.0
        self.total_steps = 0

    def resume(self, from_step: int) -> None:
        """Rows of earlier attempts after `from_step` no longer count; -1: none of them do."""
        self._log.write("resume", from_step=from_step)
        if from_step > 0:
            _say("resume", f"from the checkpoint of step {from_step}")

    def phase(self, phase: str, step: int, detail: str = "") -> None:
        self._log.write("phase", phase=phase, step=step, detail=detail)
        _say(phase, detail)

    def plan(self, **fields: Any) -> None:
        self.total_steps = fields["total_steps"]
        self._log.write("plan", **fields)
        _say(
            "plan",
            f"{fields['total_steps']} steps of {fields['tokens_per_step']:,} tokens, "
            f"{fields['train_examples']:,} training and {fields['heldout_examples']:,} held-out examples, "
            f"{fields['trainable']:,} of {fields['parameters']:,} weights trained, "
            f"{fields['precision']} on {fields['device']}, at most {fields['max_length']} tokens each"
            + (f", classes {', '.join(fields['labels'])}" if fields.get("labels") else ""),
        )

    def metrics(self, step: int, values: dict[str, float]) -> None:
        self._log.write("metrics", step=step, values=_finite(values))
        now = time.monotonic()
        if now - self._last_step_line < SECONDS_BETWEEN_STEPS and step != self.total_steps:
            return
        self._last_step_line = now
        _say(
            "step",
            f"{step}/{self.total_steps}  loss {values['train/loss']:.4f}  lr {values['train/lr']:.2e}  "
            f"grad {values['train/grad_norm']:.3f}  {values['train/tokens_per_s']:,.0f} tokens/s",
        )

    def examples(self, suite: Suite) -> None:
        rows = [{"id": d.id, "prompt": d.prompt, "target": d.target} for d in suite.documents]
        self._log.write("examples", suite=suite.name, rows=rows)

    def eval(
        self,
        step: int,
        suite: str,
        scores: Scores,
        measures: dict[str, Measure],
        confusion: list[list[int]],
        seconds: float,
    ) -> None:
        """`confusion`: texts by class (rows) and class given (columns); empty without classes."""
        self._log.write(
            "eval",
            step=step,
            suite=suite,
            values={name: _finite(dataclasses.asdict(measure)) for name, measure in measures.items()},
            examples=_of_examples(scores),
            **({"confusion": confusion} if confusion else {}),
            seconds=seconds,
            sync=True,
        )
        shown = ", ".join(f"{name} {m.value:.4f} ({m.lo:.3f} to {m.hi:.3f})" for name, m in measures.items())
        _say("eval", f"{suite} at step {step}: {shown}, {len(scores.ids)} examples, {seconds:.1f} s")

    def sample(self, step: int, index: int, prompt: str, text: str, ended: bool, fits: bool) -> None:
        self._log.write("sample", step=step, index=index, prompt=prompt, text=text, ended=ended, fits=fits)

    def flag(self, flag: Flag) -> None:
        body = _finite(dataclasses.asdict(flag))
        # `step` and `flag` are fields of the flag itself.
        self._log.write("flag", sync=True, **body)
        _say(f"flag {flag.flag}", f"{flag.level}: {flag.message} {' '.join(flag.advice)}")

    def checkpoint(self, step: int, path: Path, written: int) -> None:
        self._log.write("checkpoint", step=step, path=str(path), bytes=written, sync=True)
        _say("checkpoint", f"{path}, {size(written)}")

    def memory(
        self,
        step: int,
        cause: str,
        predicted_mb: float | None,
        measured_mb: float,
        limit_mb: float,
        micro_tokens: int,
        device: str,
    ) -> None:
        """Peak memory, MiB. `cause`: `probe` before the first step, `out_of_memory`, or `end`."""
        self._log.write(
            "memory",
            step=step,
            cause=cause,
            predicted_mb=predicted_mb,
            measured_mb=measured_mb,
            limit_mb=limit_mb,
            micro_tokens=micro_tokens,
            device=device,
        )
        error = f", {predicted_mb / measured_mb - 1:+.0%} predicted" if predicted_mb else ""
        where = (
            "so far" if cause == "out_of_memory" else "in all" if cause == "end" else "before the first step"
        )
        _say(
            "memory",
            f"{size(measured_mb * MIB)} {where}{error}; {size(limit_mb * MIB)} there are; at most {micro_tokens:,} "
            "tokens in a forward pass",
        )

    def log(self, level: str, message: str) -> None:
        self._log.write("log", level=level, message=message)
        _say(level, message)

    def end(self, status: str, step: int, error: str | None = None, reason: str | None = None) -> None:
        """The last line. `reason` says why a finished run ended before its last step."""
        self._log.write("end", status=status, step=step, error=error, reason=reason, sync=True)
        because = error or reason
        _say(status, f"at step {step}" + (f": {because}" if because else ""))


def _of_examples(scores: Scores) -> dict[str, Any]:
    """What was measured of each example, as the log has it."""
    found: dict[str, Any] = {"id": scores.ids}
    for key in ("nll", "tokens", "right", "lost", "gained"):
        if (values := getattr(scores, key)) is not None:
            found[key] = _finite(values.tolist())
    if scores.slices:
        found["slice"] = list(scores.slices)
    if scores.kl is not None:
        found["kl"] = _finite(scores.kl.round(6).tolist())
    if scores.tempered is not None:
        rows = zip(TEMPERATURES, scores.tempered.round(4).tolist(), strict=True)
        found["tempered"] = {str(temperature): _finite(row) for temperature, row in rows}
    return found


def _say(what: str, text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {what:<10}  {text}".rstrip(), flush=True)


def _finite(value: Any) -> Any:
    """JSON has no word for infinite and not a number: null stands for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(inner) for inner in value]
    return value
