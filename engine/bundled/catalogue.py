"""The model and the data that come with finetui, so that it can be tried without a network.

The data are made on first use from English text that every CPython carries, and cached. Every
paragraph goes to exactly one of four places, so that what a run measures is what it says:

- `docstrings`: question and answer pairs about functions, for supervised fine-tuning; the same functions once
  more as `docstring-subjects` (text and label) and `docstring-preferences` (a better and a worse answer);
- `stdlib-prose`: passages of reference prose, the general suite that shows forgetting;
- the text that the base model `stdlib-2m` was trained on;
- docstrings held out from all of these, for the base model's own loss.

More general text stands in files beside this one: `general-code`, `general-chat`, `general-arithmetic` and
`general-languages`, with a NOTICE of where they are from. Nothing of them is in the other data either.

Which one is decided by a hash of the function's, module's or topic's name. The base model was
trained under one Python version and is used under others: an edited docstring keeps its name, so
it stays on its side.
"""

import hashlib
import json
import os
import platform
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from engine.bundled import stdlib_text
from engine.bundled.stdlib_text import Docstring, paragraphs
from finetui.files import write_whole_file

NAMES: dict[str, tuple[str, ...]] = {
    "model": ("stdlib-2m",),
    "data": (
        *("docstrings", "stdlib-prose", "docstring-subjects", "docstring-preferences"),
        *("general-code", "general-chat", "general-arithmetic", "general-languages"),
    ),
}

Row = dict[str, Any]

_FORMAT = 2  # raise when the same Python would give other rows

# Shares in percent of the names. What is left over goes to the base model whole.
_PROSE_SHARE = 50  # of topics and modules, to stdlib-prose
_PAIRS_SHARE = 55  # of functions and classes, to docstrings (only the summary)
_HELDOUT_SHARE = 10  # of functions and classes, to the base model's held-out text

_SUMMARY_LENGTH = range(30, 301)  # characters
_PASSAGE_LENGTH = range(400, 801)

# What packages are about: the classes of docstring-subjects.
_SUBJECTS = {
    "concurrency": "asyncio concurrent multiprocessing queue selectors subprocess threading",
    "graphics": "idlelib tkinter turtle turtledemo",
    "network": "email ftplib http imaplib mailbox nntplib poplib smtplib socket socketserver ssl urllib wsgiref xmlrpc",
    "numbers": "_pydecimal colorsys datetime decimal fractions ipaddress numbers random statistics",
    "packaging": "distutils ensurepip importlib modulefinder pkgutil runpy venv zipapp zipimport",
    "testing": "bdb cProfile doctest pdb profile pstats timeit trace tracemalloc unittest",
}
_SUBJECT_OF = {package: subject for subject, packages in _SUBJECTS.items() for package in packages.split()}

_FORWARD = (
    "What does `{signature}` in `{place}` do?",
    "Explain `{signature}` from `{place}`.",
    "`{place}` has `{signature}`. What is it for?",
    "Describe what `{signature}` ({place}) does.",
)
_REVERSE = (
    "Which definition in `{module}` does this: {summary} Give its signature.",
    "Give the name and signature in `{module}` for: {summary}",
    "{summary} What in `{module}` does that?",
)
_CHATS = (
    "What is {title}?",
    "Tell me about {title}.",
    "Summarise {title} in one sentence.",
)


def model_path(name: str) -> Path:
    """Return the folder of a bundled model: `stdlib-2m` or `bundled:stdlib-2m`. Raises ValueError."""
    name = _check_name(name, "model")
    return Path(str(files("recipes") / "models" / name.replace("-", "_")))


def load(name: str) -> list[Row]:
    """Return the rows of a bundled data set: `docstrings` (messages), `stdlib-prose` (text), `docstring-subjects`
    (text and label), `docstring-preferences` (prompt, chosen and rejected), `general-chat` (messages) or another
    `general-…` (text). Raises ValueError.

    Rows of general text say in `document` which text they are from: a module, a catalogue, a kind of problem, a topic.
    """
    return _read_file(data_path(name))


