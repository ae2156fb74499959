"""The runs of the table that the daemon sends, made anew only where a row has changed.

A look at 100,000 runs of which eight go on would else make 100,000 tuples, and keys wait meanwhile: threads share one
interpreter.
"""

from __future__ import annotations

from typing import Any

from tui.rows import COLUMNS, Index, Run, runs_of

MOST = 1000  # rows that are made one by one; of more, all are


class RunRows:
    """The runs of the last table, and their index. `runs` is the same tuple until something that is shown changes."""

    def __init__(self) -> None:
        self._table: Any = None
        self.runs: tuple[Run, ...] = ()
        self.index = Index.of(())

    def take(self, table: Any) -> None:
        """Have the runs of this answer to the named query `runs` from now on."""
        shown = table.select([name for name in COLUMNS if name in table.column_names])
        before, self._table = self._table, shown
        changed = None if before is None else changed_rows(before, shown)
        if changed is None or len(changed) > MOST:
            self.runs = runs_of(shown)
            self.index = Index.of(self.runs)
        elif changed:
            runs = list(self.runs)
            old = [runs[at] for at in changed if at < len(runs)]
            new = runs_of(shown.take(changed))
            runs += new[len(old) :]
            for at, run in zip(changed, new, strict=False):
                runs[at] = run
            self.runs, self.index = tuple(runs), self.index.after(old, new)


def changed_rows(before: Any, after: Any) -> list[int] | None:
    """The rows of a table that differ from those of an earlier one, and those that have been added behind them; None
    where runs have gone or come between.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    count = before.num_rows
    same = after.slice(0, count)
    if before.schema != after.schema or not same.column("run").equals(before.column("run")):
        return None
    differs = pa.chunked_array([pa.repeat(False, count)])
    for old, new in zip(before.columns, same.columns, strict=True):
        if not old.equals(new):
            other = pc.not_equal(old, new)  # null where one of them is
            differs = pc.or_(differs, pc.coalesce(other, pc.not_equal(old.is_null(), new.is_null())))
    return [*pc.indices_nonzero(differs).to_pylist(), *range(count, after.num_rows)]
