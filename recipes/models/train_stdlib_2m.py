"""Trains the bundled base model `stdlib-2m` on the English text of the standard library.

    python recipes/models/train_stdlib_2m.py OUT

Reads top to bottom: tokenizer, data, model, loop, figures. One CPU thread is enough: it computes
in bfloat16 on float32 master weights. The best weights by held-out loss are kept.
"""

import argparse
import copy
import json
import math
import random
import time
from itertools import chain
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from engine.bundled import catalogue

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("out", type=Path, help="folder to write the model into")
parser.add_argument(
    "--minutes", type=float, default=13, help="time to train for: the schedule follows the clock"
)
parser.add_argument("--lr", type=float, default=4e-3, help="peak learning rate")
parser.add_argument("--dropout", type=float, default=0.15)
args = parser.parse_args()

VOCABULARY = 3072
TOKENS_PER_STEP = 2048
LENGTH, LONG = 256, 1024  # the last tenth of the time sees the longer contexts, which cost more
WARMUP = 80
SPECIAL = ["<|endoftext|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
# The template writes the first token itself; the tokenizer adds none, so there is never a second.
CHAT_TEMPLATE = """\
{{- bos_token }}
{%- for message in messages %}
    {%- if message['role'] not in ['system', 'user', 'assistant'] %}
        {{- raise_exception('unknown role: ' + message['role']) }}
    {%- endif %}
    {{- '<|' + message['role'] + '|>' }}
    {%- if message['role'] == 'assistant' %}
        {%- generation %}
            {{- message['content'] + '<|end|>' }}
        {%- endgeneration %}
    {%- else %}
        {{- message['content'] + '<|end|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|assistant|>' }}
{%- endif %}
"""

rng = random.Random(0)
torch.manual_seed(0)

# ---- Tokenizer: byte-level BPE, so that any text can be written ----

bpe = Tokenizer(models.BPE())
bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
bpe.decoder = decoders.ByteLevel()
trainer = trainers.BpeTrainer(
    vocab_size=VOCABULARY,
    special_tokens=SPECIAL,
    initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    show_progress=False,
)
bpe.train_from_iterator(catalogue.pretraining_text(), trainer)
tokenizer = PreTrainedTokenizerFast(
    tokenizer_object=bpe,
    bos_token="<|endoftext|>",
    eos_token="<|end|>",
    pad_token="<|pad|>",
    additional_special_tokens=["<|system|>", "<|user|>", "<|assistant|>"],
    model_max_length=LONG,
    chat_template=CHAT_TEMPLATE,
)
bos = tokenizer.bos_token_id

# ---- Data: every document begins with <|endoftext|> ----


def encode(texts: list[str]) -> list[list[int]]:
    return [[bos, *ids] for ids in tokenizer(texts)["input_ids"]]


def encode_chats(rows: list[dict]) -> list[list[int]]:
    return [tokenizer.apply_chat_template(row["messages"], return_dict=False) for row in rows]


def joined(documents: list[list[int]]) -> torch.Tensor:
    return torch.tensor(list(chain.from_iterable(documents)))


train_documents = encode(catalogue.pretraining_text()) + encode_chats(catalogue.pretraining_chats())
heldout_texts = catalogue.pretraining_heldout()
heldout = joined([*encode(heldout_texts), [bos]])
heldout_bytes = sum(len(text.encode()) for text in heldout_texts)
unigrams = torch.bincount(joined(train_documents), minlength=VOCABULARY) + 1.0
unigram_loss = -(unigrams / unigrams.sum()).log()[heldout[1:]].mean().item()
train_tokens = int(unigrams.sum().item()) - VOCABULARY
print(f"{len(train_documents)} documents, {train_tokens} tokens; held out: {len(heldout)} tokens")
print(f"unigram: loss {unigram_loss:.4f}, perplexity {math.exp(unigram_loss):.1f}")


def progress() -> float:
    """The share of the training time that has gone by."""
    return (time.time() - started) / (60 * args.minutes)


def batches():
    """Windows over all documents, joined in a new order each time round."""
    stream = torch.empty(0, dtype=torch.long)
    while True:
        length = LENGTH if progress() < 0.9 else LONG
        rows = TOKENS_PER_STEP // length
        while len(stream) < rows * length + 1:
            rng.shuffle(train_documents)
            stream = torch.cat([stream, joined(train_documents)])
        window, stream = stream[: rows * length + 1], stream[rows * length :]
        yield window[:-1].view(rows, length), window[1:].view(rows, length)


# ---- Model ----

model = LlamaForCausalLM(
    LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=5,
        num_attention_heads=6,
        num_key_value_heads=3,
        max_position_embeddings=LONG,
        tie_word_embeddings=True,
        bos_token_id=bos,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
)
# A text ends with the separator, an answer with the end of turn: both end a generation.
model.generation_config = GenerationConfig(
    bos_token_id=bos,
    eos_token_id=[tokenizer.eos_token_id, bos],
    pad_token_id=tokenizer.pad_token_id,
    do_sample=False,
)
for layer in model.model.layers:  # Llama has no dropout of its own, and the text is read many times
    for module in (layer.self_attn.o_proj, layer.mlp):
        module.register_forward_hook(lambda module, _, out: F.dropout(out, args.dropout, module.training))
parameters = sum(p.numel() for p in model.parameters())
print(f"{parameters} parameters")


def loss_of(model, inputs, targets, reduction="mean"):
    hidden = model.model(input_ids=inputs).last_hidden_state
    logits = model.lm_head(hidden).flatten(0, 1).float()
    return F.cross_entropy(logits, targets.flatten(), reduction=reduction)


@torch.no_grad()
def heldout_loss(model) -> float:
    """Nats per token over all of the held-out documents, in full precision."""
    model.eval()
    total = 0.0
    for start in range(0, len(heldout) - 1, LONG):
        window = heldout[start : start + LONG + 1]
        total += loss_of(model, window[None, :-1], window[None, 1:], "sum").item()
    model.train()
    return total / (len(heldout) - 1)


# ---- Loop ----


def learning_rate(step: int) -> float:
    """Linear warm-up, then a cosine down to a hundredth."""
    cosine = (1 + math.cos(math.pi * min(progress(), 1))) / 2
    return args.lr * min(step / WARMUP, 0.01 + 0.99 * cosine)


# Muon learns more from each token than AdamW does, but is made for the matrices inside the layers.
matrices = [p for p in model.model.layers.parameters() if p.dim() == 2]
inside = {id(p) for p in matrices}
others = [p for p in model.parameters() if id(p) not in inside]
optimizers = [
    torch.optim.Muon(matrices, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    torch.optim.AdamW(others, weight_decay=0.0, betas=(0.9, 0.95)),
]
best, evaluated = math.inf, 0
started = time.time()
recent: list[float] = []
for step, (inputs, targets) in enumerate(batches(), start=1):
    for group in chain.from_iterable(optimizer.param_groups for optimizer in optimizers):
        group["lr"] = learning_rate(step)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = loss_of(model, inputs, targets)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        optimizer.step()
    model.zero_grad()
    recent.append(loss.item())
    if int(20 * progress()) > evaluated:
        evaluated = int(20 * progress())
        value = heldout_loss(model)
        train, mark = sum(recent) / len(recent), "*" if value < best else " "
        minutes = (time.time() - started) / 60
        print(
            f"step {step:5d}  train {train:.4f}  held out {value:.4f} {mark} {minutes:5.1f} min", flush=True
        )
        recent.clear()
        if value < best:
            best = value
            copy.deepcopy(model).to(torch.bfloat16).save_pretrained(args.out)
            tokenizer.save_pretrained(args.out)
    if progress() >= 1:
        break

# ---- Figures, of the weights as they were written ----

loss = heldout_loss(LlamaForCausalLM.from_pretrained(args.out, dtype=torch.float32))
figures = {
    "parameters": parameters,
    "train_documents": len(train_documents),
    "train_tokens": train_tokens,
    "steps": step,
    "epochs": round(step * TOKENS_PER_STEP / train_tokens, 1),
    "minutes": args.minutes,
    "heldout_tokens": len(heldout) - 1,
    "heldout_loss": round(loss, 4),
    "heldout_perplexity": round(math.exp(loss), 2),
    "heldout_bits_per_byte": round(loss * (len(heldout) - 1) / heldout_bytes / math.log(2), 4),
    "unigram_loss": round(unigram_loss, 4),
    "unigram_perplexity": round(math.exp(unigram_loss), 2),
}
(args.out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
print(json.dumps(figures, indent=2))
