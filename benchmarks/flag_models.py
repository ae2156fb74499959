"""The models of the flag benchmark: the bundled one, and small ones of other families and sizes, made on first use.

They are pretrained from random weights on the text and with the tokenizer of the bundled model, in minutes.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.basics.cpu import cpu_has_bf16
from engine.bundled import catalogue
from finetui.lock import Lock


@dataclass(frozen=True)
class Family:
    """An architecture of transformers, its sizes, and for how long it is pretrained."""

    config: str  # class of its configuration
    sizes: dict[str, Any]
    steps: int
    rows: int  # of LENGTH tokens in a step


LENGTH = 128
RATE = 2e-3
POSITIONS = 512

FAMILIES: dict[str, Family] = {
    "neox-1m": Family(
        "GPTNeoXConfig",
        {
            "hidden_size": 128,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "intermediate_size": 512,
            "max_position_embeddings": POSITIONS,
        },
        steps=1200,
        rows=32,
    ),
    # Grouped queries, norms of queries and keys, tied embeddings.
    "qwen3-0.5m": Family(
        "Qwen3Config",
        {
            "hidden_size": 80,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": 20,
            "intermediate_size": 224,
            "max_position_embeddings": POSITIONS,
            "tie_word_embeddings": True,
        },
        steps=1500,
        rows=16,
    ),
    # Learned positions, biases, norms with a mean, one matrix for queries, keys and values, held the other way round.
    "gpt2-1.5m": Family(
        "GPT2Config",
        {
            "n_embd": 144,
            "n_layer": 4,
            "n_head": 4,
            "n_positions": POSITIONS,
            "embd_pdrop": 0.0,
            "attn_pdrop": 0.0,
            "resid_pdrop": 0.0,
        },
        steps=1200,
        rows=16,
    ),
    # One head of keys and values, wide gated layers, embeddings scaled up.
    "gemma-4m": Family(
        "GemmaConfig",
        {
            "hidden_size": 224,
            "num_hidden_layers": 5,
            "num_attention_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 56,
            "intermediate_size": 768,
            "max_position_embeddings": POSITIONS,
        },
        steps=900,
        rows=16,
    ),
}


def model_path(root: Path, name: str) -> str:
    """Return the folder of the bundled model, or of a family's, which is pretrained on the first call."""
    if name == "stdlib-2m":
        return str(catalogue.model_path(name))
    path = root / "models" / name
    path.mkdir(parents=True, exist_ok=True)
    with Lock(path / "lock").held():
        if not (path / "tokenizer_config.json").exists():  # written last
            _pretrain(name, FAMILIES[name], path)
    return str(path)


def _pretrain(name: str, family: Family, path: Path) -> None:
    import torch
    import transformers

    torch.manual_seed(0)
    tokenizer = transformers.AutoTokenizer.from_pretrained(catalogue.model_path("stdlib-2m"))
    texts = catalogue.pretraining_text()
    chats = [
        tokenizer.apply_chat_template(row["messages"], return_dict=False)
        for row in catalogue.pretraining_chats()
    ]
    documents = [[tokenizer.bos_token_id, *ids] for ids in tokenizer(texts)["input_ids"]] + chats
    random.Random(0).shuffle(documents)
    stream = torch.tensor([token for document in documents for token in document])
    config = getattr(transformers, family.config)(
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **family.sizes,
    )
    model = transformers.AutoModelForCausalLM.from_config(config).float().train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, family.steps, pct_start=0.05)
    for step in range(family.steps):
        starts = torch.randint(len(stream) - LENGTH, (family.rows,))
        rows = torch.stack([stream[start : start + LENGTH] for start in starts])
        with torch.autocast("cpu", torch.bfloat16, enabled=cpu_has_bf16()):
            loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        if step % 100 == 0:
            print(f"{name}: step {step} of {family.steps}, loss {float(loss.detach()):.3f}", flush=True)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
