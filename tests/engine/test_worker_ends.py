"""How a run ends before its last step: bad input, a loss that is no number, a flag that stops it, a full disk."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from workers import LEAN, curve, finish, last_error, make_run, of_kind, small, start, work

from engine.evals import drift
from engine.models.load import load_model
from engine.models.tokenizer import load_tokenizer
from engine.recipe.methods import Full
from engine.recipe.sections import Recipe


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"data__train": "nothing.jsonl"},
            "nothing.jsonl: there is no such file; check the path in the recipe",
        ),
        ({"model": "/no/such/model"}, "model /no/such/model: there is no such directory"),
        ({"method": {"name": "lora", "targets": ["query"]}}, "has no layer query; layers: down_proj"),
        ({"method": {"name": "freeze", "layers": 9}}, "method.layers: 9 is more than the 2 blocks"),
        ({"method": {"name": "prompt", "tokens": 1024}}, "method.tokens: the model takes 1024 tokens in all"),
    ],
)
def test_bad_input_ends_with_a_sentence_and_no_traceback(tmp_path, changes, sentence):
    run = make_run(tmp_path / "000001-bad", small(**{"method": "lora", **LEAN, **changes}))
    assert work(run) == 4
    assert sentence in last_error(run)
    assert "Traceback" not in run.attempt(1).stdout.read_text()


def test_a_loss_that_is_no_number_ends_the_run_with_a_flag_and_without_weights(tmp_path):
    run = make_run(
        tmp_path / "000001-nan",
        small(method="full", train__lr=1e30, train__max_steps=4, train__warmup=1, **LEAN),
    )
    assert work(run) == 4
    (flag,) = of_kind(run, 1, "flag")
    assert (flag["flag"], flag["level"], flag["effect"]) == ("nan", "critical", None)
    assert "train.lr" in last_error(run)
    assert not (run.path / "model").exists()
    assert all(step < flag["step"] for step in [e["step"] for e in of_kind(run, 1, "checkpoint")])


def test_a_flag_that_stops_keeps_the_best_weights(tmp_path):
    """Two dozen rows learnt by heart: the run ends early, with the weights of its lowest held-out loss."""
    from safetensors.torch import load_file

    tree = small(
        method="full",
        data__train="bundled:docstrings",
        data__limit=84,
        data__heldout=60,
        train__lr=2.5e-3,
        train__schedule="constant",
        train__warmup=3,
        train__max_steps=30,
        train__tokens_per_step=1024,
        train__micro_tokens=1024,
        train__checkpoint_every=30,
        train__keep_checkpoints=1,
        evals__every=2,
        evals__limit=60,
        evals__general=None,
        evals__generate=0,
        evals__drift=2,
        flags__overfitting="stop",
    )
    run = make_run(tmp_path / "000001-stop", tree)
    assert work(run) == 0, run.attempt(1).stdout.read_text()
    heldout = {
        e["step"]: e["values"]["loss"]["value"] for e in of_kind(run, 1, "eval") if e["suite"] == "heldout"
    }
    (end,) = of_kind(run, 1, "end")
    flags = of_kind(run, 1, "flag")
    best = min(range(2, max(heldout) + 1, 2), key=heldout.__getitem__)
    assert end["status"] == "finished"
    assert end["step"] == max(heldout) < 30
    assert end["reason"] == (
        f"stopped by the flag overfitting at step {end['step']}; the weights of step {best} are kept: "
        "it has the lowest held-out loss"
    )
    assert flags[-1]["flag"] == "overfitting"
    assert flags[-1]["lo"] > 0.01
    assert best < flags[-1]["since_step"] < flags[-1]["step"] == end["step"]
    saved = load_file(run.path / "model" / "model.safetensors")
    kept = load_file(run.checkpoints / f"step-{best:06d}" / "weights.safetensors")
    assert kept
    assert all((saved[name] == weight).all() for name, weight in kept.items())
    assert [line["step"] for line in of_kind(run, 1, "drift")] == [0, 0, best, best]
    answers = [line["text"] for line in of_kind(run, 1, "drift") if line["step"] == best]

    # As if it had been killed between its last checkpoint and the end: it stops again, for the same reason.
    shutil.rmtree(run.path / "model")
    assert work(run, attempt=2) == 0, run.attempt(2).stdout.read_text()
    assert [of_kind(run, 2, "end")[0][key] for key in ("step", "reason")] == [end["step"], end["reason"]]
    assert not of_kind(run, 2, "metrics")
    assert not of_kind(run, 2, "drift")
    again = load_file(run.path / "model" / "model.safetensors")
    assert all((again[name] == weight).all() for name, weight in kept.items())
    spec = Recipe.model_validate(tree).model
    model = load_model(
        spec.model_copy(update={"path": str(run.path / "model")}), Full(name="full"), torch.float32
    )
    tokenizer = load_tokenizer(spec)
    asked = drift.prompts(2, tokenizer, 512)
    written = drift.answer(model.eval(), tokenizer, asked, 4096, torch.device("cpu"), lambda: None)
    assert [one.text for one in written] == answers


def test_a_full_disk_is_told_and_the_last_checkpoint_stays(tmp_path):
    """A real limit on the size of files: the optimiser's state of a full run is above it."""
    run = make_run(
        tmp_path / "000001-disk", small(method="lora", train__max_steps=2, train__checkpoint_every=1, **LEAN)
    )
    assert work(run) == 0
    before = run.last_checkpoint()
    tree = json.loads(run.meta.read_text())
    tree["recipe"]["train"]["max_steps"] = 4
    run.meta.write_text(json.dumps(tree))
    assert finish(start(run, 2, file_size_limit=300_000)) == 4
    assert "could not write step-000003" in last_error(run, 2)
    assert "File too large" in last_error(run, 2)
    assert run.last_checkpoint() == before
    assert work(run, attempt=3) == 0
    assert set(curve(run, 3)) == {3, 4}


def test_the_command_itself(tmp_path):
    """As the shim starts it, in a directory with an `engine.py` of the user's own."""
    (tmp_path / "engine.py").write_text("raise SystemExit('the wrong engine')")
    run = make_run(tmp_path / "000001-command", small(method="full", train__max_steps=1, **LEAN))
    result = subprocess.run(
        [sys.executable, "-P", "-m", "engine.attempt.worker", str(run.path), "1"],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stderr == ""
    assert "finished" in result.stdout
    assert (Path(run.path) / "model" / "model.safetensors").exists()
