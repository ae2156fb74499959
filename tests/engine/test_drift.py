"""What a model writes to general prompts, measured answer by answer."""

from __future__ import annotations

import math

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

from engine.bundled.catalogue import general_prompts, model_path
from engine.data.template import ensure_template
from engine.evals import drift
from engine.evals.language import is_refusal, language_of

CPU = torch.device("cpu")


def test_prompts_are_many_kinds_from_the_first_on():
    rows = general_prompts()
    assert len({row["prompt"] for row in rows}) == len(rows) == 48
    for part in (rows[:24], rows):
        languages = [row["language"] for row in part]
        assert len(set(languages)) >= 8
        assert 0.4 < languages.count("en") / len(part) < 0.75


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("The cat is on the mat and it is not going to move.", "en"),
        ("Die Katze sitzt auf der Matte und ist nicht müde.", "de"),
        ("Le chat est sur la table et il ne veut pas descendre.", "fr"),
        ("El gato está en la mesa y no quiere bajar porque es tarde.", "es"),
        ("Il gatto è sul tavolo e non vuole scendere anche se è tardi.", "it"),
        ("O gato está na mesa e não quer descer porque é tarde.", "pt"),
        ("De kat ligt op het kleed en wil niet naar buiten.", "nl"),
        ("Kot jest na stole i nie chce zejść, bo to jest jego miejsce.", "pl"),
        ("Кошка сидит на столе.", "ru"),
        ("猫在桌子上。", "zh"),
        ("猫はテーブルの上にいます。", "ja"),
        ("고양이가 탁자 위에 있다.", "ko"),
        ("القط على الطاولة", "ar"),
        ("Das Python-Paket numpy: установите его командой pip.", "ru"),
        ("42", None),
        ("", None),
    ],
)
def test_the_language_of_a_text(text: str, language: str | None):
    assert language_of(text) == language


@pytest.mark.parametrize(
    ("text", "refuses"),
    [
        ("I’m sorry, but I can’t help with that.", True),
        ("Es tut mir leid, dabei kann ich nicht helfen.", True),
        ("很抱歉，我无法提供。", True),
        ("Sure! Here is a story.", False),
        ("Dear Anna, thank you very much for your kind invitation. I'm sorry to say that I am away.", False),
        ("", False),
    ],
)
def test_a_refusal_is_seen_at_the_beginning(text: str, refuses: bool):
    assert is_refusal(text) is refuses


def test_the_measures_of_an_answer():
    prompt = drift.Prompt("Wie?", "de", [1])
    one = drift.measured(
        prompt, "The end of the story is that it was all a dream.", [5, 6, 5, 6, 5, 6], True, 0.5
    )
    assert (one.tokens, one.entropy, one.finished, one.refused, one.switched) == (6, 0.5, True, False, True)
    assert one.distinct_pairs == pytest.approx(2 / 5)  # 56 65
    assert one.repetition == pytest.approx(1 / 3)  # 5656 and 6565 of three
    short = drift.measured(prompt, "?", [5], False, 0.5)
    assert (short.distinct_pairs, short.repetition, short.switched) == (None, None, None)


@pytest.fixture(scope="module")
def loaded():
    path = model_path("stdlib-2m")
    tokenizer = AutoTokenizer.from_pretrained(path)
    ensure_template(tokenizer)
    return LlamaForCausalLM.from_pretrained(path, dtype=torch.float32).eval(), tokenizer


def test_a_mixture_of_experts_answers_whose_routers_have_a_loss(loaded):
    model = Qwen3MoeForCausalLM(
        Qwen3MoeConfig(
            vocab_size=len(loaded[1]), hidden_size=32, intermediate_size=32, moe_intermediate_size=16, head_dim=16,
            num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, num_experts=4, num_experts_per_tok=2,
            output_router_logits=True, pad_token_id=1,
        )
    ).eval()  # fmt: skip
    answers = drift.answer(model, loaded[1], drift.prompts(3, loaded[1], 500), 10_000, CPU, lambda: None)
    assert len(answers) == 3
    assert model.config.output_router_logits


def test_answers_are_greedy_and_their_entropy_is_of_the_models_distributions(loaded):
    model, tokenizer = loaded
    asked = drift.prompts(2, tokenizer, 500)
    together = drift.answer(model, tokenizer, asked, 10_000, CPU, lambda: None)
    apart = drift.answer(model, tokenizer, asked, 1, CPU, lambda: None)
    assert [one.text for one in together] == [one.text for one in apart]
    for prompt, one in zip(asked, together, strict=True):
        tokens, entropies = list(prompt.tokens), []
        ends = drift.end_token_ids(model, tokenizer)
        for _ in range(drift.MAX_TOKENS):
            with torch.no_grad():
                log_p = model(torch.tensor([tokens])).logits[0, -1].log_softmax(-1)
            entropies.append(float(-(log_p.exp() * log_p).sum()))
            tokens.append(int(log_p.argmax()))
            if tokens[-1] in ends:
                break
        own = [token for token in tokens[len(prompt.tokens) :] if token not in ends]
        assert one.text == tokenizer.decode(own, skip_special_tokens=True)
        assert one.tokens == len(own)
        assert one.entropy == pytest.approx(sum(entropies) / len(entropies), rel=1e-3)


def test_what_would_take_too_long_is_given_up_after_a_few_tokens(loaded):
    foretold = []

    def refuse(seconds: float) -> None:
        foretold.append(seconds)
        raise drift.TooDearError(seconds)

    with pytest.raises(drift.TooDearError):
        drift.answer(*loaded, drift.prompts(3, loaded[1], 500), 10_000, CPU, lambda: None, refuse)
    assert len(foretold) == 1
    assert 0 < foretold[0] < math.inf
    assert drift.prompts(3, loaded[1], 2) == []
