"""Losses of single examples as lines of a log: what our own worker writes at an evaluation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from finetui.hashes import short_hash
from finetui.heldout import SUITE, HeldOut
from finetui.log import line_of
from finetui.measures import as_step


class Examples:
    """The sets of examples of one run."""

    def __init__(self, held_out: HeldOut) -> None:
        self._held_out = held_out
        self._told: set[str] = set()  # sets whose texts are written
        # Of sets whose examples the program does not name; an empty list: they are known by their places.
        self._names: dict[str, list[str]] = {}

    def lines(
        self,
        step: Any,
        losses: Sequence[float],
        tokens: Sequence[int] | None,
        ids: Sequence[str] | None,
        texts: Sequence[Any] | None,
        suite: str,
        reduction: str,
    ) -> tuple[dict[str, Any], list[bytes]]:
        """Return what is new of the run's plan, and the lines to write. Raises ValueError in a sentence."""
        import numpy as np  # with the first examples: the measures of a step do without

        at = as_step(step)
        if at is None:
            raise ValueError(f"{step!r} is no step: a whole number from 0 on")
        if reduction not in ("sum", "mean"):
            raise ValueError(f"reduction is sum or mean, not {reduction!r}")
        nll = np.array(_listed(losses), dtype=np.float64).reshape(-1)
        n = len(nll)
        counts = np.ones(n, dtype=np.int64) if tokens is None else np.array(_listed(tokens)).reshape(-1)
        names = self._unnamed(suite, n, texts) if ids is None else [str(one) for one in _listed(ids)]
        given = {"tokens": len(counts), "texts": n if texts is None else len(texts), "ids": len(names)}
        for what, count in given.items():
            if count != n:
                raise ValueError(
                    f"there are {n} losses and {count} {what}: one of each is needed for every example"
                )
        if n == 0:
            raise ValueError("there are no examples")
        if len(set(names)) < n:
            raise ValueError("two examples have the same id")
        if reduction == "mean":
            nll = nll * counts
        used = counts > 0
        if not used.any():
            raise ValueError("no example has a token")
        names = [name for name, has in zip(names, used, strict=True) if has]
        result = _mean(nll[used], counts[used])
        lengths = [int(count) for count in counts[used]]
        scored = {"id": names, "nll": nll[used].tolist(), "tokens": lengths}
        made = [line_of("eval", step=at, suite=suite, values={"loss": result}, examples=scored, seconds=None)]
        rows = None
        if texts is not None and suite not in self._told:
            self._told.add(suite)
            rows = [_text(name, text) for name, text in zip(names, _of_used(texts, used), strict=True)]
            made.insert(0, line_of("examples", suite=suite, rows=rows))
        if suite != SUITE:
            return {}, made
        tokens_of = dict(zip(names, lengths, strict=True))
        return self._held_out.fields(tokens_of, rows, named=ids is not None), made

    def _unnamed(self, suite: str, n: int, texts: Sequence[Any] | None) -> list[str]:
        """Return what `n` examples without ids are called: by their content, so that no two programs call different
        texts alike; by their places, where the first look has told no texts.
        """
        if texts is not None and self._names.get(suite) != []:
            self._names[suite] = _by_content(texts)
        names = self._names.setdefault(suite, [])
        return names if len(names) == n else [str(place) for place in range(n)]


def _by_content(texts: Sequence[Any]) -> list[str]:
    """Return an id of each text; one that is there again gets another."""
    seen: Counter[str] = Counter()
    ids = []
    for text in texts:
        content = short_hash(_text("", text))
        ids.append(f"{content}-{seen[content]}" if seen[content] else content)
        seen[content] += 1
    return ids


def _mean(nll: Any, counts: Any) -> dict[str, Any]:
    """Return the mean per token with its interval, as our own evaluations have it."""
    from finetui.ratio import ratio

    measure = ratio(nll, counts).measure
    ends = {
        name: end if math.isfinite(end) else None for name, end in (("lo", measure.lo), ("hi", measure.hi))
    }
    return {"value": measure.value, **ends, "n": measure.n}


def _listed(values: Any) -> Any:
    """Return a list, also of a tensor, on whatever device it is."""
    return values.tolist() if hasattr(values, "tolist") else list(values)


def _of_used(texts: Sequence[Any], used: Any) -> list[Any]:
    return [text for text, has in zip(texts, used, strict=True) if has]


def _text(name: str, text: Any) -> dict[str, Any]:
    if isinstance(text, tuple | list) and len(text) == 2:
        return {"id": name, "prompt": str(text[0]), "target": str(text[1])}
    return {"id": name, "prompt": None, "target": str(text)}
