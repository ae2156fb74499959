"""Check of a recipe before it is queued: the model, every data set, the size of the run.

Torch-free and quick: it reads the same rows as the worker, and no weights.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.basics.errors import ModelError
from engine.client import vocabulary
from engine.client.looks_cost import look_cost
from engine.data import findings, sources
from engine.data.data_cache import gather_once
from engine.data.findings import Finding
from engine.data.formats import Document
from engine.data.gather import RunData, check_spare
from engine.data.labels import labels_of
from engine.data.rows import Source
from engine.evals.cost import Cost
from engine.evals.metrics import check_installed
from engine.memory.estimate import GIB, estimate
from engine.memory.storage import Storage, storage
from engine.memory.workload import recipe_shapes, workload_of
from engine.models.outline import outline_of
from engine.models.source import ModelFiles, check_targets, resolve_model
from engine.recipe.methods import Targeted
from engine.recipe.sections import Recipe
from engine.recipe.tasks import Classification
from engine.runs import disk
from finetui.home import home

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Role markers and end of turn, about, in any chat template.
TEMPLATE_TOKENS = 4
SAMPLE = 500  # documents whose tokens are counted


@dataclass(frozen=True)
class Dataset:
    """One source that a run reads, as stored in the table `datasets`."""

    role: str  # train, heldout, general, replay
    source: str
    fingerprint: str
    rows: int
    bytes: int
    dropped: int  # rows that cannot be used

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Report:
    """A recipe that can run, with the size of the run."""

    recipe: Recipe  # with absolute paths
    model: ModelFiles
    datasets: list[Dataset]
    train_examples: int
    heldout_examples: int
    tokens: int | None  # of one pass over the training data, about; None where the tokenizer is not here yet
    warnings: list[str]
    storage: Storage | None  # on disk; None where the model's shapes are not known yet
    labels: list[str]  # the classes, of a classification
    reached: str | None  # the layers that adapters are beside
    gpu_memory: int | None  # bytes that each process needs, as estimated; None where the shapes are not known
    # What evaluations will cost; None where the number of steps or tokens is not known yet.
    looks: Cost | None

    @property
    def seconds(self) -> float | None:
        """How long steps and looks will take; None where nothing was measured."""
        return self.looks.seconds if self.looks else None

    @property
    def steps(self) -> int | None:
        return _steps(self.recipe, self.tokens)

    @property
    def step_tokens(self) -> int:
        """Tokens of a step, on the average."""
        train = self.recipe.train
        return (
            round(self.tokens / train.steps_of_epoch(self.tokens)) if self.tokens else train.tokens_per_step
        )

    def summary(self) -> str:
        """Return one line: `lora of bundled:stdlib-2m, 2,910 examples, about 120 steps`."""
        steps = f", about {self.steps:,} steps" if self.steps else ""
        return (
            f"{self.recipe.method.name} of {self.recipe.model.path}, {self.train_examples:,} examples{steps}"
        )

    def _steps_in_words(self) -> str:
        """Steps, their mean size, and how often the data are gone through."""
        train = self.recipe.train
        passes = train.passes(self.tokens) if self.tokens else train.epochs
        steps = f"about {self.steps:,} steps of {self.step_tokens:,} tokens" if self.steps else "?"
        return f"{steps}, {passes:.3g} epoch{'' if passes == 1 else 's'}"

    def lines(self) -> list[str]:
        """Return the report for people."""
        parameters = (
            f"{self.model.parameters / 1e6:,.1f}M parameters" if self.model.parameters else "not downloaded"
        )
        tokens = f", about {self.tokens:,} tokens" if self.tokens else ""
        lines = [
            f"{self.recipe.name}",
            f"  model    {self.recipe.model.path} ({self.model.architecture}, {parameters})",
            f"  method   {self.recipe.method.name}, learning rate {self.recipe.train.lr:g}",
            f"  task     {self.recipe.task.name}" + (f" of {', '.join(self.labels)}" if self.labels else ""),
            f"  data     {self.train_examples:,} training examples{tokens}; {self.heldout_examples:,} held out",
            f"  steps    {self._steps_in_words()}",
        ]
        if self.reached:
            lines.insert(3, f"  targets  {self.reached}")
        lines += [
            f"  {data.role:<8} {data.source} ({data.rows:,} rows, {data.dropped:,} skipped)"
            for data in self.datasets
        ]
        if self.recipe.general and self.recipe.flags.forgetting.do != "off":
            lines.append(f"  flags    {self.recipe.flags.forgetting}")
        if self.looks:
            lines.append(f"  looks    {self.looks.line()}")
            lines += [f"  time     {time}" for time in filter(None, [self.looks.time()])]
        if self.storage:
            lines.append(f"  disk     {self.storage}")
        return lines + [f"  note     {warning}" for warning in self.warnings]

    def as_dict(self) -> dict[str, Any]:
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "model": {"architecture": self.model.architecture, "parameters": self.model.parameters},
            "datasets": [dataset.as_dict() for dataset in self.datasets],
            "train_examples": self.train_examples,
            "heldout_examples": self.heldout_examples,
            "tokens": self.tokens,
            "steps": self.steps,
            "step_tokens": self.step_tokens,
            "looks": asdict(self.looks) if self.looks else None,
            "disk": vars(self.storage) | {"total": self.storage.total} if self.storage else None,
            "warnings": self.warnings,
            "labels": self.labels,
            "reached": self.reached,
        }


def check(recipe: Recipe, base: Path) -> Report:
    """Check all of a recipe that can be checked without torch; its paths are relative to `base`.

    Raises MetricError, ModelError or DataError, one sentence each, on the first thing that would make the run fail.
    """
    check_installed(recipe.evals.metrics)
    recipe = absolute(recipe, base)
    model = resolve_model(recipe.model.path, recipe.task.name)
    outline = outline_of(recipe)
    if outline is None and isinstance(recipe.method, Targeted):
        check_targets(recipe.method.targets, model)
    run_data = gather_once(recipe, home().cache / "data").checked()
    check_spare(recipe.method, run_data.spare)
    tokenizer = vocabulary.load(model)
    if tokenizer is not None:
        vocabulary.check_rows(recipe, model, tokenizer, run_data)
    datasets = [_dataset(source) for source in run_data.sources] + [
        Dataset("choices", one.source, one.fingerprint.digest, one.fingerprint.rows, one.fingerprint.bytes, 0)
        for one in run_data.choices
    ]
    tokens = None if tokenizer is None else _count_tokens(run_data.train, tokenizer)
    warnings = [
        *(outline.notes if outline else ()),
        *map(str, run_data.notes),
        *map(str, _warnings(recipe, run_data, tokens)),
    ]
    steps = _steps(recipe, tokens)
    looks = None
    if tokenizer is not None and tokens and steps:
        looks = look_cost(recipe, run_data, tokenizer, tokens, steps, _count_tokens)
        warnings += filter(None, [looks.warning()])
    disk_use, gpu_memory = _sizes(recipe, model)
    if disk_use and (warning := disk_use.warning(disk.free_bytes(home().runs))):
        warnings.append(warning)
    labels = labels_of(recipe.task, run_data) if isinstance(recipe.task, Classification) else []
    return Report(
        recipe=recipe,
        model=model,
        datasets=datasets,
        train_examples=len(run_data.train),
        heldout_examples=run_data.heldout.rows,
        tokens=tokens,
        warnings=warnings,
        storage=disk_use,
        gpu_memory=gpu_memory,
        labels=labels,
        reached=outline.reached if outline else _reached(recipe, model),
        looks=looks,
    )


def absolute(recipe: Recipe, base: Path) -> Recipe:
    """Return the recipe with absolute paths: the daemon and its workers have a working directory of their own."""
    body = recipe.model_dump()
    body["data"]["train"] = _path(recipe.data.train, base)
    if recipe.data.heldout_share is None:
        body["data"]["heldout"] = _path(str(recipe.data.heldout), base)
    if recipe.data.replay:
        body["data"]["replay"]["source"] = _path(recipe.data.replay.source, base)
    general = recipe.evals.general
    if isinstance(general, str):
        body["evals"]["general"] = _path(general, base)
    elif general:
        body["evals"]["general"] = {name: _path(source, base) for name, source in general.items()}
    body["evals"]["choices"] = {name: _path(source, base) for name, source in recipe.evals.choices.items()}
    local = Path(recipe.model.path).expanduser()
    if not recipe.model.path.startswith("bundled:") and (local.is_dir() or (base / local).is_dir()):
        body["model"]["path"] = str((local if local.is_dir() else base / local).absolute())
    return Recipe.model_validate(body)


def _reached(recipe: Recipe, model: ModelFiles) -> str | None:
    """Return which layers of a plain model get an adapter; None without its files, and for other methods."""
    if not isinstance(recipe.method, Targeted) or not model.linear_layers:
        return None
    targets = recipe.method.targets
    if targets == "mlp":
        return f"{', '.join(model.mlp_layers)} (the linear layers of the MLPs)"
    if isinstance(targets, str):
        return f"{', '.join(model.linear_layers)} (all linear layers of the blocks)"
    rest = [name for name in model.linear_layers if not any(t.endswith(name) for t in targets)]
    return ", ".join(targets) + (f"; without adapter: {', '.join(rest)}" if rest else "")


def _sizes(recipe: Recipe, model: ModelFiles) -> tuple[Storage | None, int | None]:
    """Estimate what the run will write, and the memory of a GPU that it will need, bytes; None for a model that is not
    on this machine or of unknown architecture.
    """
    if model.local is None:
        return None, None
    try:
        shapes = recipe_shapes(recipe)
    except ModelError:
        return None, None
    limit = recipe.train.memory_limit
    memory = estimate(shapes, workload_of(recipe, shapes, "cuda")).total if limit == "auto" else limit * GIB
    return storage(recipe, shapes, workload_of(recipe, shapes, "cpu")), int(memory)


def _path(source: str, base: Path) -> str:
    """Return an absolute path if the source is a file, beside the recipe or in the working directory; else as it is."""
    path = Path(source).expanduser()
    if source.startswith("bundled:") or path.is_absolute():
        return str(path) if path.is_absolute() else source
    for candidate in (base / path, path):
        if candidate.exists():
            return str(candidate.absolute())
    return str((base / path).absolute()) if sources.is_data_file(source) else source


def _dataset(source: Source) -> Dataset:
    fingerprint = source.fingerprint
    return Dataset(
        source.role,
        source.source,
        fingerprint.digest,
        fingerprint.rows,
        fingerprint.bytes,
        len(source.dropped),
    )


def _steps(recipe: Recipe, tokens: int | None) -> int | None:
    """Return about how many steps a run has; None where neither the recipe nor the tokens tell."""
    return recipe.train.max_steps if tokens is None else recipe.train.steps_of_run(tokens)


def _count_tokens(documents: list[Document], tokenizer: Tokenizer) -> int:
    """Estimate the tokens of all documents from some of them."""
    sample = documents[:: max(1, len(documents) // SAMPLE)]
    texts = [text for document in sample for text in document.texts]
    sample_tokens = sum(
        len(e.ids) + TEMPLATE_TOKENS for e in tokenizer.encode_batch(texts, add_special_tokens=False)
    )
    return round(sample_tokens * len(documents) / len(sample))


def _warnings(recipe: Recipe, run_data: RunData, tokens: int | None) -> list[Finding]:
    warnings = [
        finding
        for suite in run_data.suites
        for finding in findings.heldout_size_warnings(len(suite.documents), suite.label)
    ]
    warnings += findings.train_size_warnings(recipe.method.name, recipe.train, len(run_data.train), tokens)
    if labels := [document.label for document in run_data.train if document.label]:
        warnings += findings.label_balance_warnings(labels)
    if not recipe.general and recipe.flags.forgetting.do != "off":
        reason = "a classifier has no language-model head" if recipe.evals.general else "no evals.general"
        warnings.append(Finding("no-general", f"{reason}: forgetting cannot be measured"))
    return warnings
