"""Tables and views of the projection, each with its comment, and the SQL that makes it with its macros.

No table has an index or an enforced primary key: there is one writer (ingest), which keeps keys unique,
and appends without an index are many times faster. Times are Unix seconds; `to_timestamp(t)` shows them.
"""

from __future__ import annotations

import hashlib

from store.macros import MACROS
from store.results import LEADERBOARD, RESULTS
from store.states import RunState

# Raise when ingest reads the same log into different rows: the file is then rebuilt from the logs.
INGEST_VERSION = 4

_RUN = ("run", "INTEGER", "number of the run")
_ATTEMPT = ("attempt", "INTEGER", "which process life of the run, from 1")
_STEP = ("step", "BIGINT", "optimiser step, 0 before the first")
_T = ("t", "DOUBLE", "Unix seconds")
_METRICS = [
    _RUN,
    _ATTEMPT,
    _STEP,
    ("key", "VARCHAR", "name of the metric, such as train/loss or heldout/loss"),
    ("value", "DOUBLE", "value; may be NaN or infinite"),
    _T,
]
# As whole microseconds times take a third of the space, and are read faster.
_T_COLD = ("t", "DECIMAL(18, 6)", "Unix seconds, to the microsecond")

# table: (comment, [(column, type, comment)])
TABLES: dict[str, tuple[str, list[tuple[str, str, str]]]] = {
    "runs": (
        "One row per run: what it is, its state, how far it is",
        [
            ("run", "INTEGER", "number of the run; unique"),
            ("uuid", "VARCHAR", "identity of the run across machines; unique"),
            ("copy_of", "VARCHAR", "UUID of the run that its directory is a copy of; NULL of nearly all"),
            ("name", "VARCHAR", "name from the recipe"),
            ("slug", "VARCHAR", "short form of the name, as in the directory"),
            ("dir", "VARCHAR", "absolute path of the run directory"),
            (
                "state",
                "VARCHAR",
                ", ".join(RunState),
            ),
            ("reason", "VARCHAR", "why the run is in this state, where there is more to say"),
            ("waiting_for", "VARCHAR", "what a run that waits waits for"),
            ("priority", "INTEGER", "higher starts first"),
            ("created", "DOUBLE", "when it was submitted, Unix seconds"),
            ("started", "DOUBLE", "start of the first attempt, Unix seconds"),
            ("ended", "DOUBLE", "when it reached its final state, Unix seconds"),
            ("model", "VARCHAR", "base model: a path, bundled:NAME or a hub id"),
            ("method", "VARCHAR", "what is trained: full, lora, qlora"),
            ("task", "VARCHAR", "what the loss is: sft, completion, classification, dpo"),
            ("seed", "BIGINT", "seed of data order, initialisation and dropout"),
            ("recipe_json", "VARCHAR", "the resolved recipe as JSON"),
            ("recipe_hash", "VARCHAR", "hash of the resolved recipe without its name"),
            ("seedless_hash", "VARCHAR", "the same without its seed: runs that only their seed tells apart"),
            ("git_commit", "VARCHAR", "commit of the directory the run was submitted from"),
            ("host", "VARCHAR", "machine the run was submitted on"),
            ("sweep", "VARCHAR", "identity of the sweep the run belongs to"),
            ("parent", "VARCHAR", "UUID of the run that this one was made from"),
            ("attempt", "INTEGER", "latest attempt, 0 before the first"),
            ("step", "BIGINT", "latest optimiser step logged"),
            ("total_steps", "BIGINT", "optimiser steps planned"),
            ("phase", "VARCHAR", "what the worker does: loading, data, training, eval, saving"),
            ("pid", "BIGINT", "process of the latest attempt"),
            ("parameters", "BIGINT", "parameters of the model"),
            ("trainable", "BIGINT", "parameters that are trained"),
            ("precision", "VARCHAR", "number format that is computed in: fp32, bf16"),
            ("tokens_per_step", "BIGINT", "tokens of a step, over all processes"),
            ("max_length", "BIGINT", "tokens after which an example is cut"),
            ("train_examples", "BIGINT", "examples to train on"),
            ("heldout_examples", "BIGINT", "examples held out and scored"),
            ("heldout_tokens", "BIGINT", "what the held-out loss is a mean over: tokens, texts or pairs"),
            ("train_set", "VARCHAR", "hash of the rows trained on, whatever their order and file"),
            ("heldout_set", "VARCHAR", "hash of the rows held out and scored"),
            ("kept_step", "BIGINT", "step whose weights were saved, where a flag ended the run; else NULL"),
            ("held", "BOOLEAN", "whether it waits until somebody releases it"),
            ("queue_group", "VARCHAR", "its group in the queue; NULL without one"),
            ("tags", "VARCHAR", "its tags, separated by spaces; NULL without any"),
            ("logged", "BOOLEAN", "whether a program that is not ours logs it by itself"),
            ("project", "VARCHAR", "project of another program's run; of a queued program its folder"),
        ],
    ),
    "attempts": (
        "One row per process life of a run; a resume is a new attempt",
        [
            _RUN,
            _ATTEMPT,
            ("started", "DOUBLE", "start, Unix seconds"),
            ("ended", "DOUBLE", "end, Unix seconds; NULL while it lives"),
            ("exit_code", "INTEGER", "exit code of the worker"),
            ("signal", "INTEGER", "signal that killed the worker"),
            ("pid", "BIGINT", "process id"),
            ("peak_rss_mb", "DOUBLE", "most main memory held, MiB"),
            ("device", "VARCHAR", "device the attempt ran on"),
            ("resumed_from", "BIGINT", "step of the checkpoint it went on from; NULL for a fresh start"),
            ("first_step", "BIGINT", "step of its first metrics line"),
            ("first_t", "DOUBLE", "time of its first metrics line, Unix seconds"),
            ("last_step", "BIGINT", "step of its last metrics line"),
            ("last_t", "DOUBLE", "time of its last metrics line, Unix seconds"),
            ("price", "DOUBLE", "what an hour of its devices cost; NULL where no price was known"),
            ("gpus", "INTEGER", "GPUs that it ran on; 0 on the CPU"),
            (
                "train_s",
                "DOUBLE",
                "seconds of training, without evaluations; NULL where it did not end by itself",
            ),
            ("train_tokens", "BIGINT", "tokens trained on in that time"),
            ("eval_s", "DOUBLE", "seconds of its evaluations after step 0"),
            ("save_s", "DOUBLE", "seconds that it saved checkpoints"),
        ],
    ),
    "params": (
        "The recipe of each run, one row per leaf",
        [
            _RUN,
            ("key", "VARCHAR", "dotted key, such as method.r"),
            ("value", "VARCHAR", "value as text, such as 16"),
            ("number", "DOUBLE", "value as a number, to sort and compare by; NULL where it is none"),
        ],
    ),
    "libraries": (
        "Versions that each run was submitted with: Python, finetui and the libraries",
        [
            _RUN,
            ("library", "VARCHAR", "name, such as torch"),
            ("version", "VARCHAR", "version, such as 2.9.1"),
        ],
    ),
    "metrics_live": ("Metrics of runs that have not ended; read the view `metrics` instead", _METRICS),
    "metrics_cold": (
        "Metrics of ended runs, ordered by key and step; read the view `metrics`",
        [*_METRICS[:-1], _T_COLD],
    ),
    "rollups": (
        "Long series of `metrics_cold` in short: a row for every so many steps; a bucket may have several",
        [
            _RUN,
            ("key", "VARCHAR", "name of the metric"),
            ("width", "BIGINT", "steps of a bucket, which begins at a multiple of them"),
            ("first_step", "BIGINT", "first step with a value"),
            ("step", "BIGINT", "last step with a value"),
            ("t", "DECIMAL(18, 6)", "time of the last value, Unix seconds"),
            ("min", "DOUBLE", "least value; NaN where there is no other"),
            ("max", "DOUBLE", "greatest value; NaN where there is no other"),
            ("last", "DOUBLE", "value at the last step"),
            ("n", "BIGINT", "number of values"),
        ],
    ),
    "system_metrics": (
        "Samples of the machine's hardware",
        [
            _T,
            ("key", "VARCHAR", "name, such as cpu/percent or gpu0/memory_used_gb"),
            ("value", "DOUBLE", "value, in the unit its key ends with"),
        ],
    ),
    "evals": (
        "Results of evaluations, with intervals where they are known",
        [
            _RUN,
            _ATTEMPT,
            _STEP,
            ("suite", "VARCHAR", "set of examples: heldout, general, seen, samples"),
            (
                "key",
                "VARCHAR",
                "what was measured: loss, token_accuracy, accuracy, macro_f1, reward_margin, …",
            ),
            (
                "value",
                "DOUBLE",
                "mean over the suite (loss: nats per token); an estimate where a part was scored",
            ),
            ("lo", "DOUBLE", "lower end of the 95% interval"),
            ("hi", "DOUBLE", "upper end of the 95% interval"),
            ("n", "BIGINT", "examples scored; fewer than at step 0: a part of the suite (evals.per_look)"),
            _T,
            ("seconds", "DOUBLE", "that scoring the suite took, the same in each of its rows"),
        ],
    ),
    "eval_examples": (
        "Evaluations example by example, those that were scored, for paired comparisons",
        [
            _RUN,
            _ATTEMPT,
            _STEP,
            ("suite", "VARCHAR", "set of examples: heldout, general, seen, samples"),
            ("example", "VARCHAR", "content hash of the example; its text is in `examples`"),
            ("slice", "VARCHAR", "part of the suite that the example is in; NULL where it is not divided"),
            ("document", "VARCHAR", "what the example is a passage of; NULL where that is not known"),
            (
                "nll",
                "DOUBLE",
                "negative log-likelihood summed over the example's tokens (of a text's class), nats",
            ),
            ("tokens", "INTEGER", "tokens scored; 1 for a text that is classified"),
            ("tokens_right", "INTEGER", "tokens whose most likely guess was right"),
            ("lost", "INTEGER", "tokens right at step 0 and wrong now"),
            ("gained", "INTEGER", "tokens wrong at step 0 and right now"),
            ("kl", "DOUBLE", "KL divergence from step 0, nats per token; NULL for examples without it"),
            ("margin", "DOUBLE", "reward margin of a preference pair, nats; NULL for other examples"),
            ("tempered", "VARCHAR", "nll with the logits divided by a temperature: JSON {temperature: nll}"),
        ],
    ),
    "examples": (
        "Text of the evaluated examples",
        [
            ("example", "VARCHAR", "content hash; unique"),
            ("suite", "VARCHAR", "set of examples that it is in; of several the first by name"),
            ("prompt", "VARCHAR", "what the model is given"),
            ("target", "VARCHAR", "what it is scored on"),
        ],
    ),
    "samples": (
        "Texts that the model wrote during training",
        [
            _RUN,
            _ATTEMPT,
            _STEP,
            ("idx", "INTEGER", "which prompt, from 0"),
            ("prompt", "VARCHAR", "what the model was given"),
            ("text", "VARCHAR", "what it answered"),
            _T,
        ],
    ),
    "drift_answers": (
        "Answers to general prompts at step 0 and at the end, with what is measured of each",
        [
            _RUN,
            _ATTEMPT,
            _STEP,
            ("idx", "INTEGER", "which prompt, from 0"),
            ("prompt", "VARCHAR", "what the model was given"),
            ("text", "VARCHAR", "what it answered"),
            ("tokens", "INTEGER", "tokens of the answer, its end not counted"),
            ("entropy", "DOUBLE", "mean entropy of the distributions that its tokens were chosen from, nats"),
            ("distinct_pairs", "DOUBLE", "share of distinct pairs of tokens; NULL for fewer than two"),
            ("repetition", "DOUBLE", "share of four tokens in a row that were there before; NULL for fewer"),
            ("finished", "BOOLEAN", "the model ended it by itself"),
            ("refused", "BOOLEAN", "it begins like a refusal"),
            (
                "switched",
                "BOOLEAN",
                "it is in another language than asked for; NULL where that cannot be told",
            ),
            _T,
        ],
    ),
    "choice_answers": (
        "What was chosen for each multiple-choice question, at step 0 and at the end; options count from 0",
        [
            _RUN,
            _ATTEMPT,
            _STEP,
            ("slice", "VARCHAR", "name of the questions in the recipe"),
            ("example", "VARCHAR", "content hash of the question; its text is in `examples`"),
            ("answer", "INTEGER", "the right option"),
            ("chosen", "INTEGER", "the likeliest option"),
            ("chosen_norm", "INTEGER", "the likeliest option for its length in characters"),
        ],
    ),
    "flags": (
        "Statements, with evidence, that a run is going wrong; one row a look, see flags_now for the last word",
        [
            _RUN,
            _ATTEMPT,
            _STEP,
            ("flag", "VARCHAR", "what is seen: overfitting, forgetting, instability, dead, endless, nan, …"),
            ("level", "VARCHAR", "info, watch (a leading sign), warn or critical"),
            ("since_step", "BIGINT", "step from which it is seen"),
            ("suite", "VARCHAR", "suite that shows it"),
            ("slice", "VARCHAR", "part of the suite that shows it; NULL: all of it"),
            ("effect", "DOUBLE", "size of the effect, nats per token for losses"),
            ("lo", "DOUBLE", "lower end of the effect's interval"),
            ("hi", "DOUBLE", "upper end of the effect's interval"),
            ("n", "BIGINT", "examples"),
            ("looks", "INTEGER", "evaluations looked at so far"),
            ("lost", "BIGINT", "tokens right under the base model and wrong now, where that was counted"),
            ("gained", "BIGINT", "tokens wrong under the base model and right now"),
            ("forecast_step", "BIGINT", "step that the effect is foretold for; NULL without a forecast"),
            ("forecast", "DOUBLE", "effect expected at that step"),
            ("forecast_lo", "DOUBLE", "lower end of its 80% interval"),
            ("forecast_hi", "DOUBLE", "upper end of its 80% interval"),
            ("message", "VARCHAR", "what was seen, in words"),
            ("advice", "VARCHAR", "what to do: JSON list of sentences"),
            (
                "actions",
                "VARCHAR",
                "the same: JSON list of {text, change (recipe keys and values), source (in docs/flags.md)}",
            ),
            ("worst", "VARCHAR", "examples hit hardest: JSON list of {id, before, after}"),
            (
                "state",
                "VARCHAR",
                "what became of it at this look: raised, confirmed, weakened, fading, withdrawn",
            ),
            ("per", "VARCHAR", "what the effect is a mean over, where it is in nats: token, text or pair"),
            _T,
        ],
    ),
    "checkpoints": (
        "Checkpoints written; older ones are deleted, see present",
        [
            _RUN,
            _ATTEMPT,
            _STEP,
            ("path", "VARCHAR", "path relative to the run directory"),
            ("bytes", "BIGINT", "size"),
            _T,
            (
                "present",
                "BOOLEAN",
                "whether it is on the disk, as of the last look; of another trainer: when it was written",
            ),
        ],
    ),
    "memory": (
        "Peak memory, predicted and measured",
        [
            _RUN,
            _ATTEMPT,
            _STEP,
            (
                "cause",
                "VARCHAR",
                "probe: before the first step; out_of_memory: a step done again; end: the attempt",
            ),
            ("predicted_mb", "DOUBLE", "by the estimate, MiB; NULL for a model that it does not know"),
            ("measured_mb", "DOUBLE", "peak, MiB; of the probe: with room for the optimiser's state"),
            ("limit_mb", "DOUBLE", "most that the run may hold, MiB"),
            ("micro_tokens", "INTEGER", "tokens of a forward pass from here on"),
            ("device", "VARCHAR", "cpu (resident memory) or cuda (what PyTorch gave out)"),
            _T,
        ],
    ),
    "scalings": (
        "Runs that were scored at factors between the base model (0) and what they trained (1), without training",
        [
            _RUN,
            _T,
            ("step", "BIGINT", "optimiser step of the weights"),
            ("factor", "DOUBLE", "chosen on one half of the rows; NULL: none is better than the base model"),
            ("helps", "BOOLEAN", "whether the other half of the rows confirms it"),
            ("kept", "DOUBLE", "share of the gain at factor 1 that stays, on the other half"),
            ("message", "VARCHAR", "what was found, in words"),
        ],
    ),
    "scale_points": (
        "The factors of each scaling, on the half of the rows that chose and on the one that confirmed",
        [
            _RUN,
            ("t", "DOUBLE", "of its row in `scalings`, Unix seconds"),
            ("half", "VARCHAR", "choose or confirm"),
            ("factor", "DOUBLE", "0: the base model, 1: what was trained"),
            ("chosen", "BOOLEAN", "the factor that was chosen"),
            ("suite", "VARCHAR", "heldout or general"),
            ("slice", "VARCHAR", "part of the general text; NULL: all of it"),
            ("loss", "DOUBLE", "held-out loss, nats per token (of preference pairs: nats per pair)"),
            ("change", "DOUBLE", "change of the loss since factor 0, paired by example"),
            ("lo", "DOUBLE", "lower end of its 95% interval"),
            ("hi", "DOUBLE", "upper end of its 95% interval"),
            ("n", "BIGINT", "examples"),
        ],
    ),
    "scaled": (
        "Folders with weights of a run at a factor below 1",
        [
            _RUN,
            _T,
            ("step", "BIGINT", "optimiser step of the weights"),
            ("factor", "DOUBLE", "0: the base model, 1: what was trained"),
            ("output", "VARCHAR", "adapter, model, merged or gguf"),
            ("path", "VARCHAR", "the folder, when it was written"),
        ],
    ),
    "fixes": (
        "What a run's recipe has taken of the suggestions for its parent's flags, key by key",
        [
            _RUN,
            ("flag", "VARCHAR", "flag of the parent that the change answers"),
            ("level", "VARCHAR", "level that it had: warn or critical"),
            ("key", "VARCHAR", "key of the recipe"),
            ("old", "VARCHAR", "its value in the parent; NULL: none"),
            ("new", "VARCHAR", "its value in this run; NULL: none"),
            ("action", "VARCHAR", "the advice that was followed, in words"),
            ("source", "VARCHAR", "key of the literature list in docs/flags.md, or empty"),
        ],
    ),
    "datasets": (
        "Data that each run was given",
        [
            _RUN,
            ("role", "VARCHAR", "what for: train, heldout, general, replay"),
            ("source", "VARCHAR", "where from"),
            ("fingerprint", "VARCHAR", "hash of the content"),
            ("n_rows", "BIGINT", "rows"),
            ("bytes", "BIGINT", "size"),
        ],
    ),
    "events": (
        "What happened, line by line, for people",
        [
            _RUN,
            ("attempt", "INTEGER", "attempt that said it; NULL for the daemon's word"),
            _T,
            ("kind", "VARCHAR", "kind of the log line; `unreadable` for one that could not be read"),
            ("level", "VARCHAR", "debug, info, warn or error"),
            ("message", "VARCHAR", "what happened, in words"),
            ("body", "VARCHAR", "the line's other fields as JSON"),
        ],
    ),
    "run_summary": (
        "Last and best value of every metric of every run",
        [
            _RUN,
            ("key", "VARCHAR", "name of the metric"),
            ("last", "DOUBLE", "value at the latest step"),
            ("last_step", "BIGINT", "latest step"),
            (
                "best",
                "DOUBLE",
                "least finite value; greatest where higher_is_better; of heldout/ never the base model's at step 0",
            ),
            ("best_step", "BIGINT", "step of the best value"),
            ("n", "BIGINT", "number of values"),
            ("first_step", "BIGINT", "earliest step"),
            (
                "higher_is_better",
                "BOOLEAN",
                "as the metric or the program says, else by its name: accuracy, f1, rouge, bleu, margin, …",
            ),
        ],
    ),
    "ingest": (
        "How far each log has been read; committed with the rows it covers",
        [
            ("run", "INTEGER", "number of the run; 0 for the hardware's log"),
            ("log", "VARCHAR", "identity of the log, from its header; unique"),
            ("path", "VARCHAR", "path relative to the home"),
            ("byte_offset", "BIGINT", "bytes read"),
        ],
    ),
    "meta": (
        "Facts about this file, and labels of devices",
        [("key", "VARCHAR", "name; unique"), ("value", "VARCHAR", "value")],
    ),
}

