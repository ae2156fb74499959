"""The data of the flag benchmark, made from what comes with finetui.

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
from engine.bundled import catalogue
from engine.data.split import rank
from engine.models.tokenizer import load_tokenizer
from engine.recipe.sections import Recipe
from finetui.files import write_whole_file
from finetui.lock import Lock

Row = dict[str, Any]

HELDOUT, POOL = 300, 720  # rows that detectors see; rows that training draws from
ORACLE = 2000  # rows of the oracle
SLICE, ORACLE_SLICE = 100, 667  # rows of a slice of general text that detectors see, and that the oracle does
PASSAGE = 150  # characters of a general passage
SAMPLE_TOKENS = 48
SPARE = 100  # samples that are too short or the same
LEAKED = 30  # held-out rows copied into training data
HARD = 20  # one row in so many has an answer that cannot be learned
SOURCES = {"dpo": "docstring-preferences", "classification": "docstring-subjects"}  # else docstrings
CYRILLIC = str.maketrans(
    "abcdefghijklmnopqrstuvwxyz" + "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "абцдефгхийклмнопярстувшжщз" + "АБЦДЕФГХИЙКЛМНОПЯРСТУВШЖЩЗ",
)


def files(root: Path, plant: Plant, seed: int, model: str) -> dict[str, str]:
    """Paths of train, pool, heldout, oracle, general, general-oracle and replay for a run."""
    common = root / "data" / plant.model
    own = common if plant.task == "sft" else common / plant.task
    own.mkdir(parents=True, exist_ok=True)
    with Lock(common / "lock").held():  # two processes may begin at once
        if not (common / "done").exists():
            _make(common, model)
        if not (own / "oracle.jsonl").exists():
            _write_task(own, plant.task)
    paths = {name: common / f"{name}.jsonl" for name in ("general", "general-oracle", "replay")}
    paths |= {name: own / f"{name}.jsonl" for name in ("pool", "heldout", "oracle")}
    paths["train"] = own / f"train-{plant.name}-{seed}.jsonl"
    write(paths["train"], train_rows(own, plant, seed, model))
    if plant.heldout == "reverse":
        for name in ("heldout", "oracle"):
            reverse = [row for row in read(paths[name]) if _asks_for_signature(row)]
            paths[name] = own / f"{name}-reverse-{plant.name}-{seed}.jsonl"
            write(paths[name], reverse)
    if plant.heldout_rows < HELDOUT:
        some = random.Random(seed).sample(read(paths["heldout"]), plant.heldout_rows)
        paths["heldout"] = own / f"heldout-{plant.name}-{seed}.jsonl"
        write(paths["heldout"], some)
    return {name: str(path) for name, path in paths.items()}


def train_rows(own: Path, plant: Plant, seed: int, model: str) -> list[Row]:
    """Training rows of a run, chosen and changed as its plant says; `own`: the folder of its task's rows."""
    rng = random.Random(f"{plant.rows}:{seed}")  # plants that differ in method or rate share their rows
    pool = read(own / "pool.jsonl")
    if plant.text == "forward":
        pool = [row for row in pool if not _asks_for_signature(row)]
    rows = rng.sample(pool, min(plant.rows, len(pool)))
    if plant.text == "noise":
        wrong = rng.sample(range(len(rows)), round(0.3 * len(rows)))
        rows = _swapped(rows, wrong) if plant.task == "dpo" else _shuffled(rows, wrong)
    if plant.text == "rot13":
        rows = [_chat(*(codecs.encode(turn["content"], "rot13") for turn in row["messages"])) for row in rows]
    if plant.text == "cyrillic":
        rows = [_chat(*(turn["content"].translate(CYRILLIC) for turn in row["messages"])) for row in rows]
    if plant.text == "hex":
        for i in rng.sample(range(len(rows)), len(rows) // HARD):
            rows[i] = _chat(rows[i]["messages"][0]["content"], f"{rng.getrandbits(256):064x}")
    if plant.text.startswith("greedy"):
        right = rows[: len(rows) // 5] if plant.text == "greedy, some right" else []
        rows = right + rng.sample(read(_answered(own, model)), len(rows) - len(right))
    if plant.text == "leak":
        rows += rng.sample(read(own / "heldout.jsonl"), LEAKED)
    if plant.text == "repeated":
        rows += 4 * rows[: len(rows) // 2]
    return rows


def _asks_for_signature(row: Row) -> bool:
    return bool(row["messages"][1]["content"].startswith("`"))


def _shuffled(rows: list[Row], wrong: Sequence[int]) -> list[Row]:
    """Chats of which some have each other's answers."""
    answers = [rows[i]["messages"][1]["content"] for i in wrong]
    changed = list(rows)
    for i, answer in zip(wrong, [*answers[1:], *answers[:1]], strict=True):
        changed[i] = _chat(rows[i]["messages"][0]["content"], answer)
    return changed


def _swapped(rows: list[Row], wrong: Sequence[int]) -> list[Row]:
    """Pairs of which some prefer the worse answer."""
    return [
        row | {"chosen": row["rejected"], "rejected": row["chosen"]} if i in set(wrong) else row
        for i, row in enumerate(rows)
    ]


def slices(root: Path, plant: Plant) -> dict[str, str]:
    """Text of a general row to its slice."""
    common = root / "data" / plant.model
    rows = [row for name in ("general", "general-oracle") for row in read(common / f"{name}.jsonl")]
    return {row["text"]: row["slice"] for row in rows}


def read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def write(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole_file(path, "".join(json.dumps(row) + "\n" for row in rows))


def _write_task(own: Path, task: str) -> None:
    """Held-out rows, the pool of training rows and the oracle of a task."""
    rows = catalogue.load(SOURCES.get(task, "docstrings"))
    if task == "completion":
        rows = [{"text": "\n".join(turn["content"] for turn in row["messages"])} for row in rows]
    rows = sorted(rows, key=lambda row: rank(json.dumps(row), "flags"))
    write(own / "heldout.jsonl", rows[:HELDOUT])
    write(own / "pool.jsonl", rows[HELDOUT : HELDOUT + POOL])
    write(own / "oracle.jsonl", rows[HELDOUT + POOL :][:ORACLE])


def _make(common: Path, model: str) -> None:
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
