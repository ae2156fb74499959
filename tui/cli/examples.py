"""`finetui examples`: which examples got worse since the base model, and which better; one of them whole."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from finetui.daemon import connect
from finetui.errors import StoreError
from tui.cli.exporting import work
from tui.cli.logs import find as find_on_disk
from tui.cli.output import out, out_text, print_json, print_listing, print_table, waiting
from tui.cli.show import find
from tui.lines import format, token_changes
from tui.lines.looks import Compared, Looks, Selection, resolve
from tui.widgets import changes, example_page
from tui.widgets.example_page import Example

if TYPE_CHECKING:
    from finetui.client import Client

COLUMNS = ("change", "before", "after", "tokens", "slice", "example", "text")
MOST_TEXT = 120  # columns of a text in a table


def examples(
    number: int,
    selection: Selection,
    *,
    before: int | None,
    words: str,
    best: bool,
    limit: int,
    example: str | None,
    tokens: bool,
    as_json: bool,
) -> None:
    """Print the examples of a suite in order of their change, or all there is on one."""
    with connect() as client:
        client.drain(waiting())
        for run in {number, before or number}:
            find(client, run)
        compared = resolve(selection, _looks(client, number), _looks(client, before or number))
        if example:
            return _print_one(client, compared, example, tokens=tokens, as_json=as_json)
        asked = {**compared.arguments, "words": words, "best_first": best}
        rows = client.named("changes", **asked, limit=limit).to_pylist()
    if as_json:
        return print_json({"compared": asdict(compared), "examples": [_without_totals(row) for row in rows]})
    out(f"{compared.suite}{f', slice {compared.slice}' if compared.slice else ''}: {compared.words()}")
    out(changes.summary(compared, rows, best, words))
    if rows:
        out()
        columns = [name for name in COLUMNS if name != "slice" or any(row["slice"] for row in rows)]
        print_listing([_cells(row) for row in rows], columns, {"text": 20}, ("example", "tokens"))
    return None


def _looks(client: Client, run: int) -> Looks:
    return Looks(run, client.named("looks", run=run).to_pylist())


def _without_totals(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("examples", "worse", "better", "mean")}


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    losses = {name: format.loss(row[name]) for name in ("before", "after")}
    text = " ".join((row["text"] or "").split())
    shown = {**row, **losses, "change": format.delta(row["change"]), "text": text[:MOST_TEXT]}
    return {name: shown[name] for name in COLUMNS}


def _print_one(client: Client, compared: Compared, example: str, *, tokens: bool, as_json: bool) -> None:
    rows = client.named("changes", **compared.arguments).to_pylist()
    row = next((row for row in rows if row["example"] == example), None)
    if row is None:
        raise StoreError(
            f"suite {compared.suite} has no example {example} that was scored at both looks: "
            f"finetui examples {compared.run} --suite {compared.suite} lists them",
            "refused",
        )

    def asked(name: str, **arguments: Any) -> list[dict[str, Any]]:
        return client.named(name, example=example, **arguments).to_pylist()

    alone = compared.before == compared.run
    found = Example(
        row,
        asked("example_text"),
        asked("example_losses", run=compared.run, suite=compared.suite),
        [] if alone else asked("example_losses", run=compared.before, suite=compared.suite),
        asked("answers", run=compared.run),
        asked("answers", run=compared.before),
    )
    scored = (
        work(find_on_disk(compared.run), {"kind": "tokens", "suite": compared.suite, "example": example})
        if tokens
        else None
    )
    if not as_json:
        out_text(example_page.plain(found, compared))
        if scored:
            out()
            out(f"loss of each token of the target, base model → step {scored['step']}:")
            print_table(token_changes.rows(scored["tokens"]), right=("change", "before", "after"))
        return None
    before, after = found.answers_at(compared)
    texts = {"prompt": found.prompt, "target": found.target, "losses": found.losses}
    one = {**_without_totals(row), **texts, "answers": [before, after]}
    if scored:
        one["tokens"] = scored["tokens"]
    return print_json({"compared": asdict(compared), "example": one})
