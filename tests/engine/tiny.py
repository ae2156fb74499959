"""Tiny random models with a vocabulary of words, as directories: an encoder and a decoder."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WARM, COLD, OTHER = (
    ("sun", "fire", "summer"),
    ("snow", "ice", "winter"),
    ("the", "a", "of", "is", "in", "day"),
)
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def encoder(path: Path, seed: int = 0) -> Path:
    """A BERT that knows a dozen words."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    BertForMaskedLM(config).save_pretrained(path)
    _tokenizer(path, with_ends=True)
    return path


def decoder(path: Path) -> Path:
    """A Llama that knows a dozen words; its padding is one of them to its configuration: none is named."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    _tokenizer(path, with_ends=False)
    return path


def _tokenizer(path: Path, with_ends: bool) -> None:
    words = {word: id for id, word in enumerate((*SPECIAL, *WARM, *COLD, *OTHER))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if with_ends:
        ends = [("[CLS]", words["[CLS]"]), ("[SEP]", words["[SEP]"])]
        tokenizer.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=ends)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=64,
    ).save_pretrained(path)  # fmt: skip


def weather(path: Path, rows: int = 60) -> Path:
    """Texts of unequal length that have either a warm or a cold word among others."""
    with path.open("w") as file:
        for n in range(rows):
            label, words = ("warm", WARM) if n % 2 else ("cold", COLD)
            text = [OTHER[(n * k + k) % len(OTHER)] for k in range(1, 2 + n % 7)]
            text.insert(n % len(text), words[n // 2 % 3])
            file.write(json.dumps({"text": " ".join(text), "label": label}) + "\n")
    return path
