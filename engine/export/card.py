"""The model card: what a folder holds, how to load it, and how it was trained. Torch-free.

Names, data and messages go through `markdown`, `markdown_code` or `markdown_block`, so that none of them makes a link,
HTML or the end of a block of code where others read the card.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from huggingface_hub import ModelCardData, metadata_load
from ruamel.yaml import YAML

from engine.basics.safe_text import markdown, markdown_block, markdown_code
from engine.basics.statistics import change
from engine.export.loading import base_of, loading_code
from engine.export.result import ExportResult
from engine.export.scale_log import last_scaling
from engine.export.source import Source
from engine.flags import words
from engine.models.source import locate
from engine.recipe.methods import Adapter
from engine.runs.events import FEW_SHOT
from store.line_fields import body
from store.lines import End, Eval, Examples, Flag, Metrics, Plan, Result
from store.scale_lines import ScalePart

SHOWN = 120  # characters of an example
LIBRARIES = ("finetui", "torch", "transformers", "peft")
LICENCE = ("license", "license_name", "license_link")


def card(source: Source, exported: ExportResult) -> str:
    """Return README.md, with the hub's metadata on top."""
    lines = [
        "---",
        _metadata(source, exported).to_yaml(),
        "---",
        "",
        f"# {markdown(source.name)}",
        "",
        _summary(source, exported),
        "",
        "## How to load it",
        "",
        *markdown_block(loading_code(source, exported.kind, exported.path), "python"),
        "",
        *_scaled(source, exported.factor),
        *_results(source, exported),
        *_flags(source, exported.step),
        *_data(source),
        *_training(source),
        "## Recipe",
        "",
        *markdown_block(_recipe(source), "yaml"),
        "",
        *_versions(source),
    ]
    return "\n".join(lines)


def _metadata(source: Source, exported: ExportResult) -> ModelCardData:
    recipe = source.recipe
    library = "transformers"
    if exported.kind == "adapter":
        library = "finetui" if isinstance(recipe.method, Adapter) else "peft"
    bundled = recipe.model.path.startswith("bundled:")
    return ModelCardData(
        base_model=recipe.model.path if bundled else base_of(source),
        library_name=library,
        pipeline_tag="text-generation",
        tags=["finetui", recipe.method.name, recipe.task.name],
        **_licence(source),
    )


def _licence(source: Source) -> dict[str, Any]:
    """Return the base's licence where its card names one; a model made from it is bound by it."""
    base = locate(source.recipe.model.path)
    readme = base / "README.md" if base else None
    metadata = metadata_load(readme) if readme and readme.exists() else None
    licence = {key: str(metadata[key]) for key in LICENCE if metadata and metadata.get(key)}
    return licence if "license" in licence else {"license": "unknown"}


def _summary(source: Source, exported: ExportResult) -> str:
    method, base = source.recipe.method.name, markdown_code(source.recipe.model.path)
    what = {
        "adapter": f"The adapter that `method: {method}` trained on {base}, which is needed to use it.",
        "model": f"A complete model: {base}, trained with `method: {method}`.",
        "gguf": f"A GGUF file in {exported.dtype}, for llama.cpp: {base}, trained with `method: {method}`.",
        "merged": f"A complete model in {exported.dtype}: {base}, trained with `method: {method}`.",
    }[exported.kind]
    if exported.kind in ("merged", "gguf") and not source.whole_model:
        thing = "GGUF file for llama.cpp" if exported.kind == "gguf" else "complete model"
        quantised = " before they were quantised" if method == "qlora" else ""
        what = (
            f"A {thing} in {exported.dtype}: what `method: {method}` trained on {base}, merged into the base's "
            f"weights{quantised}."
        )
    merged = f"\n\nWhat the merge changed: {exported.comparison}." if exported.comparison else ""
    if exported.factor != 1:
        what += f" What was trained is scaled by {exported.factor:g}."
    return f"{what} Weights of step {exported.step} of run #{source.number}, made with finetui.{merged}"


