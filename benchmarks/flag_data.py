"""The data of the flag benchmark, and its second model, made from what comes with finetui.

What runs share is written once; which row goes where is decided by content hash.
"""

from __future__ import annotations

import codecs
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.flag_plants import MAX_LENGTH, Plant
from engine.basics.cpu import cpu_has_bf16
from engine.bundled import catalogue
from engine.data.split import rank
from engine.models.tokenizer import load_tokenizer
from engine.recipe.sections import Recipe
from finetui.lock import Lock

Row = dict[str, Any]

HELDOUT, POOL = 300, 720  # rows that detectors see; rows that training draws from
ORACLE = 2000  # rows of the oracle
SLICE, ORACLE_SLICE = 100, 667  # rows of a slice of general text that detectors see, and that the oracle does
PASSAGE = 150  # characters of a general passage
SAMPLE_TOKENS = 48
SPARE = 100  # samples that are too short or the same
LEAKED = 30  # held-out rows copied into training data
SLICES = ("documents", "prose", "samples")


def files(root: Path, plant: Plant, seed: int, model: str) -> dict[str, str]:
    """Paths of train, pool, heldout, oracle, general, general-oracle and replay for a run."""
    common = root / "data" / plant.model
    common.mkdir(parents=True, exist_ok=True)
    with Lock(common / "lock").held():  # two processes may begin at once
        if not (common / "done").exists():
            _make(common, model)
    train = root / "data" / plant.model / f"train-{plant.name}-{seed}.jsonl"
    write(train, train_rows(common, plant, seed, model))
    names = ("pool", "heldout", "oracle", "general", "general-oracle", "replay")
    return {"train": str(train)} | {name: str(common / f"{name}.jsonl") for name in names}


