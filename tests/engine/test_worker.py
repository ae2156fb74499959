"""The training subprocess from end to end: real processes, a real model, real kills."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from workers import (
    Finished,
    curve,
    finish,
    last_error,
    make_run,
    measured,
    of_kind,
    small,
    start,
    wait_for,
    work,
)

from engine.recipe.methods import WHOLE_MODEL
from engine.runs.home import RunDir
from finetui.log import read_log

# Six steps are few: methods that train less of the model go at rates of their own.
METHODS = {
    "full": ("full", 1e-3),
    "freeze": ("freeze", 3e-3),
    "lora": ("lora", 1e-3),
    "plus": ({"name": "lora", "rslora": True, "lr_ratio": 4.0}, 1e-3),
    "dora": ({"name": "lora", "dora": True}, 1e-3),
    "pissa": ({"name": "lora", "init": "pissa"}, 1e-3),
    "qlora": ("qlora", 1e-3),
    "qdora": ({"name": "qlora", "dora": True, "rslora": True}, 1e-3),
    "adapter": ("adapter", 1e-2),
    "ia3": ("ia3", 3e-2),
    "prefix": ({"name": "prefix", "tokens": 8}, 1e-1),
    "prompt": ({"name": "prompt", "tokens": 8, "text": "Describe this function."}, 2e-2),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Finished:
    return Finished(tmp_path_factory.mktemp("runs"), METHODS)


@pytest.mark.parametrize("method", METHODS)
def test_a_run_writes_its_whole_story(finished, method):
    run = finished[method]
    events = list(read_log(run.attempt(1).events))
    assert (events[0]["kind"], events[0]["source"], events[0]["attempt"]) == ("header", "worker", 1)
    assert list(curve(run)) == [1, 2, 3, 4, 5, 6]
    assert {(e["step"], e["suite"]) for e in of_kind(run, 1, "eval")} == {
        (step, suite) for step in (0, 3, 6) for suite in ("heldout", "seen", "general")
    }
    assert {e["suite"] for e in of_kind(run, 1, "examples")} == {"heldout", "seen", "general"}
    assert [e["step"] for e in of_kind(run, 1, "checkpoint")] == [2, 4, 6]
    assert [e["step"] for e in of_kind(run, 1, "sample")] == [0, 3, 6]
    (plan,) = of_kind(run, 1, "plan")
    heldout = next(e for e in of_kind(run, 1, "eval") if e["suite"] == "heldout")
    assert plan["heldout_examples"] == heldout["values"]["loss"]["n"]
    assert (plan["total_steps"], plan["precision"], plan["max_length"]) == (6, "fp32", 48)
    assert (plan["trainable"] == plan["parameters"]) == (method == "full")
    assert events[-1]["kind"] == "end"
    assert events[-1]["status"] == "finished"
    assert "step        6/6" in run.attempt(1).stdout.read_text()


@pytest.mark.parametrize("method", METHODS)
def test_training_lowers_the_loss_on_what_it_trains_on(finished, method):
    seen = {
        e["step"]: e["values"]["loss"]["value"]
        for e in of_kind(finished[method], 1, "eval")
        if e["suite"] == "seen"
    }
    # 1,536 numbers in front of the text cannot do much in six steps.
    assert seen[6] < seen[0] - (0.005 if method == "prompt" else 0.05)


def test_every_example_of_an_eval_adds_up_to_its_value(finished):
    for event in of_kind(finished["lora"], 1, "eval"):
        examples = event["examples"]
        loss = event["values"]["loss"]
        assert loss["value"] == pytest.approx(sum(examples["nll"]) / sum(examples["tokens"]))
        assert loss["lo"] < loss["value"] < loss["hi"]
        assert len(examples["id"]) == loss["n"]


def test_every_look_says_what_changed_against_the_first_token_by_token(finished):
    looks = measured(finished["full"])
    tokens = {suite: looks[0, suite]["tokens"] for suite in ("heldout", "seen", "general")}
    for (step, suite), examples in looks.items():
        before = looks[0, suite]["right"]
        net = zip(examples["gained"], examples["lost"], strict=True)
        assert [now - then for now, then in zip(examples["right"], before, strict=True)] == [
            gained - lost for gained, lost in net
        ]
        assert sum(examples["lost"]) <= sum(before)
        assert (sum(examples["gained"]) == 0) == (step == 0)
        assert ("kl" in examples) == (suite != "seen")
        assert all(value == 0 if step == 0 else value > 0 for value in examples.get("kl", []))
        assert ("tempered" in examples) == (suite == "heldout")
    hot = sum(looks[6, "heldout"]["tempered"]["4.0"]) / sum(tokens["heldout"])
    assert hot > sum(looks[6, "heldout"]["nll"]) / sum(tokens["heldout"])


def test_a_resumed_run_whose_first_look_is_gone_does_not_guess(tmp_path):
    run = make_run(tmp_path / "000001-run", small(method="lora", train__max_steps=4))
    process = start(run)
    wait_for(run, 1, "checkpoint", process)
    process.kill()
    finish(process)
    for path in run.path.glob("base-*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    assert work(run, attempt=2) == 0, run.attempt(2).stdout.read_text()
    later = measured(run, 2)
    assert later
    for examples in later.values():
        assert set(examples) <= {"id", "nll", "tokens", "right", "tempered"}


def test_only_the_last_checkpoints_stay(finished):
    names = sorted(path.name for path in finished["lora"].checkpoints.iterdir())
    assert names == ["step-000004", "step-000006"]


@pytest.mark.parametrize("method", METHODS)
def test_plain_libraries_load_the_result_with_the_losses_it_had(finished, method):
    """The saved weights through their libraries alone give the last general losses of the log."""
    import torch
    import torch.nn.functional as F
    from transformers import AutoTokenizer

    run = finished[method]
    folder = run.path / ("model" if method in WHOLE_MODEL else "adapter")
    model = reload(run, method)
    # In evaluation mode bitsandbytes would switch to a bfloat16 kernel on some CPUs; there is no dropout.
    model.train()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = {e["suite"]: e["rows"] for e in of_kind(run, 1, "examples")}["general"]
    (event,) = [e for e in of_kind(run, 1, "eval") if (e["step"], e["suite"]) == (6, "general")]
    for row, nll in list(zip(texts, event["examples"]["nll"], strict=True))[:3]:
        ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer(row["target"])["input_ids"]]])
        with torch.no_grad():
            logits = model(input_ids=ids).logits[0, -ids.shape[1] :]
        assert F.cross_entropy(logits[:-1], ids[0, 1:], reduction="sum").item() == pytest.approx(
            nll, rel=1e-4
        )


def reload(run: RunDir, method: str):
    """What a run saved, on its base."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from finetui import bottleneck

    folder = run.path / ("model" if method in WHOLE_MODEL else "adapter")
    options = {"dtype": torch.float32}
    if method in ("qlora", "qdora"):
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32,
        )
    if folder.name == "model":
        return AutoModelForCausalLM.from_pretrained(folder, **options)
    if method == "adapter":
        model = AutoModelForCausalLM.from_pretrained(bottleneck.read_config(folder).base, **options)
        bottleneck.load(model, folder)
        bottleneck.set_active(model, "default")
        return model
    base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    return PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, **options), folder)


