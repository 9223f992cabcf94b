"""Batches of photos as tensors that a network takes, on any device."""

import functools

import torch
from torch import Tensor

from plumage.data.loading.transforms import normalised, scale_and_offset
from plumage.models.preprocessing import Preprocessing


def to_model_input(batch: Tensor, preprocessing: Preprocessing, device: torch.device | str) -> Tensor:
    """Normalise uint8 N x H x W x 3 to float32 N x 3 x H x W in channels_last memory, on `device`."""
    photos = batch.to(device)
    if photos.device.type == "cpu":
        return torch.from_numpy(normalised(photos.numpy(), preprocessing, torch.get_num_threads()))
    scale, offset = _on_device(preprocessing, photos.device)
    return torch.addcmul(offset, photos, scale).permute(0, 3, 1, 2)


@functools.lru_cache(maxsize=16)
def _on_device(preprocessing: Preprocessing, device: torch.device) -> tuple[Tensor, Tensor]:
    """Scale and offset per channel. Kept, since moving them to a GPU waits for that."""
    scale, offset = (torch.from_numpy(value).to(device) for value in scale_and_offset(preprocessing))
    return scale, offset
