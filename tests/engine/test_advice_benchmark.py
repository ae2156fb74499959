"""The table of the advice benchmark, from results that are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.advice import judge


def a_result(name: str, gain: float, drift: float, *flags: str) -> dict[str, Any]:
    return {"name": name, "gain": gain, "drift": drift, "flags": list(flags), "seconds": 60.0, "note": ""}


def planted(root: Path, name: str, *results: dict[str, Any]) -> None:
    actions = [(one["name"], {}, "") for one in results[1:]]
    body = {"plant": name, "seed": 0, "actions": actions, "results": {one["name"]: one for one in results}}
    (root / f"{name}-0.json").write_text(json.dumps(body))


def test_actions_are_counted_by_themselves_and_as_they_are_followed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forgot = a_result("", 0.5, 0.2, "warn forgetting")
    keeps, costs = a_result("fix --scale", 0.48, 0.05), a_result("train.lr=0.001", 0.3, 0.02)
    stays = a_result("fix --scale", 0.48, 0.15, "warn forgetting")
    cures = a_result("data.replay.ratio=0.01, data.replay.source=x", 0.47, 0.04)
    planted(tmp_path, "one", forgot, keeps, costs)
    planted(tmp_path, "two", forgot, stays, costs, cures)
    planted(tmp_path, "clean", a_result("", 0.5, 0.0))
    judge(tmp_path)
    printed = capsys.readouterr().out
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:9]]
        for line in printed.splitlines()
        if "|" in line
    }
    assert "3 planted runs, 2 with a flag" in printed
    assert rows["fix --scale"] == ["2", "1/2 50%", "2/2 100%", "1/2 50%", "96%", "+0.200", "+0.100"]
    assert rows["train.lr"][:4] == ["2", "2/2 100%", "0/2 0%", "0/2 0%"]
    assert rows["data.replay.ratio"][3] == "1/1 100%"
    assert rows["first action"][1:4] == ["1/2 50%", "2/2 100%", "1/2 50%"]
    assert rows["down the list"][1:4] == ["2/2 100%", "2/2 100%", "2/2 100%"]
