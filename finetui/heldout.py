"""What a program holds out, as the examples tell that it logs the losses of: fields of its plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from finetui.hashes import short_hash

SUITE = "heldout"
_UNKNOWN = {"heldout_examples": None, "heldout_tokens": None, "heldout_set": None}


class HeldOut:
    """The held-out examples of one run. A mean over others than before cannot be compared with those of other runs, so
    that from there on nothing is known of them.
    """

    def __init__(self, project: str | None) -> None:
        """`project`: in which names of examples mean the same; None: in none."""
        self._project = project
        self._tokens: dict[str, int] | None = None  # of each, by its name
        self._is_settled = False  # there is no more to tell of which they are

    def fields(
        self, tokens: Mapping[str, int], rows: Sequence[Mapping[str, Any]] | None, *, named: bool
    ) -> dict[str, Any]:
        """Return what a look tells anew. `tokens`: of each example, by its name; `rows`: their texts, where they are
        given; `named`: the program has named them by itself.
        """
        first = self._tokens is None
        self._tokens = dict(tokens) if first else self._tokens
        if self._tokens != tokens:
            self._is_settled = True
            return _UNKNOWN
        told: dict[str, Any] = {}
        if first:
            told = {"heldout_examples": len(tokens), "heldout_tokens": sum(tokens.values())}
        if rows is not None and not self._is_settled:
            self._is_settled = True
            content = sorted((row["id"], row["prompt"] or "", row["target"]) for row in rows)
            return {**told, "heldout_set": short_hash(content)}
        if first and named and self._project:
            told["heldout_set"] = short_hash([self._project, sorted(tokens)])
        return told
