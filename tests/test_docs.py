"""The documents keep step with the code, and the examples run."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine.client import preflight
from engine.client.commands import check_command
from engine.recipe import recipe_file

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))


def test_generated_documents_are_up_to_date() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "make_docs.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_opens_with_its_command_and_can_run(path: Path) -> None:
    assert path.read_text().startswith(f"# finetui run recipes/{path.name}\n")
    file = recipe_file.read(path)
    if file.command:
        assert check_command(file.command, Path.cwd())
        return
    for recipe in file.recipes:
        assert preflight.check(recipe, path.parent).train_examples > 100


def test_every_recipe_in_the_readme_can_run(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        recipe = recipe_file.parse(block, tmp_path / "my.yaml").recipes[0]
        assert preflight.check(recipe, tmp_path).steps


def test_links_between_documents_lead_somewhere() -> None:
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} → {target}"


def test_functions_named_in_internals_exist() -> None:
    named = re.findall(r"\[`([\w.]+)`\]\(([^)]+\.py)\)", (ROOT / "docs" / "internals.md").read_text())
    assert named
    for name, path in named:
        assert name in _names((ROOT / "docs" / path).read_text()), f"{path} has no {name}"


def _names(source: str) -> set[str]:
    """What a module defines: `function`, `Class`, `Class.method`, `CONSTANT`."""
    found = set()
    for node in ast.parse(source).body:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.FunctionDef(name=name):
                found.add(name)
            case ast.Assign(targets=targets):
                found |= {target.id for target in targets if isinstance(target, ast.Name)}
            case ast.ClassDef(name=name, body=body):
                inner = (ast.FunctionDef, ast.AsyncFunctionDef)
                found |= {name, *(f"{name}.{method.name}" for method in body if isinstance(method, inner))}
    return found
