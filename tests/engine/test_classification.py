"""Sequence classification, from texts to a saved classifier that plain libraries load: encoders and decoders."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
import torch.nn.functional as F
from peft import PeftModel
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer
from workers import curve, finish, last_error, make_run, nlls, of_kind, small, start, wait_for, work

from engine.evals.classes import confusion, macro_f1, measures
from engine.losses.class_loss import ClassLoss
from engine.models import load
from engine.recipe.methods import WHOLE_MODEL, Full
from engine.recipe.sections import ModelSpec
from engine.runs.home import RunDir
from engine.tasks.items import Labelled

CPU = torch.device("cpu")
MODELS = {"encoder": tiny.encoder, "decoder": tiny.decoder}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("classification")
    for name, make in MODELS.items():
        make(path / name)
    tiny.weather(path / "weather.jsonl")
    return path


def recipe(home: Path, model: str, method, **changes):
    return small(
        **{
            "model": str(home / model),
            "method": method,
            "task": "classification",
            "data": {"train": str(home / "weather.jsonl"), "heldout": "20%"},
            "train__lr": 1e-2,
            "train__max_steps": 12,
            "train__checkpoint_every": 4,
            "evals__every": 6,
            "evals__limit": 30,
            **changes,
        }
    )


# ---- the loss


@pytest.mark.parametrize("name", MODELS)
def test_padding_changes_nothing(home, name):
    """The logits of each text in a batch, and the gradients, are those that it has alone."""
    torch.manual_seed(0)
    spec = ModelSpec(path=str(home / name))
    classes = load.Classes(["cold", "mild", "warm"], pad=0)
    model = load.load_model(spec, Full(name="full"), torch.float32, classes=classes).eval()
    loss = ClassLoss(model, pad=0)
    rng = np.random.default_rng(0)
    texts = [
        Labelled(str(n), rng.integers(5, 17, n).astype(np.int32), label=n % 3, tail=0) for n in (2, 9, 5, 17)
    ]
    together = loss.logits(loss.collate(texts, CPU))
    alone = torch.cat([model(input_ids=torch.tensor(t.tokens, dtype=torch.long)[None]).logits for t in texts])
    assert together.shape == (4, 3)
    assert torch.allclose(together, alone, atol=1e-5)
    labels = torch.tensor([t.label for t in texts])
    theirs = F.cross_entropy(alone, labels, reduction="sum")
    ours = loss(loss.collate(texts, CPU))
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    weights = [p for p in model.parameters() if p.requires_grad]
    for a, b in zip(
        *(torch.autograd.grad(x, weights, allow_unused=True) for x in (ours, theirs)), strict=True
    ):
        assert (a is None and b is None) or torch.allclose(a, b, rtol=1e-3, atol=1e-5)


# ---- what is measured


def test_measures_against_a_count_by_hand():
    true, given = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 2])
    assert confusion(true, given, 4).tolist() == [[2, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    # F1 of class 0: 2·2/(3+3), of class 1: 2·1/(2+2), of class 2: 1; class 3 is not there.
    assert macro_f1(confusion(true, given, 4)) == pytest.approx((4 / 6 + 2 / 4 + 1) / 3)
    found = measures(true, given, 4)
    assert found["accuracy"].value == pytest.approx(4 / 6)
    # Wilson 1927, by an independent calculator: 4 of 6.
    assert (found["accuracy"].lo, found["accuracy"].hi) == pytest.approx((0.3000, 0.9032), abs=2e-4)
    f1 = found["macro_f1"]
    assert f1.lo < f1.value < f1.hi
    assert measures(true, given, 4) == found, "the bootstrap has a fixed seed"


# ---- whole runs

METHODS = {
    "full": ("full", 3e-3),
    "freeze": ({"name": "freeze", "layers": 1}, 1e-2),
    "lora": ("lora", 1e-2),
    "qlora": ("qlora", 1e-2),
    "ia3": ("ia3", 5e-2),
}


class Finished(dict[tuple[str, str], RunDir]):
    """A finished run per model and method, made when it is first asked for."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __missing__(self, key: tuple[str, str]) -> RunDir:
        model, method = key
        settings, lr = METHODS[method]
        path = self.home / f"{len(self) + 1:06d}-{model}-{method}"
        run = make_run(path, recipe(self.home, model, settings, train__lr=lr))
        assert work(run) == 0, run.attempt(1).stdout.read_text()
        self[key] = run
        return run


