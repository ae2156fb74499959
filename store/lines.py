"""The lines of the logs as types, written and read: `attempts/N/events.jsonl`, `hardware.jsonl`, each log's header.

The daemon's lines are in `journal_lines`; how all of them are written and read is in `line_fields`. Every line has
`kind` and `t` (Unix seconds) besides the fields of its type. Imports nothing heavy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, TypeVar

from store.journal_lines import JOURNAL
from store.line_fields import HEADER, LEFT_OUT, Json, Small, read
from store.scale_lines import SCALES

T = TypeVar("T")

Step = Annotated[int, "optimiser step, 0 before the first"]
Suite = Annotated[
    str | None,
    "set of examples: `heldout`, `general`, `seen`, `samples` (what the base model wrote; an older finetui kept them "
    "as a slice of `general`); `heldout_few_shot` at step 0 only",
]


# ---- every log -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of every log. `finetui.log.LogWriter` writes it."""

    kind: ClassVar[str] = HEADER
    log: Annotated[str, "identity under which ingest remembers its byte offset, a UUID"]
    version: Annotated[int, "of the format"] = 1
    source: Annotated[str | None, "`journal`, `worker`, `scale` or `hardware`"] = None
    run: Annotated[int | None, "number of the run; null for the hardware"] = None
    attempt: Annotated[int | None, "of a worker's log"] = None


# ---- attempts/N/events.jsonl, the worker's word ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Resume:
    """An attempt after the first begins. It supersedes the rows of earlier attempts with a later step."""

    kind: ClassVar[str] = "resume"
    from_step: Annotated[int, "step of the checkpoint that it goes on from, -1 where there was none"]

    def supersedes(self, step: int | None) -> bool:
        """Whether a row of an earlier attempt is taken back. A line that is of no step stays."""
        return step is not None and step > self.from_step

    def kept(self, earlier: Iterable[T]) -> list[T]:
        """The lines of earlier attempts that still count."""
        return [line for line in earlier if not self.supersedes(getattr(line, "step", None))]


# The same in SQL, for the tables of the projection.
SUPERSEDED = "run = $run AND attempt < $attempt AND step > $from_step"


@dataclass(frozen=True, slots=True)
class Plan:
    """What the attempt will do, known once model and data are loaded."""

    kind: ClassVar[str] = "plan"
    total_steps: Annotated[int | None, "optimiser steps of the whole run"] = None
    tokens_per_step: Annotated[int | None, "tokens of a step, over all processes"] = None
    train_examples: Annotated[int | None, "examples to train on"] = None
    heldout_examples: Annotated[int | None, "examples held out"] = None
    parameters: Annotated[int | None, "weights of the model"] = None
    trainable: Annotated[int | None, "weights that are trained"] = None
    precision: Annotated[str | None, "number format that is computed in: `fp32`, `bf16`"] = None
    device: Annotated[str | None, "what it runs on: `cpu`, `2 × NVIDIA H100`"] = None
    gpus: Annotated[
        Small | None, "how many, where the daemon has not chosen them; 0 on the CPU", LEFT_OUT
    ] = None
    max_length: Annotated[int | None, "tokens after which an example is cut"] = None
    activation_checkpointing: Annotated[
        bool | None, "whether activations are computed again to save memory"
    ] = None
    labels: Annotated[Json, "of a classification: the classes, in order", LEFT_OUT] = None
    train_set: Annotated[
        str | None, "hash of the rows trained on, whatever their order and file", LEFT_OUT
    ] = None
    heldout_set: Annotated[str | None, "hash of the rows held out and scored", LEFT_OUT] = None
    heldout_tokens: Annotated[
        int | None, "what their loss is a mean over: tokens, texts or pairs", LEFT_OUT
    ] = None


@dataclass(frozen=True, slots=True)
class Phase:
    """What the worker turns to."""

    kind: ClassVar[str] = "phase"
    phase: Annotated[str | None, "`loading`, `data`, `training`, `eval`, `saving`"] = None
    step: Step = 0
    detail: Annotated[Json, "more about it, for people"] = None


@dataclass(frozen=True, slots=True)
class Metrics:
    """What was measured at a step. Keys are `train/…` and `memory/…`."""

    kind: ClassVar[str] = "metrics"
    step: Step
    values: Annotated[
        dict[str, float | None],
        "`train/loss` (nats per token), `train/lr`, `train/grad_norm`, `train/tokens_per_s`, `train/tokens`, "
        "`train/epoch`, `train/router_balance` (of experts; 1: even), `memory/peak_mb` (MiB); "
        '"NaN", "Infinity" and "-Infinity" where JSON has no number',
    ]


