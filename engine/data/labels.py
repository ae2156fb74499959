"""The classes of a classification."""

from __future__ import annotations

from engine.basics.errors import DataError
from engine.data.gather import Gathered
from engine.recipe.tasks import Classification


def labels_of(task: Classification, gathered: Gathered) -> list[str]:
    """The classes: those of the recipe, else those in the data in sorted order. Raises DataError."""
    source = gathered.source("train").source
    found = {document.label for document in (*gathered.train, *gathered.heldout.documents)}
    if task.labels is None:
        if len(found) < 2:
            raise DataError(
                f"{source}: every row has the label {min(found)!r}; give rows of two classes or more"
            )
        return sorted(found, key=lambda label: (int(label), "") if label.isdecimal() else (-1, label))
    if unknown := sorted(found - set(task.labels)):
        raise DataError(
            f"{source}: rows have the label {unknown[0]!r}, which is not in task.labels ({', '.join(task.labels)})"
        )
    return task.labels