@pytest.mark.parametrize("method", ["full", "lora", "qlora", "plus", "pissa", "adapter", "ia3", "prefix"])
def test_a_killed_run_goes_on_bit_for_bit(finished, tmp_path, method):
    """Killed at any moment after its first checkpoint, a resumed run has the curve of one never killed."""
    whole = finished[method]
    run = make_run(tmp_path / "000009-killed", small(method=METHODS[method][0], train__lr=METHODS[method][1]))
    process = start(run)
    wait_for(run, 1, "metrics", process, step=random.randint(3, 5))
    process.kill()
    assert finish(process) == -signal.SIGKILL

    assert work(run, attempt=2) == 0, run.attempt(2).stdout.read_text()
    (resume,) = of_kind(run, 2, "resume")
    kept = {step: loss for step, loss in curve(run).items() if step <= resume["from_step"]}
    assert resume["from_step"] in (2, 4)
    assert kept | curve(run, 2) == curve(whole)
    assert set(curve(run, 2)) == set(range(resume["from_step"] + 1, 7))
    assert not [key for key in measured(run, 2) if key[0] == 0], "the base model was scored again"
    later = measured(run, 2)
    assert later == {key: value for key, value in measured(whole).items() if key in later}
    assert {step for step, _ in later} >= {6}


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(finished, tmp_path):
    again = make_run(tmp_path / "000001-again", small(method="lora"))
    other = make_run(tmp_path / "000002-other", small(method="lora", seed=1))
    assert [work(again), work(other)] == [0, 0]
    assert curve(again) == curve(finished["lora"])
    assert curve(other) != curve(finished["lora"])


def test_looking_more_often_changes_nothing_of_the_training(tmp_path):
    """Which looks `auto` leaves out depends on the clock, so none of them may touch the random numbers."""
    curves = []
    for number, every in enumerate((6, 1)):
        tree = small(method={"name": "lora", "dropout": 0.2}, evals__every=every, seed=5)
        run = make_run(tmp_path / f"{number + 1:06d}-looks", tree)
        assert work(run) == 0
        assert len(of_kind(run, 1, "eval")) == 3 * (6 // every + 1)
        curves.append(curve(run))
    assert curves[0] == curves[1]


def test_data_that_changed_before_a_resume_are_told(tmp_path):
    rows = [json.dumps({"prompt": f"What is {n}?", "completion": f"It is {n}."}) for n in range(30)]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(rows))
    run = make_run(tmp_path / "000001-run", small(method="lora", data__train=str(data), train__max_steps=2))
    assert work(run) == 0
    assert work(run, attempt=2) == 0
    assert [e for e in of_kind(run, 2, "log") if e["level"] == "warning"] == []
    data.write_text("\n".join(rows[3:]))
    assert work(run, attempt=3) == 0
    (told,) = [e["message"] for e in of_kind(run, 3, "log") if e["level"] == "warning"]
    assert "have changed since the checkpoint" in told