@dataclass(frozen=True, slots=True)
class Result:
    """One result of an evaluation; a bare number is its value."""

    value: Annotated[
        float | None, 'mean over the suite (loss: nats per token); may be "NaN" or "Infinity"'
    ] = None
    lo: Annotated[float | None, "lower end of the 95% interval"] = None
    hi: Annotated[float | None, "upper end of the 95% interval"] = None
    n: Annotated[int | None, "examples scored"] = None
    higher_is_better: Annotated[
        bool | None, "whether the greatest is the best; without it the name says so", LEFT_OUT
    ] = None

    @classmethod
    def from_log(cls, value: Any) -> Result:
        return read(cls, value if isinstance(value, dict) else {"value": value})


@dataclass(frozen=True, slots=True)
class Scored:
    """What was measured of each example: lists of one length, those that were measured."""

    id: Annotated[list[Json], "content hash of the example"] = field(default_factory=list)
    nll: Annotated[
        list[float | None],
        "negative log-likelihood summed over the example's tokens (of a text's class), nats",
    ] = field(default_factory=list)
    tokens: Annotated[list[int], "tokens scored; 1 for a text that is classified"] = field(
        default_factory=list
    )
    right: Annotated[list[int] | None, "tokens whose most likely guess was right", LEFT_OUT] = None
    lost: Annotated[list[int] | None, "tokens right at step 0 and wrong now", LEFT_OUT] = None
    gained: Annotated[list[int] | None, "tokens wrong at step 0 and right now", LEFT_OUT] = None
    slice: Annotated[list[Json] | None, "part of the suite that it is in", LEFT_OUT] = None
    kl: Annotated[
        list[float | None] | None,
        "KL divergence from step 0, nats per token; null where it was not measured",
        LEFT_OUT,
    ] = None
    margin: Annotated[
        list[float | None] | None,
        "of a pair: its reward margin, beta times what the chosen answer has gained over the rejected one; nats",
        LEFT_OUT,
    ] = None
    tempered: Annotated[
        dict[str, Json] | None, "`nll` with the logits divided by a temperature, a list for each", LEFT_OUT
    ] = None
    document: Annotated[
        list[Json] | None, "document that it is a passage of; its own id where that is not known", LEFT_OUT
    ] = None


@dataclass(frozen=True, slots=True)
class Eval:
    """A suite was scored. Each result is also a metric, `heldout/loss`, so that every curve is asked for alike."""

    kind: ClassVar[str] = "eval"
    step: Step
    suite: Suite = None
    values: Annotated[dict[str, Result], "result by name: `loss`, `token_accuracy`, …"] = field(
        default_factory=dict
    )
    examples: Annotated[Scored, "the examples one by one, those that were scored"] = field(
        default_factory=Scored
    )
    confusion: Annotated[
        Json, "of a classification: how many texts, by class (rows) and class given (columns)", LEFT_OUT
    ] = None
    seconds: Annotated[float | None, "that it took"] = None


@dataclass(frozen=True, slots=True)
class ExampleText:
    """An evaluated example."""

    id: Annotated[str, "content hash"]
    prompt: Annotated[str | None, "what the model is given"] = None
    target: Annotated[str | None, "what it is scored on"] = None


