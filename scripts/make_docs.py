"""Write the parts of docs/ that are generated from the code: recipe reference, keys, commands, log lines, tables.

make docs                            # write them
python scripts/make_docs.py --check  # fail if one is out of date (part of the tests)
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from engine.queue.config import Config
from engine.recipe import command, margins, methods, sections, tasks
from finetui.errors import ExitCode
from store import lines
from store.line_fields import fields_of
from store.macros import MACROS
from store.schema import TABLES, VIEWS
from store.states import RunState, WorkerExit
from tui.cli.commands import app, daemon_app
from tui.cli.door_commands import app as door_app
from tui.cli.keys import keys_markdown
from tui.cli.queue_commands import app as queue_app
from tui.cli.store_commands import app as store_app
from tui.cli.view_commands import app as view_app

DOCS = Path(__file__).parent.parent / "docs"
MADE = "<!-- Made by scripts/make_docs.py; do not edit. -->\n\n"

SECTIONS: list[tuple[str, type[BaseModel]]] = [
    ("Top level", sections.Recipe),
    ("`model`", sections.ModelSpec),
    ("`method: full`", methods.Full),
    ("`method: freeze`", methods.Freeze),
    ("`method: lora`", methods.Lora),
    ("`method: qlora`", methods.QLora),
    ("`method: shira`", methods.Shira),
    ("`method: oft`", methods.Oft),
    ("`method: osf`", methods.Osf),
    ("`method: adapter`", methods.Adapter),
    ("`method: ia3`", methods.IA3),
    ("`method: prefix`", methods.Prefix),
    ("`method: prompt`", methods.Prompt),
    ("`task: sft`", tasks.Sft),
    ("`task: completion`", tasks.Completion),
    ("`task: classification`", tasks.Classification),
    ("`task: dpo`", tasks.Dpo),
    ("`data`", sections.Data),
    ("`data.replay`", sections.Replay),
    ("`train`", sections.Train),
    ("`evals`", sections.Evals),
    ("`flags`", sections.Flags),
    ("`flags.forgetting`", margins.OnForgetting),
    ("`flags.overfitting`", margins.OnRise),
    ("`flags.forgetting.SLICE`", margins.SliceMargins),
    ("`method: command`: a program of your own, with no other sections", command.Command),
]

RECIPE_INTRO = """# Recipe reference

A recipe is a YAML file. `finetui check recipe.yaml` says what is wrong with it, or what would run.

- Any key can be set on the command line: `finetui run recipe.yaml train.lr=1.0e-4 method.r=8`.
- `method: lora` is short for `method: {name: lora}`, `task: dpo` for `task: {name: dpo}`, `model: PATH` for
  `model: {path: PATH}`.
- Paths of data files are relative to the recipe.
- A share is a percentage (`10%`) or a whole number (`200`).
- `sweep` maps keys to lists of values; every combination becomes a run, at most 1,000. Its values are in its name:
  `support r=8 lr=0.0001`. With `runs: 20` so many are drawn at random instead, of lists and of ranges; `draw_seed` (0)
  says which. `search: tpe` proposes runs from the results, `stop_losers: true` stops those that cannot win, and
  `max_hours` and `max_cost` limit all of them together: [sweeps.md](sweeps.md).
- A recipe from elsewhere cannot hold up a command: it has at most 100,000 characters, 5,000 values (aliases written
  out) and 20 levels, and no control characters.
- Editors can check recipes with [recipe.schema.json](recipe.schema.json): start the file with
  `# yaml-language-server: $schema=…/docs/recipe.schema.json`.

```yaml
sweep: {method.r: [8, 32], train.lr: [1.0e-4, 3.0e-4]}   # four runs
```

```yaml
sweep:                                                    # twenty runs, drawn at random
  runs: 20
  train.lr: {from: 1.0e-5, to: 1.0e-3, scale: log}
  method.r: [8, 16, 32]
```
"""


COMMANDS_INTRO = """Data goes to stdout, narration to stderr. Every command but `completion`, `skill` and `mcp` takes
`--json`.

