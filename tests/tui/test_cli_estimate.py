"""`finetui estimate` on the command line: parts, what would make it fit, and the table of sizes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetui.errors import ExitCode
from tui import cli

RECIPE = "model: bundled:stdlib-2m\nmethod: lora\ndata: {train: bundled:docstrings}\n"


@pytest.fixture
def estimate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """The command in a home without a daemon: what it prints, if it ends as it should."""
    monkeypatch.setenv("FINETUI_HOME", str(tmp_path / "home"))
    (tmp_path / "my.yaml").write_text(RECIPE)

    def run(*words: str, code: int = ExitCode.OK) -> str:
        monkeypatch.setattr("sys.argv", ["finetui", "estimate", *words])
        with pytest.raises(SystemExit) as ended:
            cli.command()
        out, err = capsys.readouterr()
        assert int(ended.value.code or 0) == code, err
        return out if code == ExitCode.OK else err

    run.recipe = str(tmp_path / "my.yaml")  # type: ignore[attr-defined]
    return run


def test_the_parts_add_up_and_a_cpu_is_warned_of_its_heap(estimate: Any) -> None:
    shown = estimate(estimate.recipe)
    assert "my: lora of bundled:stdlib-2m on cpu" in shown
    assert "no measured run yet" in shown
    assert "half as high again" in shown
    assert "half as high again" not in estimate(estimate.recipe, "train.memory_limit=4")
    told = json.loads(estimate(estimate.recipe, "--json"))
    parts = told["parts"]
    running = parts["optimiser"] + sum(parts[x] for x in ("gradients", "activations", "logits", "workspace"))
    assert told["total_bytes"] == parts["framework"] + parts["parameters"] + running
    assert told["fits"]


def test_what_does_not_fit_is_told_with_what_would(estimate: Any) -> None:
    shown = estimate(estimate.recipe, "--memory", "0.1")
    assert " on cuda" in shown
    assert "does not fit" in shown
    assert "train.micro_tokens" in shown
    assert "half as high again" not in shown


def test_the_table_of_sizes_needs_no_recipe(estimate: Any) -> None:
    rows = json.loads(estimate("--memory", "24", "--json"))
    by = {(row["model"], row["method"]): row["fits"] for row in rows}
    assert by["7B", "qlora"]
    assert not by["70B", "full"]


def test_a_bad_recipe_is_one_sentence(estimate: Any, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text(RECIPE + "evals: {per_loook: 3}\n")
    said = estimate(str(tmp_path / "bad.yaml"), code=ExitCode.BAD_INPUT)
    assert "per_loook" in said
    assert len(said.strip().splitlines()) == 1
