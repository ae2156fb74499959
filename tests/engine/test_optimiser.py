"""Every optimiser trains, keeps to the rates it is given, and goes on from its saved state."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import nn

from engine.recipe.sections import Train
from engine.training.optimiser import make_optimiser, set_rate

NAMES = ["adamw", "adamw8bit", "paged_adamw", "paged_adamw8bit", "adafactor"]


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(96, 96), nn.Tanh(), nn.Linear(96, 1))


def train(net: nn.Module, optimiser: torch.optim.Optimizer, steps: int, seed: int) -> list[float]:
    generator = torch.Generator().manual_seed(seed)
    losses = []
    for _ in range(steps):
        x = torch.randn(64, 96, generator=generator)
        loss = (net(x)[:, 0] - x[:, 0]).square().mean()
        loss.backward()
        set_rate(optimiser, 3e-3)
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("name", NAMES)
def test_it_trains(name):
    net = model()
    losses = train(net, make_optimiser(net, Train(optimiser=name)), 80, seed=1)
    assert sum(losses[-5:]) < 0.5 * sum(losses[:5])


@pytest.mark.parametrize("name", NAMES)
def test_it_goes_on_from_its_saved_state_exactly(name):
    net = model()
    optimiser = make_optimiser(net, Train(optimiser=name, weight_decay=0.1))
    train(net, optimiser, 5, seed=1)
    weights, file = copy.deepcopy(net.state_dict()), io.BytesIO()
    torch.save(optimiser.state_dict(), file)
    wanted = train(net, optimiser, 5, seed=2)

    other = model()
    other.load_state_dict(weights)
    resumed = make_optimiser(other, Train(optimiser=name, weight_decay=0.1))
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert train(other, resumed, 5, seed=2) == wanted


@pytest.mark.parametrize("name", ["adamw8bit", "adafactor"])
def test_its_state_is_smaller(name):
    sizes = {}
    for which in ("adamw", name):
        net = model()
        optimiser = make_optimiser(net, Train(optimiser=which))
        train(net, optimiser, 1, seed=1)
        state = optimiser.state[net[0].weight]
        sizes[which] = sum(v.numel() * v.element_size() for v in state.values() if torch.is_tensor(v))
    assert sizes[name] < 0.4 * sizes["adamw"]
