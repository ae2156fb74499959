"""Bottleneck adapters: the arithmetic by hand, where they stand, what is trained, and that they come back as saved."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from scipy.special import erf, expit

from engine.losses.batches import Batch
from engine.losses.loss import TargetLoss
from finetui import bottleneck
from finetui.bottleneck import Adapted, AdapterError, Bottleneck

VOCABULARY, WIDTH, BLOCKS = 64, 32, 2
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
GPT2_SIZES = {"vocab_size": VOCABULARY, "n_embd": WIDTH, "n_layer": BLOCKS, "n_head": 4, "n_positions": 64}
OPT_SIZES = {**SIZES, "ffn_dim": 48, "word_embed_proj_dim": WIDTH, "num_key_value_heads": None}
DISTILBERT_SIZES = {
    "vocab_size": VOCABULARY,
    "dim": WIDTH,
    "hidden_dim": 48,
    "n_layers": BLOCKS,
    "n_heads": 4,
}
DECODERS: dict[str, dict[str, Any]] = {
    "llama": SIZES,
    "mistral": SIZES,
    "qwen2": SIZES,
    "qwen3": {**SIZES, "head_dim": 16},
    "gemma": {**SIZES, "head_dim": 8},
    "gemma3_text": {**SIZES, "head_dim": 8},
    "phi": SIZES,
    "phi3": SIZES,
    "gpt2": GPT2_SIZES,
    "gpt_neox": SIZES,
    "opt": OPT_SIZES,
}
ENCODERS: dict[str, dict[str, Any]] = {
    "bert": SIZES,
    "roberta": SIZES,
    "distilbert": DISTILBERT_SIZES,
    "modernbert": {**SIZES, "cls_token_id": 1, "sep_token_id": 2, "bos_token_id": 1, "eos_token_id": 2},
}
IDS = torch.arange(3, 27).reshape(2, 12)


def tiny(kind: str, auto: Any = None) -> Any:
    """A model of this architecture with random weights, in evaluation mode."""
    torch.manual_seed(0)
    sizes = DECODERS.get(kind) or ENCODERS[kind]
    auto = auto or (
        transformers.AutoModelForCausalLM
        if kind in DECODERS
        else transformers.AutoModelForSequenceClassification
    )
    config = transformers.AutoConfig.for_model(kind, **sizes)
    return auto.from_config(config, attn_implementation="eager").eval()


def disturb(model: Any, name: str, seed: int) -> None:
    """Give an adapter weights as training might leave them: none of them zero."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, Adapted) and name in module.adapters:
            for parameter in module.adapters[name].parameters():
                parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3


@torch.no_grad()
def logits(model: Any) -> torch.Tensor:
    return model(input_ids=IDS).logits


def record(module: torch.nn.Module, seen: dict[str, np.ndarray], name: str) -> None:
    """Keep what a module was last given and gave."""

    def hook(_: torch.nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        given = args[0] if args else kwargs["hidden_states"]
        output = output[0] if isinstance(output, tuple) else output
        seen[f"{name}.in"], seen[f"{name}.out"] = (
            t.detach().numpy().astype(np.float64) for t in (given, output)
        )

    module.register_forward_hook(hook, with_kwargs=True)


ACTIVATIONS = {
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
    "silu": lambda x: x * expit(x),
}


def by_hand(adapter: Any, y: np.ndarray, activation: str) -> np.ndarray:
    w = {name: tensor.numpy().astype(np.float64) for name, tensor in adapter.state_dict().items()}
    inner = ACTIVATIONS[activation](y @ w["down.weight"].T + w["down.bias"])
    return y + inner @ w["up.weight"].T + w["up.bias"]


def layer_norm(module: Any, x: np.ndarray) -> np.ndarray:
    normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + module.eps)
    return normal * module.weight.detach().numpy() + module.bias.detach().numpy()


@pytest.mark.parametrize("activation", ["relu", "gelu", "silu"])
def test_a_pre_norm_block_adds_both_adapted_outputs_to_its_residual(activation: Any) -> None:
    model = bottleneck.add(tiny("llama"), Bottleneck(size=5, activation=activation))
    disturb(model, "default", 1)
    block, seen = model.model.layers[1], {}
    attention, mlp = block.self_attn.o_proj, block.mlp.down_proj
    for module, name in ((block, "block"), (attention.base, "attention"), (mlp.base, "mlp")):
        record(module, seen, name)
    logits(model)
    middle = seen["block.in"] + by_hand(attention.adapters["default"], seen["attention.out"], activation)
    expected = middle + by_hand(mlp.adapters["default"], seen["mlp.out"], activation)
    np.testing.assert_allclose(seen["block.out"], expected, rtol=1e-5, atol=1e-5)


