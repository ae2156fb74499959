"""The settings of the queue: what config.toml says, on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field

from engine.basics.cpu import physical_cores
from engine.queue.agents import NO_RIGHTS, Agents
from engine.queue.budget import NO_BUDGET, Budget
from engine.queue.config import Config
from engine.queue.executor import allowed_devices, usable_devices
from engine.queue.sampler import Nvml
from engine.queue.scheduler import Capacity


@dataclass(frozen=True)
class Settings:
    """What the queue needs to know of machine and configuration."""

    capacity: Capacity
    threads: int  # for each run
    grace_s: float
    pool: bool = False  # fork workers from a process that has the imports done
    budget: Budget = NO_BUDGET
    uuids: Mapping[str, str] = field(default_factory=dict)  # of the GPUs, by name
    retry_s: float = 0.0  # before a run that was interrupted twice is tried again
    agents: Agents = NO_RIGHTS
    problem: str | None = None  # what of the configuration does not go with this machine


def queue_settings(user_config: Config, nvml: Nvml) -> Settings:
    """Return the settings of the queue on this machine."""
    uuids = {gpu.name: gpu.uuid for gpu in nvml.gpus}
    visible = usable_devices([gpu.name for gpu in nvml.gpus], os.environ.get("CUDA_VISIBLE_DEVICES"))
    devices, problem = allowed_devices(visible, uuids, user_config.gpus)
    per_gpu = 2 if user_config.share_gpus else 1
    concurrency = user_config.concurrency or per_gpu * len(devices) or 1
    threads = max(1, physical_cores() // concurrency)
    capacity = Capacity(
        concurrency,
        devices,
        user_config.groups,
        user_config.share_gpus,
        60 * user_config.gaps_minutes,
        user_config.quiet,
        none_allowed=problem if nvml.gpus and user_config.gpus and not devices else None,
    )
    return Settings(
        capacity,
        threads,
        user_config.grace_s,
        user_config.pool,
        user_config.spending,
        uuids,
        user_config.retry_wait_seconds,
        user_config.agents,
        problem,
    )