def test_sigterm_saves_and_resumes(finished, tmp_path):
    run = make_run(tmp_path / "000001-stopped", small(method="lora", train__checkpoint_every=6))
    process = start(run)
    wait_for(run, 1, "metrics", process, step=2)
    process.terminate()
    assert finish(process) == 3
    (end,) = of_kind(run, 1, "end")
    assert end["status"] == "cancelled"
    step, _ = run.last_checkpoint() or pytest.fail("no checkpoint")
    assert step == max(curve(run)) == end["step"] < 6
    assert work(run, attempt=2) == 0
    assert curve(run) | curve(run, 2) == curve(finished["lora"])
    assert (run.path / "adapter" / "adapter_model.safetensors").exists()


def test_sigterm_in_the_first_eval_ends_soon_and_the_next_attempt_starts_afresh(tmp_path):
    run = make_run(tmp_path / "000001-early", small(method="lora", evals__max_new_tokens=2))
    process = start(run)
    wait_for(run, 1, "phase", process, phase="eval")
    process.terminate()
    assert finish(process) == 3
    assert of_kind(run, 1, "eval") == []
    assert run.last_checkpoint() is None
    process = start(run, 2)
    wait_for(run, 2, "eval", process, step=0)
    assert of_kind(run, 2, "resume")[0]["from_step"] == -1
    process.kill()
    finish(process)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"data__train": "nothing.jsonl"},
            "nothing.jsonl: there is no such file; check the path in the recipe",
        ),
        ({"model": "/no/such/model"}, "model /no/such/model: there is no such directory"),
        ({"method": {"name": "lora", "targets": ["query"]}}, "its linear layers are"),
        ({"method": {"name": "freeze", "layers": 9}}, "method.layers: 9 is more than the 5 blocks"),
        ({"method": {"name": "prompt", "tokens": 1024}}, "method.tokens: the model takes 1024 tokens in all"),
    ],
)
def test_bad_input_ends_with_a_sentence_and_no_traceback(tmp_path, changes, sentence):
    run = make_run(tmp_path / "000001-bad", small(**{"method": "lora", **changes}))
    assert work(run) == 4
    assert sentence in last_error(run)
    assert "Traceback" not in run.attempt(1).stdout.read_text()


def test_a_loss_that_is_no_number_ends_the_run_with_a_flag_and_without_weights(tmp_path):
    run = make_run(
        tmp_path / "000001-nan", small(method="full", train__lr=1e30, train__max_steps=4, train__warmup=1)
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

    # As if it had been killed between its last checkpoint and the end: it stops again, for the same reason.
    shutil.rmtree(run.path / "model")
    assert work(run, attempt=2) == 0, run.attempt(2).stdout.read_text()
    assert [of_kind(run, 2, "end")[0][key] for key in ("step", "reason")] == [end["step"], end["reason"]]
    assert not of_kind(run, 2, "metrics")
    again = load_file(run.path / "model" / "model.safetensors")
    assert all((again[name] == weight).all() for name, weight in kept.items())


def test_a_full_disk_is_told_and_the_last_checkpoint_stays(tmp_path):
    """A real limit on the size of files: the optimiser's state of a full run is above it."""
    run = make_run(
        tmp_path / "000001-disk", small(method="lora", train__max_steps=2, train__checkpoint_every=1)
    )
    assert work(run) == 0
    before = run.last_checkpoint()
    tree = json.loads(run.meta.read_text())
    tree["recipe"]["train"]["max_steps"] = 4
    run.meta.write_text(json.dumps(tree))
    assert finish(start(run, 2, file_size_limit=500_000)) == 4
    assert "could not write step-000003" in last_error(run, 2)
    assert "File too large" in last_error(run, 2)
    assert run.last_checkpoint() == before
    assert work(run, attempt=3) == 0
    assert set(curve(run, 3)) == {3, 4}


def test_the_command_itself(tmp_path):
    """As the shim starts it, in a directory with an `engine.py` of the user's own."""
    (tmp_path / "engine.py").write_text("raise SystemExit('the wrong engine')")
    run = make_run(tmp_path / "000001-command", small(method="full", train__max_steps=1, evals__limit=2))
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
