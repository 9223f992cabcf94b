"""Averages in weight space."""

import copy

import torch

from plumage.models import create_model
from plumage.training.soup import wise_ft


def test_wise_ft_interpolates_between_initial_and_final_weights() -> None:
    initial, final = (create_model("efficientnet_lite0", 4) for _ in range(2))
    start, end = (copy.deepcopy(model.state_dict()) for model in (initial, final))
    wise_ft(final, start, 0.25)
    for name, value in final.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, start[name] * 0.75 + end[name] * 0.25)
