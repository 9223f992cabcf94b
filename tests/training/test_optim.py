"""Optimizer, schedule and moving average."""

import pytest
import torch
from torch import nn

from plumage.config import Train
from plumage.training.optim import ExponentialMovingAverage, build_optimizer, warmup_cosine


def small_model() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_biases_and_norms_have_no_weight_decay_and_the_head_its_own_learning_rate(optimizer: str) -> None:
    net = small_model()
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


def test_frozen_parameters_are_not_optimized() -> None:
    net = small_model().requires_grad_(False)
    net[3].requires_grad_(True)
    groups = build_optimizer(net, net[3], Train().resolved()).param_groups
    assert sum(len(group["params"]) for group in groups) == 2


def test_the_learning_rate_warms_up_linearly_and_decays_by_a_cosine_to_zero() -> None:
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


def test_a_warm_up_longer_than_the_training_is_shortened() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = warmup_cosine(optimizer, warmup_steps=50, total_steps=2)
    assert 0 < schedule.get_last_lr()[0] <= 1


def test_the_moving_average_follows_its_recurrence_and_is_applied_for_a_while() -> None:
    net = small_model()
    average = ExponentialMovingAverage(net, 0.9)
    expected = net[3].weight.detach().clone()
    for step in range(20):
        with torch.no_grad():
            net[3].weight += 1.0
        average.update()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * net[3].weight.detach()
    live = net[3].weight.detach().clone()
    with average.applied():
        torch.testing.assert_close(net[3].weight.detach(), expected)
    assert torch.equal(net[3].weight, live)


def test_the_moving_average_includes_batch_norms_statistics() -> None:
    net = small_model()
    average = ExponentialMovingAverage(net, 0.5)
    net[1].running_mean += 1.0
    average.update()
    with average.applied():
        assert 0 < float(net[1].running_mean[0]) < 1
