"""What was tried on a model once is not tried again, as long as it is the same model, method and code."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from workers import make_run, small

from engine.data import data_cache
from engine.losses import packing
from engine.models import load
from engine.recipe.sections import Recipe
from engine.runs.home import RunDir
from engine.training import setup
from engine.training.report import Report
from engine.training.tried_model import TriedModel
from finetui.log import LogWriter


def prepared(path: Path, monkeypatch: pytest.MonkeyPatch, *, may_try: bool, **changes: object) -> bool:
    """Whether a model can be packed, as a run finds out before it trains."""
    run = make_run(path, small(method="lora", **changes))
    run.attempt(1).path.mkdir(parents=True)
    report = Report(LogWriter(run.attempt(1).events, "worker", run.number, 1))
    recipe = Recipe.model_validate(small(method="lora", **changes))
    model = load.load_model(recipe.model, recipe.method, torch.float32)
    with monkeypatch.context() as patch:
        if not may_try:
            patch.setattr(setup, "check_model", lambda *_: pytest.fail("tried again"))
            patch.setattr(packing, "_hidden_alone", lambda *_: pytest.fail("tried again"))
        data: Any = SimpleNamespace(largest_token=5)
        packed = setup._check_and_pack(run, recipe, model, torch.float32, data, report)
    implementation = model.get_base_model().config._attn_implementation
    assert (implementation == packing.NAME) == packed
    return packed


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """The runs of a home that has a cache."""
    return tmp_path / "home" / "runs"


def tried_files(runs: Path) -> list[Path]:
    return sorted((runs.parent / "cache" / "tried").glob("*.json"))


def test_the_second_run_believes_the_first(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert prepared(runs / "000001-a", monkeypatch, may_try=True)
    assert len(tried_files(runs)) == 1
    assert prepared(runs / "000002-b", monkeypatch, may_try=False)


def test_a_damaged_file_and_other_code_cost_the_trial(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared(runs / "000001-a", monkeypatch, may_try=True)
    (file,) = tried_files(runs)
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(pytest.fail.Exception):
        prepared(runs / "000002-b", monkeypatch, may_try=False)
    assert prepared(runs / "000003-c", monkeypatch, may_try=True)
    monkeypatch.setattr(data_cache, "code", lambda: "other")
    with pytest.raises(pytest.fail.Exception):
        prepared(runs / "000004-d", monkeypatch, may_try=False)


def test_other_precisions_and_methods_are_other_models(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "home" / "runs" / "000001-a")
    recipe = Recipe.model_validate(small(method="lora"))
    model = load.load_model(recipe.model, recipe.method, torch.float32)
    TriedModel(run, recipe, model, torch.float32).keep(True)
    assert TriedModel(run, recipe, model, torch.float32).packed is True
    assert TriedModel(run, recipe, model, torch.bfloat16).packed is None
    other = Recipe.model_validate(small(method={"name": "lora", "r": 3}))
    assert TriedModel(run, other, model, torch.float32).packed is None