# view: (comment, SELECT, {column: comment}); columns that keep a table's meaning are commented from it.
VIEWS: dict[str, tuple[str, str, dict[str, str]]] = {
    "metrics": (
        "Every logged value of every run",
        "SELECT * FROM metrics_live UNION ALL SELECT * FROM metrics_cold",
        {name: comment for name, _, comment in _METRICS},
    ),
    "flags_now": (
        "Every flag of every run as it stands at its last look, and at its worst",
        """
SELECT run, flag, suite, slice, state, level, step, since_step, effect, lo, hi, n, per,
       worst_level, worst_step, worst_effect, message
FROM (SELECT *, first_value(level) OVER worst AS worst_level, first_value(step) OVER worst AS worst_step,
             first_value(effect) OVER worst AS worst_effect,
             row_number() OVER (PARTITION BY run, flag, suite ORDER BY step DESC, attempt DESC, t DESC) AS place
      FROM flags
      WINDOW worst AS (PARTITION BY run, flag, suite
                       ORDER BY list_position(['info', 'watch', 'warn', 'critical'], level) DESC NULLS LAST, step, t))
WHERE place = 1
ORDER BY run, flag, suite""",
        {
            name: comment
            for name, _, comment in TABLES["flags"][1]
            if name in ("run", "flag", "suite", "slice", "since_step", "lo", "hi", "n", "per", "message")
        }
        | {
            "state": "what its last look made of it: raised, confirmed, weakened, fading, withdrawn",
            "level": "level at its last look; info where it is withdrawn",
            "step": "its last look",
            "effect": "size of the effect at its last look",
            "worst_level": "highest level that it had",
            "worst_step": "first look with that level",
            "worst_effect": "size of the effect there",
        },
    ),
    "results": RESULTS,
    "leaderboard": LEADERBOARD,
}


