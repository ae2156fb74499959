"""`finetui compare`: runs side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from finetui.daemon import connect
from finetui.errors import StoreError
from store.queries import compare_table_sql
from tui.cli.output import out, print_json, print_side_by_side, print_table, waiting
from tui.cli.shape import runs_as_json
from tui.cli.show import find

if TYPE_CHECKING:
    from finetui.client import Client

SUITES = ("heldout", "general")


def compare(numbers: list[int], *, as_json: bool) -> None:
    """Results, what differs in the recipes, all metrics, and paired differences to the first run."""
    with connect() as client:
        client.drain(waiting())
        found = compared(client, numbers, whole=as_json)
    if as_json:
        print_json(found)
        return
    results, config, metrics, paired = (found[name] for name in ("results", "config", "metrics", "paired"))
    print_side_by_side(results)
    out()
    out("What differs in the recipes" if config else "The recipes are the same")
    print_table(config)
    out()
    out("Last value of each metric")
    print_table(metrics)
    if paired:
        out()
        out("Loss difference over the same examples, nats per token or pair, with 95% interval")
        print_table(paired, ("suite", "runs", "difference", "lo", "hi", "n", "per"))


def compared(client: Client, numbers: Sequence[int], *, whole: bool = True) -> dict[str, Any]:
    """Runs side by side. `whole`: each with all that every command's JSON has of a run. Raises StoreError."""
    runs = list(dict.fromkeys(numbers))
    if len(runs) < 2:
        raise StoreError("give two or more different runs to compare", "refused")
    names = {run: find(client, run)["name"] for run in runs}
    results = client.query(compare_table_sql(runs)).to_pylist()
    rows = {row["run"]: row for row in (runs_as_json(client, names) if whole else ())}
    return {
        "runs": names,
        "results": [{**rows.get(one["run"], {}), **one} for one in results],
        "config": _by_key(client.named("params_diff", runs=runs).to_pylist(), "value", runs),
        "metrics": _by_key(client.named("compare_metrics", runs=runs).to_pylist(), "last", runs),
        "paired": [
            {"suite": suite, "runs": f"#{other} − #{runs[0]}", **row}
            for suite in SUITES
            for other in runs[1:]
            for row in client.named("paired", a=runs[0], b=other, suite=suite).to_pylist()
            if row["n"]
        ],
    }


def _by_key(rows: list[dict[str, Any]], value: str, runs: list[int]) -> list[dict[str, Any]]:
    """Rows of (key, run, value) as one row per key with a column per run."""
    table: dict[str, dict[str, Any]] = {}
    for row in rows:
        line = table.setdefault(row["key"], {"key": row["key"], **{f"#{run}": None for run in runs}})
        line[f"#{row['run']}"] = row[value]
    return list(table.values())
