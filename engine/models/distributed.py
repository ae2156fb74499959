"""Several processes on one run (`processes`, `train.sharding`), each with its share of every optimiser step.

DDP: every process holds the whole model, and gradients are averaged. FSDP: every process holds a shard of each
weight, its gradient and its optimiser state; a block's weights are gathered where they are needed. Either
way a step is the one that a single process would take. With a single process all of this does nothing.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from engine.basics.errors import ProcessesError
from engine.basics.gpu import GIVEN, other_gpu
from engine.models.load import without_adapters

T = TypeVar("T")

# Messages of gloo and NCCL when a process is lost.
LOST_MESSAGES = ("gloo", "Connection closed by peer", "Connection reset by peer", "NCCL")
TIMEOUT = timedelta(hours=2)  # of processes that wait for one that saves


def begin() -> None:
    """Join the other processes, if torchrun started this one; the process of number n takes the n-th GPU.

    Raises ProcessesError.
    """
    if "LOCAL_RANK" not in os.environ or dist.is_initialized():
        return
    backend = "gloo"
    if torch.cuda.is_available():
        processes, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if processes > gpus:
            raise ProcessesError(f"processes: {processes} need a GPU each, and there are {gpus}; lower it")
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        backend = "cpu:gloo,cuda:nccl"
    dist.init_process_group(backend, timeout=TIMEOUT)


def check_gpu() -> str | None:
    """Return in a sentence that this process computes on another GPU than it was given; None without a GPU."""
    if not torch.cuda.is_available():
        return None
    uuid = str(torch.cuda.get_device_properties(torch.cuda.current_device()).uuid)
    return other_gpu(os.environ.get(GIVEN, ""), int(os.environ.get("LOCAL_RANK", 0)), uuid)


def end() -> None:
    """Leave the other processes."""
    if dist.is_initialized():
        dist.destroy_process_group()


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """How many processes there are."""
    return dist.get_world_size() if dist.is_initialized() else 1


def agree(flag: bool) -> bool:
    """Whether any process says yes: the same answer in all of them."""
    if world() == 1:
        return flag
    answer = torch.tensor(int(flag))
    dist.all_reduce(answer, dist.ReduceOp.MAX)
    return bool(answer)


def from_first(value: T) -> T:
    """Return the first process's value, in all of them."""
    if world() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def gather_values(value: T) -> list[T]:
    """Return the value of every process, by its number."""
    if world() == 1:
        return [value]
    box: list[Any] = [None] * world()
    dist.all_gather_object(box, value)
    return box


def summed(tensor: torch.Tensor) -> torch.Tensor:
    """Sum over all processes, in place."""
    if world() > 1:
        dist.all_reduce(tensor)
    return tensor


def wait() -> None:
    """Wait until all processes are here."""
    agree(False)


def own_passes(groups: Sequence[T]) -> list[tuple[T, int]]:
    """Return this process's forward passes of a window, each with its weight.

    All processes must run equally many, so some run one more with weight 0, which changes nothing.
    """
    own = [(group, 1) for group in groups[rank() :: world()]]
    return own + [(groups[0], 0)] * (math.ceil(len(groups) / world()) - len(own))


def wrap(loss_of: Any, accelerator: Accelerator, sharding: str) -> Any:
    """Wrap the loss in a module that shares its gradients with the other processes.

    Gradients are averaged, so a loss has to be multiplied by the number of processes to be summed.
    """
    if world() == 1 or sharding == "ddp":
        return accelerator.prepare_model(loss_of)
    mesh = init_device_mesh(accelerator.device.type, (world(),))
    for block in _blocks(loss_of.model):
        fully_shard(block, mesh=mesh)
    fully_shard(loss_of, mesh=mesh, reshard_after_forward=True)
    register_fsdp_forward_method(loss_of, "with_logits")
    return loss_of


def own_randomness(seed: int) -> None:
    """Give each process its own dropout; the first keeps that of a single process."""
    if rank() > 0:
        torch.manual_seed(seed + rank())


def no_exchange(accelerator: Accelerator, loss_of: Any, last: bool) -> AbstractContextManager[Any]:
    """Return the context of a forward and backward pass: gradients of a window are exchanged once, after the last."""
    return nullcontext() if last else accelerator.no_sync(loss_of)


def clip(parameters: Iterable[nn.Parameter], largest: float) -> float:
    """Scale gradients down to a norm of at most `largest`; return their norm before, over all processes."""
    return float(full(nn.utils.clip_grad_norm_(parameters, largest)))


def full(tensor: torch.Tensor) -> torch.Tensor:
    """Return a whole weight, gathered from its shards. Every process has to call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def gathered(tensor: torch.Tensor) -> torch.Tensor:
    """Gather a whole weight to save it: on the CPU of the first process, empty in the others. A GPU that holds a shard
    may be too small for the whole. Every process has to call this.
    """
    if not isinstance(tensor, DTensor):
        return tensor
    whole = tensor.full_tensor()
    return whole.cpu() if rank() == 0 else whole.new_empty(0)


def shard_like(tensor: torch.Tensor, model: torch.Tensor) -> torch.Tensor:
    """Shard a whole tensor, the same in every process, as `model` is."""
    if not isinstance(model, DTensor):
        return tensor
    return distribute_tensor(tensor.to(model.device), model.device_mesh, model.placements)


def optimiser_state(optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Return the optimiser's state with whole tensors, `gathered`. Every process has to call this."""
    saved = optimiser.state_dict()
    state = {
        index: {key: gathered(value) if torch.is_tensor(value) else value for key, value in values.items()}
        for index, values in saved["state"].items()
    }
    return {**saved, "state": state}


def shard_state(saved: dict[str, Any], optimiser: torch.optim.Optimizer) -> dict[str, Any]:
    """Shard an optimiser's state with whole tensors as its weights are."""
    weights = [weight for group in optimiser.param_groups for weight in group["params"]]
    state = {
        index: {
            key: shard_like(value, weights[index]) if torch.is_tensor(value) and value.dim() else value
            for key, value in values.items()
        }
        for index, values in saved["state"].items()
    }
    return {**saved, "state": state}


def is_sharded(model: nn.Module) -> bool:
    """Whether this process holds only shards of the weights."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def is_lost_process(error: Exception) -> bool:
    """Whether an error only reports that another process is lost."""
    return (
        world() > 1 and isinstance(error, RuntimeError) and any(word in str(error) for word in LOST_MESSAGES)
    )


def whole_root(loss_of: Any) -> AbstractContextManager[Any]:
    """Return a context with the weights outside the blocks gathered, for calls that do not go through `loss_of`."""
    return _unsharded(loss_of) if isinstance(loss_of, FSDPModule) else nullcontext()


@contextmanager
def _unsharded(loss_of: FSDPModule) -> Iterator[None]:
    loss_of.unshard()
    try:
        yield
    finally:
        loss_of.reshard()


def _blocks(model: Any) -> Iterable[nn.Module]:
    """Return the blocks of a transformers or PEFT model."""
    whole = without_adapters(model)
    count = whole.config.get_text_config().num_hidden_layers
    lists = (m for m in whole.get_decoder().modules() if isinstance(m, nn.ModuleList) and len(m) == count)
    return next(lists, [])