def _scaled(source: Source, factor: float) -> Iterator[str]:
    """Tell that these are not the weights that were trained, and what was measured of them."""
    if factor == 1:
        return
    yield from ("## Scaled", "")
    yield (
        f"These weights lie between the base model (factor 0) and what run #{source.number} trained (factor 1), at "
        f"factor {factor:g}. They were not trained themselves."
    )
    yield ""
    scaling = last_scaling(source)
    if scaling is None:
        return
    if scaling.message:
        yield from (f"On rows that did not choose the factor: {markdown(scaling.message)}.", "")
    yield from (
        "| rows | factor | held-out loss | its change | general text, change | examples |",
        "|---|" + "---|" * 5,
    )
    for point in scaling.points:
        general = _part(point.general[0]) if point.general else "–"
        heldout = "–" if point.heldout is None else f"{point.heldout:.4f}"
        part = point.change or ScalePart()
        yield f"| {point.half} | {point.factor:g} | {heldout} | {_part(part)} | {general} | {part.n} |"
    yield from ("", "Changes since the base model, paired by example, with 95% intervals.", "")


def _part(part: ScalePart) -> str:
    if part.value is None:
        return "–"
    interval = "" if part.lo is None or part.hi is None else f" ({part.lo:+.4f} to {part.hi:+.4f})"
    return f"{part.value:+.4f}{interval}"


def _results(source: Source, exported: ExportResult) -> Iterator[str]:
    """Return a table of every suite's metrics for the base and this model, and the paired change of the loss."""
    step = exported.step
    evals = [look for look in source.of_kind(Eval) if look.step <= step]
    if not evals:
        return
    last_step = max(look.step for look in evals)
    by_suite = {(look.step, look.suite): look for look in evals}
    yield from ("## Results", "")
    when = f"at step {last_step}" + ("" if last_step == step else f", the last evaluation before step {step}")
    whole = "" if exported.factor == 1 else " with all that was trained (factor 1)"
    bits = " with the base in 4 bits" if source.recipe.method.name == "qlora" else ""
    yield (
        f"Measured on the base model and {when}{whole}{bits}, with 95% intervals over examples; loss in nats per "
        "token, its change paired by example."
    )
    yield from (
        "",
        f"| suite | metric | base | {'this model' if not whole else 'factor 1'} | change | examples |",
        "|---|---|---|---|---|---|",
    )
    for suite in dict.fromkeys(look.suite for look in evals):
        if (last_step, suite) not in by_suite:
            continue
        before, now = by_suite.get((0, suite)), by_suite[last_step, suite]
        for key, value in now.values.items():
            base = _interval(before.values.get(key)) if before else "–"
            moved = _change(before, now) if before and key == "loss" else "–"
            yield f"| {markdown(suite or '')} | {markdown(key)} | {base} | {_interval(value)} | {moved} | {value.n} |"
    yield ""
    if (few := by_suite.get((0, FEW_SHOT))) and last_step > 0:
        yield from _few_shot(few, by_suite[last_step, "heldout"])


def _few_shot(base: Eval, now: Eval) -> Iterator[str]:
    """Compare with the base model with examples in its prompt."""
    shots = base.values["shots"].value
    loss = _interval(base.values["loss"])
    yield (
        f"With {shots:.3g} training examples before each held-out prompt, the base model's loss is {loss} on "
        f"{len(base.examples.id)} examples; this model's, without any, differs from it by {_change(base, now)}."
    )
    yield ""


def _interval(result: Result | None) -> str:
    if result is None or result.value is None:
        return "–"
    bounds = f" ({result.lo:.4f} to {result.hi:.4f})" if result.lo is not None else ""
    return f"{result.value:.4f}{bounds}"


def _change(before: Eval, now: Eval) -> str:
    """Return the change of the loss over the examples that both have."""
    old, new = before.examples, now.examples
    row_of = {id: at for at, id in enumerate(old.id)}
    pairs = [(row_of[id], at) for at, id in enumerate(new.id) if id in row_of]
    if not pairs:
        return "–"
    old_rows, new_rows = (list(places) for places in zip(*pairs, strict=True))
    difference = change(
        np.array(old.nll)[old_rows], np.array(new.nll)[new_rows], np.array(new.tokens)[new_rows]
    )
    lo, hi = difference.interval()
    return f"{difference.value:+.4f} ({lo:+.4f} to {hi:+.4f})"