Names, log lines, data and answers of models cannot control a terminal: what is not printable is shown as a blank.
To a file or a pipe `logs` and `sql --csv` write what there is. On a narrow terminal `ls` shortens notes and names, and
leaves columns out, so that each run has one line; in a pipe it has all columns.

`sql` says on stderr how many rows are left out, and ends with 1 where `--limit` did not ask for that. `sql -o FILE`
writes CSV, Parquet, JSON or Markdown, by the file's ending: all rows, whole, in place of an
older file, or nothing at all.

`watch` and `top` draw below the prompt, not on the alternate screen. In a pipe `watch` prints a line every few seconds,
and `top` prints once. `watch` ends with 0 if the run has finished, otherwise with 1. A daemon that goes away is waited
for by them, by `wait` and by `run --follow`, and started after ten seconds. `plot` draws at most 400 points a
run; a PNG needs the extra `png`.

Times in text are local.

## JSON

With `--json` stdout has one JSON document and nothing else; `watch`, `wait` and `logs` print a line of JSON each time
that there is something, as it comes. Exit codes are the same as without it. An error is a sentence on stderr, as
without it, and stdout has no document then. Nobody is asked: `rm`, `clean`, `store rebuild` and orders by a filter need
`--yes`, and say so.

A run has the same keys everywhere, those of `ls --json`:

```
{"run": 1, "uuid": "cb3f6d1e-693e-4212-9fe7-fa374fd19465", "name": "demo-lora", "state": "finished", "reason": null,
 "waiting_for": null, "priority": 0, "method": "lora", "model": "bundled:stdlib-2m", "step": 30, "total_steps": 30,
 "progress": 1.0, "eta_s": null, "elapsed_s": 56.521055459976196, "loss": 3.3967628479003906,
 "heldout": 3.3334352211422775, "heldout_best": 3.3334352211422775, "general": 4.257240544114828,
 "tokens_per_s": 15114.358187554706, "flags": 0, "flag_level": "info", "phase": "saving", "attempt": 1, "sweep": null,
 "parent": null, "created": 1796032050.1743865, "started": 1796032050.182852, "ended": 1796032106.8487344,
 "task": "sft", "held": false, "tags": null, "queue_group": null, "cost": null,
 "created_at": "2026-11-30T09:47:30+00:00", "started_at": "2026-11-30T09:47:30+00:00",
 "ended_at": "2026-11-30T09:48:26+00:00"}
```

A time `KEY` is in Unix seconds, as in the store; beside it `KEY_at` is the same in ISO 8601 with the offset of this
machine (`t` has `t_at`).

| command | prints |
|---|---|
| `ls` | runs |
| `top`, `sweep`, `plot`, `demo` | runs in `runs`; of `sweep` with their `settings`; points of `plot` are in `series` |
| `compare` | runs in `results`, with more results |
| `show` | a run, and its parts; `flags` is how many, `flags_raised` are they |
| `run`, `clone`, `sweep --add` | `runs`, the numbers, and `queued`, the runs; `fix --add` has `queued`, too |
| `watch`, `wait` | a line for each run: as it goes on, or once it has ended |
| `logs` | a line for each line: `run`, `attempt`, `text` |
| `restore` without numbers | removed runs: `run`, `uuid`, `directory`, `bytes`, `removed` |
| `sweep --stop` | `sweep`, and its `plan` |
| `export-curves` | a list: `run`, `uuid`, `path`, `points` |
| `snapshot`, `export-store` | `path`, `bytes`, and its moment in `taken`; files `written`, `unchanged`, `removed` |
| `daemon start`, `daemon status` | the status; `{"running": false}` where none runs |
| `store check` | `runs` and `same`, how many; `differ`: `run` and `difference`; runs that are `going_on` or `gone` |
| `store compact` | bytes `before` and `after` |
| `store rebuild`, `store backup` | `runs`, and `seconds`; `path`, `files`, `bytes` |

What gives an order to runs (`cancel`, `pause`, `resume`, `requeue`, `edit`, `hold`, `release`, `start`, `move`,
`priority`, `group`, `tag`, `note`, `rm`, `restore`, `clean`) prints a list, also for one run.
`finetui hold 7 99 --json`:

