"""The base model's scores and answers, computed once and cached: later runs on the same base read them at step 0.

Files are named by a digest of all that the result depends on: the model's files, its number formats, the tokens. A file
that is missing or damaged costs an evaluation, nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import peft
import torch
import transformers

from engine.basics import cache_files
from engine.evals import scores_file
from engine.evals.drift import MAX_TOKENS, Prompt, Written
from engine.evals.generate import Answer, Question
from engine.evals.score import Scores
from engine.models import distributed
from engine.models.source import locate, model_files_digest
from engine.recipe.methods import IA3, Adapter, Freeze, Full, Lora, Method, Oft, QLora, Shira
from engine.recipe.sections import Recipe
from engine.runs.home import RunDir
from engine.tasks.prepare import Suite
from engine.training.job import Job

MAX_FILES = 200


class BaseCache:
    """The cache of one base model as one run loads it; a run outside a home has none."""

    def __init__(self, run: RunDir, base: str) -> None:
        self._directory = run.cache("base")
        self._base = base

    def scores(self, suite: Suite, compute: Callable[[], Scores]) -> Scores:
        """Return the scores of every example of a suite, with the predictions that later looks are compared with;
        `compute` is called where they are not cached.
        """
        parts = [example.content for example in suite.examples]
        path = self._path([b"scores", suite.name.encode(), *parts], "npz")
        try:
            return scores_file.from_bytes(_read(path), suite)
        except ValueError:
            scores = compute()
            _write(path, scores_file.to_bytes(scores))
            return scores

    def answers(
        self, questions: Sequence[Question], max_new_tokens: int, compute: Callable[[], list[Answer]]
    ) -> list[Answer]:
        """Return the answers to questions; `compute` is called where they are not cached."""
        prompts = json.dumps([question.tokens for question in questions]).encode()
        path = self._path([b"answers", str(max_new_tokens).encode(), prompts], "json")
        try:
            answers = [Answer(str(text), bool(ended)) for text, ended in json.loads(_read(path))["answers"]]
        except (KeyError, TypeError, ValueError):
            answers = []
        if len(answers) != len(questions):
            answers = compute()
            body = {"answers": [[answer.text, answer.ended] for answer in answers]}
            _write(path, json.dumps(body).encode())
        return answers

    def written(self, asked: Sequence[Prompt]) -> list[Written] | None:
        """Return the answers to general prompts; None where they are not cached."""
        try:
            written = [Written(**one) for one in json.loads(_read(self._written_path(asked)))]
        except (TypeError, ValueError):
            return None
        return written if [one.prompt for one in written] == [prompt.text for prompt in asked] else None

    def keep_written(self, asked: Sequence[Prompt], written: Sequence[Written]) -> None:
        """Cache the answers to general prompts."""
        _write(self._written_path(asked), json.dumps([asdict(one) for one in written]).encode())

    def _written_path(self, asked: Sequence[Prompt]) -> Path | None:
        prompts = json.dumps([prompt.tokens for prompt in asked]).encode()
        return self._path([b"written", str(MAX_TOKENS).encode(), prompts], "json")

    def samples(self, count: int, compute: Callable[[], list[list[int]]]) -> list[list[int]]:
        """Return texts sampled from the base model, as tokens; `compute` is called where they are not cached."""
        path = self._path([b"samples", str(count).encode()], "json")
        try:
            samples = [[int(token) for token in tokens] for tokens in json.loads(_read(path))]
        except (TypeError, ValueError):
            samples = []
        if len(samples) != count:
            samples = compute()
            _write(path, json.dumps(samples).encode())
        return samples

    def _path(self, parts: Sequence[bytes], kind: str) -> Path | None:
        if self._directory is None:
            return None
        digest = hashlib.sha256(self._base.encode())
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return self._directory / f"{digest.hexdigest()[:32]}.{kind}"


def base_cache_of(job: Job) -> BaseCache | None:
    """Return the cache of a job's base model; None with several processes, since one must not read what another has
    not computed yet.
    """
    if distributed.world() > 1:
        return None
    return BaseCache(
        job.run, base_key(job.recipe.model.path, job.recipe.method, job.dtype, job.model, job.packed)
    )


def starts_as_base(method: Method) -> bool:
    """Whether a model with this method computes at step 0 exactly what its base computes."""
    if isinstance(method, Lora):
        return not method.rewrites_base
    return isinstance(method, Full | Freeze | QLora | Shira | Oft | IA3 | Adapter)


def base_key(path: str, method: Method, dtype: torch.dtype, model: Any, packed: bool) -> str:
    """Return all that the base model's output depends on, as text: its files, its number formats, the libraries."""
    # The base of an adapter is held in the compute precision or in 4 bits, one that is trained in float32.
    weights_format = "float32" if isinstance(method, Full) else str(dtype)
    if isinstance(method, Freeze | QLora):
        weights_format = method.model_dump_json(
            include={"name", "layers", "modules", "quant", "double_quant"}
        )
    versions = f"torch {torch.__version__} transformers {transformers.__version__}"
    return f"{model_key(path, model)} {weights_format} {dtype} packed={packed} {model.device.type} {versions}"


def loaded_key(recipe: Recipe, model: Any, *others: str) -> str:
    """Return a digest of all that a model depends on as a recipe loads it, and of `others`."""
    versions = f"torch {torch.__version__} transformers {transformers.__version__} peft {peft.__version__}"
    parts = [
        model_key(recipe.model.path, model),
        recipe.model.model_dump_json(),
        recipe.method.model_dump_json(),
        versions,
        *others,
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def model_key(path: str, model: Any) -> str:
    """Return which model it is, in whatever number format."""
    directory = locate(path)
    return (
        model_files_digest(directory)
        if directory
        else f"{path}@{getattr(model.config, '_commit_hash', None)}"
    )


def _read(path: Path | None) -> bytes:
    return cache_files.read(path) if path else b""


def _write(path: Path | None, content: bytes) -> None:
    if path:
        cache_files.write(path, content, MAX_FILES)
