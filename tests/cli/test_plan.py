"""The plan shows what the training will do: the same steps and learning rates."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from plumage.accelerate import kernels
from plumage.cli.plan import Plan, bar_chart, count_macs, make_plan
from plumage.config import Model, Train
from plumage.data.dataset.store import Dataset
from plumage.models import create_model

MakeDataset = Callable[[int], Dataset]


def plan(dataset: Dataset, **settings: Any) -> Plan:
    rows = {"train": list(range(0, len(dataset), 2)), "val": list(range(1, len(dataset), 2)), "test": []}
    weights = None if settings.get("recipe", "scratch") == "scratch" else "imagenet"
    wanted = Model(name="efficientnet_lite0", weights=weights, image_size=32)
    return make_plan(wanted, Train(device="cpu", **settings).resolved(), dataset, rows, Path())


@pytest.mark.parametrize(("name", "macs"), [("efficientnet_b0", 385.8), ("efficientnet_b3", 1827)])
def test_multiply_adds_are_the_published_ones(name: str, macs: float) -> None:
    model = create_model(name, 1000)
    assert count_macs(model, model.config.resolution) / 1e6 == pytest.approx(macs, rel=0.03)


def test_a_plan_has_the_trainings_steps_learning_rates_and_sizes(color_dataset: MakeDataset) -> None:
    made = plan(color_dataset(10), epochs=3, batch_size=6, lr=0.5, warmup_epochs=1)
    assert made.photos == {"train": 20, "val": 20} and made.num_classes == 4
    assert made.steps_per_epoch == 4 and len(made.learning_rates) == 12
    assert max(made.learning_rates) <= 0.5 and made.learning_rates[-1] < 0.05
    assert (
        made.parameters
        == made.trainable_parameters
        == sum(p.numel() for p in create_model("efficientnet_lite0", 4).parameters())
    )
    assert made.seconds == pytest.approx(3 * made.seconds_per_epoch) and made.memory > 4 * made.parameters
    assert made.hardware["precision"] == ("bf16" if kernels.computes_bf16() else "fp32")


def test_fine_tuning_trains_the_later_stages_and_a_probe_the_classifier(color_dataset: MakeDataset) -> None:
    dataset = color_dataset(10)
    tuned, probed = plan(dataset, recipe="finetune"), plan(dataset, recipe="probe")
    assert probed.trainable_parameters == 1280 * 4 + 4 < tuned.trainable_parameters < tuned.parameters
    assert probed.learning_rates == ()
    assert len(tuned.learning_rates) == 8 * tuned.steps_per_epoch, "twice four epochs"
    assert tuned.learning_rates[: 4 * tuned.steps_per_epoch] == tuned.learning_rates[4 * tuned.steps_per_epoch :]


def test_planning_does_not_change_a_trainings_random_numbers(color_dataset: MakeDataset) -> None:
    dataset = color_dataset(10)
    plan(dataset)
    first = torch.rand(1)
    plan(dataset)
    assert torch.equal(torch.rand(1), first)


def test_the_bar_chart_rises_and_falls_with_its_values() -> None:
    assert bar_chart([0, 1, 2, 4], height=1) == [" ▂▄█"]
    assert bar_chart([0.0, 4.0, 8.0, 16.0], height=2) == ["   █", " ▄██"]
    assert all(len(line) == 64 for line in bar_chart(list(range(1000))))
