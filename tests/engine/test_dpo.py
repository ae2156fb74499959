"""The preference loss: by hand, by TRL, and what it does to a model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from finished import killed_after
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from workers import curve, make_run, of_kind, small, work

from engine.bundled import catalogue
from engine.bundled.catalogue import model_path
from engine.data.chat import Example
from engine.data.formats import to_document
from engine.losses import loss as loss_module
from engine.losses.dpo_loss import PairLoss, as_base, keeps_base, preference_loss
from engine.models import load
from engine.recipe.methods import Adapter, Full, Lora, Prompt
from engine.recipe.sections import ModelSpec
from engine.recipe.tasks import Dpo
from engine.runs.home import RunDir
from engine.tasks.items import Pair, pair_items
from finetui import bottleneck

CPU = torch.device("cpu")
SPEC = ModelSpec(path="bundled:stdlib-2m")
LORA = Lora(name="lora", r=4)
TASK = Dpo(name="dpo", beta=0.3)
RNG = np.random.default_rng(0)


def example(length: int, answer: int) -> Example:
    return Example("", RNG.integers(6, 3000, length).astype(np.int32), np.arange(length) >= length - answer)


PAIRS = [Pair(str(n), example(6 + n, 3 + n), example(15 - 2 * n, 4)) for n in range(3)]


def model_with(method):
    torch.manual_seed(0)
    return load.load_model(SPEC, method, torch.float32).eval()


def shaken(model):
    """As after some training."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.02 * torch.randn_like(parameter)
    return model


def by_hand(model, side: Example) -> torch.Tensor:
    """Log-probability of an answer from full logits."""
    ids = torch.tensor(side.tokens, dtype=torch.long)[None]
    logp = model(input_ids=ids).logits[0, -len(side.tokens) :].log_softmax(-1)[:-1]
    return sum(logp[i - 1, ids[0, i]] for i in np.flatnonzero(side.mask).tolist())


METHODS = {
    "lora": LORA,
    "adapter": Adapter(name="adapter"),
    "prompt": Prompt(name="prompt", tokens=4),
}


@pytest.mark.parametrize("chunk", [2, 10**6])
@pytest.mark.parametrize("name", METHODS)
def test_loss_and_gradients_equal_a_hand_computation(monkeypatch, name, chunk):
    """Also in many small chunks of logits."""
    monkeypatch.setattr(loss_module, "LOGITS_AT_ONCE", 0)
    monkeypatch.setattr(loss_module.TargetLoss, "_chunk_size", chunk)
    method, base = METHODS[name], model_with(Full(name="full"))
    model = shaken(model_with(method))
    ours = PairLoss(model, method, TASK)
    losses = []
    for made in PAIRS:
        with torch.no_grad():
            reference = [by_hand(base, side) for side in (made.chosen, made.rejected)]
        chosen, rejected = by_hand(model, made.chosen), by_hand(model, made.rejected)
        losses.append(-F.logsigmoid(TASK.beta * ((chosen - reference[0]) - (rejected - reference[1]))))
    theirs = torch.stack(losses).sum()
    loss = ours(ours.collate(PAIRS, CPU))
    assert loss.item() == pytest.approx(theirs.item(), rel=1e-5)
    trained = [p for p in model.parameters() if p.requires_grad]
    for a, b in zip(torch.autograd.grad(loss, trained), torch.autograd.grad(theirs, trained), strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-5)