def tables() -> list[str]:
    """The SQL that makes the empty tables."""
    return [
        f"CREATE TABLE {table} ({', '.join(f'{name} {kind}' for name, kind, _ in columns)})"
        for table, (_, columns) in TABLES.items()
    ]


def words() -> list[str]:
    """The SQL of all that holds no rows: views, macros, comments. It can be run again over a file that has others."""
    made = []
    for table, (comment, columns) in TABLES.items():
        made.append(_comment("TABLE", table, comment))
        made += [_comment("COLUMN", f"{table}.{name}", text) for name, _, text in columns]
    for view, (comment, select, described) in VIEWS.items():
        made.append(f"CREATE OR REPLACE VIEW {view} AS {select}")
        made.append(_comment("VIEW", view, comment))
        made += [_comment("COLUMN", f"{view}.{name}", text) for name, text in described.items()]
    for macro, (parameters, comment, select) in MACROS.items():
        made.append(f"CREATE OR REPLACE MACRO {macro}({parameters}) AS TABLE {select}")
        made.append(_comment("MACRO TABLE", macro, comment))
    return made


def _comment(kind: str, name: str, text: str) -> str:
    return f"COMMENT ON {kind} {name} IS '{text.replace(chr(39), chr(39) * 2)}'"


def version() -> str:
    """Identity of the tables and of ingest; a file that has another is rebuilt."""
    return _identity([str(INGEST_VERSION), *tables()])


def version_of_words() -> str:
    """Identity of views, macros and comments; in a file that has others they are replaced."""
    return _identity(words())


def _identity(parts: list[str]) -> str:
    return hashlib.sha256(";".join(parts).encode()).hexdigest()[:16]
