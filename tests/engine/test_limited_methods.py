"""SHiRA, OFT and OSF; adapters of LoRA that begin from data; and which layers belong to MLPs."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from workers import make_run, small

from engine.basics.errors import DataError, ModelError
from engine.data.chat import Example
from engine.losses.batches import collate
from engine.losses.loss import TargetLoss
from engine.models.load import load_model, save_model, start_of
from engine.models.lora_start import main_directions
from engine.models.source import resolve
from engine.models.start import Start, Text
from engine.models.targets import in_mlp
from engine.models.tokenizer import load_tokenizer
from engine.recipe.methods import Full, Lora, Oft, Osf, Shira
from engine.recipe.sections import ModelSpec, Recipe, Train
from engine.runs.home import RunDir
from engine.tasks.prepare import prepare
from engine.training.base_cache import starts_as_base
from engine.training.beginning import begin_from, kept
from engine.training.optimiser import make_optimiser, set_rate

BUNDLED = ModelSpec(path="bundled:stdlib-2m")
BF16 = torch.bfloat16
LIMITED = {
    "shira": (Shira(name="shira", r=4), 1e-2),
    "oft": (Oft(name="oft", block=20), 1e-2),
    "osf": (Osf(name="osf"), 3e-3),
}
IDS = torch.arange(20, 38).reshape(2, 9)


@pytest.fixture(scope="module")
def examples():
    rng = np.random.default_rng(0)
    return [Example(str(n), rng.integers(6, 3000, n).astype(np.int32), np.arange(n) > 2) for n in (9, 14, 30)]


@pytest.fixture(scope="module")
def batch(examples):
    return collate(examples, torch.device("cpu"))


@pytest.fixture(scope="module")
def texts(examples):
    return [Text(example.tokens, example.mask) for example in examples]


def train(model, batch, rate, steps=3):
    """A few steps, as a run takes them; the losses before each."""
    optimiser, losses = make_optimiser(model, Train(weight_decay=0.1)), []
    set_rate(optimiser, rate)
    for _ in range(steps):
        with torch.autocast("cpu", BF16):
            loss = TargetLoss(model)(batch)
        (loss / len(batch.targets)).backward()
        losses.append(loss.item())
        optimiser.step()
        optimiser.zero_grad()
    return losses


def plain(dtype=BF16):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(resolve(BUNDLED.path), dtype=dtype)


@torch.no_grad()
def logits(model):
    with torch.autocast("cpu", BF16):
        return model.eval()(input_ids=IDS).logits.float()


@pytest.mark.parametrize("name", LIMITED)
def test_they_begin_as_the_base_and_learn_and_peft_alone_reads_them_again(name, batch, tmp_path):
    from peft import PeftModel

    method, rate = LIMITED[name]
    base, model = plain(), load_model(BUNDLED, method, BF16)
    frozen = {n: p.clone() for n, p in model.named_parameters() if not p.requires_grad}
    assert {p.dtype for p in frozen.values()} == {BF16}
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    untouched = logits(base)
    assert torch.equal(logits(model), untouched) or not starts_as_base(method)
    torch.testing.assert_close(logits(model), untouched, rtol=0, atol=0.1)
    losses = train(model, batch, rate)
    assert losses[-1] < losses[0] - 1
    assert all(torch.equal(p, frozen[n]) for n, p in model.named_parameters() if n in frozen)
    learned = logits(model)
    with model.disable_adapter():
        assert torch.equal(logits(model), untouched)
    save_model(model, method, tmp_path)
    again = PeftModel.from_pretrained(base, tmp_path)
    torch.testing.assert_close(logits(again), learned, rtol=0, atol=0.05)
    assert (learned - untouched).abs().max() > 0.3
    merged = again.merge_and_unload(safe_merge=True)
    torch.testing.assert_close(logits(merged), learned, rtol=0, atol=0 if name == "shira" else 0.2)


@pytest.mark.parametrize("name", ["shira", "osf"])
def test_what_was_made_at_the_start_is_put_back_and_not_made_again(name):
    method, _ = LIMITED[name]
    made = start_of(load_model(BUNDLED, method, BF16), method)
    for part, value in made.items():  # as another machine may have made it
        made[part] = value.roll(1, -1) if "shira" in part else -value
    model = load_model(BUNDLED, method, BF16, start=Start(made=made))
    assert made.keys() == start_of(model, method).keys()
    assert all(torch.equal(value, made[part]) for part, value in start_of(model, method).items())
    made.popitem()
    with pytest.raises(ModelError, match="is not of this recipe"):
        load_model(BUNDLED, method, BF16, start=Start(made=made))


def test_shira_chooses_other_weights_in_every_layer():
    model = load_model(BUNDLED, Shira(name="shira", r=4, targets=["q_proj"]), BF16)
    places = list(start_of(model, Shira(name="shira")).values())
    assert len(places) == 5
    assert len({tuple(map(tuple, value.tolist())) for value in places}) == 5
    with pytest.raises(
        ModelError, match=r"key method\.r: 500 asks for more trained weights than .* at most \d+ fits"
    ):
        load_model(BUNDLED, Shira(name="shira", r=500), BF16)


def test_gradients_of_osf_are_orthogonal_to_what_is_kept(batch):
    """In bfloat16, where PEFT drops its own hooks."""
    model = load_model(BUNDLED, Osf(name="osf", keep=0.8), BF16)
    with torch.autocast("cpu", BF16):
        loss = TargetLoss(model)(batch)
    loss.backward()
    original = load_model(BUNDLED, Full(name="full"), torch.float32)
    layer = "model.layers.0.mlp.up_proj"
    u, _, v = torch.linalg.svd(original.get_submodule(layer).weight.detach(), full_matrices=False)
    factors = model.get_base_model().get_submodule(layer).osf_svd_params["default"]
    kept = u.shape[1] - factors["U_low"].shape[1]
    for gradient, high in ((factors["U_low"].grad, u[:, :kept]), (factors["V_low"].grad.T, v[:kept].T)):
        assert gradient.norm() > 0
        assert (high.T @ gradient).norm() < 0.02 * gradient.norm()


def test_eva_begins_with_the_main_directions_of_what_layers_read(texts, batch):
    method = Lora(name="lora", r=4, init="eva", dora=True)
    model = load_model(BUNDLED, method, torch.float32, start=Start(texts=texts))
    seen = []
    base = plain(torch.float32)
    base.model.layers[1].self_attn.v_proj.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    with torch.no_grad():
        for text in texts:
            base(input_ids=torch.as_tensor(text.tokens[None], dtype=torch.long))
    states = torch.cat([x[0, torch.as_tensor(text.learned)] for x, text in zip(seen, texts, strict=True)])
    expected = torch.linalg.svd(states - states.mean(0), full_matrices=False).Vh[:4]
    layer = model.get_base_model().model.layers[1].self_attn.v_proj
    found = layer.lora_A["default"].weight
    torch.testing.assert_close((found @ expected.T).abs(), torch.eye(4), rtol=0, atol=0.1)
    torch.testing.assert_close(logits(model), logits(base), rtol=0, atol=0.1)
    again = load_model(BUNDLED, method, torch.float32, start=Start(made=start_of(model, method)))
    for name, parameter in again.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name)), name
    with pytest.raises(ModelError, match=r"eva finds 60 directions in no fewer than 60 learned tokens"):
        main_directions(load_model(BUNDLED, Lora(name="lora", r=60), torch.float32), 60, texts)


@pytest.mark.parametrize("init", ["corda", "corda-kpm"])
def test_corda_begins_as_the_base_is_the_same_when_resumed_and_is_saved_as_plain_lora(
    init, texts, batch, tmp_path
):
    from peft import PeftModel

    method = Lora(name="lora", r=4, init=init, rslora=True)
    model = load_model(BUNDLED, method, BF16, start=Start(texts=texts))
    torch.testing.assert_close(logits(model), logits(plain()), rtol=0, atol=0.3)
    again = load_model(BUNDLED, method, BF16, start=Start(made=start_of(model, method)))
    for name, parameter in again.named_parameters():
        assert torch.equal(parameter, model.get_parameter(name)), name
    train(again, batch, 1e-3)
    learned = logits(again)
    save_model(again, method, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["init_lora_weights"], config["corda_config"]) == (8, True, None)
    torch.testing.assert_close(
        logits(PeftModel.from_pretrained(plain(), tmp_path)), learned, rtol=0, atol=0.3
    )


def test_what_corda_takes_is_most_or_least_of_what_a_layer_does_with_the_texts(texts):
    shares, seen = {}, []
    base = plain(torch.float32)
    base.model.layers[1].mlp.up_proj.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    with torch.no_grad():
        for text in texts:
            base(input_ids=torch.as_tensor(text.tokens[None], dtype=torch.long))
    states = torch.cat([x[0] for x in seen])
    whole = states @ base.model.layers[1].mlp.up_proj.weight.detach().T
    for init in ("corda", "corda-kpm"):
        method = Lora(name="lora", r=4, init=init)
        model = load_model(BUNDLED, method, torch.float32, start=Start(texts=texts))
        layer = model.get_base_model().model.layers[1].mlp.up_proj
        taken = layer.scaling["default"] * layer.lora_B["default"](layer.lora_A["default"](states))
        shares[init] = float(taken.detach().norm() / whole.norm())
    assert shares["corda"] > 0.4
    assert shares["corda-kpm"] < 0.05


def test_corda_kpm_begins_from_general_text_that_is_not_scored(tmp_path):
    tree = small(method={"name": "lora", "init": "corda-kpm"}, evals__limit=10)
    recipe, run = Recipe.model_validate(tree), make_run(tmp_path / "000001-x", tree)
    data = prepare(recipe, load_tokenizer(recipe.model), 64)
    scored = {example.id for example in data.suite("general").examples}
    assert data.spare
    assert not scored & {example.id for example in data.spare}
    texts = {text.tokens.tobytes() for text in begin_from(run, recipe, data).texts}
    assert texts == {example.tokens.tobytes() for example in data.spare}
    with pytest.raises(
        DataError, match=r"method\.init: corda-kpm begins from general text that is not scored"
    ):
        begin_from(run, recipe, dataclasses.replace(data, spare=[]))


@pytest.mark.parametrize(
    "path",
    [
        "model.layers.0.mlp.up_proj",
        "transformer.h.11.mlp.c_proj",
        "model.decoder.layers.3.fc1",
        "transformer.blocks.0.ffn.down_proj",
        "bert.encoder.layer.0.intermediate.dense",
        "bert.encoder.layer.0.output.dense",
        "distilbert.transformer.layer.2.ffn.lin1",
        "model.layers.0.feed_forward.w2",
        "model.layers.1.block_sparse_moe.experts.3.w1",
        "model.layers.1.mlp.shared_expert.gate_proj",
        "gpt_neox.layers.0.mlp.dense_4h_to_h",
    ],
)
def test_layers_of_mlps_are_known_by_their_paths(path):
    assert in_mlp(path)


@pytest.mark.parametrize(
    "path",
    [
        "model.layers.0.self_attn.o_proj",
        "transformer.h.0.attn.c_proj",
        "bert.encoder.layer.0.attention.output.dense",
        "model.layers.0.mlp.gate",
        "model.layers.1.mlp.shared_expert_gate",
        "model.layers.1.block_sparse_moe.router.layer",
        "backbone.layers.0.mixer.in_proj",
        "lm_head",
    ],
)
def test_layers_of_attention_routers_and_state_spaces_are_not(path):
    assert not in_mlp(path)


def test_a_start_that_cannot_be_read_is_told_and_not_made_anew(tmp_path):
    run = RunDir(tmp_path)
    assert kept(run, Osf(name="osf")).made is None
    (tmp_path / "start.safetensors").write_bytes(b"\x00" * 20)
    assert kept(run, Oft(name="oft")).made is None
    with pytest.raises(ModelError, match=r"start\.safetensors cannot be read .*; requeue the run"):
        kept(run, Osf(name="osf"))
