"""What runs trained, scaled: exact at both ends, written as what plain libraries load, told in the run's own log."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from finished import copy
from workers import of_kind, small

from engine.basics.errors import ExportError
from engine.evals import known_slices
from engine.export.__main__ import main
from engine.export.factors import Scalable
from engine.export.front import halves
from engine.export.request import ExportRequest, check_finished, check_request
from engine.export.source import Source, read
from engine.models import load
from engine.recipe.methods import Full, Lora, Oft, Osf, Shira
from engine.recipe.sections import ModelSpec
from engine.runs.home import RunDir
from finetui import bottleneck
from store.line_fields import read_lines
from store.scale_lines import LOG_NAME, SCALES, Scaled, Scaling

IDS = torch.arange(1, 33)[None]
METHODS = ("full", "freeze", "lora", "dora", "pissa", "ia3", "adapter")


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(input_ids=IDS).logits[0].float()


def plain(source: Source, weights: Path) -> torch.Tensor:
    """What plain libraries make of saved weights."""
    if source.whole_model:
        from transformers import AutoModelForCausalLM

        return logits(AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32).eval())
    base = load.load_model(source.recipe.model, Full(name="full"), torch.float32).eval()
    if (weights / bottleneck.CONFIG_FILE).exists():
        bottleneck.load(base, weights)
        bottleneck.set_active(base, "default")
        return logits(base)
    from peft import PeftModel

    return logits(PeftModel.from_pretrained(base, weights).eval())


@pytest.mark.parametrize("method", METHODS)
def test_a_factor_is_exact_at_both_ends_and_what_is_written_is_what_was_scored(finished, tmp_path, method):
    source = read(finished[method])
    model = Scalable(source, source.weights, torch.float32)
    model.set(0.0)
    base = logits(load.load_model(source.recipe.model, Full(name="full"), torch.float32).eval())
    torch.testing.assert_close(logits(model.model), base, rtol=1e-4, atol=1e-4)
    model.set(1.0)
    trained = plain(source, source.weights)
    torch.testing.assert_close(logits(model.model), trained, rtol=1e-4, atol=2e-4)
    model.set(0.5)
    half = logits(model.model)
    assert 0.2 < float((half - base).norm() / (trained - base).norm()) < 0.8
    model.save(0.5, tmp_path)
    torch.testing.assert_close(plain(source, tmp_path), half, rtol=1e-4, atol=2e-4)
    theirs = {path.name for path in source.weights.iterdir()} - {"COMPLETE"}
    assert {path.name for path in tmp_path.iterdir()} == theirs


@pytest.mark.parametrize(
    "method",
    [
        Shira(name="shira", r=4),
        Oft(name="oft", block=20),
        Osf(name="osf"),
        Lora(name="lora", init="pissa", rslora=True),
    ],
)
def test_methods_that_forget_less_have_a_scale_too(tmp_path, method):
    spec, made = ModelSpec(path=small()["model"]), tmp_path / "made"
    made.mkdir()
    model = load.load_model(spec, method, torch.float32)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in filter(lambda one: one.requires_grad, model.parameters()):
            parameter += 0.03 * torch.randn_like(parameter)
    learned = logits(model.eval())
    load.save_model(model, method, made)
    source = SimpleNamespace(recipe=SimpleNamespace(method=method, model=spec), number=1, whole_model=False)
    scalable = Scalable(source, made, torch.float32)
    scalable.set(0.0)
    base = logits(load.load_model(spec, Full(name="full"), torch.float32).eval())
    torch.testing.assert_close(logits(scalable.model), base, rtol=1e-4, atol=1e-4)
    scalable.set(1.0)
    torch.testing.assert_close(logits(scalable.model), learned, rtol=1e-3, atol=1e-3)
    scalable.set(0.5)
    half = logits(scalable.model)
    assert 0.3 < float((half - base).norm() / (learned - base).norm()) < 0.7
    scalable.save(0.5, tmp_path / "half")
    torch.testing.assert_close(plain(source, tmp_path / "half"), half, rtol=1e-3, atol=1e-3)


def test_a_run_is_scored_at_every_factor_and_what_is_written_tells_where_it_comes_from(
    finished, tmp_path, capsys
):
    run = copy(finished["lora"], tmp_path / "runs" / "000001-scaled")
    assert main(str(run.path), json.dumps({"kind": "scale"})) == 0
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    points = [entry["point"] for entry in entries if "point" in entry]
    found = entries[-1]["done"]
    choosing = [point for point in points if point["half"] == "choose"]
    assert [point["factor"] for point in choosing] == [step / 10 for step in range(11)]
    assert choosing[0]["change"]["value"] == 0
    assert found["points"] == points
    (look,) = [e for e in of_kind(run, 1, "eval") if (e["step"], e["suite"]) == (6, "heldout")]
    ids, nll, tokens = (np.array(look["examples"][key]) for key in ("id", "nll", "tokens"))
    for half, places in zip(("choose", "confirm"), halves(ids.tolist()), strict=True):
        assert found["rows"]["heldout"][half] == len(places)
        (whole,) = [point for point in points if (point["half"], point["factor"]) == (half, 1.0)]
        assert whole["heldout"] == pytest.approx(nll[places].sum() / tokens[places].sum(), rel=1e-3)

    made = tmp_path / "half"
    request = {"kind": None, "out": str(made), "factor": 0.5}
    assert main(str(run.path), json.dumps(request)) == 0
    card = (made / "README.md").read_text()
    assert "between the base model (factor 0) and what run #1 trained (factor 1), at factor 0.5" in card
    assert "| choose | 0.5 |" in card
    lines = [line for _, line in read_lines(run.path / LOG_NAME, SCALES)]
    assert isinstance(lines[0], Scaling)
    assert (lines[0].factor, len(lines[0].points)) == (found["factor"], len(points))
    assert lines[1] == Scaled(0.5, 6, "adapter", str(made))


def test_slices_that_the_run_left_out_are_not_scored_either(finished, tmp_path, capsys):
    run = copy(finished["lora"], tmp_path / "runs" / "000001-scaled")
    meta = json.loads(run.meta.read_text())
    source = meta["recipe"]["evals"]["general"]
    rows = Path(source).read_text().splitlines(keepends=True)
    for place, name in enumerate(("known", "other", "unknown")):
        (tmp_path / f"{name}.jsonl").write_text("".join(rows[place::3]))
    meta["recipe"]["evals"]["general"] = {
        name: str(tmp_path / f"{name}.jsonl") for name in ("known", "other", "unknown")
    }
    meta["recipe"]["evals"]["limit"] = 24
    run.meta.write_text(json.dumps(meta))
    (run.path / known_slices.FILE).write_text(json.dumps({known_slices.KEY: ["unknown"]}))
    assert main(str(run.path), json.dumps({"kind": "scale"})) == 0
    entries = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {name for e in entries if "point" in e for name in e["point"]["slices"]} == {"known", "other"}


def test_virtual_tokens_and_runs_without_weights_are_refused_in_a_sentence(finished, tmp_path):
    with pytest.raises(ExportError, match="method prefix, whose weights have no scale"):
        check_finished(read(finished["prefix"]))
    run = copy(finished["lora"], tmp_path / "000007-gone")
    (run.path / "adapter" / "COMPLETE").unlink()
    run.journal.write_text('{"kind": "ended", "state": "cancelled", "t": 1.0}\n')
    with pytest.raises(ExportError, match="run #7 is cancelled and has not saved its weights: resume it"):
        check_finished(read(run))
    run.journal.write_text('{"kind": "ended", "state": "finished", "t": 1.0}\n')
    with pytest.raises(ExportError, match=r"the weights of run #7 are gone from .*/adapter; train it again"):
        check_finished(read(run))
    run.journal.write_text('{"kind": "running", "state": "running", "t": 1.0}\n')
    with pytest.raises(ExportError, match=r"run #7 is running: wait for its end"):
        check_finished(read(run))


@pytest.mark.parametrize("factor", [0.0, -0.5, 1.5, float("nan")])
def test_a_factor_outside_of_what_was_trained_is_refused(finished, tmp_path, factor):
    request = ExportRequest("adapter", tmp_path / "out", factor=factor)
    with pytest.raises(ExportError, match="give one above 0"):
        check_request(read(finished["lora"]), request)


def test_a_classifier_is_told_that_it_cannot_be_scaled(finished, tmp_path):
    run = RunDir(tmp_path / "000003-classes")
    run.path.mkdir()
    meta = json.loads(finished["lora"].meta.read_text())
    meta["recipe"]["task"] = {"name": "classification"}
    meta["recipe"]["data"]["heldout"] = "10%"
    run.meta.write_text(json.dumps(meta))
    with pytest.raises(ExportError, match="run #3 is a classifier, and only language models are scaled"):
        read(run, "scaled")
