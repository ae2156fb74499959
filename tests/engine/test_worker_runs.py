"""What finished runs of every method leave: the whole story in the log, and weights that plain libraries load."""

from __future__ import annotations

import json
import time

import pytest
from finished import METHODS
from workers import curve, measured, of_kind

from engine.recipe.methods import WHOLE_MODEL
from engine.runs.home import RunDir
from finetui.log import read_log


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
    printed = run.attempt(1).stdout.read_text()
    assert "step        6/6" in printed
    zone = time.strftime("%Z (UTC%z)")
    assert printed.splitlines()[0].endswith(f"times are local ones, {zone}")


@pytest.mark.parametrize("method", METHODS)
def test_training_lowers_the_loss_on_what_it_trains_on(finished, method):
    seen = {
        e["step"]: e["values"]["loss"]["value"]
        for e in of_kind(finished[method], 1, "eval")
        if e["suite"] == "seen"
    }
    # A few thousand numbers in front of the text cannot do much in six steps.
    assert seen[6] < seen[0] - (0.003 if method in ("prefix", "prompt") else 0.05)


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
