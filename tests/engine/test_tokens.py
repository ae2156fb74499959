"""The loss of each token of one example, beside what the run's own evaluations measured."""

from __future__ import annotations

import numpy as np
import pytest
from finished import copy

from engine.basics.errors import ExportError
from engine.data.chat import Example
from engine.export.source import read
from engine.export.tokens import score_tokens, texts_of
from engine.models.tokenizer import load_tokenizer
from engine.recipe.sections import ModelSpec
from store.lines import Eval, Examples


def silent(_: str) -> None:
    pass


@pytest.mark.parametrize("method", ["lora", "full"])
def test_the_losses_of_tokens_add_up_to_those_of_the_evaluations(finished, method):
    source = read(finished[method])
    looks = [look for look in source.of_kind(Eval) if look.suite == "heldout"]
    first, last = looks[0], looks[-1]
    texts = {row.id: row for line in source.of_kind(Examples) for row in line.rows}
    for place, id in enumerate(first.examples.id[:3]):
        found = score_tokens(source, "heldout", id, silent)
        tokens = found["tokens"]
        assert (found["example"], found["step"], len(tokens)) == (id, last.step, first.examples.tokens[place])
        for name, look in (("before", first), ("after", last)):
            at = look.examples.id.index(id)
            assert sum(token[name] for token in tokens) == pytest.approx(look.examples.nll[at], rel=2e-3), (
                name
            )
        said = "".join(token["text"] for token in tokens).removesuffix("<|end|>")
        assert said, "the run cuts what is longer than its max_length"
        assert texts[id].target.startswith(said)
        assert any(abs(token["after"] - token["before"]) > 1e-3 for token in tokens)


def test_what_cannot_be_scored_is_said(finished):
    with pytest.raises(ExportError, match="virtual tokens cannot be taken out of the model again"):
        score_tokens(read(finished["prefix"]), "heldout", "x", silent)
    with pytest.raises(ExportError, match="example x is not in the heldout data of run #1"):
        score_tokens(read(finished["lora"]), "heldout", "x", silent)


def test_a_run_without_weights_is_refused(finished, tmp_path):
    run = copy(finished["lora"], tmp_path / "000007-gone")
    (run.path / "adapter" / "COMPLETE").unlink()
    with pytest.raises(ExportError, match="has no finished weights: its tokens cannot be scored"):
        score_tokens(read(run), "heldout", "x", silent)


def test_the_texts_of_tokens_are_the_text_whatever_characters_they_divide():
    tokenizer = load_tokenizer(ModelSpec(path="bundled:stdlib-2m"))
    text = "Größe: 😀 – 日本\n\tend"
    tokens = np.array(tokenizer.encode(text, add_special_tokens=False), dtype=np.int32)
    assert len(tokens) > len(text), "characters are divided"
    for first in range(3):
        mask = np.arange(len(tokens)) >= first
        pieces = texts_of(Example("x", tokens, mask), tokenizer)
        assert len(pieces) == mask.sum()
        assert text.endswith("".join(pieces))