def data_path(name: str) -> Path:
    """Return the file of a bundled data set, made if it does not exist. Raises ValueError."""
    name = _check_name(name, "data")
    return _packaged(name) if name.startswith("general-") else _made(name)


def general_prompts() -> list[Row]:
    """Return the prompts (`prompt`) by which drift is measured, each with the language of its answer (`language`)."""
    return _read_file(_packaged("general-prompts"))


def pretraining_text() -> list[str]:
    """Return the documents that the base model is trained on; none of them is in a data set."""
    return [row["text"] for row in _read_rows("pretraining")]


def pretraining_heldout() -> list[str]:
    """Return documents held out from the base model's training to measure its loss."""
    return [row["text"] for row in _read_rows("pretraining-heldout")]


def pretraining_chats() -> list[Row]:
    """Return conversations about the modules and topics in the pretraining text.

    They give the chat tokens trained embeddings, without which adapters on frozen embeddings
    could hardly tell one such token from another.
    """
    return _read_rows("pretraining-chats")


def _check_name(name: str, kind: str) -> str:
    name = name.removeprefix("bundled:")
    if name not in NAMES[kind]:
        raise ValueError(f"no bundled {kind} {name!r}; there is: {', '.join(NAMES[kind])}")
    return name


def _read_rows(name: str) -> list[Row]:
    return _read_file(_made(name))


def _made(name: str) -> Path:
    """Return the cached file of one of the data sets; make the cache first if it does not exist."""
    path = _cache_path(name)
    if not path.exists():
        for other, rows in build().items():
            _write(_cache_path(other), rows)
    return path


def _read_file(path: Path) -> list[Row]:
    # Not splitlines(), which also cuts at characters that JSON leaves in strings.
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _packaged(name: str) -> Path:
    return Path(str(files("engine.bundled") / f"{name}.jsonl"))


def _cache_path(name: str) -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "finetui" / f"{name}-python{platform.python_version()}-v{_FORMAT}.jsonl"


