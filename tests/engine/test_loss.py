"""The loss equals the textbook's, whatever the head, the chunks, the padding and the accumulation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM, LlamaConfig

from engine.data.chat import Example
from engine.losses import loss as loss_module
from engine.losses.batches import collate
from engine.losses.loss import TargetLoss

CPU = torch.device("cpu")
RNG = np.random.default_rng(0)


def example(length: int) -> Example:
    mask = np.arange(length) >= length // 2
    return Example(str(length), RNG.integers(1, 90, length).astype(np.int32), mask)


EXAMPLES = [example(n) for n in (12, 5, 9, 20)]


def llama(tied: bool = True, **changes):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
        **changes,
    )
    return AutoModelForCausalLM.from_config(config)


def lora(model):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    return model


MODELS = {
    "full, tied head": lambda: llama(),
    "full, head of its own": lambda: llama(tied=False),
    "lora, tied head": lambda: lora(llama()),
    "lora on the head": lambda: lora_on_head(),
}


def lora_on_head():
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=4, target_modules=["q_proj", "lm_head"], init_lora_weights=False)
    return get_peft_model(llama(tied=False), config)


def plain_loss(model, examples) -> torch.Tensor:
    """Full logits, one example at a time, PyTorch's cross-entropy: the definition."""
    total = torch.zeros(())
    for e in examples:
        ids = torch.tensor(e.tokens, dtype=torch.long)[None]
        logits = model(input_ids=ids).logits[0, :-1]
        labels = torch.where(torch.tensor(e.mask), ids[0], -100)[1:]
        total = total + F.cross_entropy(logits, labels, reduction="sum")
    return total


def gradients(model, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS.keys())
@pytest.mark.parametrize("chunk", [64, 2**26 // 97])
def test_loss_and_gradients_equal_plain_cross_entropy(monkeypatch, make, chunk):
    examples = EXAMPLES * 8  # 184 targets: three chunks of 64
    monkeypatch.setattr(loss_module, "LOGITS_AT_ONCE", chunk * 97)
    model = make()
    ours = TargetLoss(model)(collate(examples, CPU))
    theirs = plain_loss(model, examples)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    expected = gradients(model, theirs)
    found = gradients(model, TargetLoss(model)(collate(examples, CPU)))
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-4 * float(gradient.abs().max()))


def test_logits_are_never_larger_than_a_chunk(monkeypatch):
    monkeypatch.setattr(loss_module, "LOGITS_AT_ONCE", 64 * 97)
    model, sizes = llama(), []
    model.get_output_embeddings().register_forward_hook(lambda module, args, out: sizes.append(out.numel()))
    TargetLoss(model)(collate(EXAMPLES * 8, CPU)).backward()
    assert max(sizes) == 64 * 97
    assert len(sizes) > 4  # computed again in the backward pass


def test_accumulation_over_unequal_lengths_equals_one_batch():
    model = llama()
    targets = sum(e.targets for e in EXAMPLES)
    whole = gradients(model, TargetLoss(model)(collate(EXAMPLES, CPU)) / targets)
    model.zero_grad()
    for part in ([EXAMPLES[0]], EXAMPLES[1:3], [EXAMPLES[3]]):
        (TargetLoss(model)(collate(part, CPU)) / targets).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, whole[name], rtol=1e-4, atol=1e-6)


def test_padding_and_neighbours_change_nothing():
    model = llama()
    together = TargetLoss(model).scores(collate(EXAMPLES, CPU)).nll
    alone = torch.cat([TargetLoss(model).scores(collate([e], CPU)).nll for e in EXAMPLES])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("positions", "length"), [(20, 20), (32, 32), (2048, 32)])
def test_rows_are_padded_to_few_lengths_but_never_beyond_what_the_model_takes(positions, length):
    loss = TargetLoss(llama(max_position_embeddings=positions))
    batch = loss.collate(EXAMPLES, CPU)
    assert batch.input_ids.shape == (len(EXAMPLES), length)
    torch.testing.assert_close(loss(batch), loss(collate(EXAMPLES, CPU)), rtol=1e-5, atol=1e-5)


def test_scores_add_up_to_the_loss_and_know_what_is_right():
    model = llama()
    batch = collate(EXAMPLES, CPU)
    scores = TargetLoss(model).scores(batch)
    assert scores.nll.sum().item() == pytest.approx(TargetLoss(model)(batch).item(), rel=1e-5)
    logits = model(input_ids=batch.input_ids).logits.flatten(0, 1)[batch.positions]
    assert scores.right.tolist() == (logits.argmax(-1) == batch.targets).tolist()


def test_a_model_that_scales_its_logits_is_scored_as_it_scores_itself():
    from transformers import Gemma2Config, GraniteConfig

    small = {
        "vocab_size": 97,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
    }
    for config in (
        GraniteConfig(**small, logits_scaling=7.0),
        Gemma2Config(**small, final_logit_softcapping=0.1),
    ):
        model = AutoModelForCausalLM.from_config(config)
        assert TargetLoss(model).matches_model(), type(config)


def test_a_head_that_is_not_the_models_own_is_found_out():
    model = llama(tied=False)
    original = model.forward
    model.forward = lambda **inputs: _scaled(original(**inputs))
    assert not TargetLoss(model).matches_model()


def _scaled(out):
    out.logits = out.logits * 3
    return out
