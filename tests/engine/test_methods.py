"""What each method trains, what it freezes, and in how many bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from peft.tuners.lora import LoraLayer

from engine.basics.cpu import is_fast_in_bf16
from engine.basics.errors import ModelError
from engine.bundled.catalogue import model_path
from engine.data.chat import Example
from engine.losses.batches import Batch, collate
from engine.losses.loss import TargetLoss
from engine.models import load
from engine.models.load import count_parameters, load_model, longest, precision, save_model
from engine.models.methods.vectors import initialise_tokens
from engine.models.source import resolve
from engine.models.tokenizer import load_tokenizer
from engine.recipe.methods import IA3, Adapter, Freeze, Full, Lora, Prefix, Prompt, QLora
from engine.recipe.sections import ModelSpec, Recipe, Train
from engine.training.optimiser import make_optimiser, set_rate

BUNDLED = ModelSpec(path="bundled:stdlib-2m")
FP32 = torch.float32


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    examples = [Example(str(n), rng.integers(6, 3000, n).astype(np.int32), np.arange(n) > 2) for n in (9, 14)]
    return collate(examples, torch.device("cpu"))


def backward(model, batch) -> dict[str, torch.Tensor]:
    model.zero_grad()
    TargetLoss(model)(batch).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_full_trains_every_weight_in_float32_whatever_the_precision(batch):
    model = load_model(BUNDLED, Full(name="full"), torch.bfloat16)
    parameters = dict(model.named_parameters())
    assert {p.dtype for p in parameters.values()} == {FP32}
    assert backward(model, batch).keys() == parameters.keys()


@pytest.mark.parametrize("dtype", [FP32, torch.bfloat16])
def test_freeze_trains_the_last_blocks_and_the_norm_in_float32(dtype, batch):
    model = load_model(BUNDLED, Freeze(name="freeze", layers=2), dtype)
    trained = {name: p.dtype for name, p in model.named_parameters() if p.requires_grad}
    assert {name.removeprefix("model.").partition(".self")[0].partition(".mlp")[0] for name in trained} >= {
        "layers.3",
        "layers.4",
        "norm.weight",
    }
    assert all(name.startswith(("model.layers.3.", "model.layers.4.", "model.norm.")) for name in trained)
    assert set(trained.values()) == {FP32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {dtype}
    with torch.autocast("cpu", dtype, enabled=dtype != FP32):
        assert TargetLoss(model.eval()).matches_model()
        assert backward(model, batch).keys() == trained.keys()


@pytest.mark.parametrize("method", [Lora(name="lora"), Lora(name="lora", dora=True), QLora(name="qlora")])
def test_lora_takes_its_inputs_in_bfloat16_with_the_gradients_of_peft_that_casts_them(method, batch):
    model = load_model(BUNDLED, method, torch.bfloat16)
    with torch.no_grad():
        for name, value in model.named_parameters():  # with B at zero, A would have no gradient
            if ".lora_B." in name:
                value.normal_(std=0.02, generator=torch.Generator().manual_seed(0))
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    kinds, gradients = [], []
    layers[0].lora_A["default"].register_forward_pre_hook(lambda _, args: kinds.append(args[0].dtype))
    dora = getattr(method, "dora", False)
    for casts in (False, True):
        assert casts or all(layer.cast_input_dtype_enabled == dora for layer in layers)
        for layer in layers if casts else ():
            layer.cast_input_dtype_enabled = casts
        with torch.autocast("cpu", torch.bfloat16):
            gradients.append(backward(model, batch))
    assert set(kinds) == ({FP32} if dora else {FP32, torch.bfloat16})
    ours, theirs = gradients
    for name, gradient in ours.items():
        assert torch.allclose(gradient, theirs[name], rtol=0.02, atol=0.002 * float(theirs[name].abs().max()))


def test_freeze_trains_modules_by_name_and_tells_of_unknown_ones():
    model = load_model(BUNDLED, Freeze(name="freeze", modules=["q_proj", "layers.4.mlp"]), FP32)
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert {name for name in trained if "q_proj" not in name} == {
        f"model.layers.4.mlp.{part}.weight" for part in ("gate_proj", "up_proj", "down_proj")
    }
    assert len(trained) == 5 + 3
    tied = load_model(BUNDLED, Freeze(name="freeze", modules=["lm_head"]), FP32)
    assert [n for n, p in tied.named_parameters() if p.requires_grad] == ["model.embed_tokens.weight"]
    with pytest.raises(ModelError, match=r"method\.modules: no module .* is named query; there is: .*q_proj"):
        load_model(BUNDLED, Freeze(name="freeze", modules=["query"]), FP32)
    with pytest.raises(ModelError, match=r"method\.layers: 9 is more than the 5 blocks"):
        load_model(BUNDLED, Freeze(name="freeze", layers=9), FP32)


def test_freeze_saves_a_whole_model_in_the_format_of_its_trained_part(tmp_path):
    method = Freeze(name="freeze", layers=1)
    model = load_model(BUNDLED, method, torch.bfloat16)
    before = {name: p.detach().float() for name, p in model.named_parameters()}
    save_model(model, method, tmp_path)
    again = load_model(ModelSpec(path=str(tmp_path)), Full(name="full"), FP32)
    assert again.config.dtype == FP32
    assert all(torch.equal(p, before[name]) for name, p in again.named_parameters())


@pytest.mark.parametrize("dtype", [FP32, torch.bfloat16])
def test_lora_trains_adapters_in_float32_on_a_frozen_base(dtype):
    model = load_model(BUNDLED, Lora(name="lora", r=4), dtype)
    trained = {name: p.dtype for name, p in model.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name and kind == FP32 for name, kind in trained.items())
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {dtype}
    assert not any("lm_head" in name or "embed" in name for name in trained)


def test_targets_choose_the_layers():
    model = load_model(BUNDLED, Lora(name="lora", r=4, targets=["q_proj"]), FP32)
    assert {
        n.split(".lora_")[0].rpartition(".")[2] for n, p in model.named_parameters() if p.requires_grad
    } == {"q_proj"}


def test_lora_plus_trains_b_at_a_rate_of_its_own():
    model = load_model(BUNDLED, Lora(name="lora", r=4), FP32)
    optimiser = make_optimiser(model, Train(weight_decay=0.1), lora_b_scale=16.0)
    set_rate(optimiser, 1e-3)
    rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert len(rates) == len(trained)
    for name, parameter in trained.items():
        assert rates[id(parameter)] == pytest.approx(16e-3 if ".lora_B." in name else 1e-3)


@pytest.mark.parametrize("dtype", [FP32, torch.bfloat16])
@pytest.mark.parametrize(
    "method", [IA3(name="ia3"), Prefix(name="prefix", tokens=5), Prompt(name="prompt", tokens=5)]
)
def test_vectors_are_trained_in_float32_on_a_frozen_base_as_peft_runs_them(method, dtype):
    model = load_model(BUNDLED, method, dtype)
    base = model.get_base_model()
    if not isinstance(method, IA3):
        initialise_tokens(model, method, range(10, 13))
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert {p.dtype for p in trained.values()} == {FP32}
    assert {p.dtype for name, p in model.named_parameters() if name not in trained} == {dtype}
    with torch.no_grad():
        for parameter in trained.values():
            parameter += 0.3 * torch.randn_like(parameter)
    ids = torch.arange(20, 38).reshape(2, 9)
    places = torch.arange(18)
    with torch.autocast("cpu", dtype, enabled=dtype != FP32), torch.no_grad():
        loss = TargetLoss(model.eval())
        assert loss.matches_model()
        ours = loss.logits(loss.hidden(Batch(ids, places, places, places)))
        theirs = model(input_ids=ids).logits[:, -9:].flatten(0, 1).float()
        plain = base(input_ids=ids).logits if isinstance(method, Prompt | Prefix) else None
        with model.disable_adapter():
            without = loss.logits(loss.hidden(Batch(ids, places, places, places)))
    torch.testing.assert_close(ours, theirs)
    assert (ours - without).abs().max() > 0.1
    if plain is not None:
        torch.testing.assert_close(without, plain.flatten(0, 1).float())


@pytest.mark.parametrize("method", [Prefix(name="prefix", tokens=5), Prompt(name="prompt", tokens=5)])
def test_virtual_tokens_begin_as_real_ones(method):
    """What follows has the logits that it has after these tokens in a plain text."""
    model = load_model(BUNDLED, method, FP32)
    initialise_tokens(model, method, [10, 11, 12])
    plain = load_model(BUNDLED, Full(name="full"), FP32)
    ids = torch.tensor([[40, 41, 42]])
    before = torch.tensor([[10, 11, 12, 10, 11]])
    with torch.no_grad():
        expected = plain(input_ids=torch.cat([before, ids], 1)).logits[:, 5:]
        torch.testing.assert_close(model(input_ids=ids).logits[:, -3:], expected, rtol=1e-4, atol=1e-4)


def test_weight_decay_leaves_the_vectors_of_ia3_alone():
    model = load_model(BUNDLED, IA3(name="ia3"), FP32)
    assert {
        group["weight_decay"] for group in make_optimiser(model, Train(weight_decay=0.1)).param_groups
    } == {0.0}


def test_pissa_begins_as_the_base_and_trains_its_largest_singular_vectors(batch):
    plain = TargetLoss(load_model(BUNDLED, Full(name="full"), FP32)).scores(batch).nll
    model = load_model(BUNDLED, Lora(name="lora", r=4, init="pissa"), FP32)
    torch.testing.assert_close(TargetLoss(model.eval()).scores(batch).nll, plain, rtol=1e-4, atol=1e-4)
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    original = load_model(BUNDLED, Full(name="full"), FP32).model.layers[0].self_attn.q_proj.weight
    taken = torch.linalg.svdvals(
        layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    )
    torch.testing.assert_close(taken[:4], torch.linalg.svdvals(original)[:4], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("quant", "double"), [("nf4", True), ("fp4", False)])
def test_qlora_really_holds_four_bits(quant, double):
    from bitsandbytes.nn import Linear4bit, Params4bit

    method = QLora(name="qlora", r=4, quant=quant, double_quant=double)
    model, plain = load_model(BUNDLED, method, FP32), load_model(BUNDLED, Full(name="full"), FP32)
    layers = [(name, m) for name, m in model.named_modules() if isinstance(m, Linear4bit)]
    assert len(layers) == 5 * 7  # the attention's and the MLP's, in each of five blocks
    for name, layer in layers:
        original = plain.get_submodule(name.split("base_model.model.")[1].removesuffix(".base_layer")).weight
        weight = layer.weight
        assert isinstance(weight, Params4bit)
        assert weight.dtype == torch.uint8
        assert weight.numel() == original.numel() // 2  # two to a byte
        assert (weight.quant_state.quant_type, weight.quant_state.nested) == (quant, double)
    # The head is tied to the embeddings, which stay as they are.
    assert model.get_base_model().get_output_embeddings().weight.dtype == FP32
    assert count_parameters(model) == count_parameters(plain) + count_parameters(model, trained_only=True)


def test_an_evaluation_does_not_break_the_gradients_of_qlora(batch):
    """On CPUs with AVX512-BF16 bitsandbytes would repack the weights at the first evaluation, for good."""
    torch.manual_seed(0)
    model = load_model(BUNDLED, QLora(name="qlora", r=4), FP32)
    before = backward(model, batch)
    model.eval()
    scored = TargetLoss(model).scores(batch).nll.sum().item()
    model.train()
    assert scored == pytest.approx(TargetLoss(model)(batch).item(), rel=1e-6)
    after = backward(model, batch)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert any(gradient.abs().max() > 0 for gradient in before.values())


def test_qlora_starts_near_the_model_it_quantises(batch):
    plain = TargetLoss(load_model(BUNDLED, Full(name="full"), FP32)).scores(batch).nll.mean()
    four = TargetLoss(load_model(BUNDLED, QLora(name="qlora"), FP32)).scores(batch).nll.mean()
    assert 0 < abs(four - plain) < 0.5


def test_auto_precision_is_what_the_processor_is_made_for(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(load, "cpu_has_bf16", lambda: False)
    assert precision(Train()) == FP32
    monkeypatch.setattr(load, "cpu_has_bf16", lambda: True)
    assert precision(Train()) == torch.bfloat16
    assert precision(Train(precision="fp32")) == FP32
    assert precision(Train(precision="bf16")) == torch.bfloat16


@pytest.mark.parametrize(
    ("cpuinfo", "fast"),
    [
        ("vendor_id : GenuineIntel\nflags : avx512f avx512_bf16 amx_bf16 amx_tile", True),
        ("vendor_id : AuthenticAMD\nflags : avx512f avx512_bf16", True),
        ("vendor_id : GenuineIntel\nflags : avx512f avx512_bf16", False),  # not measured
        ("vendor_id : AuthenticAMD\nflags : avx2", False),
        ("processor : 0\nFeatures : fp asimd bf16", False),
    ],
)
def test_a_processor_is_made_for_bfloat16_where_it_was_measured_to_be_faster(cpuinfo, fast):
    assert is_fast_in_bf16(cpuinfo) is fast


def test_models_and_tokenizers_that_are_not_there_are_told(tmp_path):
    for path, sentence in [
        ("bundled:gpt-9", "there is: stdlib-2m"),
        (str(tmp_path / "none"), "there is no such directory"),
        (str(tmp_path), "has no config.json"),
    ]:
        with pytest.raises(ModelError, match=sentence):
            resolve(path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be loaded"):
        load_model(ModelSpec(path=str(tmp_path)), Full(name="full"), FP32)
    with pytest.raises(ModelError, match="tokenizer cannot be loaded"):
        load_tokenizer(ModelSpec(path=str(tmp_path)))


def test_unknown_targets_are_told_with_the_known_ones():
    with pytest.raises(ModelError, match=r"LlamaForCausalLM has no layer query; layers: .*q_proj"):
        load_model(BUNDLED, Lora(name="lora", targets=["query"]), FP32)


def test_a_model_whose_weights_are_a_pickle_is_refused(tmp_path):
    model = load_model(BUNDLED, Full(name="full"), FP32)
    model.config.save_pretrained(tmp_path)
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load_model(ModelSpec(path=str(tmp_path)), Full(name="full"), FP32)


def test_the_longest_input_is_the_models():
    assert longest(BUNDLED, load_tokenizer(BUNDLED)) == 1024
    assert resolve("bundled:stdlib-2m") == str(model_path("stdlib-2m"))
    assert resolve("org/model") == "org/model"


@pytest.mark.parametrize("dtype", [FP32, torch.bfloat16])
def test_adapter_trains_bottlenecks_in_float32_on_a_frozen_base(dtype):
    model = load_model(BUNDLED, Adapter(name="adapter", placement="pfeiffer", reduction=8), dtype)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    assert len(trained) == 5 * 4  # weight and bias, down and up, in each of five blocks
    assert all(".adapters.default." in name and p.dtype == FP32 for name, p in trained.items())
    assert {p.dtype for name, p in model.named_parameters() if name not in trained} == {dtype}


@pytest.mark.parametrize(
    "method",
    [
        Full(name="full"),
        Freeze(name="freeze"),
        Lora(name="lora", r=4),
        QLora(name="qlora", r=4),
        Adapter(name="adapter"),
    ],
)
def test_activation_checkpointing_changes_no_gradient(method, batch) -> None:
    torch.manual_seed(0)
    plain = backward(load_model(BUNDLED, method, FP32).train(), batch)
    torch.manual_seed(0)
    again = backward(load_model(BUNDLED, method, FP32, activation_checkpointing=True).train(), batch)
    assert plain.keys() == again.keys()
    for name in plain:
        torch.testing.assert_close(plain[name], again[name])


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_vision_tower_is_not_trained(method, tmp_path):
    """Text never runs it; in several processes its missing gradients would be waited for."""
    from transformers import AutoTokenizer, Gemma3Config, Gemma3ForConditionalGeneration

    tokenizer = AutoTokenizer.from_pretrained(model_path("stdlib-2m"))
    same = {"num_attention_heads": 2}
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        **same,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "image_size": 28,
        "patch_size": 14,
    }
    config = Gemma3Config(
        text_config={**text, "num_key_value_heads": 1, "head_dim": 16}, vision_config={**vision, **same}
    )
    Gemma3ForConditionalGeneration(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    recipe = Recipe.model_validate({"model": str(tmp_path), "method": method, "data": {"train": "-"}})
    model = load_model(recipe.model, recipe.method, torch.float32)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert sum("language_model.layers" in name for name in trained) >= 24
    assert not [name for name in trained if "language_model" not in name]
