"""The scorer of the flag benchmark against the one of the worker, not compiled."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from benchmarks.flag_score import TEMPERATURES, Scorer, _rounded
from engine.evals.score import score
from engine.losses.loss import TargetLoss
from engine.models import load
from engine.models.tokenizer import load_tokenizer
from engine.recipe.sections import Recipe
from engine.tasks.prepare import prepare
from engine.training.checkpoint import load_weights, trained_weights


@pytest.fixture(autouse=True)
def eager():
    torch.compiler.set_stance("force_eager")
    yield
    torch.compiler.set_stance("default")


def test_rounding_is_right_on_average_and_leaves_what_is_round():
    generator = torch.Generator().manual_seed(0)
    weights = torch.full((500, 500), 0.1) + torch.linspace(0, 1e-4, 500)
    rounded = _rounded(weights, generator)
    assert torch.equal(rounded, rounded.bfloat16().float())
    assert float((rounded - weights).mean()) == pytest.approx(0, abs=3e-6)  # nearest would be off by 5e-5
    assert torch.equal(_rounded(rounded, generator), rounded)


@pytest.mark.parametrize("method", ["full", {"name": "lora", "r": 4}, "adapter", "qlora"])
def test_a_checkpoint_is_scored_as_the_worker_would(tmp_path, method):
    recipe = Recipe.model_validate(
        {
            "model": "bundled:stdlib-2m",
            "method": method,
            "data": {"train": "bundled:docstrings", "heldout": 40, "limit": 200},
            "evals": {"limit": 40},
        }
    )
    tokenizer = load_tokenizer(recipe.model)
    suite = prepare(recipe, tokenizer, 1024).suite("heldout")
    model = load.load_model(recipe.model, recipe.method, torch.float32).eval()
    generator = torch.Generator().manual_seed(1)
    changed = {
        name: weight + 0.02 * torch.randn(weight.shape, generator=generator)
        for name, weight in trained_weights(model).items()
    }
    save_file(changed, tmp_path / "weights.safetensors")

    scorer = Scorer(recipe)
    scorer.load(None)
    base = scorer.score(suite, TEMPERATURES, keep=True)
    scorer.load(tmp_path)
    now = scorer.score(suite, TEMPERATURES, base=base)

    def worker():
        return score(TargetLoss(model), suite, 4096, torch.device("cpu"), lambda: None)

    before = worker()
    load_weights(tmp_path, model)
    after = worker()
    tokens = after.tokens
    for found, theirs in ((base, before), (now, after)):
        assert np.abs(found.nll - theirs.nll).max() / tokens.min() < 0.1
        assert found.nll.sum() / tokens.sum() == pytest.approx(theirs.loss.value, abs=5e-3)
        assert found.right.mean() == pytest.approx(theirs.token_accuracy.value, abs=0.03)
    assert np.abs(after.nll - before.nll).max() > 0.1  # it was another model
    assert np.array_equal(now.tempered[TEMPERATURES.index(1.0)], now.nll)
    assert now.kl.min() > 0