def _write(path: Path, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two runs may start at once: each writes a file of its own, and the last rename wins.
    write_whole_file(path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def build() -> dict[str, list[Row]]:
    """Make all data sets from the standard library, without the cache."""
    docstrings = [d for source in stdlib_text.sources().values() for d in source.docstrings]
    definitions = [d for d in docstrings if d.signature]
    documents = {f"the module {d.module}": d.text for d in docstrings if not d.signature}
    documents |= {f"the topic {name}": text for name, text in stdlib_text.topics().items()}

    # Each paragraph belongs to the first claim, so held-out text claims before the rest.
    claimed: set[str] = set()
    prose = [
        {"text": passage, "document": title}
        for title, text in documents.items()
        if _hash_percent(title) < _PROSE_SHARE
        for passage in _passages(_claim_text(text, claimed))
    ]
    candidates = [d for d in definitions if _hash_percent(d.name) < _PAIRS_SHARE]
    questions = [(d, s) for d in candidates if (s := _summary(d)) and _claim_paragraph(s, claimed)]
    heldout_range = range(_PAIRS_SHARE, _PAIRS_SHARE + _HELDOUT_SHARE)
    heldout = _claim_texts([d.text for d in definitions if _hash_percent(d.name) in heldout_range], claimed)

    training_documents = {
        t: text
        for t, p in documents.items()
        if _hash_percent(t) >= _PROSE_SHARE and (text := _claim_text(p, claimed))
    }
    rest = [d.text for d in definitions]  # without the paragraphs claimed above
    comments = ["\n\n".join(source.comments) for source in stdlib_text.sources().values()]
    pretraining = ["\n".join(text) for text in training_documents.values()] + _claim_texts(
        rest + comments, claimed
    )

    # Two paragraphs that differ elsewhere may share a sentence.
    used_text = "\n".join(pretraining).lower()
    prose = [
        row
        for row in prose
        if not any(_normalise(s) in used_text for s in _sentences(row["text"]) if len(s) >= 40)
    ]
    used_text = "\n".join([used_text, *(row["text"].lower() for row in prose)])
    clean = [(d, s) for d, s in questions if _normalise(s) not in used_text]
    subjects = [
        {"text": s, "label": _SUBJECT_OF[package]}
        for d, s in clean
        if (package := d.module.partition(".")[0]) in _SUBJECT_OF
    ]
    return {
        "docstrings": _shuffled([_question_pair(d, s) for d, s in clean]),
        "docstring-subjects": _shuffled(subjects),
        "docstring-preferences": _shuffled([_preference(d, s) for d, s in clean]),
        "stdlib-prose": prose,
        "pretraining": [{"text": text} for text in pretraining],
        "pretraining-heldout": [{"text": text} for text in heldout],
        "pretraining-chats": [
            _chat(title, text[0]) for title, text in training_documents.items() if len(text[0]) <= 400
        ],
    }


def _shuffled(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: _digest(json.dumps(row)))


def _digest(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


def _hash_percent(name: str) -> int:
    return _digest(name) % 100


def _normalise(text: str) -> str:
    return text.lower().rstrip(".")


def _claim_paragraph(paragraph: str, claimed: set[str]) -> bool:
    if _normalise(paragraph) in claimed:
        return False
    claimed.add(_normalise(paragraph))
    return True


def _claim_text(text: str, claimed: set[str]) -> list[str]:
    return [paragraph for paragraph in paragraphs(text) if _claim_paragraph(paragraph, claimed)]


def _claim_texts(texts: list[str], claimed: set[str]) -> list[str]:
    return ["\n".join(kept) for text in texts if (kept := _claim_text(text, claimed))]


def _passages(document: list[str]) -> list[str]:
    """Join the sentences of a document to passages of about a hundred tokens."""
    passages, passage = [], ""
    for sentence in (s for paragraph in document for s in _sentences(paragraph)):
        if len(passage) >= _PASSAGE_LENGTH.start:
            passages.append(passage)
            passage = ""
        passage = f"{passage} {sentence}".strip()
    return [p for p in [*passages, passage] if len(p) in _PASSAGE_LENGTH]


def _sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.:]) (?=[A-Z*\"])", text)


def _summary(docstring: Docstring) -> str | None:
    """Return the first paragraph of a docstring, if it describes the definition in words."""
    first = re.split(r"\n\s*\n", docstring.text)[0]
    summary = next(iter(paragraphs(first)), "")
    usable = (
        len(summary) in _SUMMARY_LENGTH
        and summary[0].isupper()
        and len(summary.split()) >= 5
        and not re.search(r"TODO|XXX|->|@param|[:,]$", summary)
        and len(docstring.signature) <= 120
    )
    return summary.rstrip(".") + "." if usable else None


def _question_pair(docstring: Docstring, summary: str) -> Row:
    """Return a question about a definition and its answer; a hash picks direction and phrasing.

    One pair per definition: a second one would leak the answer of a held-out pair into training.
    """
    owner = docstring.name.rpartition(".")[0]
    choice = _digest(docstring.name + summary) // 100
    forward = choice % 3 > 0  # the answers in this direction have more to learn from
    phrasings = _FORWARD if forward else _REVERSE
    question = phrasings[choice // 3 % len(phrasings)].format(
        signature=docstring.signature, place=owner, module=docstring.module, summary=summary
    )
    return _messages(question, summary if forward else f"`{docstring.signature}` in `{owner}`.")


def _preference(docstring: Docstring, summary: str) -> Row:
    """Return a preference pair: what a definition does, and the same broken off half-way."""
    owner = docstring.name.rpartition(".")[0]
    phrasing = _FORWARD[_digest(docstring.name) % len(_FORWARD)]
    words = summary.split()
    return {
        "prompt": phrasing.format(signature=docstring.signature, place=owner),
        "chosen": summary,
        "rejected": " ".join(words[: len(words) // 2]),
    }


def _chat(title: str, first: str) -> Row:
    choice = _digest(title)
    row = _messages(_CHATS[choice // 100 % len(_CHATS)].format(title=title), first)
    if choice // 1000 % 4 == 0:
        row["messages"].insert(0, {"role": "system", "content": "Answer questions about Python."})
    return row


def _messages(question: str, answer: str) -> Row:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}