def train_rows(common: Path, plant: Plant, seed: int, model: str) -> list[Row]:
    """Training rows of a run, changed as its plant says."""
    rng = random.Random(f"{plant.rows}:{seed}")  # plants that differ in method or rate share their rows
    rows = rng.sample(read(common / "pool.jsonl"), min(plant.rows, POOL))
    if plant.text == "noise":
        wrong = rng.sample(range(len(rows)), round(0.3 * len(rows)))
        answers = [rows[i]["messages"][1]["content"] for i in wrong]
        for i, answer in zip(wrong, [*answers[1:], *answers[:1]], strict=True):
            rows[i] = _chat(rows[i]["messages"][0]["content"], answer)
    if plant.text == "rot13":
        rows = [_chat(*(codecs.encode(turn["content"], "rot13") for turn in row["messages"])) for row in rows]
    if plant.text.startswith("greedy"):
        right = rows[: len(rows) // 5] if plant.text == "greedy, some right" else []
        rows = right + rng.sample(read(_answered(common, model)), len(rows) - len(right))
    if plant.text == "leak":
        rows += rng.sample(read(common / "heldout.jsonl"), LEAKED)
    if plant.text == "repeated":
        rows += 4 * rows[: len(rows) // 2]
    return rows


def slices(root: Path, plant: Plant) -> dict[str, str]:
    """Text of a general row to its slice."""
    common = root / "data" / plant.model
    rows = [row for name in ("general", "general-oracle") for row in read(common / f"{name}.jsonl")]
    return {row["text"]: row["slice"] for row in rows}


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def write(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _make(common: Path, model: str) -> None:
    pairs = sorted(catalogue.load("docstrings"), key=lambda row: rank(json.dumps(row), "flags"))
    write(common / "heldout.jsonl", pairs[:HELDOUT])
    write(common / "pool.jsonl", pairs[HELDOUT : HELDOUT + POOL])
    write(common / "oracle.jsonl", pairs[HELDOUT + POOL :][:ORACLE])

    documents = _short(catalogue.pretraining_text())
    prose = _short(row["text"] for row in catalogue.load("stdlib-prose"))
    sources = {
        "documents": documents,
        "prose": prose,
        "samples": _short(samples(model, SLICE + ORACLE_SLICE + SPARE)),
    }
    general = {name: [{"text": t, "slice": name} for t in texts] for name, texts in sources.items()}
    write(common / "general.jsonl", [row for rows in general.values() for row in rows[:SLICE]])
    unseen = [row for rows in general.values() for row in rows[SLICE:][:ORACLE_SLICE]]
    write(common / "general-oracle.jsonl", unseen)
    write(common / "replay.jsonl", [{"text": text} for text in documents[SLICE + ORACLE_SLICE :]])
    (common / "done").touch()


def _short(texts: Any) -> list[str]:
    """Distinct passages of about `PASSAGE` characters, cut at spaces, in order of their hash."""
    found = {}
    for text in texts:
        for passage in re.findall(rf"\S.{{{PASSAGE // 3},{PASSAGE}}}(?!\S)", " ".join(text.split())):
            found[passage] = rank(passage, "flags")
    return sorted(found, key=lambda passage: found[passage])


def _chat(question: str, answer: str) -> Row:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def _answered(common: Path, model: str) -> Path:
    """The questions of the pool with the base model's likeliest answers, written on the first call (a minute)."""
    path = common / "answered.jsonl"
    with Lock(common / "answered.lock").held():
        if not path.exists():
            _answer(common, model, path)
    return path


def _answer(common: Path, model: str, path: Path) -> None:
    from engine.evals.generate import choose_questions, generate_answers
    from engine.models import load
    from engine.tasks.prepare import prepare

    tree = {
        "model": model,
        "method": "full",
        "data": {"train": str(common / "oracle.jsonl"), "heldout": str(common / "pool.jsonl")},
        "evals": {"limit": POOL, "generate": POOL, "max_new_tokens": SAMPLE_TOKENS},
    }
    recipe = Recipe.model_validate(tree)
    tokenizer = load_tokenizer(recipe.model)
    heldout = prepare(recipe, tokenizer, MAX_LENGTH).suite("heldout")
    questions = choose_questions(
        recipe, heldout, tokenizer, load.longest(recipe.model, tokenizer) - SAMPLE_TOKENS
    )
    base = load.load_model(recipe.model, recipe.method, load.precision(recipe.train)).eval()
    answers = generate_answers(base, tokenizer, questions, SAMPLE_TOKENS, load.device())
    pairs = zip(questions, answers, strict=True)
    write(path, [_chat(question.prompt, answer.text) for question, answer in pairs if answer.text.strip()])


def samples(path: str, count: int) -> list[str]:
    """What a base model writes after its beginning-of-sequence token, at temperature 1."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    texts: list[str] = []
    while len(texts) < count:
        begin = torch.full((64, 1), tokenizer.bos_token_id)
        written = model.generate(
            input_ids=begin,
            attention_mask=torch.ones_like(begin),
            do_sample=True,
            top_k=0,
            max_new_tokens=SAMPLE_TOKENS,
            eos_token_id=None,
            pad_token_id=tokenizer.pad_token_id,
        )
        decoded = tokenizer.batch_decode(written, skip_special_tokens=True)
        texts += [text for text in decoded if len(text) > PASSAGE // 3 + 2]
    return texts[:count]


def model_path(root: Path, name: str) -> str:
    """The bundled model, or a small GPT-NeoX that is pretrained on the first call (minutes)."""
    if name == "stdlib-2m":
        return str(catalogue.model_path(name))
    path = root / "models" / name
    path.mkdir(parents=True, exist_ok=True)
    with Lock(path / "lock").held():
        if not (path / "tokenizer_config.json").exists():  # written last
            _pretrain_neox(path)
    return str(path)


NEOX_STEPS, NEOX_ROWS, NEOX_LENGTH = 1200, 32, 128


def _pretrain_neox(path: Path) -> None:
    """Another architecture and size than the bundled model, from random weights, on the same text and tokenizer."""
    import torch
    from transformers import AutoTokenizer, GPTNeoXConfig, GPTNeoXForCausalLM

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(catalogue.model_path("stdlib-2m"))
    texts = catalogue.pretraining_text()
    chats = [
        tokenizer.apply_chat_template(row["messages"], return_dict=False)
        for row in catalogue.pretraining_chats()
    ]
    documents = [[tokenizer.bos_token_id, *ids] for ids in tokenizer(texts)["input_ids"]] + chats
    random.Random(0).shuffle(documents)
    stream = torch.tensor([token for document in documents for token in document])
    config = GPTNeoXConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=512,
        max_position_embeddings=512,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = GPTNeoXForCausalLM(config).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, NEOX_STEPS, pct_start=0.05)
    for step in range(NEOX_STEPS):
        starts = torch.randint(len(stream) - NEOX_LENGTH, (NEOX_ROWS,))
        rows = torch.stack([stream[start : start + NEOX_LENGTH] for start in starts])
        with torch.autocast("cpu", torch.bfloat16, enabled=cpu_has_bf16()):
            loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        optimiser.zero_grad()
        if step % 100 == 0:
            print(f"neox-1m: step {step} of {NEOX_STEPS}, loss {float(loss):.3f}", flush=True)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
