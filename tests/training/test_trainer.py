"""The training loop: keeps the best epoch, stops early, skips steps that are not finite, averages soups."""

import math
import os
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from plumage.config import ResolvedTrain, Train
from plumage.training import contention, hardware, trainer
from plumage.training.batches import Batch, Batches
from plumage.training.contention import SharedCores
from plumage.training.context import TrainingContext
from plumage.training.forward import validate
from plumage.training.soup import ModelSoup
from plumage.training.state import DivergedError, History
from plumage.training.trainer import Trainer

CPU = torch.device("cpu")


def points(seed: int, count: int = 64) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(count, 2, generator=generator)
    return inputs, (inputs[:, 0] > 0).long()


def batches(batch: Batch) -> Batches:
    return Batches(lambda epoch, first: [batch], num_batches=1, num_samples=len(batch[1]), batch_size=len(batch[1]))


def settings(**changes: Any) -> ResolvedTrain:
    return Train(
        **{
            "precision": "fp32",
            "lr": 0.1,
            "head_lr": 0.1,
            "ema_decay": 0.0,
            "label_smoothing": 0.0,
            "warmup_epochs": 0.0,
            **changes,
        }
    ).resolved()


def trainer_of(
    net: nn.Module, head: nn.Module, train_batches: Batches, on_epoch: Any = None, **changes: Any
) -> Trainer:
    context = TrainingContext(settings(**changes), CPU, on_epoch=on_epoch or (lambda *_: None))
    return Trainer(net, head, train_batches, batches(points(1)), context)


def fit_line(**changes: Any) -> tuple[nn.Linear, History]:
    torch.manual_seed(0)
    net = nn.Linear(2, 2)
    return net, trainer_of(net, net, batches(points(0)), **changes).fit()


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_it_learns(optimizer: str) -> None:
    _, history = fit_line(epochs=60, optimizer=optimizer)
    assert history.epochs[-1]["train/loss"] < history.epochs[0]["train/loss"] / 3
    assert history.epochs[history.best_epoch - 1]["val/accuracy"] > 0.95


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process choose its cores")
def test_beside_busy_processes_steps_share_cores_validation_uses_all_and_the_weights_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights, all_cores = fit_line(epochs=2)[0].weight, os.sched_getaffinity(0)
    adjust, in_steps, in_validation = SharedCores.adjust, [], []

    def seen_adjust(cores: SharedCores) -> None:
        adjust(cores)
        in_steps.append((cores.is_busy, os.sched_getaffinity(0)))

    def seen_validate(*arguments: Any) -> Any:
        in_validation.append(os.sched_getaffinity(0))
        return validate(*arguments)

    for constant, value in {"INTERVAL": 0, "BUSY": -1, "IDLE": math.inf}.items():  # always busy, never idle
        monkeypatch.setattr(contention, constant, value)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr(SharedCores, "adjust", seen_adjust)
    monkeypatch.setattr(trainer, "validate", seen_validate)
    assert torch.equal(fit_line(epochs=2)[0].weight, weights)
    assert [(is_busy, len(cores)) for is_busy, cores in in_steps] == [(True, 1)] * 2
    assert in_validation == [all_cores] * 2


def test_the_model_ends_with_the_best_epochs_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.Tensor] = []
    accuracies = iter([0.5, 0.9, 0.7, 0.9])

    def fake_validate(model: nn.Linear, *_: Any) -> tuple[float, float]:
        seen.append(model.weight.detach().clone())
        return 1.0, next(accuracies)

    monkeypatch.setattr(trainer, "validate", fake_validate)
    net, history = fit_line(epochs=4)
    assert history.best_epoch == 2
    assert torch.equal(net.weight, seen[1])
    assert not net.training


def test_with_equal_accuracy_the_lower_loss_is_better(monkeypatch: pytest.MonkeyPatch) -> None:
    results = iter([(0.5, 0.9), (0.4, 0.9), (0.45, 0.9)])
    monkeypatch.setattr(trainer, "validate", lambda *_: next(results))
    assert fit_line(epochs=3)[1].best_epoch == 2


def test_it_stops_after_patience_epochs_without_improvement(monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies = iter([0.5, 0.9, *[0.8] * 50])
    monkeypatch.setattr(trainer, "validate", lambda *_: (1.0, next(accuracies)))
    assert len(fit_line(epochs=50, patience=3)[1].epochs) == 5


def soup_of(count: int, **changes: Any) -> tuple[dict[str, torch.Tensor], list[tuple[int, torch.Tensor]], History]:
    """Final weights, weights before each epoch, and history, of `count` trainings on points that differ per epoch."""
    torch.manual_seed(0)
    net, before = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, 2)), []

    def of(epoch: int, first: int) -> Iterator[Batch]:
        before.append((epoch, net[0].weight.detach().clone()))
        yield points(epoch)

    context = TrainingContext(settings(ema_decay=0.5, **changes), CPU)
    train_batches, soup = Batches(of, 1, 64, 64), ModelSoup(net, count)
    history = Trainer(net, net[2], train_batches, batches(points(99)), context, soup).fit()
    assert not net.training
    return net.state_dict(), before, history