def test_a_post_norm_block_normalises_after_each_adapter() -> None:
    model = bottleneck.add(tiny("bert"), Bottleneck(size=5))
    disturb(model, "default", 1)
    block, seen = model.bert.encoder.layer[1], {}
    record(block, seen, "block")
    after = {"attention": block.attention.output, "mlp": block.output}
    for name, module in after.items():
        record(module.dense.base, seen, name)
    logits(model)
    hidden = seen["block.in"]
    for name, module in after.items():
        adapted = by_hand(module.dense.adapters["default"], seen[f"{name}.out"], "gelu")
        hidden = layer_norm(module.LayerNorm, hidden + adapted)
    np.testing.assert_allclose(seen["block.out"], hidden, rtol=1e-5, atol=1e-5)


def test_pfeiffer_leaves_attention_alone() -> None:
    model = bottleneck.add(tiny("bert"), Bottleneck(placement="pfeiffer"))
    adapted = [name for name, module in model.named_modules() if isinstance(module, Adapted)]
    assert adapted == [f"bert.encoder.layer.{block}.output.dense" for block in range(BLOCKS)]


def test_gradients_equal_finite_differences() -> None:
    model = bottleneck.add(tiny("gpt2").double(), Bottleneck(size=3))  # Llama rounds norms to float32
    disturb(model, "default", 1)
    model.double()
    trained = [p for p in model.parameters() if p.requires_grad]
    torch.manual_seed(2)
    direction = [torch.randn_like(p) for p in trained]

    def value(step: float) -> torch.Tensor:
        with torch.no_grad():
            for parameter, change in zip(trained, direction, strict=True):
                parameter += step * change
        return model(input_ids=IDS).logits.square().mean()

    value(0.0).backward()
    slope = sum(
        float((p.grad * d).sum()) for p, d in zip(trained, direction, strict=True) if p.grad is not None
    )
    with torch.no_grad():
        up, down = value(1e-5).item(), value(-2e-5).item()
    assert slope == pytest.approx((up - down) / 2e-5, rel=1e-5)


@pytest.mark.parametrize("placement", ["houlsby", "pfeiffer"])
@pytest.mark.parametrize("kind", [*DECODERS, *ENCODERS])
def test_a_new_adapter_changes_nothing_and_alone_is_trained(kind: str, placement: Any) -> None:
    model = tiny(kind)
    before = logits(model)
    weights = {name: p.clone() for name, p in model.named_parameters()}
    bottleneck.add(model, Bottleneck(placement=placement, reduction=4))
    assert torch.equal(logits(model), before)

    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    per_place = 2 * WIDTH * (WIDTH // 4) + WIDTH // 4 + WIDTH
    places = BLOCKS * (2 if placement == "houlsby" else 1)
    assert all(".adapters.default." in name for name in trained)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == places * per_place

    optimiser = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):  # `down` has a gradient only once `up` is not zero
        model(input_ids=IDS).logits.square().sum().backward()
        optimiser.step()
    grads = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert grads == trained
    for name, parameter in model.named_parameters():
        if name.replace(".base.", ".") in weights:
            assert torch.equal(parameter, weights[name.replace(".base.", ".")])
    assert not torch.equal(logits(model), before)
    bottleneck.set_active(model, None)
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "bert"])
def test_a_saved_adapter_gives_the_same_outputs_on_a_fresh_base(kind: str, tmp_path: Path) -> None:
    config = Bottleneck(size=3, activation="silu")
    model = bottleneck.add(tiny(kind), config)
    disturb(model, "default", 1)
    bottleneck.save(model, tmp_path, base="some/base")
    fresh = tiny(kind)
    before = logits(fresh)
    bottleneck.load(fresh, tmp_path, "again")
    assert torch.equal(logits(fresh), before)  # loaded, not yet in use
    bottleneck.set_active(fresh, "again")
    assert torch.equal(logits(fresh), logits(model))
    assert not any(p.requires_grad for name, p in fresh.named_parameters() if ".adapters." in name)
    saved = bottleneck.read_config(tmp_path)
    assert (saved.base, saved.config) == ("some/base", config)


