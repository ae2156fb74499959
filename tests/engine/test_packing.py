"""A packed example has the logits, the loss and the gradients that it has alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from engine.data.chat import Example
from engine.losses.batches import Batch, collate
from engine.losses.loss import TargetLoss
from engine.losses.packing import layout, pack, unpacked
from engine.training.job import compile_backbone
from finetui import bottleneck

CPU = torch.device("cpu")
SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
LENGTHS = (3, 4, 4, 9, 9, 10, 30)


def model_of(kind: str, **changes):
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **(SIZES | changes), pad_token_id=0, bos_token_id=1, eos_token_id=2)
    return AutoModelForCausalLM.from_config(config).eval()


def lora():
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    return get_peft_model(model_of("llama"), config).eval()


def dora():
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, target_modules="all-linear", use_dora=True, init_lora_weights=False)
    return get_peft_model(model_of("llama"), config).eval()


def with_bottlenecks():
    model = bottleneck.add(
        model_of("llama"), bottleneck.Bottleneck(placement="houlsby", reduction=4, activation="gelu")
    )
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1) if "weight" in name else None
    return model.eval()


MODELS = {
    "llama": lambda: model_of("llama"),
    "qwen3": lambda: model_of("qwen3", head_dim=8),
    "gpt2": lambda: model_of("gpt2", n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "mistral, window of 5": lambda: model_of("mistral", sliding_window=5),
    "llama, lora": lora,
    "llama, dora": dora,
    "llama, bottlenecks": with_bottlenecks,
}


def examples(lengths=LENGTHS) -> list[Example]:
    rng = np.random.default_rng(0)
    return [
        Example(str(i), rng.integers(3, 97, n).astype(np.int32), np.arange(n) >= max(1, n // 3))
        for i, n in enumerate(lengths)
    ]


def gradients(model, batches: list[Batch]) -> dict[str, torch.Tensor]:
    model.zero_grad()
    for batch in batches:
        TargetLoss(model)(batch).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("lengths", [LENGTHS, (30, 3, 9, 4), (7,)], ids=["sorted", "mixed", "one"])
def test_packed_examples_have_the_logits_and_gradients_they_have_alone(name, lengths):
    model = MODELS[name]()
    rows = examples(lengths)
    alone = [collate([row], CPU) for row in rows]
    loss = TargetLoss(model)
    expected = [loss.logits(loss.hidden(batch)) for batch in alone]
    wanted = gradients(model, alone)

    assert pack(model)
    packed = collate(rows, CPU, packed=True)
    assert packed.input_ids.shape == (1, 128 if sum(lengths) > 64 else 64)  # rounded up
    loss.packed = True
    torch.testing.assert_close(loss.logits(loss.hidden(packed)), torch.cat(expected), rtol=1e-4, atol=1e-5)
    found = gradients(model, [packed])
    assert found.keys() == wanted.keys()
    for key, gradient in wanted.items():
        torch.testing.assert_close(
            found[key], gradient, rtol=1e-3, atol=1e-4, msg=lambda m, k=key: f"{k}: {m}"
        )


def test_a_changed_example_changes_no_other():
    model = model_of("llama")
    assert pack(model)
    before, rows = examples(), examples()
    rows[3].tokens[:] = 5
    one, other = (TargetLoss(model).scores(collate(some, CPU, packed=True)) for some in (before, rows))
    same = collate(rows, CPU, packed=True).rows != 3
    assert torch.equal(one.nll[same], other.nll[same])
    assert not torch.allclose(one.nll[~same], other.nll[~same])


def test_with_activation_checkpointing_gradients_are_the_same():
    model = model_of("llama")
    assert pack(model)
    batch = collate(examples(), CPU, packed=True)
    plain = gradients(model, [batch])
    model.train().activation_checkpointing_enable({"use_reentrant": False})
    for key, gradient in gradients(model, [batch]).items():
        torch.testing.assert_close(gradient, plain[key])


def test_generation_pads_as_ever():
    model = model_of("llama")
    ids = torch.tensor([[0, 0, 5, 6], [7, 8, 9, 10]])
    options = {"attention_mask": (ids > 0).long(), "max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    expected = model.generate(input_ids=ids, **options)
    assert pack(model)
    with unpacked(model):
        assert torch.equal(model.generate(input_ids=ids, **options), expected)
    batch = collate(examples(), CPU, packed=True)
    assert torch.isfinite(TargetLoss(model)(batch))


@pytest.mark.parametrize("frozen", [0, 8, 16])
def test_rounding_of_16_bits_is_not_taken_for_examples_that_see_each_other(frozen):
    wide = {"hidden_size": 512, "num_attention_heads": 8, "num_key_value_heads": 4, "num_hidden_layers": 16}
    model = model_of("llama", **wide)
    model.model.layers[:frozen].to(torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        assert pack(model)


def test_state_that_runs_on_is_told_from_rounding():
    assert not pack(model_of("mamba", state_size=4).to(torch.bfloat16))


@pytest.mark.parametrize(
    ("kind", "changes"),
    [("mamba", {"state_size": 4}), ("gemma2", {"head_dim": 8, "query_pre_attn_scalar": 8})],
)
def test_models_that_cannot_be_packed_are_left_as_they_are(kind, changes):
    model = model_of(kind, **changes)
    was = model.config._attn_implementation
    assert not pack(model)
    assert model.config._attn_implementation == was


@pytest.mark.parametrize("kind", ["PrefixTuningConfig", "PromptTuningConfig"])
def test_virtual_tokens_cannot_be_packed(kind):
    import peft

    config = getattr(peft, kind)(task_type="CAUSAL_LM", num_virtual_tokens=4)
    assert not pack(peft.get_peft_model(model_of("llama"), config))


def test_buckets_hold_every_token_once_and_little_padding():
    lengths = sorted(int(n) for n in np.random.default_rng(1).integers(1, 2000, 60))
    where = layout(lengths)
    assert [b.start for b in where.buckets[1:]] == [b.end for b in where.buckets[:-1]]
    assert (where.buckets[0].start, where.buckets[-1].end) == (0, sum(lengths))
    for bucket in where.buckets:
        assert bucket.rows * bucket.longest <= 1.25 * (bucket.end - bucket.start)
        if bucket.grid is not None and bucket.places is not None:
            assert torch.equal(bucket.grid[bucket.places], torch.arange(bucket.end - bucket.start))
    assert where.position_ids[0].tolist() == [i for n in lengths for i in range(n)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_kernel_for_varying_lengths_gives_the_same():
    model = model_of("llama", hidden_size=256, head_dim=64).to("cuda", torch.bfloat16)
    loss, rows = TargetLoss(model), examples()
    device = torch.device("cuda")
    alone = [collate([row], device) for row in rows]
    expected = torch.cat([loss.logits(loss.hidden(batch)) for batch in alone])
    wanted = gradients(model, alone)
    assert pack(model)
    packed = collate(rows, device, packed=True)
    torch.testing.assert_close(loss.logits(loss.hidden(packed)), expected, rtol=5e-2, atol=5e-2)
    for key, gradient in gradients(model, [packed]).items():
        torch.testing.assert_close(gradient, wanted[key], rtol=1e-1, atol=1e-1)


def test_compiled_and_packed_the_loss_and_gradients_are_the_same(monkeypatch):
    """Traced and differentiated as always, without the minute in which a C++ compiler makes kernels of it."""
    compile_it = torch.nn.Module.compile
    traced = lambda model, **options: compile_it(model, backend="aot_eager", **options)  # noqa: E731
    monkeypatch.setattr(torch.nn.Module, "compile", traced)
    model = model_of("llama", num_hidden_layers=1)
    assert pack(model)
    batches = [collate(examples(lengths), CPU, packed=True) for lengths in (LENGTHS, (5, 6, 20))]
    plain = gradients(model, batches)
    compile_backbone(model)
    for key, gradient in gradients(model, batches).items():
        torch.testing.assert_close(gradient, plain[key], rtol=1e-3, atol=1e-5)


def longrope():
    """Texts of more than 16 tokens have other rotary embeddings, in all of their places."""
    rope = {"rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4, "long_factor": [8.0] * 4}
    rope["original_max_position_embeddings"] = 16
    return model_of("phi3", rope_parameters=rope, original_max_position_embeddings=16, initializer_range=0.3)


@pytest.mark.parametrize("packs", [True, False])
def test_lengths_that_change_rotary_embeddings_share_no_pass(packs):
    model, rows = longrope(), examples((30, 3, 16, 9, 17))
    alone = [collate([row], CPU) for row in rows]
    loss = TargetLoss(model)
    expected, wanted = torch.cat([loss.scores(batch).nll for batch in alone]), gradients(model, alone)
    mixed = loss.scores(collate(rows, CPU)).nll
    assert (mixed - expected).abs().max() > 1e-3  # together, all of them have those of the longest
    assert pack(model)
    loss.packed = packs
    batch = loss.collate(rows, CPU)
    torch.testing.assert_close(loss.scores(batch).nll, expected, rtol=1e-4, atol=1e-5)
    assert batch.rows.tolist() == sorted(batch.rows.tolist())
    model.zero_grad()
    loss(batch).backward()
    for name, parameter in model.named_parameters():
        if name in wanted:
            torch.testing.assert_close(parameter.grad, wanted[name], rtol=1e-3, atol=1e-4)