def test_a_soup_is_the_mean_of_trainings_from_the_same_weights_on_different_crops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends: list[dict[str, torch.Tensor]] = []
    validate = trainer.validate

    def recording_validate(model: nn.Module, *rest: Any) -> Any:
        ends.append({name: value.clone() for name, value in model.state_dict().items()})
        return validate(model, *rest)

    monkeypatch.setattr(trainer, "validate", recording_validate)
    mean, before, history = soup_of(3, epochs=2)
    assert [epoch for epoch, _ in before] == [1, 2, 3, 4, 5, 6] and len(history.epochs) == 6
    assert torch.equal(before[2][1], before[0][1]) and torch.equal(before[4][1], before[0][1])
    assert [epoch["train/lr"] for epoch in history.epochs] == [epoch["train/lr"] for epoch in history.epochs[:2]] * 3
    assert not torch.equal(ends[1]["0.weight"], ends[3]["0.weight"])
    for name, value in mean.items():
        if value.is_floating_point():
            torch.testing.assert_close(value, (ends[1][name] + ends[3][name] + ends[5][name]) / 3)
    single, *_ = soup_of(1, epochs=2)
    assert all(torch.equal(value, ends[1][name]) for name, value in single.items())


def test_early_stopping_ends_one_training_of_a_soup(monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies = iter([0.9, 0.5, 0.5, 0.8, 0.95, 0.5, 0.5])
    monkeypatch.setattr(trainer, "validate", lambda *_: (1.0, next(accuracies)))
    _, before, history = soup_of(2, epochs=9, patience=2)
    assert [place for place, (_, weights) in enumerate(before, start=1) if torch.equal(weights, before[0][1])] == [1, 4]
    assert history.best_epoch == 5 and len(history.epochs) == 7


def test_with_frozen_norm_micro_batches_give_the_steps_of_the_whole_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[int] = []
    monkeypatch.setattr(
        nn.Linear, "forward", lambda net, x: seen.append(len(x)) or nn.functional.linear(x, net.weight, net.bias)
    )
    split, history = fit_line(epochs=3, freeze_norm=True)
    assert seen[:8] == [hardware.CPU_MICRO_BATCH[torch.float32]] * 8
    seen.clear()
    whole, expected = fit_line(epochs=3, freeze_norm=False)
    assert seen[0] == 64
    torch.testing.assert_close(split.weight, whole.weight, rtol=1e-5, atol=1e-6)
    for one, other in zip(history.epochs, expected.epochs, strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def poisoned_at(*poison: tuple[int, int]) -> Batches:
    """Epochs of four steps, with inputs that are not finite at these (epoch, step)."""

    def of(epoch: int, first: int) -> Iterator[Batch]:
        for step in range(first, 4):
            inputs, labels = points(step)
            yield (inputs / 0 if (epoch, step) in poison else inputs), labels

    return Batches(of, 4, 256, 64)


def norm_net() -> tuple[nn.Module, nn.Module]:
    """A network with batch norm, and its head."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    return net, net[2]


def fit_norm(train_batches: Batches, **changes: Any) -> tuple[nn.Module, History]:
    net, head = norm_net()
    return net, trainer_of(net, head, train_batches, **changes).fit()


def test_a_step_that_is_not_finite_is_skipped_without_harm() -> None:
    net, history = fit_norm(poisoned_at((1, 0), (2, 1), (2, 2), (3, 3)), epochs=3, ema_decay=0.9, max_bad_steps=2)
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())
    assert history.epochs[-1]["val/accuracy"] > 0.9
    assert history.epochs[0]["train/loss"] < 1


def test_a_first_step_of_sgd_that_is_skipped_leaves_its_momentum_at_zero() -> None:
    net, _ = fit_norm(poisoned_at((1, 0)), epochs=1, optimizer="sgd", max_bad_steps=2)
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())

    def without_the_first(epoch: int, first: int) -> Iterator[Batch]:
        return iter([points(0), *map(points, range(1, 4))][first:])

    other, head = norm_net()
    of = trainer_of(other, head, Batches(without_the_first, 4, 256, 64), epochs=1, optimizer="sgd")
    of.progress.step = 1
    of.scheduler.step()
    of.fit()
    for name, value in net.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]) or name.endswith("num_batches_tracked"), name


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_reading_a_steps_outcome_during_the_next_one_changes_nothing(
    optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A GPU's training reads late; here it does so on the cores, with skipped steps at an epoch's start and end."""
    bad = poisoned_at((1, 0), (2, 1), (2, 2), (3, 3))
    changes = {"epochs": 3, "ema_decay": 0.9, "max_bad_steps": 2, "optimizer": optimizer}
    net, history = fit_norm(bad, **changes)
    late = trainer_of(*(parts := norm_net()), bad, **changes)
    late._reads_late = True
    assert late.fit().epochs == history.epochs
    assert all(torch.equal(value, parts[0].state_dict()[name]) for name, value in net.state_dict().items())


def test_too_many_skipped_steps_end_training_with_advice_and_the_best_weights() -> None:
    net, head = norm_net()
    bad = poisoned_at((2, 0), (2, 1), (2, 2))
    with pytest.raises(DivergedError, match="step 3 of epoch 2, after 2 skipped steps; try a lower train.lr") as error:
        trainer_of(net, head, bad, epochs=2, max_bad_steps=2).fit()
    assert error.value.history.best_epoch == len(error.value.history.epochs) == 1
    assert not net.training and all(torch.isfinite(value).all() for value in net.state_dict().values())


def test_an_epoch_of_skipped_steps_ends_training() -> None:
    with pytest.raises(DivergedError):
        fit_norm(poisoned_at(*((1, step) for step in range(4))), epochs=3)


def test_label_smoothing_and_gradient_clipping_change_the_steps() -> None:
    plain = fit_line(epochs=3)[0].weight
    for change in ({"label_smoothing": 0.3}, {"max_grad_norm": 1e-3, "optimizer": "sgd"}):
        assert not torch.allclose(plain, fit_line(epochs=3, **change)[0].weight)


def test_frozen_norm_keeps_its_statistics() -> None:
    def run(freeze: bool) -> torch.Tensor:
        net = nn.Sequential(nn.Unflatten(1, (2, 1, 1)), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(2, 2))
        trainer_of(net, net[3], batches(points(0)), epochs=2, freeze_norm=freeze).fit()
        return net[1].running_mean

    assert torch.equal(run(True), torch.zeros(2))
    assert not torch.equal(run(False), torch.zeros(2))


def test_validation_counts_every_sample_once_even_in_a_short_last_batch() -> None:
    inputs, labels = points(2, count=10)
    net, context = nn.Linear(2, 2), TrainingContext(settings(), CPU)
    whole = validate(net, Batches(lambda epoch, first: [(inputs, labels)], 1, 10, 10), context)
    split = zip(inputs.split(4), labels.split(4), strict=True)
    assert validate(net, Batches(lambda epoch, first: split, 3, 10, 4), context) == pytest.approx(whole, abs=1e-6)


def test_on_epoch_is_called_after_each_epoch() -> None:
    seen: list[int] = []

    def report(epoch: int, metrics: dict[str, float], timing: dict[str, float]) -> None:
        seen.append(epoch)

    net = nn.Linear(2, 2)
    trainer_of(net, net, batches(points(0)), report, epochs=3).fit()
    assert seen == [1, 2, 3]


def test_accumulated_batches_give_the_step_of_one_large_batch() -> None:
    inputs, labels = points(3, count=10)

    def fit(size: int, accumulation: int) -> torch.Tensor:
        torch.manual_seed(0)
        net = nn.Linear(2, 2)
        split = list(zip(inputs.split(size), labels.split(size), strict=True))
        train_batches = Batches(lambda epoch, first: split[first:], len(split), 10, size)
        trainer_of(net, net, train_batches, epochs=4, grad_accumulation=accumulation, max_grad_norm=0.5).fit()
        return net.weight

    torch.testing.assert_close(fit(4, 3), fit(10, 1), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(fit(4, 1), fit(10, 1), atol=1e-3)


def test_the_share_of_time_spent_waiting_for_photos_is_reported() -> None:
    timings: list[dict[str, float]] = []

    def slowly(epoch: int, first: int) -> Iterator[Batch]:
        time.sleep(0.3)
        yield points(0)

    net = nn.Linear(2, 2)
    for of in (slowly, lambda epoch, first: iter([points(0)])):
        train_batches = Batches(of, 1, 64, 64)
        trainer_of(net, net, train_batches, lambda epoch, metrics, timing: timings.append(timing), epochs=2).fit()
    slow, quick = timings[1], timings[3]
    assert slow["train/waiting_for_photos"] > 0.9 > 0.5 > quick["train/waiting_for_photos"]
    assert quick["train/images_per_second"] > slow["train/images_per_second"]


@pytest.mark.slow
def test_a_compiled_training_gives_the_same_weights() -> None:
    plain, compiled = (fit_line(epochs=3, compile=compile)[0].weight for compile in (False, True))
    torch.testing.assert_close(plain, compiled, atol=1e-5, rtol=1e-5)
