"""Greedy answers to a few fixed held-out prompts, for people to read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from engine.data.chat import render_prompt
from engine.data.formats import Document


@torch.no_grad()
def answers(
    model: Any, tokenizer: Any, documents: Sequence[Document], max_new_tokens: int, device: torch.device
) -> list[str]:
    """One answer per document, at most `max_new_tokens` tokens, cut at the end of the turn."""
    if not documents:
        return []
    prompts = [render_prompt(document.turns_before_answer, tokenizer) for document in documents]
    longest = max(map(len, prompts))
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
    ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in prompts], device=device)
    written = model.generate(
        input_ids=ids,
        attention_mask=mask,
        do_sample=False,
        max_new_tokens=max_new_tokens,
        pad_token_id=pad,
        eos_token_id=_ends(model, tokenizer),
        use_cache=True,
    )
    return tokenizer.batch_decode(written[:, longest:], skip_special_tokens=True)


def _ends(model: Any, tokenizer: Any) -> list[int] | None:
    """The tokens that end an answer, by the model's generation settings and by the tokenizer."""
    of_model = model.generation_config.eos_token_id
    ends = {*(of_model if isinstance(of_model, list) else [of_model]), tokenizer.eos_token_id} - {None}
    return sorted(ends) or None
