"""The model card of a run whose every text tries to be more than a text."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from engine.export.card import card
from engine.export.result import ExportResult
from engine.export.source import Source
from engine.recipe.recipe_file import parse
from engine.recipe.sections import Flags
from engine.runs.home import RunDir
from store import lines

FOUL = (
    "a [link](http://x.y) ![i](http://x.y/i.png) <script>b()</script> `` ``` | c **d** &amp; \x1b[31m\u202e"
    "\n```\n# e\n"
)
RECIPE = """\
model: bundled:stdlib-2m
method: lora
data: {train: rows.jsonl}
"""


@pytest.fixture
def source(tmp_path: Path) -> Source:
    run = RunDir(tmp_path / "000007-card")
    recipe = parse(RECIPE, tmp_path / "r.yaml").recipes[0]
    body = recipe.model_dump(mode="json")
    body["name"] = body["data"]["train"] = FOUL
    base = tmp_path / 'a "b" `c`'
    base.mkdir()
    (base / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "model_type": "llama"}')
    body["model"]["path"] = str(base)
    recipe = type(recipe).model_validate(body)
    meta = {
        "name": FOUL, "python": FOUL, "versions": {FOUL: FOUL}, "git_commit": FOUL,
        "datasets": [{"role": FOUL, "source": FOUL, "rows": 1, "bytes": 2, "fingerprint": FOUL}],
    }  # fmt: skip
    scored = lines.Scored(["e"], [1.0], [1])
    values = {"loss": lines.Result(1.0, 0.5, 2.0, 1), FOUL: lines.Result(1.0)}
    worst = [{"id": FOUL, "before": 1.0, "after": 2.0}]
    actions = [{"text": FOUL, "change": {}, "source": FOUL}]
    events = [
        lines.Plan(10, device=FOUL, precision=FOUL),
        *(lines.Eval(step, FOUL, values, scored) for step in (0, 4)),
        lines.Flag(4, FOUL, FOUL, suite=FOUL, slice=FOUL, message=FOUL, actions=actions, worst=worst),
        lines.Metrics(4, {"train/tokens": 5.0}),
        lines.End("finished", 4, reason=FOUL),
    ]  # fmt: skip
    return Source(run, meta, recipe, events)


def inline(tokens: list[Token]) -> list[Token]:
    return [one for token in tokens for one in (token, *inline(token.children or []))]


def test_no_text_makes_a_link_html_or_the_end_of_a_block(source: Source, tmp_path: Path) -> None:
    folder = tmp_path / 'a "quoted" folder'
    text = card(source, ExportResult("adapter", folder, 4))
    body = text.split("\n---\n", 1)[1]
    tokens = inline(MarkdownIt("commonmark").enable("table").parse(body))
    kinds = {token.type for token in tokens}
    assert not kinds & {"link_open", "image", "html_inline", "html_block"}
    assert [token.tag for token in tokens if token.type == "heading_open"] == ["h1", *["h2"] * 7]
    python, yaml = (token for token in tokens if token.type == "fence")
    assert (python.info, yaml.info) == ("python", "yaml")
    constants = [node.value for node in ast.walk(ast.parse(python.content)) if isinstance(node, ast.Constant)]
    assert str(folder) in constants
    assert source.recipe.model.path in constants
    assert all(char.isprintable() or char == "\n" for char in text)
    rows = [token for token in tokens if token.type == "td_open"]
    assert len(rows) == 2 * 6 + 5, "no text makes a cell: two results and a data set"
    shown = " ".join(token.content for token in tokens if token.type == "text")
    assert shown.count("[link](http://x.y)") >= 8, "all of it can be read"


def test_what_was_watched_is_listed_whatever_its_margins(source: Source, tmp_path: Path) -> None:
    flags = {"forgetting": {"do": "off", "warn": 0.2}, "overfitting": "stop", "leak": "off"}
    recipe = source.recipe.model_copy(update={"flags": Flags.model_validate(flags)})
    quiet = replace(source, recipe=recipe, events=[e for e in source.events if not isinstance(e, lines.Flag)])
    watched = "watched: overfitting, instability, displacement, dead, plateau, template."
    assert watched in card(quiet, ExportResult("adapter", tmp_path, 4))
