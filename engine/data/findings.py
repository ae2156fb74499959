"""Warnings about data, in sentences with numbers. Pure functions. Torch-free."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from engine.data.formats import Document
from engine.data.messages import is_learned, plain_text
from engine.data.shingles import normalise
from engine.data.sources import RowNumber
from engine.recipe.sections import Train

# Rows below which a method rarely beats its base model by more than noise; a rule of thumb, so a warning.
ENOUGH_EXAMPLES = {"full": 500, "freeze": 500, "adapter": 200, "lora": 100, "qlora": 100, "osf": 100}
ENOUGH_FOR_OTHERS = 50  # prompt, prefix, ia3, shira, oft: few parameters, or little that they can change
ENOUGH_STEPS = 10
MANY_PASSES = 20
# Standard normal quantiles of a two-sided test at 5% and of 80% power.
_SIGNIFICANCE, _POWER = 1.960, 0.842
FEWEST_ROWS = 50  # of a suite; with fewer a rise must be large to be seen
RARE_LABEL = 10  # examples
NAMED_LABELS = 5  # in a sentence
IMBALANCE = 10.0  # most to least frequent
OUTLIER = 6.0  # interquartile ranges above the upper quartile
OUTLIERS_FROM = 20  # rows


@dataclass(frozen=True)
class Finding:
    """Something that a person should know: a warning, or a reason not to start."""

    code: str
    message: str  # one sentence, with numbers
    source: str = ""
    rows: tuple[RowNumber, ...] = field(default=())  # the first few, if it is about rows

    def __str__(self) -> str:
        rows = f" (rows {', '.join(map(str, self.rows))})" if self.rows else ""
        return f"{self.source}: {self.message}{rows}" if self.source else self.message + rows

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Detectable:
    """The smallest changes that a suite of n rows shows, with 80% power."""

    n: int
    change: float  # of the loss, nats per token, by a flag late in a run, where rows scatter as in most runs
    accuracy: (
        float  # difference of two accuracies near one half, unpaired and at the 5% level: the worst case
    )

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def detectable(n: int, suite: str) -> Detectable:
    """Return the smallest changes that `n` rows show: of the loss by the flags' own levels (engine/flags/power.py), of
    an accuracy (z + z') √(1 / 2n), normal theory.

    J. Cohen, "Statistical power analysis for the behavioral sciences", 1988.
    """
    from engine.flags import power  # imports SciPy, which is slow

    accuracy = (_SIGNIFICANCE + _POWER) * math.sqrt(0.5 / max(1, n))
    return Detectable(n, power.smallest(suite, n, power.ALL_LOOKS), min(1.0, accuracy))


def heldout_size_warnings(n: int, suite: str) -> list[Finding]:
    """Return a warning if the suite is too small to show a change."""
    smallest = detectable(n, suite)
    if n >= FEWEST_ROWS:
        return []
    return [
        Finding(
            "small-heldout",
            f"{suite} has only {n} rows: no flag shows that its loss has risen by less than about "
            f"{smallest.change:.2f} nats per token, and an accuracy that differs by less than "
            f"{100 * smallest.accuracy:.0f} points cannot be distinguished from noise",
        )
    ]


def train_size_warnings(method: str, train: Train, rows: int, tokens: float | None) -> list[Finding]:
    """Return warnings about training data too small for a method or for its steps.

    `tokens`: those of one pass, if known.
    """
    warnings = []
    enough = ENOUGH_EXAMPLES.get(method, ENOUGH_FOR_OTHERS)
    if rows < enough:
        warnings.append(
            Finding("few-examples", f"{rows} training rows are few for {method}, which needs about {enough}")
        )
    if not tokens:
        return warnings
    steps = train.steps_of_run(tokens)
    if steps < ENOUGH_STEPS and not train.max_steps:
        message = (
            f"{train.epochs:g} epochs are only {steps} optimiser steps; lower "
            "train.tokens_per_step or train longer"
        )
        warnings.append(Finding("few-steps", message))
    if (passes := train.passes(tokens)) > MANY_PASSES:
        warnings.append(
            Finding(
                "many-passes",
                f"{steps:,} steps of about {tokens / train.steps_of_epoch(tokens):,.0f} tokens go {passes:.0f} times "
                f"through {rows:,} rows of about {tokens:,.0f} tokens, which invites memorising them; add rows or "
                "lower train.max_steps",
            )
        )
    return warnings


def label_balance_warnings(labels: Sequence[str]) -> list[Finding]:
    """Return warnings about labels: one only, rare ones, or one far more frequent than another."""
    counts = Counter(labels).most_common()
    if not counts:
        return []
    (most, top), (least, bottom) = counts[0], counts[-1]
    if len(counts) == 1:
        return [Finding("one-label", f"every row has the label {most!r}, so there is nothing to learn")]
    warnings = []
    if top >= IMBALANCE * bottom:
        warnings.append(
            Finding(
                "label-imbalance",
                f"{most!r} has {top} rows ({top / len(labels):.0%}) and {least!r} {bottom}: always answering "
                f"{most!r} is right {top / len(labels):.0%} of the time; look at macro F1, not at accuracy",
            )
        )
    if rare := [label for label, count in counts if count < RARE_LABEL]:
        names = ", ".join(repr(label) for label in rare[:5])
        warnings.append(
            Finding("rare-labels", f"{len(rare)} labels have fewer than {RARE_LABEL} rows: {names}")
        )
    return warnings


def label_set_warnings(
    train: Sequence[str], heldout: Sequence[str], given: Sequence[str] | None
) -> list[Finding]:
    """Return warnings about classes that no training row teaches, and about labels that are hardly different.

    `train`, `heldout`: the labels of the rows; `given`: the recipe's classes, if it names them.
    """
    taught, warnings = set(train), []
    if only_heldout := Counter(label for label in heldout if label not in taught):
        names = ", ".join(f"{label!r} ({count})" for label, count in only_heldout.most_common(NAMED_LABELS))
        more = f" and {len(only_heldout) - NAMED_LABELS} more" if len(only_heldout) > NAMED_LABELS else ""
        warnings.append(
            Finding(
                "heldout-labels",
                f"{only_heldout.total()} of {len(heldout)} held-out rows have a label that no training row has, so "
                f"nothing teaches it: {names}{more}",
            )
        )
    if unused := [label for label in given or () if label not in taught and label not in only_heldout]:
        names = ", ".join(map(repr, unused[:NAMED_LABELS]))
        warnings.append(Finding("unused-labels", f"no training row has these labels of task.labels: {names}"))
    counts, alike = Counter([*train, *heldout]), defaultdict(list)
    for label in counts:
        alike[_plain_label(label)].append(label)
    for labels in alike.values():
        if len(labels) > 1:
            names = " and ".join(f"{label!r} ({counts[label]} rows)" for label in sorted(labels))
            message = (
                f"the labels {names} differ only in case, spaces, hyphens or a `.0`, but are learned as "
                f"{len(labels)} classes: write them alike if they are one"
            )
            warnings.append(Finding("similar-labels", message))
    return warnings


def _plain_label(label: str) -> str:
    """Return what is left of a label without case, spaces, hyphens and the `.0` that a table may add to a number."""
    return "".join(label.casefold().removesuffix(".0").replace("_", " ").replace("-", " ").split())


def contradiction_warnings(
    documents: Sequence[Document], numbers: Mapping[str, Sequence[RowNumber]], source: str
) -> list[Finding]:
    """Return a warning about texts that have several labels."""
    by_text: dict[str, dict[str, str]] = defaultdict(dict)
    for document in documents:
        by_text[normalise(document.text)][document.label] = document.id
    several = [ids for ids in by_text.values() if len(ids) > 1]
    if not several:
        return []
    rows = first_rows([id for ids in several for id in ids.values()], numbers)
    return [Finding("several-labels", f"{len(several)} texts have more than one label", source, rows)]


def answer_warnings(
    documents: Sequence[Document], numbers: Mapping[str, Sequence[RowNumber]], source: str
) -> list[Finding]:
    """Return warnings about empty answers, answers that repeat the question, and questions with several answers.

    `numbers`: content id to row numbers.
    """
    chats = [document for document in documents if document.messages]
    empty, repeated = list[str](), list[str]()
    by_prompt: dict[str, dict[str, str]] = defaultdict(dict)
    for document in chats:
        last = ""
        for message in document.messages:
            text = normalise(plain_text(message))
            if is_learned(message) and not text:
                empty.append(document.id)
            elif is_learned(message) and text == last:
                repeated.append(document.id)
            last = text
        by_prompt[normalise(document.prompt)].setdefault(normalise(document.target), document.id)
    several = [id for by_answer in by_prompt.values() if len(by_answer) > 1 for id in by_answer.values()]
    problems = [
        (
            "empty-answer",
            empty,
            "rows have an empty answer among their turns, which teaches the model to say nothing",
        ),
        ("answer-is-prompt", repeated, "rows repeat the question as the answer, word for word"),
        ("several-answers", several, "rows ask what another row asks and answer differently"),
    ]
    return [
        Finding(code, f"{len(set(ids))} of {len(chats)} {text}", source, first_rows(ids, numbers))
        for code, ids, text in problems
        if ids
    ]


def length_warnings(
    lengths: Sequence[int],
    ids: Sequence[str],
    numbers: Mapping[str, Sequence[RowNumber]],
    side: str,
    source: str,
) -> list[Finding]:
    """Return a warning about rows of which one side (prompt or answer) is far longer than usual.

    `lengths`: tokens of that side, one value a row; `ids`: content ids of the same rows.
    """
    if len(lengths) < OUTLIERS_FROM:
        return []
    values = np.asarray(lengths)
    low, middle, high = np.percentile(values, [25, 50, 75])
    fence = max(high + OUTLIER * (high - low), 4 * middle, 32)
    far = np.flatnonzero(values > fence)
    if not len(far):
        return []
    far = far[np.argsort(-values[far], kind="stable")]
    message = (
        f"{len(far)} of {len(values)} rows have a far longer {side} than the others (up to {values.max():,} tokens, "
        f"half have at most {middle:,.0f}): check that you mean to train on them"
    )
    return [Finding(f"long-{side}", message, source, first_rows([ids[int(i)] for i in far], numbers))]


def first_rows(
    ids: Sequence[str], numbers: Mapping[str, Sequence[RowNumber]], count: int = 5
) -> tuple[RowNumber, ...]:
    """Return the first `count` distinct row numbers of documents; `numbers`: content id to row numbers."""
    return tuple(dict.fromkeys(row for id in ids for row in numbers.get(id, ())))[:count]
