"""Make the fixed files of general text in engine/bundled: code, arithmetic and other languages.

    pip download --no-deps django==5.2
    python3.11 scripts/make_general_text.py Django-5.2-py3-none-any.whl

They are made once and kept in the repository, so that runs under different versions of Python and Django score the
same text. The licences are in engine/bundled/NOTICE.md. `general-chat.jsonl` and `general-prompts.jsonl` are written by
hand.
"""

from __future__ import annotations

import ast
import hashlib
import io
import json
import re
import sys
import sysconfig
import textwrap
import tokenize
import zipfile
from collections.abc import Iterator
from pathlib import Path

from arithmetic import arithmetic

BUNDLED = Path(__file__).parent.parent / "engine" / "bundled"
Row = dict[str, str]

# ---- code ----------------------------------------------------------------------------------------

CODE_LENGTH = range(300, 901)  # characters
CODE_ROWS, CODE_PER_MODULE = 120, 2
OTHER_LICENCE = re.compile(r"copyright|licen[cs]e|permission", re.IGNORECASE)
SKIPPED = {
    "test",
    "tests",
    "idle_test",
    "site-packages",
    "dist-packages",
    "ensurepip",
    "lib2to3",
    "encodings",
}


def code() -> list[Row]:
    """Functions of the standard library without docstrings and comments: what `docstrings` and the base model have
    learned is not among them. Of modules that are under PSF's licence alone.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    rows: list[tuple[str, Row]] = []
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if SKIPPED & set(relative.parts) or relative.parts[0].startswith("config-"):
            continue
        source = path.read_text(encoding="utf-8", errors="replace")
        if not source.isascii() or OTHER_LICENCE.search(source):
            continue
        module = ".".join(relative.with_suffix("").parts).removesuffix(".__init__")
        found = [{"text": text, "document": module} for text in _functions(source)]
        rows += [(_hash(row["text"]), row) for row in sorted(found, key=_row_hash)[:CODE_PER_MODULE]]
    once = dict(reversed(rows))  # a few functions stand in two modules
    return [once[digest] for digest in sorted(once)[:CODE_ROWS]]


def _functions(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not ast.get_docstring(node):
            text = textwrap.dedent("\n".join(source.splitlines()[node.lineno - 1 : node.end_lineno]))
            inner = any(
                ast.get_docstring(n) for n in ast.walk(node) if isinstance(n, ast.FunctionDef | ast.ClassDef)
            )
            if len(text) in CODE_LENGTH and not inner and not _has_comment(text) and "://" not in text:
                yield text


def _has_comment(text: str) -> bool:
    tokens = tokenize.generate_tokens(io.StringIO(text + "\n").readline)
    return any(token.type == tokenize.COMMENT for token in tokens)


# ---- other languages -----------------------------------------------------------------------------

LANGUAGES = ("de", "es", "fr", "it", "ja", "nl", "pl", "pt_BR", "ru", "zh_Hans")
CATALOGUE = re.compile(r"django/(?:contrib/)?(\w+)/locale/(\w+)/LC_MESSAGES/django\.po")
PASSAGE_BYTES = 350  # from here on, a passage is long enough
PASSAGES_PER_LANGUAGE = 14


def languages(wheel: Path) -> list[Row]:
    """Passages of Django's translations: whole sentences of one catalogue, in its order."""
    by_language: dict[str, list[Row]] = {language: [] for language in LANGUAGES}
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            match = CATALOGUE.fullmatch(name)
            if match and match[2] in by_language:
                document = f"{match[1]}.{match[2]}"
                passages = _passages(_translations(archive.read(name).decode("utf-8")))
                by_language[match[2]] += [{"text": text, "document": document} for text in passages]
    return [
        row for rows in by_language.values() for row in sorted(rows, key=_row_hash)[:PASSAGES_PER_LANGUAGE]
    ]


def _translations(catalogue: str) -> Iterator[str]:
    """The translations that are whole sentences without placeholders and markup."""
    for entry in re.split(r"\n\s*\n", catalogue)[1:]:  # the first entry is the header
        if (
            "#, fuzzy" in entry
            or "msgid_plural" in entry
            or (match := re.search(r'msgstr ((?:"[^\n]*"\s*)+)', entry)) is None
        ):
            continue
        text = "".join(ast.literal_eval(line) for line in match[1].strip().splitlines())
        if len(text.encode()) >= 40 and text.rstrip()[-1] in ".。！？!?" and not re.search(r"[%{<>\n]", text):
            yield " ".join(text.split())


def _passages(sentences: Iterator[str]) -> list[str]:
    passages, passage, separator = [], "", " "
    for sentence in dict.fromkeys(sentences):
        passage = f"{passage}{separator}{sentence}".strip() if passage else sentence
        if len(passage.encode()) >= PASSAGE_BYTES:
            passages.append(passage)
            passage = ""
    return passages


# ---- files ---------------------------------------------------------------------------------------


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _row_hash(row: Row) -> str:
    return _hash(row["text"])


def main() -> None:
    files = {"code": code(), "arithmetic": arithmetic(), "languages": languages(Path(sys.argv[1]))}
    for name, rows in files.items():
        path = BUNDLED / f"general-{name}.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        documents = len({row["document"] for row in rows})
        print(f"{path.name}: {len(rows)} rows of {documents} documents, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