def test_an_adapter_fits_every_head_of_its_model(tmp_path: Path) -> None:
    model = bottleneck.add(tiny("bert"), Bottleneck(size=3))
    disturb(model, "default", 1)
    bottleneck.save(model, tmp_path)
    bare = bottleneck.load(tiny("bert", transformers.AutoModel), tmp_path)
    bare.load_state_dict(model.bert.state_dict(), strict=False)
    bottleneck.set_active(bare, "default")
    with torch.no_grad():
        assert torch.equal(bare(input_ids=IDS).pooler_output, model.bert(input_ids=IDS).pooler_output)


def test_adapters_on_one_base_equal_each_alone(tmp_path: Path) -> None:
    configs = {
        "both": Bottleneck(size=3),
        "mlp": Bottleneck(placement="pfeiffer", reduction=4, activation="relu"),
    }
    alone, shared = {}, tiny("llama")
    for seed, (name, config) in enumerate(configs.items()):
        model = bottleneck.add(tiny("llama"), config)
        disturb(model, "default", seed)
        alone[name] = logits(model)
        bottleneck.save(model, tmp_path / name)
        bottleneck.load(shared, tmp_path / name, name)
    base = logits(tiny("llama"))
    assert not torch.allclose(alone["both"], alone["mlp"])
    for name in ("both", "mlp", "both", None, "mlp"):
        bottleneck.set_active(shared, name)
        assert torch.equal(logits(shared), base if name is None else alone[name])
    with bottleneck.disabled(shared):
        assert bottleneck.active(shared) is None
        assert torch.equal(logits(shared), base)
    assert bottleneck.active(shared) == "mlp"
    assert bottleneck.names(shared) == ["both", "mlp"]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "opt"])
def test_generation_with_a_cache_equals_generation_without(kind: str) -> None:
    model = bottleneck.add(tiny(kind), Bottleneck(size=3))
    disturb(model, "default", 1)
    options = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    ids = IDS[:1]
    cached = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True, **options)
    plain = ids
    with torch.no_grad():
        for _ in range(8):
            plain = torch.cat(
                [plain, model(input_ids=plain, use_cache=False).logits[:, -1:].argmax(-1)], dim=1
            )
    assert torch.equal(cached, plain)
    bottleneck.set_active(model, None)
    ours = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True, **options)
    base = tiny(kind).generate(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=True, **options)
    assert torch.equal(ours, base)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_gradients_survive_checkpointing_and_reach_through_the_target_loss(kind: str) -> None:
    model = bottleneck.add(tiny(kind), Bottleneck(size=3)).train()
    disturb(model, "default", 1)
    model.config.use_cache = False
    for module in model.modules():  # dropout would differ between the two passes
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    places = torch.arange(0, 11)
    batch = Batch(IDS, places, IDS[0, 1:], torch.zeros(11, dtype=torch.int64))
    expected = torch.nn.functional.cross_entropy(
        model(input_ids=IDS).logits[0, :-1], IDS[0, 1:], reduction="sum"
    )
    expected.backward()
    plain = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert plain
    assert all(".adapters." in name for name in plain)

    model.zero_grad()
    model.gradient_checkpointing_enable()
    loss = TargetLoss(model)
    assert loss.matches_model()
    value = loss(batch)
    value.backward()
    torch.testing.assert_close(value, expected)
    again = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert again.keys() == plain.keys()
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-4, atol=1e-6)


def test_weights_are_float32_on_a_bfloat16_base() -> None:
    model = tiny("llama").to(torch.bfloat16)
    before = logits(model)
    bottleneck.add(model, Bottleneck(size=3))
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert torch.equal(logits(model), before)
    disturb(model, "default", 1)
    assert logits(model).dtype == torch.bfloat16
    model(input_ids=IDS).logits.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters() if p.requires_grad)


def test_an_adapter_on_a_four_bit_base(tmp_path: Path) -> None:
    tiny("llama").save_pretrained(tmp_path)
    quantised = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path,
        device_map={"": "cpu"},
        dtype=torch.float32,
        quantization_config=transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
        ),
    )
    for module in quantised.modules():  # else the layers are repacked for inference and pass no gradient
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    before = logits(quantised)
    bottleneck.add(quantised, Bottleneck(size=3))
    assert torch.equal(logits(quantised), before)
    disturb(quantised, "default", 1)
    quantised(input_ids=IDS).logits.sum().backward()
    gradients = [p.grad for p in quantised.parameters() if p.requires_grad]
    assert gradients
    assert all(g is not None and g.abs().sum() > 0 for g in gradients)


