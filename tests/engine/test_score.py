"""What a look measures beside the loss, against plain computations of the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoTokenizer, LlamaForCausalLM

from engine.bundled.catalogue import load, model_path
from engine.data.chat import tokenize
from engine.data.formats import to_document
from engine.evals import base_scores, scores_file
from engine.evals.score import TEMPERATURES, score
from engine.evals.score import Scores as Found
from engine.losses.loss import TargetLoss
from engine.tasks.prepare import Suite

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def model():
    return LlamaForCausalLM.from_pretrained(model_path("stdlib-2m"), dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def changed(model):
    """The same with other weights, as after training."""
    other = LlamaForCausalLM.from_pretrained(model_path("stdlib-2m"), dtype=torch.float32).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.1 * parameter.std() * torch.randn_like(parameter)
    return other


def make_suite(name: str, count: int = 60) -> Suite:
    tokenizer = AutoTokenizer.from_pretrained(model_path("stdlib-2m"))
    texts = sorted((row["text"] for row in load("stdlib-prose")), key=len)[:count]
    documents = [to_document({"text": text[: 10 + 4 * n]}, "text") for n, text in enumerate(texts)]
    return Suite(name, documents, [tokenize(document, tokenizer)[0] for document in documents])


def look(model, suite, base=None) -> Found:
    return score(TargetLoss(model), suite, 256, CPU, lambda: None, base)


def alone(model, example) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits at the targets of an example, and the targets."""
    ids = torch.tensor(example.tokens, dtype=torch.long)
    with torch.no_grad():
        logits = model(input_ids=ids[None]).logits[0, :-1]
    chosen = torch.tensor(example.mask[1:])
    return logits[chosen], ids[1:][chosen]


@pytest.mark.parametrize("small_chunks", [False, True])
def test_tokens_lost_and_gained_are_those_that_changed_sides(model, changed, small_chunks, monkeypatch):
    if small_chunks:
        monkeypatch.setattr("engine.losses.loss.LOGITS_AT_ONCE", 1)
    suite = make_suite("seen")
    found = look(changed, suite, look(model, suite).base)
    lost, gained = [], []
    for example in suite.examples:
        before, now = (
            (logits.argmax(-1) == t) for logits, t in (alone(m, example) for m in (model, changed))
        )
        lost.append(int((before & ~now).sum()))
        gained.append(int((~before & now).sum()))
    assert found.lost.tolist() == lost
    assert found.gained.tolist() == gained
    assert sum(lost) > 10
    assert sum(gained) > 0
    assert found.kl is None
    assert found.tempered is None


def test_losses_at_temperatures_are_those_of_divided_logits(changed):
    suite = make_suite("heldout", 12)
    found = look(changed, suite)
    for place, example in enumerate(suite.examples):
        logits, targets = alone(changed, example)
        for row, temperature in enumerate(TEMPERATURES):
            expected = F.cross_entropy(logits / temperature, targets, reduction="sum").item()
            assert found.tempered[row, place] == pytest.approx(expected, rel=1e-4)


def test_the_divergence_is_most_of_that_over_the_whole_vocabulary_and_never_more(model, changed):
    suite = make_suite("general")
    base = look(model, suite).base
    found = look(changed, suite, base)
    whole = []
    for example in suite.examples:
        p, q = (alone(m, example)[0].log_softmax(-1) for m in (model, changed))
        kept = base_scores._spread(example.targets, base_scores.WATCHED_TARGETS)
        whole.append(float((p.exp() * (p - q)).sum(-1)[kept].mean()))
    measured = ~np.isnan(found.kl)
    assert measured.sum() == base_scores.WATCHED_EXAMPLES
    ratio = found.kl[measured] / np.array(whole)[measured]
    assert ratio.max() < 1.0001
    assert ratio.mean() > 0.7  # of a model as unsure as this one; nearer 1 where few tokens are likely
    assert np.nanmax(look(model, suite, base).kl) < 1e-5


def test_a_vocabulary_smaller_than_what_is_kept_loses_nothing():
    torch.manual_seed(0)
    before, now = torch.randn(5, 9), torch.randn(5, 9)
    tokens, log_p = base_scores.top_tokens(before)
    p = before.log_softmax(-1)
    expected = (p.exp() * (p - now.log_softmax(-1))).sum(-1)
    assert torch.allclose(base_scores.divergence(log_p, tokens, now), expected, atol=1e-5)


def test_what_a_suite_is_compared_with_takes_little_room(model, tmp_path):
    suite = make_suite("general")
    scores = look(model, suite)
    assert len(scores.base.top) <= base_scores.WATCHED_EXAMPLES * base_scores.WATCHED_TARGETS
    path = scores_file.path_in(tmp_path, suite)
    scores_file.write(path, scores)
    read = scores_file.read(path, suite)
    assert read is not None
    for key in ("right", "top", "log_p"):
        assert np.array_equal(getattr(read, key), getattr(scores.base, key))
    back = scores_file.from_bytes(path.read_bytes(), suite)
    assert back.nll.tolist() == scores.nll.tolist()
    assert np.array_equal(back.kl, look(model, suite, scores.base).kl.round(5), equal_nan=True)
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_other_examples_or_a_damaged_one_is_not_used(model, tmp_path):
    suite, other = make_suite("general"), make_suite("general", 59)
    assert scores_file.path_in(tmp_path, suite) != scores_file.path_in(tmp_path, other)
    path = tmp_path / "x.npz"
    assert scores_file.read(path, suite) is None
    scores_file.write(path, look(model, suite))
    assert scores_file.read(path, other) is None
    path.write_bytes(path.read_bytes()[:-200])
    assert scores_file.read(path, suite) is None
