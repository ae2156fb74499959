"""Whether the rows of a recipe have tokens that the model has no embedding for, without transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.data.gather import RunData
from engine.models.outline import config_of
from engine.models.source import ModelFiles, check_token
from engine.recipe.sections import Recipe

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def load(model: ModelFiles) -> Tokenizer | None:
    """Return a model's tokenizer; None if it is not on this machine."""
    if model.local is None or not (model.local / "tokenizer.json").exists():
        return None
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(model.local / "tokenizer.json"))


def check_rows(recipe: Recipe, model: ModelFiles, tokenizer: Tokenizer, run_data: RunData) -> None:
    """Raise ModelError, in the words of the worker, if a row has a token beyond the embedding.

    Only a tokenizer that has such tokens is looked at more closely: its own tokens are sought in the template, the rows
    and its settings, and tokens of its vocabulary in the rows.
    """
    if model.local is None:
        return
    config = config_of(recipe.model.path) or {}
    rows = (config.get("text_config") or config).get("vocab_size")
    if not isinstance(rows, int):
        return
    beyond = {
        word: token for word, token in tokenizer.get_vocab(with_added_tokens=True).items() if token >= rows
    }
    if not beyond:
        return
    documents = [*run_data.train, *(d for suite in run_data.suites for d in suite.documents)]
    texts = [_settings(model.local), *(text for document in documents for text in document.texts)]
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    used = [beyond[word] for word in beyond.keys() & added if any(word in text for text in texts)]
    if beyond.keys() - added:
        used += [max(e.ids, default=0) for e in tokenizer.encode_batch(texts[1:], add_special_tokens=False)]
    check_token(recipe.model.path, max(used, default=0), rows)


def _settings(directory: Path) -> str:
    """Return the template and the special tokens that a tokenizer may write by itself."""
    parts: list[str] = []
    for name in ("chat_template.jinja", "chat_template.json"):
        if (path := directory / name).exists():
            parts.append(path.read_text(errors="replace"))
    try:
        settings: dict[str, Any] = json.loads((directory / "tokenizer_config.json").read_text())
    except (OSError, ValueError):
        settings = {}
    for key in ("chat_template", "bos_token", "eos_token"):
        parts.append(json.dumps(settings.get(key), ensure_ascii=False))
    return "\n".join(parts)
