"""The data report as one page of plain text, from its JSON. Colour is the command line's business."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

SHOWN = 5  # of each list
EXAMPLES = 3
LABEL = 13  # columns
LEARNED = "«", "»"  # around the text that is learned
_KINDS = {"exact": "exact", "near": "near", "answer": "by the answer", "13-gram": "by 13 words"}


def lines(report: dict[str, Any]) -> list[str]:
    """Return the page; `report`: the result of `DataReport.as_dict`."""
    return [report["name"], *facts(report), *findings(report), *_examples(report)]


def facts(report: dict[str, Any]) -> list[str]:
    """Return lines on rows, lengths, duplicates, overlap. Each has a label in `LABEL` columns, or none."""
    return [*_rows(report), *_tokens(report), *_duplicates(report), *_overlap(report)]


def findings(report: dict[str, Any]) -> list[str]:
    """Return lines on warnings and refusals, labelled in the same way."""
    return [
        *(f"  warning    {_finding(finding)}" for finding in report["warnings"]),
        *(f"  refused    {_finding(finding)}" for finding in report["refusals"]),
    ]


def _rows(report: dict[str, Any]) -> Iterator[str]:
    for source in report["sources"]:
        dropped = source["dropped"]
        yield f"  {source['role']:<10} {source['source']}: {source['rows']:,} rows read, {len(dropped):,} skipped"
        for row in dropped[:SHOWN]:
            unit = f"{source['unit']} " if isinstance(row["row"], int) else ""
            yield f"             {unit}{row['row']}: {row['reason']}"
        yield from _more(dropped)
    parts = [f"{report['train_rows']:,} to train on"]
    for suite in report["suites"]:
        parts.append(f"{suite['name']} {suite['rows']:,} ({suite['scored']:,} scored)")
    yield f"  split      {', '.join(parts)}"
    for suite in report["suites"]:
        shown = suite["detectable"]
        yield (
            f"  power      {suite['name']}: {shown['n']:,} rows show a loss that has risen by about "
            f"{shown['change']:.2f} nats per token or more, or {100 * shown['accuracy']:.0f} points of accuracy"
        )


def _tokens(report: dict[str, Any]) -> Iterator[str]:
    lengths, cut = report["lengths"], report["truncation"]
    if not lengths or not cut:
        return
    yield f"  tokens     {'':<8}{'p50':>7}{'p90':>7}{'p99':>7}{'max':>7}   of {lengths['measured']:,} rows"
    sides = ("whole", "prompt", "answer") if lengths["answer"]["max"] else ("whole",)
    for side in sides:
        yield f"             {side:<8}" + "".join(
            f"{lengths[side][q]:>7,}" for q in ("p50", "p90", "p99", "max")
        )
    setting = "auto" if cut["asked"] == "auto" else f"auto would be {cut['auto']:,}"
    yield (
        f"  length     max_length {cut['max_length']:,} ({setting}; the model takes {cut['longest']:,}): "
        f"{cut['cut']:,} rows {'split' if cut['split_up'] else 'cut'} ({cut['cut_share']:.1%}), "
        f"{cut['targets_lost']:,} target tokens lost "
        f"({cut['targets_lost_share']:.1%})"
    )


def _duplicates(report: dict[str, Any]) -> Iterator[str]:
    for kind in ("exact", "near"):
        groups = report[f"{kind}_duplicates"]
        extra = sum(len(group["rows"]) - 1 for group in groups)
        yield f"  {kind:<10} {extra:,} duplicate rows in {len(groups):,} groups"
        for group in groups[:SHOWN]:
            similarity = f"{group['similarity']:.2f} " if kind == "near" else ""
            yield f"             {similarity}rows {_numbers(group['rows'])}: {group['preview']}"
        yield from _more(groups)


def _overlap(report: dict[str, Any]) -> Iterator[str]:
    for suite in report["suites"]:
        for kind, leaks in (("not scored", suite["left_out"]), ("scored", suite["shared"])):
            counts = {name: sum(leak["kind"] == key for leak in leaks) for key, name in _KINDS.items()}
            summary = ", ".join(f"{count} {name}" for name, count in counts.items() if count) or "none"
            yield f"  overlap    {suite['name']} rows also in training, {kind}: {summary}"
            for leak in leaks[:SHOWN]:
                rows = f"row {_numbers(leak['rows'])} and training row {_numbers(leak['train_rows'])}"
                yield f"             {leak['kind']} {leak['similarity']:.2f}, {rows}: {leak['preview']}"
            yield from _more(leaks)


def _examples(report: dict[str, Any]) -> Iterator[str]:
    for example in report["examples"][:EXAMPLES]:
        cut = ", cut" if example["cut"] else ""
        yield (
            f"  example    row {example['row']}, {example['tokens']:,} tokens{cut}; the {example['targets']:,} between "
            f"{LEARNED[0]} and {LEARNED[1]} are learned"
        )
        text = "".join(f"{LEARNED[0]}{t}{LEARNED[1]}" if learned else t for t, learned in example["pieces"])
        yield from (f"             {line}" for line in text.split("\n"))


def _finding(finding: dict[str, Any]) -> str:
    rows = f" (rows {_numbers(finding['rows'])})" if finding["rows"] else ""
    source = f"{finding['source']}: " if finding["source"] else ""
    return f"{source}{finding['message']}{rows}"


def _numbers(rows: list[int | str]) -> str:
    shown = ", ".join(map(str, rows[:SHOWN]))
    return f"{shown}, …" if len(rows) > SHOWN else shown


def _more(items: list[Any]) -> Iterator[str]:
    if len(items) > SHOWN:
        yield f"             and {len(items) - SHOWN:,} more"
