"""Optimiser, schedule and moving average."""

import pytest
import torch
from torch import nn

from plumage.config import Train
from plumage.training.optim import MovingAverage, build_optimizer, warmup_cosine


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_weight_decay_spares_biases_and_norms_and_the_head_has_its_own_rate(optimizer: str) -> None:
    net = network()
    train = Train(optimizer=optimizer, lr=0.1, head_lr=0.4, weight_decay=0.02).resolved()
    settings = {
        id(parameter): (group["lr"], group["weight_decay"])
        for group in build_optimizer(net, net[3], train).param_groups
        for parameter in group["params"]
    }
    assert settings[id(net[0].weight)] == (0.1, 0.02)
    assert settings[id(net[1].weight)] == settings[id(net[1].bias)] == (0.1, 0.0)
    assert settings[id(net[3].weight)] == (0.4, 0.02)
    assert settings[id(net[3].bias)] == (0.4, 0.0)


def test_frozen_parameters_are_left_out() -> None:
    net = network().requires_grad_(False)
    net[3].requires_grad_(True)
    groups = build_optimizer(net, net[3], Train().resolved()).param_groups
    assert sum(len(group["params"]) for group in groups) == 2


def test_the_rate_rises_linearly_to_its_peak_and_falls_by_a_cosine_to_zero() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = warmup_cosine(optimizer, warmup_steps=3, total_steps=11)
    rates = []
    for _ in range(11):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[7] == pytest.approx(0.5)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.0)


def test_a_warm_up_longer_than_the_training_still_ends_in_it() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = warmup_cosine(optimizer, warmup_steps=50, total_steps=2)
    assert 0 < schedule.get_last_lr()[0] <= 1


def test_the_moving_average_follows_its_recurrence_and_swaps_there_and_back() -> None:
    net = network()
    average = MovingAverage(net, 0.9)
    expected = net[3].weight.detach().clone()
    for step in range(20):
        with torch.no_grad():
            net[3].weight += 1.0
        average.update()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * net[3].weight.detach()
    live = net[3].weight.detach().clone()
    average.swap()
    torch.testing.assert_close(net[3].weight.detach(), expected)
    average.swap()
    assert torch.equal(net[3].weight, live)


def test_the_moving_average_covers_batch_norms_statistics() -> None:
    net = network()
    average = MovingAverage(net, 0.5)
    net[1].running_mean += 1.0
    average.update()
    average.swap()
    assert 0 < float(net[1].running_mean[0]) < 1
