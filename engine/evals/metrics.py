"""Metrics of generated texts: built-in ones by name, and functions of the user's own.

exact_match: equal after white space is evened out. rouge: F1 of ROUGE-1, -2 and -L with stemming (Lin 2004), by
rouge-score. bleu and chrf: of the whole set, by sacrebleu (Post 2018; Popović 2015). All from 0 to 1 but the last
two, which sacrebleu gives from 0 to 100.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from engine.basics.errors import MetricError
from engine.basics.statistics import Measure, bootstrap, mean, share
from finetui.errors import first_line

Log = Callable[[str, str], None]  # level, message
Results = dict[str, Measure]


class Metrics:
    """The metrics of a recipe; a user's own module is imported here, and nowhere else."""

    def __init__(self, names: Sequence[str], directory: Path, log: Log) -> None:
        """`directory`: the recipe's folder, from which modules can be imported. Raises MetricError."""
        check_installed(names)
        self._log = log
        self._metrics = {
            name: BUILT_IN[name] if name in BUILT_IN else _load_function(name, directory)
            for name in dict.fromkeys(names)
        }

    def measures(self, predictions: list[str], references: list[str]) -> Results:
        """Return all metrics of the same texts, by name. One that fails is skipped with a warning."""
        results: Results = {}
        if not predictions:
            return results
        for name, metric in self._metrics.items():
            try:
                results |= metric(predictions, references)
            except Exception as error:  # whatever a function of the user's raises
                self._log(
                    "warning", f"evals.metrics {name}: {_describe(error)}; it is skipped in this evaluation"
                )
        return results


def check_installed(names: Sequence[str]) -> None:
    """Raise MetricError for a metric whose library, an extra, is not installed. Imports none of them."""
    for name in names:
        if name in LIBRARIES and importlib.util.find_spec(LIBRARIES[name]) is None:
            raise MetricError(
                f"key evals.metrics: {name} needs the package {LIBRARIES[name]}, which is not installed; "
                "run: pip install 'finetui[metrics]'"
            )


def exact_match(predictions: list[str], references: list[str]) -> Results:
    pairs = zip(predictions, references, strict=True)
    return {"exact_match": share(np.array([" ".join(p.split()) == " ".join(r.split()) for p, r in pairs]))}


def rouge(predictions: list[str], references: list[str]) -> Results:
    from rouge_score.rouge_scorer import RougeScorer

    kinds = ["rouge1", "rouge2", "rougeL"]
    scorer = RougeScorer(kinds, use_stemmer=True)
    scores = [scorer.score(target, text) for text, target in zip(predictions, references, strict=True)]
    return {kind: share(np.array([score[kind].fmeasure for score in scores])) for kind in kinds}


def bleu(predictions: list[str], references: list[str]) -> Results:
    from sacrebleu.metrics.bleu import BLEU

    return {"bleu": _corpus(BLEU(), predictions, references)}


def chrf(predictions: list[str], references: list[str]) -> Results:
    from sacrebleu.metrics.chrf import CHRF

    return {"chrf": _corpus(CHRF(), predictions, references)}


BUILT_IN: dict[str, Callable[[list[str], list[str]], Results]] = {
    metric.__name__: metric for metric in (exact_match, rouge, bleu, chrf)
}


LIBRARIES = {"rouge": "rouge_score", "bleu": "sacrebleu", "chrf": "sacrebleu"}


def _corpus(metric: Any, predictions: list[str], references: list[str]) -> Measure:
    """Score all texts together. sacrebleu adds up the statistics of the texts, and so do the resamples."""
    of_texts = np.array(metric._extract_corpus_statistics(predictions, [references]), dtype=np.float64)

    def score(chosen: np.ndarray) -> float:
        return float(metric._compute_score_from_stats(of_texts[chosen].sum(0)).score)

    return bootstrap(score, len(predictions))


def _load_function(name: str, directory: Path) -> Callable[[list[str], list[str]], Results]:
    """Import a function of the user's from a module beside the recipe. Raises MetricError."""
    module_name, _, function_name = name.partition(":")
    if str(directory) not in sys.path:
        sys.path.append(str(directory))  # last: a module of the user's never stands in for an installed one
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a module may raise whatever it likes
        raise MetricError(
            f"key evals.metrics: {name} cannot be imported from {directory} ({_describe(error)})"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        where = f"{module_name} ({getattr(module, '__file__', None)})"
        raise MetricError(f"key evals.metrics: {where} has no function {function_name}")
    higher = getattr(function, "higher_is_better", None)
    if not isinstance(higher, bool | None):
        raise MetricError(f"key evals.metrics: {name}.higher_is_better is {higher!r}; make it True or False")

    def results(predictions: list[str], references: list[str]) -> Results:
        found = _to_results(function_name, function(predictions, references), len(references))
        return {key: replace(measure, higher_is_better=higher) for key, measure in found.items()}

    return results


def _to_results(name: str, returned: Any, n: int) -> Results:
    """Name what a user's function returned: a number, one number per text, or several numbers by name."""
    if isinstance(returned, dict):
        return {f"{name}_{key}": _to_measure(value, n) for key, value in returned.items()}
    if isinstance(returned, list | tuple | np.ndarray):
        if len(returned) != n:
            raise ValueError(f"it returned {len(returned)} numbers for {n} texts")
        return {name: mean(np.asarray(returned, dtype=np.float64))}
    return {name: _to_measure(returned, n)}


def _to_measure(value: Any, n: int) -> Measure:
    if isinstance(value, str) or not hasattr(value, "__float__"):
        raise TypeError(
            f"it returned a {type(value).__name__}; return a number, a list of numbers, or a dict of numbers"
        )
    return Measure(float(value), -math.inf, math.inf, n)


def _describe(error: Exception) -> str:
    return f"{type(error).__name__}: {first_line(error)}"
