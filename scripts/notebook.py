"""Run the cells of a notebook against $FINETUI_HOME, and write it with their outputs:

    python scripts/notebook.py docs/notebook.ipynb docs/notebook.ipynb

It executes them in this process, as Jupyter would, without Jupyter: that would be forty packages more for the tests.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def run(notebook: dict[str, Any]) -> None:
    """Put the outputs into the notebook."""
    names: dict[str, Any] = {"__name__": "__main__"}
    codes = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    for count, cell in enumerate(codes, 1):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            value = run_cell("".join(cell["source"]), names)
        cell["execution_count"], cell["outputs"] = count, []
        if printed.getvalue():
            stream = {"output_type": "stream", "name": "stdout", "text": lines_of(printed.getvalue())}
            cell["outputs"].append(stream)
        if value is not None:
            data = {"text/plain": lines_of(repr(value))}
            result = {"output_type": "execute_result", "execution_count": count, "data": data, "metadata": {}}
            cell["outputs"].append(result)


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Return the value of its last line, if that is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), names)
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), names) if last else None


def lines_of(text: str) -> list[str]:
    return text.splitlines(keepends=True)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    content = json.loads(source.read_text())
    run(content)
    target.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")
