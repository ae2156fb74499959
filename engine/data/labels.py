"""The classes of a classification."""

from __future__ import annotations

from engine.basics.errors import DataError
from engine.data.gather import RunData
from engine.recipe.tasks import Classification


def labels_of(task: Classification, run_data: RunData) -> list[str]:
    """Return the classes: those of the recipe, else those in the data in sorted order. Raises DataError."""
    source = run_data.source("train").source
    data_labels = {document.label for document in (*run_data.train, *run_data.heldout.documents)}
    if task.labels is None:
        if len(data_labels) < 2:
            raise DataError(
                f"{source}: every row has the label {min(data_labels)!r}; give rows of two classes or more"
            )
        return sorted(data_labels, key=lambda label: (int(label), "") if label.isdecimal() else (-1, label))
    if unknown := sorted(data_labels - set(task.labels)):
        raise DataError(
            f"{source}: rows have the label {unknown[0]!r}, which is not in task.labels ({', '.join(task.labels)})"
        )
    return task.labels
