"""What a worker reports: every event as a line of the log, and as text on stdout."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from engine.basics.statistics import Measure
from engine.basics.wording import size
from engine.curves.flag_line import finite, flag_line
from engine.evals.choices import ChoiceSuite, Chosen
from engine.evals.drift import Written
from engine.evals.score import TEMPERATURES, Scores
from engine.flags.flag import Flag
from engine.memory.estimate import MIB
from engine.runs.rank_log import RankLog
from engine.tasks.prepare import Suite
from finetui.log import LogWriter
from store import lines
from store.line_fields import write

SECONDS_BETWEEN_STEPS = 1.0  # of text; the log has every step


class Report:
    """Writes `events.jsonl` and prints one line per thing that happens."""

    def __init__(self, log: LogWriter | RankLog) -> None:
        self._log = log
        self._last_step_line = 0.0
        self._total_steps = 0

    def begin(self) -> None:
        """Say on which day, and of which zone the times of all further lines are."""
        _print_line("started", time.strftime("%Y-%m-%d; times are local ones, %Z (UTC%z)"))

    def resume(self, from_step: int) -> None:
        """Report a resume: rows of earlier attempts after `from_step` no longer count; -1: none of them do."""
        write(self._log, lines.Resume(from_step))
        if from_step > 0:
            _print_line("resume", f"from the checkpoint of step {from_step}")

    def phase(self, phase: str, step: int, detail: str = "") -> None:
        write(self._log, lines.Phase(phase, step, detail))
        _print_line(phase, detail)

    def plan(self, **fields: Any) -> None:
        self._total_steps = fields["total_steps"]
        write(self._log, lines.Plan(**fields))
        _print_line(
            "plan",
            f"{fields['total_steps']} steps of {fields['tokens_per_step']:,} tokens, "
            f"{fields['train_examples']:,} training and {fields['heldout_examples']:,} held-out examples, "
            f"{fields['trainable']:,} of {fields['parameters']:,} weights trained, "
            f"{fields['precision']} on {fields['device']}, at most {fields['max_length']} tokens each"
            + (f", classes {', '.join(fields['labels'])}" if fields.get("labels") else ""),
        )

    def metrics(self, step: int, values: dict[str, float]) -> None:
        write(self._log, lines.Metrics(step, dict(values)))
        now = time.monotonic()
        if now - self._last_step_line < SECONDS_BETWEEN_STEPS and step != self._total_steps:
            return
        self._last_step_line = now
        _print_line(
            "step",
            f"{step}/{self._total_steps}  loss {values['train/loss']:.4f}  lr {values['train/lr']:.2e}  "
            f"grad {values['train/grad_norm']:.3f}  {values['train/tokens_per_s']:,.0f} tokens/s",
        )

    def examples(self, suite: Suite) -> None:
        rows = [lines.ExampleText(d.id, d.prompt, d.target) for d in suite.documents]
        write(self._log, lines.Examples(suite.name, rows))

    def eval(
        self,
        step: int,
        suite: str,
        scores: Scores,
        measures: dict[str, Measure],
        confusion: list[list[int]],
        seconds: float,
    ) -> None:
        """`confusion`: texts by class (rows) and predicted class (columns); empty without classes."""
        # An interval that is infinite is none; a value that is not finite is one.
        results = {
            name: lines.Result(**{**finite(dataclasses.asdict(measure)), "value": measure.value})
            for name, measure in measures.items()
        }
        line = lines.Eval(step, suite, results, _example_scores(scores), confusion or None, seconds)
        write(self._log, line, sync=True)
        shown = ", ".join(f"{name} {m.value:.4f} ({m.lo:.3f} to {m.hi:.3f})" for name, m in measures.items())
        _print_line("eval", f"{suite} at step {step}: {shown}, {len(scores.ids)} examples, {seconds:.1f} s")

    def sample(self, step: int, index: int, prompt: str, text: str, ended: bool, fits: bool) -> None:
        write(self._log, lines.Sample(step, index, prompt, text, ended, fits))

    def questions(self, suite: ChoiceSuite) -> None:
        """Report the texts of multiple-choice questions, each with its right option."""
        rows = [lines.ExampleText(q.id, q.context, q.options[q.answer]) for q in suite.questions]
        write(self._log, lines.Examples(suite.options.name, rows))

    def choices(self, step: int, chosen: Chosen, seconds: float) -> None:
        questions, measures = chosen.questions, chosen.measures
        answered = lines.Answered(
            [question.id for question in questions],
            [question.answer for question in questions],
            chosen.by_sum.tolist(),
            chosen.by_length.tolist(),
        )
        results = {name: lines.Result(**dataclasses.asdict(measure)) for name, measure in measures.items()}
        write(self._log, lines.Choices(step, chosen.name, results, answered, seconds), sync=True)
        shown = ", ".join(f"{name} {m.value:.4f} ({m.lo:.3f} to {m.hi:.3f})" for name, m in measures.items())
        _print_line("eval", f"choices.{chosen.name} at step {step}: {shown}, {len(questions)} questions")

    def drift(self, step: int, written: Sequence[Written]) -> None:
        """Report the answers to the general prompts, all at one step."""
        for index, one in enumerate(written):
            write(self._log, lines.Drift(step, index, **dataclasses.asdict(one)))
        tokens = sum(one.tokens for one in written) / len(written)
        entropy = sum(one.entropy for one in written) / len(written)
        what = f"{len(written)} general prompts at step {step}"
        _print_line("eval", f"{what}: answers of {tokens:.1f} tokens, entropy {entropy:.3f} nats")

    def flag(self, flag: Flag) -> None:
        write(self._log, flag_line(flag), sync=True)
        if flag.state == "raised":
            _print_line(f"flag {flag.flag}", f"{flag.level}: {flag.message} {' '.join(flag.advice)}")
        elif flag.state != "confirmed":
            _print_line(f"flag {flag.flag}", f"{flag.state}: {flag.message}")

    def checkpoint(self, step: int, path: Path, written: int) -> None:
        write(self._log, lines.Checkpoint(step, str(path), written), sync=True)
        _print_line("checkpoint", f"{path}, {size(written)}")

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
        """Report peak memory, MiB. `cause`: `probe` before the first step, `out_of_memory`, or `end`."""
        line = lines.Memory(step, measured_mb, cause, predicted_mb, limit_mb, micro_tokens, device)
        write(self._log, line)
        error = f", {predicted_mb / measured_mb - 1:+.0%} predicted" if predicted_mb else ""
        where = (
            "so far" if cause == "out_of_memory" else "in all" if cause == "end" else "before the first step"
        )
        _print_line(
            "memory",
            f"{size(measured_mb * MIB)} {where}{error}; {size(limit_mb * MIB)} available; at most {micro_tokens:,} "
            "tokens per forward pass",
        )

    def log(self, level: str, message: str) -> None:
        write(self._log, lines.Log(level, message))
        _print_line(level, message)

    def end(
        self,
        status: str,
        step: int,
        error: str | None = None,
        reason: str | None = None,
        kept_step: int | None = None,
        timing: lines.Timing | None = None,
        transient: bool | None = None,
    ) -> None:
        """Report the end, as the last line. `reason`: why a finished run ended before its last step; `kept_step`: whose
        weights it then saved; `transient`: what made it fail may pass by itself.
        """
        write(self._log, lines.End(status, step, error, reason, kept_step, timing, transient), sync=True)
        if timing and timing.eval_s and timing.train_s:
            share = timing.eval_s / (timing.eval_s + timing.train_s)
            _print_line(
                "looks", f"{timing.looks} after step 0 took {share:.0%} of the time of steps and looks"
            )
        if timing and timing.save_s and timing.train_s:
            share = timing.save_s / (timing.save_s + timing.train_s)
            _print_line(
                "saving", f"{timing.saves} checkpoints took {share:.1%} of the time of steps and saving"
            )
        because = error or reason
        _print_line(status, f"at step {step}" + (f": {because}" if because else ""))


def _example_scores(scores: Scores) -> lines.Scored:
    """Return the scores of each example in the form of the log."""

    def listed(values: np.ndarray | None) -> list[Any] | None:
        return None if values is None else finite(values.tolist())

    tempered = None
    if scores.tempered is not None:
        rows = zip(TEMPERATURES, scores.tempered.round(4).tolist(), strict=True)
        tempered = {str(temperature): finite(row) for temperature, row in rows}
    return lines.Scored(
        scores.ids,
        scores.nll.tolist(),
        listed(scores.tokens) or [],
        listed(scores.right),
        listed(scores.lost),
        listed(scores.gained),
        list(scores.slices) or None,
        None if scores.kl is None else listed(scores.kl.round(6)),
        listed(scores.margins),
        tempered,
        list(scores.documents) or None,
    )


def _print_line(what: str, text: str) -> None:
    print(f"{time.strftime('%H:%M:%S %Z')}  {what:<10}  {text}".rstrip(), flush=True)
