"""Damage to every file of a home costs its run at most: some hundred of the trials of benchmarks/fuzz.py."""

from __future__ import annotations

import random
from pathlib import Path

from benchmarks import fuzz
from finetui.home import Home
from store.projection import Projection


def test_a_damaged_file_costs_its_run_at_most(tmp_path: Path) -> None:
    rng, figures = random.Random(7), fuzz.Figures()
    (tmp_path / "store").mkdir()
    projection = Projection(tmp_path / "store" / "store.duckdb")
    fuzz.fuzz_runs(Home(tmp_path / "home"), projection, 40, rng, figures)
    fuzz.fuzz_hardware(Home(tmp_path / "hardware"), projection, 5, rng, figures)
    projection.close()
    fuzz.fuzz_config(tmp_path, 60, rng, figures)
    (tmp_path / "checkpoints").mkdir()
    fuzz.fuzz_checkpoints(tmp_path / "checkpoints", 30, rng, figures)
    assert figures.broken == []
    assert sum(figures.trials.values()) == 36 + 5 + 60 + 30
    assert figures.told["journal.jsonl"]
    assert figures.told["run.json"]
