"""Cross-entropy of the target tokens, without ever holding the logits of all tokens.

The head (hidden state to vocabulary) is applied to the hidden states of target tokens only, in chunks; in
training a chunk's logits are recomputed for the backward pass instead of being kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from engine.basics.errors import ModelError
from engine.data.chat import Example
from engine.losses.batches import ROUND, ROUND_ROWS, Batch, collate, collate_apart
from engine.losses.packing import rotary_switch
from engine.models.experts import router_loss
from engine.models.load import without_adapters
from finetui.errors import first_line

# Logits held at once: 2^26 numbers are 256 MiB in float32.
LOGITS_AT_ONCE = 2**26


class TokenScores(NamedTuple):
    """Scores of each target token: float32 and bool [targets]."""

    nll: torch.Tensor  # nats
    right: torch.Tensor  # is the target the likeliest token?


class TargetLoss(nn.Module):
    """A causal language model as a function from a batch to the loss of its targets.

    A module, so that Accelerate can wrap what is called. `model` may be a PEFT model; `packed`, whether it
    understands packed rows (packing.py).
    """

    def __init__(self, model: Any, packed: bool = False) -> None:
        super().__init__()
        self.model = model
        self.packed = packed
        self.router = router_loss(without_adapters(model))
        # Of the last pass that was trained on, float32 scalars: how even the routers are (1: even), and their share of
        # the loss, nats.
        self.router_balance: torch.Tensor | None = None
        self.router_term: torch.Tensor | None = None

    def collate(self, examples: Sequence[Example], device: torch.device) -> Batch:
        """Collate examples into the batch that the model takes."""
        switch = rotary_switch(self._causal_lm.config.get_text_config())
        if switch is None:
            return collate(examples, device, self.packed, self._multiple)
        # Padding must not count as length.
        return collate_apart(examples, switch - self._virtual, device, self.packed)

    def forward(self, batch: Batch) -> torch.Tensor:
        """Return the sum of the negative log-likelihoods of the targets, in nats, and what routers add to it; float32
        scalar.
        """
        chunks = self._chunks(batch)
        if len(chunks) == 1:
            return self.with_routers(self._chunk_loss(*chunks[0]), len(batch.targets))
        parts = [checkpoint(self._chunk_loss, *c, use_reentrant=False) for c in chunks]
        return self.with_routers(torch.stack(parts).sum(), len(batch.targets))

    def with_routers(self, loss: torch.Tensor, count: int) -> torch.Tensor:
        """Return the summed loss of the last pass and, times `count`, the balance loss of its routers: so that the mean
        over the window has it once, as in transformers.
        """
        if self.router is None or self.router_balance is None:
            return loss
        term = count * self.router.weight * self.router.per_token * self.router_balance
        self.router_balance, self.router_term = self.router_balance.detach(), term.detach()
        return loss + term

    def nll(self, batch: Batch) -> torch.Tensor:
        """Return the negative log-likelihood of each target, in nats; float32 [targets]."""
        nll = [checkpoint(self._chunk_nll, *c, use_reentrant=False) for c in self._chunks(batch)]
        return torch.cat(nll)

    @torch.no_grad()
    def scores(self, batch: Batch) -> TokenScores:
        """Return the negative log-likelihood of each target, and whether it was the likeliest token."""
        nll, right = [], []

        def collect(logits: torch.Tensor, targets: torch.Tensor) -> None:
            nll.append(F.cross_entropy(logits, targets, reduction="none"))
            right.append(logits.argmax(-1) == targets)

        self.with_logits(batch, collect)
        return TokenScores(torch.cat(nll), torch.cat(right))

    @torch.no_grad()
    def with_logits(self, batch: Batch, use: Callable[[torch.Tensor, torch.Tensor], None]) -> None:
        """Call `use` with logits (float32 [some, vocabulary]) and targets [some], in order, as many as may be held at
        once. No generator, since FSDP has the weights together only until a call returns.
        """
        for hidden, targets in self._chunks(batch):
            use(self.logits(hidden), targets)

    def hidden(self, batch: Batch) -> torch.Tensor:
        """Return the last hidden states where a target is predicted: [targets, width]."""
        # index_select has a deterministic backward pass; a boolean mask or gather may not.
        hidden = self._states(batch).flatten(0, 1).index_select(0, batch.positions)
        if batch.apart is None or batch.order is None:
            return hidden
        balance = self.router_balance
        others = self.hidden(batch.apart)
        if balance is not None and self.router_balance is not None:
            self.router_balance = (balance + self.router_balance) / 2
        return torch.cat([hidden, others]).index_select(0, batch.order)

    def _chunks(self, batch: Batch) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Split hidden states and targets into chunks whose logits may be held at once."""
        size = self._chunk_size
        return list(zip(self.hidden(batch).split(size), batch.targets.split(size), strict=True))

    def _states(self, batch: Batch) -> torch.Tensor:
        """Return the last hidden states of all tokens: [rows, length, width].

        PEFT adds virtual tokens in a forward pass of its own, which the decoder alone does not run through.
        """
        decoder, ids = self._causal_lm.get_decoder(), batch.input_ids
        if layout := batch.layout:
            return self._routed(batch, decoder, {"position_ids": layout.position_ids, "layout": layout})
        config = getattr(self.model, "active_peft_config", None)
        if config is None or not config.is_prompt_learning or self.model._adapters_disabled:
            return self._routed(batch, decoder, {})
        virtual = self.model.get_prompt(len(ids))
        if config.peft_type == "PREFIX_TUNING":  # keys and values of every layer
            return decoder(input_ids=ids, past_key_values=virtual, use_cache=False).last_hidden_state
        embedded = self._causal_lm.get_input_embeddings()(ids)
        both = torch.cat([virtual.to(embedded.dtype), embedded], 1)
        return decoder(inputs_embeds=both, use_cache=False).last_hidden_state[:, virtual.shape[1] :]

    def _routed(self, batch: Batch, decoder: Any, options: dict[str, Any]) -> torch.Tensor:
        """Return the decoder's last hidden states; where it is trained, keep how even its routers are."""
        wants = self.router is not None and self.model.training and torch.is_grad_enabled()
        if wants:
            options = {**options, "output_router_logits": True}
        output = decoder(input_ids=batch.input_ids, use_cache=False, **options)
        if wants and self.router is not None and batch.real is not None:
            self.router_balance = self.router.balance(output.router_logits, batch.real)
        return output.last_hidden_state

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return float32 [targets, vocabulary] from [targets, width], as the model's own forward pass does."""
        spare = -len(hidden) % ROUND  # few different shapes, as in `collate`
        padded = F.pad(hidden, (0, 0, 0, spare)) if spare else hidden
        logits = self._causal_lm.get_output_embeddings()(padded)[: len(hidden)].float()
        config = self._causal_lm.config.get_text_config()
        if scale := getattr(config, "logit_scale", None):  # Cohere
            logits = logits * scale
        if scaling := getattr(config, "logits_scaling", None):  # Granite
            logits = logits / scaling
        if cap := getattr(config, "final_logit_softcapping", None):  # Gemma
            logits = torch.tanh(logits / cap) * cap
        return logits

    @torch.no_grad()
    def matches_model(self) -> bool:
        """Whether `logits` agrees with the model's forward pass, on a few tokens. Leaves the mode as it is."""
        ids, places = self._few_tokens()
        ours = self.logits(self.hidden(Batch(ids, places, places, places)))
        theirs = self.model(input_ids=ids, use_cache=False).logits[0, -len(places) :].float()
        return _is_close(ours, theirs)

    @torch.no_grad()
    def is_causal(self) -> bool:
        """Whether no token sees those after it, on a few tokens. Leaves the mode as it is."""
        ids, places = self._few_tokens()
        whole = self.hidden(Batch(ids, places, places, places)).float()
        half = len(places) // 2
        part = self.hidden(Batch(ids[:, :half], places[:half], places[:half], places[:half])).float()
        return _is_close(whole[:half], part)

    def _few_tokens(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return eight tokens, int64 [1, 8], and their places."""
        device = self._causal_lm.get_input_embeddings().weight.device
        return torch.arange(1, 9, device=device)[None], torch.arange(8, device=device)

    def _chunk_loss(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self.logits(hidden), targets, reduction="sum")

    def _chunk_nll(self, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(self.logits(hidden), targets, reduction="none")

    @property
    def _causal_lm(self) -> Any:
        return without_adapters(self.model)

    @property
    def _multiple(self) -> int:
        """The multiple that padded rows are rounded up to, if that cannot make them longer than the model can take."""
        max_positions = (
            getattr(self._causal_lm.config.get_text_config(), "max_position_embeddings", None) or 0
        )
        return ROUND_ROWS if (max_positions - self._virtual) % ROUND_ROWS == 0 else 1

    @property
    def _virtual(self) -> int:
        return getattr(getattr(self.model, "active_peft_config", None), "num_virtual_tokens", None) or 0

    @property
    def _chunk_size(self) -> int:
        vocabulary = self._causal_lm.get_output_embeddings().weight.shape[0]
        return max(64, LOGITS_AT_ONCE // vocabulary)


def check_model(path: str, loss: TargetLoss) -> None:
    """Raise ModelError for a language model that would be trained wrongly; a few tokens are tried."""
    try:
        matches, causal = loss.matches_model(), loss.is_causal()
    except Exception as error:  # whatever a model's own code does not like about being called so
        raise ModelError(
            f"model {path}: cannot be run as finetui trains it ({type(error).__name__}: {first_line(error)})"
        ) from error
    if not matches:
        raise ModelError(f"model {path}: computes its logits in a way that finetui does not support")
    if not causal:
        raise ModelError(f"model {path}: is not causal, each token sees those after it; take another base")


def _is_close(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool(torch.allclose(one, other, rtol=1e-2, atol=1e-2 * float(other.abs().max())))
