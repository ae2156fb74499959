"""Damage to every file of a home costs its run at most: a thousand of the trials of benchmarks/fuzz.py."""

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
    fuzz.fuzz_runs(Home(tmp_path / "home"), projection, 90, rng, figures)
    fuzz.fuzz_hardware(Home(tmp_path / "hardware"), projection, 20, rng, figures)
    projection.close()
    fuzz.fuzz_config(tmp_path, 700, rng, figures)
    (tmp_path / "checkpoints").mkdir()
    fuzz.fuzz_checkpoints(tmp_path / "checkpoints", 300, rng, figures)
    assert figures.broken == []
    of_runs = sum(figures.trials.values()) - 20 - 700 - 300
    assert of_runs > 72, "the other directories are left as they are"
    assert figures.told["journal.jsonl"]
    assert figures.told["run.json"]