def test_the_bundled_model_learns_with_an_adapter() -> None:
    from engine.bundled.catalogue import model_path

    model = transformers.AutoModelForCausalLM.from_pretrained(model_path("stdlib-2m"), dtype=torch.float32)
    torch.manual_seed(0)
    bottleneck.add(model, Bottleneck(placement="pfeiffer")).train()
    optimiser = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(12):
        loss = model(input_ids=IDS, labels=IDS).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.5


# ---- what is refused -----------------------------------------------------------------------------


def test_unknown_architectures_are_told_what_was_looked_for() -> None:
    experts = transformers.AutoConfig.for_model("mixtral", **{**SIZES, "num_local_experts": 2})
    model = transformers.AutoModelForCausalLM.from_config(experts)
    with pytest.raises(
        AdapterError, match=r"MixtralDecoderLayer.*output projection of its MLP.*mlp\.down_proj"
    ):
        bottleneck.add(model, Bottleneck())
    assert not any(isinstance(module, Adapted) for module in model.modules())  # untouched
    t5 = transformers.AutoConfig.for_model(
        "t5", vocab_size=VOCABULARY, d_model=WIDTH, d_ff=48, num_layers=1, num_heads=4, d_kv=8
    )
    with pytest.raises(AdapterError, match="encoder-decoder"):
        bottleneck.add(transformers.AutoModelForSeq2SeqLM.from_config(t5), Bottleneck())


@pytest.mark.parametrize("name", ["a.b", "", "keys", "two words", "training"])
def test_names_that_a_module_cannot_have(name: str) -> None:
    with pytest.raises(AdapterError, match="use letters"):
        bottleneck.add(tiny("llama"), Bottleneck(), name)


def test_names_taken_and_names_unknown() -> None:
    model = bottleneck.add(tiny("llama"), Bottleneck())
    with pytest.raises(AdapterError, match="choose another"):
        bottleneck.add(model, Bottleneck())
    with pytest.raises(AdapterError, match=r"no adapter named 'other'.*default"):
        bottleneck.set_active(model, "other")


def damage_config(directory: Path) -> None:
    body = json.loads((directory / bottleneck.CONFIG_FILE).read_text())
    body["config"]["placement"] = "everywhere"
    (directory / bottleneck.CONFIG_FILE).write_text(json.dumps(body))


def drop_a_tensor(directory: Path) -> None:
    tensors = load_file(directory / bottleneck.WEIGHTS_FILE)
    del tensors["1.mlp.up.bias"]
    save_file(tensors, directory / bottleneck.WEIGHTS_FILE)


def cut_the_weights(directory: Path) -> None:
    path = directory / bottleneck.WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (damage_config, r"bottleneck\.json, key config\.placement"),
        (drop_a_tensor, r"1\.mlp\.up\.bias is missing"),
        (cut_the_weights, r"bottleneck\.safetensors: cannot be read"),
        (lambda directory: (directory / bottleneck.CONFIG_FILE).unlink(), "give a saved adapter"),
        (lambda directory: (directory / bottleneck.WEIGHTS_FILE).unlink(), "cannot be read"),
    ],
)
def test_a_damaged_adapter_is_refused_and_the_model_stays_as_it_was(
    damage: Any, told: str, tmp_path: Path
) -> None:
    bottleneck.save(bottleneck.add(tiny("llama"), Bottleneck()), tmp_path)
    damage(tmp_path)
    model = tiny("llama")
    with pytest.raises(AdapterError, match=told):
        bottleneck.load(model, tmp_path)
    assert bottleneck.names(model) == []


def test_an_adapter_of_another_model_is_refused(tmp_path: Path) -> None:
    bottleneck.save(bottleneck.add(tiny("llama"), Bottleneck()), tmp_path)
    with pytest.raises(AdapterError, match=r"llama, 2 blocks.*qwen2"):
        bottleneck.load(tiny("qwen2"), tmp_path)
    wider = copy.deepcopy(tiny("llama").config)
    wider.hidden_size = 2 * WIDTH
    with pytest.raises(AdapterError, match="this model needs"):
        bottleneck.load(transformers.AutoModelForCausalLM.from_config(wider), tmp_path)
