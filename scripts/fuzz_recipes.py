"""Recipes that nobody would write: each is read, or refused in sentences that name the file.

python scripts/fuzz_recipes.py [COUNT]   # figures for docs/elsewhere.md; exit code 1 if any ended otherwise

Every input is one of the repository's recipes with one to three changes: bytes flipped, pieces left out, repeated or
nested, marks of YAML, control characters and odd values put in. The seed is fixed, so a number stands for an input.
"""

from __future__ import annotations

import random
import sys
import warnings
from collections import Counter
from pathlib import Path

from engine.basics.errors import RecipeError
from engine.recipe.recipe_file import MOST_SENTENCES, parse

ROOT = Path(__file__).parent.parent
PATH = Path("elsewhere.yaml")
LONGEST = 2000  # characters of a sentence
MARKS = [
    *"&*!|>{}[],:#?-\"'%@`~\\\n\t ",
    "- ",
    ": ",
    "? ",
    "<<: ",
    "---\n",
    "...\n",
    "%YAML 1.1\n",
    "&a ",
    "*a ",
    "*a",
]
ODD = [
    "!!int x", "!!float y", "!!binary é", "!!timestamp z", "!!set {a}", "!!omap [a: 1]", "!a b", "~", "null", ".nan",
    "-.inf", "1e999", "9" * 40, "9" * 5000, "0x1F", "0o17", "2001-01-01", "9999-99-99", "12:30:45", "yes", "''", "{}",
    "[]", "[[1], {a: [b]}]", '"\\0"', '"\\ud800"', '"\\e]2;x\\a"', "|\n  a\n  b", "x" * 3000, "10%", "-1", "1.5",
]  # fmt: skip
CONTROLS = [
    *map(chr, [*range(9), 11, 12, *range(14, 32), 127, *range(128, 160)]),
    "\u2028",
    "\u202e",
    "\ufeff",
    "\uffff",
]


def sources() -> list[str]:
    return [path.read_text() for path in sorted((ROOT / "recipes").glob("*.yaml"))]


def changed(text: str, chance: random.Random) -> str:
    """The text with one change."""
    at = chance.randrange(len(text) + 1)
    end = min(len(text), at + chance.randrange(1, 40))
    piece = text[at:end]
    match chance.randrange(9):
        case 0:  # a flipped bit
            return (
                text[:at]
                + "".join(chr(ord(char) ^ 1 << chance.randrange(7)) for char in piece[:1])
                + text[at + 1 :]
            )
        case 1:
            return text[:at] + text[end:]
        case 2:
            return text[:at] + piece * chance.choice([2, 3, 10, 300]) + text[end:]
        case 3:
            return text[:at] + chance.choice(MARKS) * chance.choice([1, 1, 2, 50]) + text[at:]
        case 4:
            return text[:at] + chance.choice(CONTROLS) + text[at:]
        case 5:  # a value of a key
            colon = text.find(": ", at)
            return (
                text
                if colon < 0
                else f"{text[: colon + 2]}{chance.choice(ODD)}{text[text.find(chr(10), colon) :]}"
            )
        case 6:  # nested
            depth = chance.choice([1, 5, 30])
            return f"{text}deep: {'[' * depth}{']' * depth}\n"
        case 7:  # aliases
            levels = chance.randrange(1, 6)
            lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
            lines += [f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, levels)]
            return "\n".join([text, *lines, ""])
        case _:
            lists = ", ".join(
                f"{key}: {list(range(1, chance.choice([2, 40])))}"
                for key in ("method.r", "seed", "data.limit")
            )
            return f"{text}\nsweep: {{{lists}}}\n"


def outcome(text: str) -> str:
    """`read`, `refused`, or what went wrong."""
    try:
        parse(text, PATH)
    except RecipeError as error:
        sentences = str(error).split("\n")
        told = all(sentence.startswith((f"{PATH}", "command line")) for sentence in sentences)
        short = len(sentences) <= MOST_SENTENCES + 1 and max(map(len, sentences)) <= LONGEST
        return "refused" if told and short else f"not a sentence: {str(error)[:200]!r}"
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]!r}"
    return "read"


def outcomes(count: int, seed: int = 0) -> Counter[str]:
    """How many inputs ended how."""
    chance, texts = random.Random(seed), sources()
    found: Counter[str] = Counter()
    for _ in range(count):
        text = chance.choice(texts)
        for _ in range(chance.randrange(1, 4)):
            text = changed(text, chance)
        found[outcome(text)] += 1
    return found


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    warnings.simplefilter("error")  # a reader that warns has printed something that nobody understands
    found = outcomes(count)
    for name, number in found.most_common():
        print(f"{number:>6,}  {name}")
    sys.exit(0 if found.keys() <= {"read", "refused"} else 1)


if __name__ == "__main__":
    main()
