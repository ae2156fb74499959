"""Does the check of the data find held-out rows that were copied into training data, as they are or edited?"""

from __future__ import annotations

import random
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from benchmarks.flag_data import Row, files, model_path, read, write
from benchmarks.flag_plants import PLANTS
from engine.data.gather import gather
from engine.data.overlap import ngram_overlap
from engine.flags.leak import leak
from engine.recipe import Recipe

COPIES = 10  # of each kind and seed


def _edited(change: Callable[[str], str], turns: tuple[int, ...] = (0, 1)) -> Callable[[Row], Row]:
    def edit(row: Row) -> Row:
        messages = [dict(turn) for turn in row["messages"]]
        for turn in turns:
            messages[turn]["content"] = change(messages[turn]["content"])
        return {"messages": messages}

    return edit


def _other_word(text: str) -> str:
    words = text.split()
    words[len(words) // 2] = "something"
    return " ".join(words)


EDITS: dict[str, Callable[[Row], Row]] = {
    "as it is": lambda row: row,
    "other case and spaces": _edited(lambda text: f"  {text.upper()}\n".replace(" ", "  ")),
    "a word added to the answer": _edited(lambda text: f"{text} Indeed", (1,)),
    "a word changed in the answer": _edited(_other_word, (1,)),
    "the same answer to another question": _edited(lambda text: "Please tell me about this one.", (0,)),
}


def measure(root: Path, seeds: range) -> None:
    """Recall by kind of edit, and held-out rows named that were not copied."""
    plant = next(plant for plant in PLANTS if plant.name == "leak")
    base = model_path(root, plant.model)
    found: dict[str, int] = defaultdict(int)
    planted: dict[str, int] = defaultdict(int)
    others, rows = 0, 0
    for seed in seeds:
        paths = files(root, plant, seed, base)
        heldout = read(Path(paths["heldout"]))
        rng = random.Random(seed)
        chosen = rng.sample(range(len(heldout)), COPIES * len(EDITS))
        edits = [name for name in EDITS for _ in range(COPIES)]
        copies = [EDITS[name](heldout[i]) for name, i in zip(edits, chosen, strict=True)]
        with tempfile.TemporaryDirectory() as scratch:
            train = Path(scratch) / "train.jsonl"
            write(train, read(root / "data" / plant.model / "pool.jsonl") + copies)
            tree = plant.recipe(seed, paths | {"train": str(train)}, base)
            gathered = gather(Recipe.model_validate(tree))
        source = gathered.heldout.source
        entries = source.entries(source.documents)
        training = gathered.source("train").entries(gathered.train)
        hits = [*gathered.heldout.leaks, *ngram_overlap(training, entries, "heldout")]
        leaked = {place for hit in hits for place in hit.rows}
        flag = leak("heldout", [entry.id for entry in entries], hits)
        print(f"seed {seed}: {flag.level if flag else 'no flag'}: {flag.message if flag else ''}")
        for name, i in zip(edits, chosen, strict=True):
            planted[name] += 1
            found[name] += i + 1 in leaked
        others += len(leaked - {i + 1 for i in chosen})
        rows += len(heldout) - len(chosen)
    print("\n| held-out row copied into training data | found |\n|---|---|")
    for name, count in planted.items():
        print(f"| {name} | {found[name]} of {count} |")
    print(f"| not copied | {others} of {rows} |")