def _flags(source: Source, step: int) -> Iterator[str]:
    """List the flags that were raised up to the step of the weights, as they stood there."""
    yield from ("## Flags", "")
    texts = {
        row.id: row.prompt or row.target or "" for suite in source.of_kind(Examples) for row in suite.rows
    }
    flags = words.newest(body(flag) for flag in source.of_kind(Flag) if flag.step <= step)
    for flag in flags:
        place = f"of {markdown(words.where(flag))}, {words.when(flag)}"
        head = markdown(f"{words.level(flag)}: {flag['flag']}")
        yield f"- **{head}** {place}. {markdown(flag['message'] or '')}"
        yield from (f"  - {name}: {text}" for name, text in words.evidence(flag))
        yield from (
            f"  {number}. {markdown(step)}" for number, step in enumerate(words.advice(flag), start=1)
        )
        yield from (
            f"  - {change} nats per token: {markdown_code(text[:SHOWN])}"
            for change, text in words.worst(flag, texts)
        )
    settings = source.recipe.flags
    watched = [kind for kind in type(settings).model_fields if settings.action(kind) != "off"]
    if not flags:
        yield f"None was raised up to step {step}; watched: {', '.join(watched) or 'nothing'}."
    elif any("[" in step for flag in flags for step in words.advice(flag)):
        yield from ("", "Sources in brackets are listed in finetui's docs/flags.md.")
    yield ""


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _data(source: Source) -> Iterator[str]:
    plan = source.last(Plan)
    yield from ("## Data", "", "| role | source | rows | bytes | fingerprint |", "|---|---|---|---|---|")
    for data in source.meta.get("datasets") or []:
        code = [markdown_code(str(data[key]), in_table=True) for key in ("source", "fingerprint")]
        yield f"| {markdown(data['role'])} | {code[0]} | {data['rows']:,} | {data['bytes']:,} | {code[1]} |"
    if plan:
        yield ""
        yield (
            f"{_count(plan.train_examples)} examples to train on and {_count(plan.heldout_examples)} held out, "
            f"cut at {_count(plan.max_length)} tokens."
        )
    yield ""


def _training(source: Source) -> Iterator[str]:
    plan, end, metrics = source.last(Plan), source.last(End), source.last(Metrics)
    yield from ("## Training", "")
    if plan:
        share = f"{_count(plan.trainable)} of {_count(plan.parameters)} weights trained"
        yield f"- {share}, {markdown(f'{plan.precision} on {plan.device}')}"
    if metrics:
        tokens = metrics.values.get("train/tokens")
        total = f" of {_count(plan.total_steps)}" if plan else ""
        yield f"- {metrics.step:,}{total} steps" + (f", {tokens:,.0f} tokens" if tokens else "")
    if end and end.reason:
        yield f"- it ended early: {markdown(end.reason)}"
    if commit := source.meta.get("git_commit"):
        yield f"- git commit of the working directory: {markdown_code(str(commit))}"
    yield ""


def _versions(source: Source) -> Iterator[str]:
    trained = {"python": source.meta.get("python"), **(source.meta.get("versions") or {})}
    yield from ("## Versions", "")
    if any(trained.values()):
        yield "- trained with " + ", ".join(
            markdown(f"{name} {installed}") for name, installed in trained.items() if installed
        )
    yield "- exported with " + ", ".join(
        f"{name} {installed}" for name in LIBRARIES if (installed := _version(name))
    )
    yield ""


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _recipe(source: Source) -> str:
    """Return every key that has a value, and `evals.general`, whose default is bundled text."""
    body = source.recipe.model_dump(mode="json", exclude_none=True)
    body["evals"].setdefault("general", None)
    yaml, text = YAML(), io.StringIO()
    yaml.default_flow_style = False
    yaml.dump(body, text)
    return text.getvalue().rstrip()
