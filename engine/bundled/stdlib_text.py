"""The English text that every CPython carries: docstrings, comments and the language reference.

Modules are parsed, never imported: importing the standard library would open browsers, start
event loops and print poems.
"""

import ast
import os
import re
import sysconfig
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

_SKIPPED_DIRECTORIES = {
    *("__pycache__", "dist-packages", "ensurepip", "idle_test", "site-packages", "test", "tests"),
    *("encodings", "pydoc_data"),  # tables, and what `topics` reads
}


class Docstring(NamedTuple):
    """A docstring and what it describes; `signature` is empty for a module."""

    module: str
    name: str  # qualified by classes and module: random.Random.shuffle
    signature: str  # def shuffle(self, x)
    text: str


class Source(NamedTuple):
    """The English text of one file of the standard library."""

    docstrings: list[Docstring]
    comments: list[str]


@cache
def sources() -> dict[str, Source]:
    """Return the docstrings and comments of every module, by module name, in order of the names."""
    root = Path(sysconfig.get_paths()["stdlib"])
    by_module = {}
    for path in _files(root):
        parts = path.relative_to(root).with_suffix("").parts
        try:
            code = path.read_text(encoding="utf-8")
            tree = ast.parse(code)
        except (SyntaxError, ValueError):  # a few files are in other encodings or for other tools
            continue
        module = ".".join(parts).removesuffix(".__init__")
        by_module[module] = Source(list(_docstrings(tree, module)), list(_comments(code)))
    if not by_module:
        raise RuntimeError(f"no Python sources in {root}: the bundled data are made from them")
    return dict(sorted(by_module.items()))


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        # os.walk does not enter folders that are removed from this list.
        folders[:] = sorted(
            f for f in folders if f not in _SKIPPED_DIRECTORIES and not f.startswith("config-")
        )
        yield from (Path(folder, name) for name in sorted(names) if name.endswith(".py"))


def topics() -> dict[str, str]:
    """Return the language reference as `help()` shows it, by topic."""
    texts: dict[str, str] = import_module("pydoc_data.topics").topics
    return dict(sorted(texts.items()))


def paragraphs(text: str) -> list[str]:
    """Return the paragraphs of prose in `text`, each on one line, without code, grammar and tables."""
    text = re.sub(r"(?m)^\s*[^\w\s]{3,}\s*$", "", text)  # lines that underline a title
    joined = (" ".join(block.split()) for block in re.split(r"\n\s*\n", text))
    return [paragraph for paragraph in joined if _is_prose(paragraph)]


def _is_prose(paragraph: str) -> bool:
    letters = sum(c.isalpha() or c == " " for c in paragraph)
    code = re.search(r">>>|::=|\.\.\. |[{}\\|]|--\w", paragraph)
    return len(paragraph) >= 20 and letters >= 0.8 * len(paragraph) and not code and paragraph.isascii()


def _docstrings(tree: ast.Module, module: str) -> Iterator[Docstring]:
    """Yield the docstrings of a module, its classes and functions, in the order of the source."""
    if text := ast.get_docstring(tree):
        yield Docstring(module, module, "", text)
    yield from _nested(tree, module, module)


def _nested(parent: ast.AST, module: str, prefix: str) -> Iterator[Docstring]:
    for node in ast.iter_child_nodes(parent):
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            # Its definitions belong to its owner.
            if isinstance(node, ast.If | ast.Try | ast.ExceptHandler | ast.With):
                yield from _nested(node, module, prefix)
            continue
        name = f"{prefix}.{node.name}"
        if text := ast.get_docstring(node):
            yield Docstring(module, name, _signature(node), text)
        if isinstance(node, ast.ClassDef):
            yield from _nested(node, module, name)


def _signature(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> str:
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(map(ast.unparse, node.bases))
        return f"class {node.name}({bases})" if bases else f"class {node.name}"
    keyword = "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    return f"{keyword} {node.name}({ast.unparse(node.args)})"


def _comments(code: str) -> Iterator[str]:
    """Yield blocks of comment lines that are long enough to be an explanation."""
    for block in re.findall(r"(?:^[ \t]*#.*\n)+", code, re.MULTILINE):
        text = "\n".join(line.strip().lstrip("#!").strip() for line in block.splitlines())
        if len(text) >= 80:
            yield text