```
[
  {"run": 7, "uuid": "15d5e47b-c0d2-4654-bf7f-df34455fff76", "outcome": "done", "says": "is held", "reason": null},
  {"run": 99, "uuid": null, "outcome": "refused", "says": null, "reason": "there is no run #99; the last one is #7"}
]
```

`requeue` has `made` besides, the number of the new run; `edit` has `changes`; `rm` and `clean` have `bytes`.

## Completion

`finetui completion SHELL` prints a script. It completes commands, options, numbers of runs, filters, states, groups,
keys of recipes with their values, and metrics, from files alone: no daemon is asked or started.

| shell | once |
|---|---|
| bash 4.4 or newer | `echo 'eval "$(finetui completion bash)"' >> ~/.bashrc` |
| zsh, after `compinit` | `echo 'eval "$(finetui completion zsh)"' >> ~/.zshrc` |
| fish | `finetui completion fish > ~/.config/fish/completions/finetui.fish` |

## List
"""


def recipe_reference() -> str:
    parts = [RECIPE_INTRO]
    for title, model in SECTIONS:
        parts += [f"\n## {title}\n", "| key | type | default | meaning |", "|---|---|---|---|"]
        parts += [_row(name, field) for name, field in model.model_fields.items()]
    parts += ["\nDefault of `train.lr`: "]
    parts[-1] += ", ".join(f"{method} {rate:g}" for method, rate in methods.DEFAULT_LR.items()) + "."
    parts[-1] += (
        " Starting points for models of 1B parameters and more; small models need five to ten times as much."
        f" With `task: dpo` it is {tasks.RATE['dpo']:g} times that."
    )
    warmups = ", ".join(f"{method} {warmup}" for method, warmup in methods.DEFAULT_WARMUP.items())
    parts[-1] += f"\n\nDefault of `train.warmup`: {warmups}."
    parts += [
        "\n# `config.toml`\n",
        "In the home (`$FINETUI_HOME`). A running daemon applies changes in seconds, unless a key says otherwise.\n",
    ]
    parts += ["| key | type | default | meaning |", "|---|---|---|---|"]
    parts += [_row(name, field) for name, field in Config.model_fields.items()]
    return "\n".join(parts) + "\n"


def _row(name: str, field: Any) -> str:
    default = "**required**" if field.is_required() else _default(field)
    return f"| `{name}` | {_type(field.annotation)} | {default} | {field.description} |"


def _default(field: Any) -> str:
    if field.default is PydanticUndefined:
        return "see below"
    return "–" if field.default is None else f"`{json.dumps(field.default)}`"


def _type(annotation: Any) -> str:
    if annotation is type(None):
        return ""
    if isinstance(annotation, type) and not get_args(annotation):
        names = {str: "text", int: "whole number", float: "number", bool: "true/false"}
        return names.get(annotation, "section")
    if get_origin(annotation) is Annotated:
        return _type(get_args(annotation)[0])
    if get_origin(annotation) in (list, dict):
        return "list" if get_origin(annotation) is list else "mapping"
    arguments = get_args(annotation)
    words = [f"`{a}`" if isinstance(a, str | int) else _type(a) for a in arguments]
    return ", ".join(dict.fromkeys(word for word in words if word))


def command_reference() -> str:
    parts = ["# Commands\n", COMMANDS_INTRO]
    parts += ["| command | what it does |", "|---|---|", "| `finetui` | open the screen |"]
    groups = (
        *((one, "finetui") for one in (app, view_app, queue_app, door_app)),
        *((store_app, "finetui store"), (daemon_app, "finetui daemon")),
    )
    for group, prefix in groups:
        for info in group.registered_commands:
            name = info.name or (info.callback.__name__ if info.callback else "")
            summary = ((info.callback.__doc__ if info.callback else "") or "").split("\n")[0]
            parts.append(f"| `{prefix} {name}` | {summary} |")
    parts += ["\n## Exit codes\n", "| code | meaning |", "|---|---|"]
    parts += [f"| {code.value} | {code.meaning} |" for code in ExitCode]
    return "\n".join(parts) + "\n"


def recipe_schema() -> str:
    schema = sections.Recipe.model_json_schema()
    sweep = {"type": "object", "additionalProperties": {"type": ["array", "object", "integer"]}}
    schema["properties"]["sweep"] = {
        **sweep,
        "description": "Keys and lists of values; every combination becomes a run. With `runs`: drawn at random.",
    }
    of_command = command.Command.model_json_schema()
    definitions = schema.pop("$defs") | of_command.pop("$defs", {})
    return json.dumps({"anyOf": [schema, of_command], "$defs": definitions}, indent=1) + "\n"


# ---- architecture.md, between `<!-- made:NAME -->` and `<!-- end -->` ------------------------------------


def architecture() -> str:
    """The page as it is, with the parts that are made put in anew."""
    parts = {
        "header": _kinds([lines.Header]),
        "journal": _kinds(lines.JOURNAL.values(), but=("state", "reason")),
        "worker": _kinds(lines.WORKER.values()),
        "scale": _kinds(lines.SCALES.values()),
        "hardware": _kinds(lines.HARDWARE.values()),
        "exits": _table("code", "meaning", rows=((str(int(code)), code.meaning) for code in WorkerExit)),
        "states": _table("state", "meaning", rows=((f"`{state}`", state.meaning) for state in RunState)),
        "tables": _tables(),
    }
    text = (DOCS / "architecture.md").read_text()
    for name, part in parts.items():
        made = f"<!-- made:{name} -->\n\n{part}\n\n<!-- end -->"
        text, count = re.subn(rf"<!-- made:{name} -->.*?<!-- end -->", lambda _: made, text, flags=re.DOTALL)  # noqa: B023
        if count != 1:
            sys.exit(f"docs/architecture.md must have <!-- made:{name} --> … <!-- end --> once")
    return text


def _table(*head: str, rows: Any) -> str:
    lines_of = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines_of, *(f"| {' | '.join(row)} |" for row in rows)])


def _kinds(kinds: Any, but: tuple[str, ...] = ()) -> str:
    """A row for each kind of line, then one for each of its fields but those that all of them have."""
    rows = []
    for kind in kinds:
        rows.append((f"`{kind.kind}`", "", "", " ".join(inspect.getdoc(kind).split())))
        rows += [("", f"`{name}`", *row) for name, *row in _line_fields(kind, "") if name not in but]
    return _table("kind", "field", "type", "meaning", rows=rows)


def _line_fields(kind: type, prefix: str) -> Iterator[tuple[str, str, str]]:
    defaults = {field.name: field.default for field in dataclasses.fields(kind)}
    for field in fields_of(kind):
        name = prefix + field.name
        nullable = defaults[field.name] is None and field.type != "any"
        may_lack = ", may be left out" if field.left_out else " or null" if nullable else ""
        yield name, field.type + may_lack, field.meaning
        if field.parts is not None:
            inside = {"list": "[].", "object of": ".NAME."}
            link = next((mark for start, mark in inside.items() if field.type.startswith(start)), ".")
            yield from _line_fields(field.parts, name + link)


def _tables() -> str:
    """Tables, views and macros of the projection."""
    rows = [
        (f"`{name}`", comment, ", ".join(f"`{column}`" for column, _, _ in columns))
        for name, (comment, columns) in TABLES.items()
    ]
    rows += [
        (f"`{name}`", f"{comment} (a view)", ", ".join(f"`{column}`" for column in columns))
        for name, (comment, _, columns) in VIEWS.items()
    ]
    rows += [
        (f"`{name}({parameters})`", f"{comment} (a macro)", "")
        for name, (parameters, comment, _) in MACROS.items()
    ]
    return _table("name", "what it has", "columns", rows=rows)


def documents() -> dict[str, str]:
    return {
        "recipe.md": MADE + recipe_reference(),
        "recipe.schema.json": recipe_schema(),
        "keys.md": MADE + keys_markdown(),
        "cli.md": MADE + command_reference(),
        "architecture.md": architecture(),
    }


def main() -> None:
    stale = []
    for name, text in documents().items():
        path = DOCS / name
        if "--check" not in sys.argv:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            stale.append(name)
    if stale:
        sys.exit(f"out of date: {', '.join(stale)}; run `make docs`")


if __name__ == "__main__":
    main()