def test_loss_equals_that_of_trl(tmp_path: Path):
    """On the batch of TRL's trainer, with a model that differs from its reference."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    tokenizer = AutoTokenizer.from_pretrained(model_path("stdlib-2m"))
    rows = [
        {"prompt": "What is a list?", "chosen": "A mutable sequence.", "rejected": "I do not know that."},
        {"prompt": "Explain len.", "chosen": "Return the number of items.", "rejected": "No."},
    ]
    chats = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "chosen": [{"role": "assistant", "content": row["chosen"]}],
            "rejected": [{"role": "assistant", "content": row["rejected"]}],
        }
        for row in rows
    ]
    base = AutoModelForCausalLM.from_pretrained(model_path("stdlib-2m"), dtype=torch.float32)
    config = LoraConfig(r=4, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(base, config)
    settings = DPOConfig(
        output_dir=str(tmp_path),
        beta=0.3,
        per_device_train_batch_size=2,
        report_to=[],
        use_cpu=True,
        bf16=False,
        max_length=128,
    )
    trainer = DPOTrainer(
        model, args=settings, train_dataset=Dataset.from_list(chats), processing_class=tokenizer
    )
    batch = next(iter(trainer.get_train_dataloader()))
    shaken(model.eval())  # only now: TRL keeps a copy of the adapter that it is given as its reference
    theirs = trainer.compute_loss(model, batch)
    ours = PairLoss(model, LORA, TASK)
    pairs = [pair_items(document, tokenizer)[0] for document in (to_document(row, "pair") for row in rows)]
    assert ours(ours.collate(pairs, CPU)).item() / 2 == pytest.approx(theirs.item(), rel=1e-4)
    assert abs(theirs.item() - np.log(2)) > 0.01


def test_label_smoothing_weighs_the_pair_the_other_way_round():
    margins = torch.tensor([0.7, -0.4])
    plain, turned = preference_loss(margins, 0.0), preference_loss(-margins, 0.0)
    assert torch.allclose(preference_loss(margins, 0.1), 0.9 * plain + 0.1 * turned)


def test_the_untrained_model_has_the_loss_of_a_coin():
    ours = PairLoss(model_with(LORA), LORA, TASK)
    assert ours(ours.collate(PAIRS, CPU)).item() == pytest.approx(3 * np.log(2), rel=1e-5)


@pytest.mark.parametrize("name", METHODS)
def test_the_base_is_asked_without_what_is_trained_and_all_is_as_before(name):
    method, base = METHODS[name], model_with(Full(name="full"))
    model = shaken(model_with(method)).train()
    before = by_hand(model, PAIRS[0].chosen)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    ours = PairLoss(model, method, TASK)
    batch = ours.collate(PAIRS[:1], CPU)
    with torch.no_grad(), as_base(model, method):
        asked = ours.answers(batch)[0, 0]
        assert not any(module.training for module in model.modules())
    assert asked.item() == pytest.approx(by_hand(base, PAIRS[0].chosen).item(), rel=1e-5)
    assert by_hand(model, PAIRS[0].chosen).item() == before.item() != asked.item()
    assert {name for name, p in model.named_parameters() if p.requires_grad} == trained
    assert all(module.training for module in model.modules())
    if name == "adapter":
        assert bottleneck.active(model) == "default"


def test_methods_that_change_the_base_itself_are_known():
    assert not keeps_base(Full(name="full"))
    assert not keeps_base(Lora(name="lora", init="pissa"))
    assert keeps_base(LORA)


def test_a_batch_carries_the_references_that_are_remembered():
    ours = PairLoss(model_with(Full(name="full")), Full(name="full"), TASK)
    answers = np.array([[-1.0, -2.0, -3.0], [-4.0, -5.0, -6.0]])
    ours.set_references(PAIRS, answers)
    batch = ours.collate([PAIRS[2], PAIRS[0]], CPU)
    assert ours.reference(batch).tolist() == [[-3.0, -1.0], [-6.0, -4.0]]


# ---- whole runs


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """With some pairs of bundled:docstring-preferences: each of the runs would read thousands."""
    folder = tmp_path_factory.mktemp("dpo")
    rows = catalogue.load("docstring-preferences")[:400]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def recipe(method, **changes):
    return small(
        **{
            "method": method,
            "task": {"name": "dpo", "beta": 0.1},
            "train__max_length": 128,
            "train__tokens_per_step": 768,
            "train__max_steps": 8,
            "train__checkpoint_every": 3,
            "evals__every": 4,
            **changes,
        }
    )


WHOLE: dict[str, RunDir] = {}


def finished(home: Path, name: str) -> RunDir:
    """A run to its end, made when it is first asked for."""
    if name not in WHOLE:
        tree = {**RECIPES[name], "data": {**RECIPES[name]["data"], "train": str(home / "pairs.jsonl")}}
        run = make_run(home / f"{len(WHOLE) + 1:06d}-{name}", tree)
        assert work(run) == 0, run.attempt(1).stdout.read_text()
        WHOLE[name] = run
    return WHOLE[name]


RECIPES = {"lora": recipe("lora", train__lr=1e-3), "full": recipe("full", train__lr=1e-4)}


@pytest.mark.parametrize("name", RECIPES)
def test_training_raises_the_margin(home, name):
    run = finished(home, name)
    values = {(e["step"], e["suite"]): e["values"] for e in of_kind(run, 1, "eval")}
    base, last = values[0, "seen"], values[8, "seen"]
    assert base["reward_margin"]["value"] == 0.0
    assert base["reward_accuracy"]["value"] == 0.5
    assert base["preference_loss"]["value"] == pytest.approx(np.log(2))
    assert last["reward_margin"]["value"] > 0.1
    assert last["preference_loss"]["value"] < base["preference_loss"]["value"] - 0.05
    assert last["reward_accuracy"]["value"] > 0.5
    assert "reward_margin" not in values[8, "general"]
    assert curve(run)[1] == pytest.approx(np.log(2), rel=1e-4)
    assert len(list(run.path.glob("reference-*.npz"))) == (name == "full")


def test_a_killed_run_goes_on_bit_for_bit(home, tmp_path):
    """With the reference that was written down: the weights it came from have changed."""
    whole = finished(home, "full")
    run = killed_after(whole, tmp_path / "000001-killed", step=7)
    assert work(run, attempt=2) == 0, run.attempt(2).stdout.read_text()
    (resume,) = of_kind(run, 2, "resume")
    kept = {step: loss for step, loss in curve(run).items() if step <= resume["from_step"]}
    assert resume["from_step"] in (3, 6)
    assert kept | curve(run, 2) == curve(whole)
    at = {(e["step"], e["suite"]): e["values"] for e in of_kind(run, 2, "eval")}
    theirs = {(e["step"], e["suite"]): e["values"] for e in of_kind(whole, 1, "eval")}
    assert at == {key: value for key, value in theirs.items() if key in at}
