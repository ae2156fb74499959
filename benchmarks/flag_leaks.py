"""Does the check of the data find held-out rows that were copied into training data, as they are or edited?"""

from __future__ import annotations

import random
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from benchmarks.flag_data import Row, files, read, write
from benchmarks.flag_models import model_path
from benchmarks.flag_plants import PLANTS
from engine.data.gather import gather, scored_overlaps
from engine.flags.leak import leak
from engine.recipe.sections import Recipe

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


def _word_less(text: str) -> str:
    words = text.split()
    del words[len(words) // 2]
    return " ".join(words)


EDITS: dict[str, Callable[[Row], Row]] = {
    "as it is": lambda row: row,
    "other case and spaces": _edited(lambda text: f"  {text.upper()}\n".replace(" ", "  ")),
    "a word added to the answer": _edited(lambda text: f"{text} Indeed", (1,)),
    "a word changed in the answer": _edited(_other_word, (1,)),
    "a word left out of the answer": _edited(_word_less, (1,)),
    "a word changed in question and answer": _edited(_other_word),
    "the same answer to another question": _edited(lambda text: "Please tell me about this one.", (0,)),
}


def measure(root: Path, seeds: range) -> None:
    """By kind of edit: rows left out of the scores, rows scored and told of, and the same of rows not copied."""
    plant = next(plant for plant in PLANTS if plant.name == "leak")
    base = model_path(root, plant.model)
    left_out, told, planted = (defaultdict[str, int](int) for _ in range(3))
    others, rows = (0, 0), 0
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
            run_data = gather(Recipe.model_validate(tree))
        suite, words = run_data.heldout, scored_overlaps(run_data)[0]
        out, scored = ({place for hit in hits for place in hit.rows} for hits in (suite.leaks, words))
        flag = leak("heldout", suite.compared, [*suite.leaks, *words], [d.id for d in suite.documents])
        print(f"seed {seed}: {flag.level if flag else 'no flag'}: {flag.message if flag else ''}")
        for name, i in zip(edits, chosen, strict=True):
            planted[name] += 1
            left_out[name] += i + 1 in out
            told[name] += i + 1 in scored
        copied = {i + 1 for i in chosen}
        others = others[0] + len(out - copied), others[1] + len(scored - copied)
        rows += len(heldout) - len(chosen)
    print("\n| held-out row copied into training data | left out | scored and told | of |\n|---|---|---|---|")
    for name, count in planted.items():
        print(f"| {name} | {left_out[name]} | {told[name]} | {count} |")
    print(f"| not copied | {others[0]} | {others[1]} | {rows} |")