@pytest.fixture(scope="module")
def finished(home) -> Finished:
    return Finished(home)


KINDS = [(model, method) for model in MODELS for method in METHODS]


@pytest.mark.parametrize(("model", "method"), KINDS)
def test_a_run_learns_and_plain_libraries_load_its_result(finished, model, method):
    run = finished[model, method]
    (plan,) = of_kind(run, 1, "plan")
    assert plan["labels"] == ["cold", "warm"]
    evals = {(e["step"], e["suite"]): e for e in of_kind(run, 1, "eval")}
    assert {suite for _, suite in evals} == {"heldout", "seen"}
    first, last = evals[0, "seen"]["values"]["loss"], evals[12, "seen"]["values"]["loss"]
    assert last["value"] < first["value"] - 0.02
    event = evals[12, "heldout"]
    assert set(event["values"]) == {"loss", "accuracy", "macro_f1"}
    assert np.sum(event["confusion"]) == event["values"]["accuracy"]["n"] == len(event["examples"]["id"])
    assert np.trace(event["confusion"]) == sum(event["examples"]["right"])
    assert set(event["examples"]["tokens"]) == {1}
    reloaded, tokenizer = reload(run, method)
    rows = {e["suite"]: e["rows"] for e in of_kind(run, 1, "examples")}["heldout"]
    for row, nll in zip(rows, event["examples"]["nll"], strict=True):
        with torch.no_grad():
            logits = reloaded(**tokenizer(row["prompt"], return_tensors="pt")).logits
        label = reloaded.config.label2id[row["target"]]
        assert F.cross_entropy(logits, torch.tensor([label])).item() == pytest.approx(nll, rel=1e-3, abs=1e-5)


def reload(run: RunDir, method: str):
    """By transformers and PEFT alone."""
    from transformers import BitsAndBytesConfig

    folder = run.path / ("model" if method in WHOLE_MODEL else "adapter")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    if method in WHOLE_MODEL:
        return AutoModelForSequenceClassification.from_pretrained(folder).eval(), tokenizer
    base = json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"]
    options = {}
    if method == "qlora":
        options["quantization_config"] = BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32, llm_int8_skip_modules=["score", "classifier", "pooler.dense"],
        )  # fmt: skip
    config = AutoConfig.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(base, config=config, **options)
    model = PeftModel.from_pretrained(model, folder)
    load._keep_weights_unpacked(model)  # in evaluation mode some CPUs have a kernel of less precision
    return model.eval(), tokenizer


def test_a_killed_run_goes_on_bit_for_bit(finished, home, tmp_path):
    whole = finished["encoder", "lora"]
    run = make_run(tmp_path / "000001-killed", recipe(home, "encoder", "lora"))
    process = start(run)
    wait_for(run, 1, "metrics", process, step=6)
    process.kill()
    finish(process)
    assert work(run, attempt=2) == 0, run.attempt(2).stdout.read_text()
    (resume,) = of_kind(run, 2, "resume")
    kept = {step: loss for step, loss in curve(run).items() if step <= resume["from_step"]}
    assert resume["from_step"] >= 4
    assert kept | curve(run, 2) == curve(whole)
    later = nlls(run, 2)
    assert later == {key: value for key, value in nlls(whole).items() if key in later}


def test_a_label_unknown_to_the_recipe_ends_with_a_sentence(home, tmp_path):
    task = {"name": "classification", "labels": ["warm", "mild"]}
    run = make_run(tmp_path / "000001-label", recipe(home, "encoder", "lora", task=task))
    assert work(run) == 4
    assert "rows have the label 'cold', which is not in task.labels (warm, mild)" in last_error(run)
