"""Multiple-choice questions from local files, in the columns that copies of ARC, HellaSwag and MMLU have. Torch-free.

| column | is |
|---|---|
| `question` | the question; it is put as `Question: …`, `Answer:` |
| `prompt` or `ctx` | text that the options go on from, as it stands |
| `choices`, `endings` or `options` | a list of texts; or of `{text, label}`, or `{text: […], label: […]}` |
| `answer`, `label`, `gold` or `answerKey` | the right one: its label, its letter, its number from 0, or its text |
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine.basics.errors import DataError
from engine.data import sources
from engine.data.sources import Fingerprint, RawRow
from engine.data.split import rank

QUESTIONS, OPTIONS = ("question", "prompt", "ctx"), ("choices", "endings", "options")
ANSWERS = ("answer", "label", "gold", "answerKey")


@dataclass(frozen=True)
class ChoiceQuestion:
    """A question: the text before the options, the options, and which of them is right, from 0."""

    id: str  # 16 hex digits of the SHA-256 of its text and options
    context: str
    options: tuple[str, ...]
    answer: int


@dataclass(frozen=True)
class ChoiceSet:
    """The questions of a file, in the order of their hash."""

    name: str  # of the slice
    source: str
    fingerprint: Fingerprint
    questions: list[ChoiceQuestion]
    notes: list[str] = field(default_factory=list)  # on what is not scored, in sentences


def read(name: str, source: str, limit: int) -> ChoiceSet:
    """Read at most `limit` questions of a local file or folder. Raises DataError with the line of the first bad row."""
    if not sources.is_local(source):
        raise DataError(
            f"evals.choices.{name}: {source} is not a local file; download the questions and give their path"
        )
    content = sources.read(source)
    questions: dict[str, ChoiceQuestion] = {}
    for raw in content.rows:
        try:
            question = _question(raw)
        except DataError as error:
            raise DataError(f"{sources.location(source, raw.number)}: {error}") from None
        known = questions.setdefault(question.id, question)
        if known.answer != question.answer:
            where = sources.location(source, raw.number)
            raise DataError(
                f"{where}: asks what an earlier row asks, with another answer; remove one of them"
            )
    ordered = sorted(questions.values(), key=lambda question: (rank(question.id, "eval"), question.id))
    notes = list(content.notes)
    if (equal := len(content.rows) - len(ordered)) > 0:
        notes.append(f"{source}: {equal} of {len(content.rows)} questions equal another and are scored once")
    return ChoiceSet(name, source, content.fingerprint, ordered[:limit], notes)


def _question(raw: RawRow) -> ChoiceQuestion:
    if raw.error:
        raise DataError(raw.error)
    row = raw.row
    key, asked = _first(row, QUESTIONS)
    if isinstance(asked, Mapping):  # ARC as its authors give it: {"question": {"stem": …, "choices": […]}}
        row = {**row, **{name: asked[name] for name in OPTIONS if name in asked}}
        asked = asked.get("stem")
    if not isinstance(asked, str) or not asked.strip():
        raise DataError(f"`{key}` must be text that asks something")
    options_key, given = _first(row, OPTIONS)
    options, labels = _options(_parsed(given), options_key)
    answer_key, answer = _first(row, ANSWERS)
    context = f"Question: {asked.strip()}\nAnswer:" if key == "question" else asked.rstrip()
    digest = hashlib.sha256(
        json.dumps([context, options], ensure_ascii=False).encode("utf-8", "surrogatepass")
    )
    right = _right_one(answer, options, labels, answer_key)
    return ChoiceQuestion(digest.hexdigest()[:16], context, tuple(options), right)


def _first(row: Mapping[str, Any], names: Sequence[str]) -> tuple[str, Any]:
    """Return the first of these columns that has a value, and the value. Raises DataError."""
    for name in names:
        if row.get(name) is not None:
            return name, row[name]
    listed = ", ".join(f"`{name}`" for name in names[:-1])
    raise DataError(f"has none of {listed} and `{names[-1]}`")


def _parsed(value: Any) -> Any:
    """Return what a text of JSON says, as CSV has it; other values as they are."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            raise DataError("the options are not valid JSON") from None
    return value


def _options(value: Any, key: str) -> tuple[list[str], list[str]]:
    """Return the texts of the options, and their labels where they have some."""
    labels: list[Any] = []
    if isinstance(value, Mapping):
        value, labels = value.get("text"), value.get("label") or []
    elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        value, labels = [one.get("text") for one in value], [one.get("label") for one in value]
    if not isinstance(value, list) or len(value) < 2 or not all(isinstance(one, str) for one in value):
        raise DataError(f"`{key}` must be a list of two texts or more, or have them as `text`")
    texts = [one.strip() for one in value]
    if not all(texts) or len(set(texts)) < len(texts):
        raise DataError(f"`{key}` has an option that is empty or there twice")
    names = [str(label) for label in labels if label is not None]
    if names and (len(names) != len(texts) or len(set(names)) < len(names)):
        raise DataError(f"`{key}` must have a label of its own for each text, or none")
    return texts, names


def _right_one(answer: Any, options: Sequence[str], labels: Sequence[str], key: str) -> int:
    """Return the index of the right option. Raises DataError where there is none, or where it could be two."""
    if isinstance(answer, float) and answer.is_integer():
        answer = int(answer)
    if isinstance(answer, bool) or not isinstance(answer, int | str):
        raise DataError(f"`{key}` must be a label, a letter, a number from 0 or the text of an option")
    text = str(answer).strip()
    if text in labels:
        return labels.index(text)
    readings = set()
    if text.isascii() and text.isdigit():
        readings.add(int(text[:9]))
    elif len(text) == 1 and "A" <= text.upper() <= "Z":
        readings.add(ord(text.upper()) - ord("A"))
    if isinstance(answer, str) and text in options:
        readings.add(options.index(text))
    within = [reading for reading in readings if reading < len(options)]
    if len(within) == 1:
        return within[0]
    if within:
        raise DataError(f"`{key}` is {text!r}, which is the text of one option and the place of another")
    counted = f"{len(options)} options; letters begin at A, numbers at 0"
    raise DataError(f"`{key}` is {text[:40]!r}, which is none of the {counted}")
