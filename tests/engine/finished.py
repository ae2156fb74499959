"""Finished runs that all test processes of a session share: each is trained once, by whoever asks for it first."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

from workers import WAIT_S, make_run, small, work

from engine.recipe.sections import Recipe
from engine.runs.home import RunDir
from engine.training.checkpoint import COMPLETE
from finetui.lock import Lock

# Six steps are few: methods that train less of the model go at rates of their own.
METHODS: dict[str, tuple[Any, float]] = {
    "full": ("full", 1e-3),
    "freeze": ("freeze", 3e-3),
    "lora": ("lora", 1e-3),
    "plus": ({"name": "lora", "rslora": True, "lr_ratio": 4.0, "init": "corda"}, 1e-3),
    "dora": ({"name": "lora", "dora": True, "init": "eva", "targets": "mlp"}, 1e-3),
    "pissa": ({"name": "lora", "init": "pissa"}, 1e-3),
    "qlora": ("qlora", 1e-3),
    "qdora": ({"name": "qlora", "dora": True, "rslora": True}, 1e-3),
    "adapter": ("adapter", 1e-2),
    "ia3": ("ia3", 3e-2),
    "prefix": ({"name": "prefix", "tokens": 8}, 1e-2),
    "prompt": ({"name": "prompt", "tokens": 8, "text": "Describe this function."}, 1e-2),
}


def recipe_of(method: str) -> dict[str, Any]:
    """What the shared run of a method is made from."""
    settings, lr = METHODS[method]
    return small(method=settings, train__lr=lr)


class Finished:
    """Runs to look at, by method (`finished["lora"]`) or recipe. They are others' as well: change none of them,
    but a `copy`.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "runs").mkdir(parents=True, exist_ok=True)

    def __getitem__(self, method: str) -> RunDir:
        return self.of(recipe_of(method))

    def of(self, tree: dict[str, Any]) -> RunDir:
        """The run of a recipe, in one attempt from its beginning to its end."""
        recipe = Recipe.model_validate(tree).model_dump_json()
        key = hashlib.sha256(recipe.encode()).hexdigest()[:16]
        path, done = self.home / "runs" / f"000001-{key}", self.home / f"{key}.done"
        lock = Lock(self.home / f"{key}.lock")
        assert lock.acquire(WAIT_S), f"another process of this session trains {path} for ever"
        try:
            if not done.exists():
                shutil.rmtree(path, ignore_errors=True)
                run = make_run(path, tree)
                assert work(run) == 0, (tree["method"], run.attempt(1).stdout.read_text())
                done.touch()
        finally:
            lock.release()
        return RunDir(path)


def copy(run: RunDir, path: Path) -> RunDir:
    return RunDir(Path(shutil.copytree(run.path, path, symlinks=True)))


def killed_after(run: RunDir, path: Path, step: int) -> RunDir:
    """A copy of a finished run as a SIGKILL leaves it that strikes while the line after that of `step` is written:
    half a line ends the log, and of a later checkpoint all is there but the mark that it is whole.
    """
    killed = copy(run, path)
    for name in ("model", "adapter"):
        shutil.rmtree(path / name, ignore_errors=True)
    for number, checkpoint in killed.whole_checkpoints():
        if number > step:
            (checkpoint / COMPLETE).unlink()
    events = killed.attempt(1).events
    lines = events.read_bytes().splitlines(keepends=True)
    last = next(n for n, line in enumerate(lines) if _is_metrics(line, step))
    events.write_bytes(b"".join(lines[: last + 1]) + lines[last + 1][: len(lines[last + 1]) // 2])
    return killed


def _is_metrics(line: bytes, step: int) -> bool:
    event = json.loads(line)
    return event["kind"] == "metrics" and event["step"] == step
