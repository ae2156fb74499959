"""The bundled data keep their parts apart, and the bundled model knows what its card says."""

import json
import math
import os
import platform
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from engine.bundled import catalogue


@pytest.fixture(scope="module")
def made_before() -> dict[str, bytes]:
    """The files that the tests read, made by whichever process needed them first."""
    catalogue.load("docstrings")
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "finetui"
    return {
        path.name: path.read_bytes() for path in folder.glob(f"*-python{platform.python_version()}-v*.jsonl")
    }


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory, made_before: dict[str, bytes]):
    """A cache of our own, so that the data are made by the code under test: in another process, without torch."""
    folder = tmp_path_factory.mktemp("cache")
    script = (
        "import sys; from engine.bundled import catalogue; catalogue.load('docstrings');"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    env = os.environ | {"XDG_CACHE_HOME": str(folder), "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", script], env=env, check=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder / "finetui"


def plain(text: str) -> str:
    return " ".join(text.lower().split()).rstrip(".")


def sentences(text: str) -> list[str]:
    return [s for s in re.split(r"(?<=[.:]) (?=[A-Z*\"])", text) if len(s) >= 40]


def test_every_process_makes_the_same_rows(cache: Path, made_before: dict[str, bytes]):
    made = {path.name: path.read_bytes() for path in cache.iterdir()}
    assert len(made) == 7
    assert made.items() <= made_before.items()


def test_the_cache_is_read_again(cache: Path, monkeypatch: pytest.MonkeyPatch):
    first = catalogue.load("docstrings")
    monkeypatch.setattr(catalogue, "build", lambda: pytest.fail("built again"))
    assert catalogue.load("bundled:docstrings") == first


def test_pairs(cache: Path):
    rows = catalogue.load("docstrings")
    assert 3000 <= len(rows) <= 6000
    assert len({json.dumps(row) for row in rows}) == len(rows)
    reverse = 0
    for row in rows:
        user, assistant = row["messages"]
        assert (user["role"], assistant["role"]) == ("user", "assistant")
        assert 10 <= len(assistant["content"]) <= 320
        assert "\n" not in assistant["content"]
        assert ">>>" not in assistant["content"]
        reverse += assistant["content"].startswith("`")
    assert 0.25 < reverse / len(rows) < 0.45


def test_the_prose_suite(cache: Path):
    rows = catalogue.load("stdlib-prose")
    assert len(rows) >= 300
    assert all(400 <= len(row["text"]) <= 800 for row in rows)
    assert len({row["text"] for row in rows}) == len(rows)


def test_nothing_is_in_two_places(cache: Path):
    pretraining = plain("\n".join(catalogue.pretraining_text()))
    passages = [row["text"] for row in catalogue.load("stdlib-prose")]
    prose = plain("\n".join(passages))
    answers = [row["messages"][1]["content"] for row in catalogue.load("docstrings")]
    assert [a for a in answers if plain(a) in pretraining or plain(a) in prose] == []
    assert [s for passage in passages for s in sentences(passage) if plain(s) in pretraining] == []
    assert not set(catalogue.pretraining_heldout()) & set(catalogue.pretraining_text())
    # The chats that the base model saw ask about other things than the pairs do.
    asked = {row["messages"][0]["content"] for row in catalogue.load("docstrings")}
    assert not asked & {m["content"] for row in catalogue.pretraining_chats() for m in row["messages"]}


@pytest.mark.parametrize("call", [catalogue.load, catalogue.model_path])
def test_an_unknown_name_is_told_the_known_ones(call):
    with pytest.raises(ValueError, match=r"docstrings, stdlib-prose|stdlib-2m"):
        call("docstring")


@pytest.fixture(scope="module")
def path() -> Path:
    return catalogue.model_path("bundled:stdlib-2m")


@pytest.fixture(scope="module")
def tokenizer(path: Path):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path)


@pytest.fixture(scope="module")
def model(path: Path):
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()


def test_the_model_is_small_and_names_no_machine(path: Path, model):
    assert sum(file.stat().st_size for file in path.iterdir()) <= 6_000_000
    for file in path.iterdir():
        if file.suffix != ".safetensors":
            assert not re.search(r"/(home|root|tmp|work|Users)/", file.read_text(encoding="utf-8")), file
    figures = json.loads((path / "figures.json").read_text())
    assert model.num_parameters() == figures["parameters"]
    assert model.config.tie_word_embeddings
    card = (path / "README.md").read_text()
    for key in ("heldout_loss", "heldout_perplexity", "heldout_bits_per_byte", "unigram_perplexity"):
        assert str(figures[key]) in card, f"{key} in the card is not what was measured"


def test_every_linear_layer_fits_four_bit_blocks(model):
    import torch

    layers = [m for m in model.model.modules() if isinstance(m, torch.nn.Linear)]
    assert len(layers) == 35
    assert all(layer.in_features % 64 == 0 for layer in layers)


def test_it_loads_without_a_warning(path: Path):
    script = (
        "import sys; from transformers import AutoModelForCausalLM as M, AutoTokenizer as T;"
        "T.from_pretrained(sys.argv[1]); M.from_pretrained(sys.argv[1])"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    said = [line for line in done.stderr.splitlines() if "Loading weights" not in line and line.strip()]
    assert said == []


def test_the_chat_template(tokenizer):
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "What?"},
        {"role": "assistant", "content": "That."},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == "<|endoftext|><|system|>Be brief.<|end|><|user|>What?<|end|><|assistant|>That.<|end|>"
    ids = tokenizer(text)["input_ids"]
    assert ids.count(tokenizer.bos_token_id) == 1  # the tokenizer adds no second one
    assert ids[-1] == tokenizer.eos_token_id
    assert tokenizer.pad_token_id not in (tokenizer.eos_token_id, tokenizer.bos_token_id)

    encoded = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    assert encoded["input_ids"] == ids
    marked = [i for i, m in zip(ids, encoded["assistant_masks"], strict=True) if m]
    assert tokenizer.decode(marked) == "That.<|end|>"
    prompt = tokenizer.apply_chat_template(messages[:2], tokenize=False, add_generation_prompt=True)
    assert prompt == text.removesuffix("That.<|end|>")


def test_any_text_survives_the_tokenizer(tokenizer):
    text = "def f(x):\n\treturn 'naïve — ☃'  # ok"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_the_held_out_loss_is_far_below_a_unigram_model(cache: Path, tokenizer, model):
    import torch

    documents = [t for t in catalogue.pretraining_heldout() if len(t) > 100][:60]
    counts = Counter(i for ids in tokenizer(catalogue.pretraining_text()[::4])["input_ids"] for i in ids)
    total = counts.total() + len(tokenizer)
    loss, unigram, tokens = 0.0, 0.0, 0
    for document in documents:
        ids = tokenizer(document)["input_ids"]
        inputs = torch.tensor([[tokenizer.bos_token_id, *ids]])
        with torch.no_grad():
            loss += model(input_ids=inputs, labels=inputs).loss.item() * len(ids)
        unigram -= sum(math.log((counts[i] + 1) / total) for i in ids)
        tokens += len(ids)
    ratio = math.exp((unigram - loss) / tokens)
    assert ratio > 8, f"the perplexity is only {ratio:.1f} times below the unigram model's"
