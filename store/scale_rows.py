"""What a run's log of scalings becomes in the projection. Formats: docs/architecture.md, "Logs"."""

from __future__ import annotations

from typing import Any

from store.batch import Batch
from store.line_fields import body, read_most, real
from store.scale_lines import SCALES, Scaled, ScalePart, ScalePoint, Scaling

Entry = dict[str, Any]  # a line as it was parsed


def scale_line(batch: Batch, run: int, entry: Entry) -> list[str]:
    """A line of `scale.jsonl`. Raises BadLine, having added nothing. Returns the values that cannot be used."""
    if entry["kind"] not in SCALES:  # of a later finetui
        batch.event(run, None, entry, str(entry.get("message") or entry["kind"]))
        return []
    line, bad = read_most(SCALES[entry["kind"]], entry)
    t = real(entry.get("t"))
    seen = {"kind": line.kind, "t": t}
    match line:
        case Scaling():
            values = {key: getattr(line, key) for key in ("step", "factor", "helps", "kept", "message")}
            batch.add("scalings", run=run, t=t, **values)
            for point in line.points:
                _add_point(batch, {"run": run, "t": t, "chosen": point.factor == line.factor}, point)
            batch.event(run, None, seen | {"helps": line.helps}, f"scaled: {line.message}")
        case Scaled():
            batch.add("scaled", run=run, t=t, **body(line))
            batch.event(run, None, seen, f"{line.output} at factor {line.factor:g} written to {line.path}")
    return bad


def _add_point(batch: Batch, common: dict[str, Any], point: ScalePoint) -> None:
    parts = [("heldout", point.heldout, point.change or ScalePart())]
    parts += [("general", None, part) for part in point.general]
    for suite, loss, part in parts:
        batch.add(
            "scale_points",
            **common,
            half=point.half,
            factor=point.factor,
            suite=suite,
            slice=part.slice or None,
            loss=loss,
            change=part.value,
            lo=part.lo,
            hi=part.hi,
            n=part.n,
        )