@dataclass(frozen=True, slots=True)
class Examples:
    """The texts of a suite, once."""

    kind: ClassVar[str] = "examples"
    suite: Suite = None
    rows: Annotated[list[ExampleText], "its examples"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sample:
    """The model answered a held-out prompt."""

    kind: ClassVar[str] = "sample"
    step: Step
    index: Annotated[Small, "which prompt, from 0"] = 0
    prompt: Annotated[str | None, "what the model was given"] = None
    text: Annotated[str | None, "what it answered"] = None
    ended: Annotated[bool, "by itself; not in the projection"] = False
    fits: Annotated[bool, "the reference could be written in full; not in the projection"] = False


@dataclass(frozen=True, slots=True)
class Drift:
    """The model answered a general prompt, at step 0 and at the end: how has what it writes changed?"""

    kind: ClassVar[str] = "drift"
    step: Step
    index: Annotated[Small, "which prompt, from 0"] = 0
    prompt: Annotated[str | None, "what the model was given"] = None
    text: Annotated[str | None, "what it answered"] = None
    tokens: Annotated[Small | None, "of the answer, its end not counted"] = None
    entropy: Annotated[float | None, "mean of the distributions that its tokens were chosen from, nats"] = (
        None
    )
    distinct_pairs: Annotated[float | None, "share of distinct pairs of tokens"] = None
    repetition: Annotated[float | None, "share of four tokens in a row that were there before"] = None
    finished: Annotated[bool | None, "the model ended it by itself"] = None
    refused: Annotated[bool | None, "it begins like a refusal"] = None
    switched: Annotated[
        bool | None, "it is in another language than the prompt asks for; null where that cannot be told"
    ] = None


@dataclass(frozen=True, slots=True)
class Answered:
    """What a model chose for each multiple-choice question: lists of one length; options are counted from 0."""

    id: Annotated[list[Json], "content hash of the question"] = field(default_factory=list)
    answer: Annotated[list[int], "the right option"] = field(default_factory=list)
    chosen: Annotated[list[int], "the likeliest option"] = field(default_factory=list)
    chosen_norm: Annotated[list[int], "the likeliest for its length in characters"] = field(
        default_factory=list
    )


@dataclass(frozen=True, slots=True)
class Choices:
    """A slice of multiple-choice questions was scored, at step 0 or at the end."""

    kind: ClassVar[str] = "choices"
    step: Step
    slice: Annotated[str | None, "its name in the recipe"] = None
    values: Annotated[dict[str, Result], "result by name: `accuracy`, `accuracy_norm`"] = field(
        default_factory=dict
    )
    questions: Annotated[Answered, "the questions one by one"] = field(default_factory=Answered)
    seconds: Annotated[float | None, "that it took"] = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the effect of a flag is expected to be."""

    step: Annotated[int | None, "later step"] = None
    value: Annotated[float | None, "effect expected there"] = None
    lo: Annotated[float | None, "lower end of its 80% interval"] = None
    hi: Annotated[float | None, "upper end of its 80% interval"] = None


@dataclass(frozen=True, slots=True)
class Flag:
    """A statement that the run is going wrong, with its evidence; written again at every later look, until it is
    withdrawn.
    """

    kind: ClassVar[str] = "flag"
    step: Step
    flag: Annotated[str | None, "`overfitting`, `forgetting`, `nan`, …"] = None
    level: Annotated[str | None, "`info`, `watch`, `warn`, `critical`"] = None
    since_step: Annotated[int | None, "step from which it is seen"] = None
    suite: Annotated[str | None, "suite that shows it; `train` for the steps themselves"] = None
    effect: Annotated[float | None, "size, nats per token where it is about a loss"] = None
    lo: Annotated[float | None, "lower end of the effect's interval"] = None
    hi: Annotated[float | None, "upper end of the effect's interval"] = None
    n: Annotated[int | None, "examples"] = None
    looks: Annotated[Small | None, "evaluations so far, step 0 not counted"] = None
    message: Annotated[str | None, "what was seen, in words"] = None
    actions: Annotated[Json, "what to do: list of `{text, change, source}`"] = None
    worst: Annotated[Json, "examples hit hardest: list of `{id, before, after}`, nats per token"] = None
    slice: Annotated[str | None, "part of the suite; empty: all of it"] = None
    lost: Annotated[int | None, "tokens right under the base model and wrong now"] = None
    gained: Annotated[int | None, "tokens wrong under the base model and right now"] = None
    forecast: Annotated[Forecast | None, "what becomes of the effect"] = None
    advice: Annotated[Json, "the actions as a list of sentences"] = None
    state: Annotated[
        str | None,
        "what became of it since the line before: `raised` (new, or a higher level), `confirmed`, `weakened` (a lower "
        "level), `fading` (not seen at this look), `withdrawn` (nor at the look before; its level is `info`); null in "
        "an older log, where it was written when its level rose",
        LEFT_OUT,
    ] = None
    per: Annotated[
        str | None, "what the effect is a mean over, where it is in nats: `token`, `text` or `pair`", LEFT_OUT
    ] = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint is whole on disk."""

    kind: ClassVar[str] = "checkpoint"
    step: Step
    path: Annotated[str | None, "relative to the run directory; whole, where another trainer wrote it"] = None
    bytes: Annotated[int | None, "size on disk"] = None


@dataclass(frozen=True, slots=True)
class Memory:
    """Peak memory, predicted and measured."""

    kind: ClassVar[str] = "memory"
    step: Step
    measured_mb: Annotated[float, "peak, MiB"]
    cause: Annotated[
        str | None,
        "`probe`: before the first step; `out_of_memory`: a step is done again in smaller passes; `end`: the attempt",
    ] = None
    predicted_mb: Annotated[float | None, "by the estimate, MiB; null for a model that it does not know"] = (
        None
    )
    limit_mb: Annotated[float | None, "most that the run may hold, MiB"] = None
    micro_tokens: Annotated[Small | None, "tokens of a forward pass from here on"] = None
    device: Annotated[str | None, "`cpu`: resident memory; `cuda`: what PyTorch's allocator gave out"] = None


@dataclass(frozen=True, slots=True)
class Log:
    """A word about the run, for people."""

    kind: ClassVar[str] = "log"
    level: Annotated[str | None, "`debug`, `info`, `warning`, `error`"] = None
    message: Annotated[str | None, "what there is to say"] = None


@dataclass(frozen=True, slots=True)
class Timing:
    """What an attempt spent on training, checkpoints and looks after step 0; the next run's cost is foretold by it."""

    train_s: Annotated[float | None, "seconds of training, without looks"] = None
    train_tokens: Annotated[int | None, "tokens trained on in that time"] = None
    looks: Annotated[int | None, "evaluations"] = None
    eval_s: Annotated[float | None, "seconds that they took"] = None
    eval_tokens: Annotated[int | None, "tokens that they read"] = None
    saves: Annotated[int | None, "checkpoints saved", LEFT_OUT] = None
    save_s: Annotated[float | None, "seconds that they took", LEFT_OUT] = None


@dataclass(frozen=True, slots=True)
class End:
    """The last line: how the attempt ended."""

    kind: ClassVar[str] = "end"
    status: Annotated[str | None, "`finished`, `cancelled`, `failed`, `paused` (the disk is full)"] = None
    step: Step = 0
    error: Annotated[str | None, "why it failed"] = None
    reason: Annotated[
        str | None,
        "why it paused, or ended before its last step: a flag set to `stop` keeps the best weights",
    ] = None
    kept_step: Annotated[
        int | None, "step whose weights were saved, where a flag ended the run", LEFT_OUT
    ] = None
    timing: Annotated[Timing | None, "what the looks cost", LEFT_OUT] = None
    transient: Annotated[
        bool | None, "it may pass by itself: a lost GPU, memory that others held", LEFT_OUT
    ] = None


# ---- hardware.jsonl, the sampler's word ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HardwareSample:
    """The machine at one moment; what it does not have is left out."""

    kind: ClassVar[str] = "sample"
    values: Annotated[
        dict[str, float | None],
        "`cpu/percent`, `ram/used_gb`, `ram/total_gb`, `disk/free_gb`, `disk/total_gb`; of each GPU `gpu0/util` (%), "
        "`gpu0/memory_used_gb`, `gpu0/memory_total_gb`, `gpu0/power_w`, `gpu0/power_cap_w`, `gpu0/temp_c`; GB are 1e9 "
        "bytes",
    ]


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU of the machine, once."""

    kind: ClassVar[str] = "device"
    name: Annotated[str | None, "`gpu0`: its place in PCI order"] = None
    label: Annotated[str | None, "what the driver calls it: `NVIDIA H100`"] = None


WorkerLine = (
    Resume
    | Plan
    | Phase
    | Metrics
    | Eval
    | Examples
    | Sample
    | Drift
    | Choices
    | Flag
    | Checkpoint
    | Memory
    | Log
    | End
)
HardwareLine = HardwareSample | Device

WORKER: dict[str, type[WorkerLine]] = {
    line.kind: line
    for line in (
        Resume,
        Plan,
        Phase,
        Metrics,
        Eval,
        Examples,
        Sample,
        Drift,
        Choices,
        Flag,
        Checkpoint,
        Memory,
        Log,
        End,
    )
}
HARDWARE: dict[str, type[HardwareLine]] = {line.kind: line for line in (HardwareSample, Device)}
# By the file that has them; every one begins with a Header.
LOGS: dict[str, dict[str, Any]] = {
    "journal.jsonl": JOURNAL,
    "attempts/N/events.jsonl": WORKER,
    "scale.jsonl": SCALES,
    "hardware.jsonl": HARDWARE,
}
