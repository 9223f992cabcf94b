"""The transforms from a photo to the model's input."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import kstest
from support import make_photo
from torchvision.transforms import v2

from plumage.accelerate import kernels
from plumage.config import Augmentation
from plumage.data.dataset.decode import decode
from plumage.data.loading.model_input import to_model_input
from plumage.data.loading.transforms import augmentation_draws, eval_view, train_view
from plumage.errors import PhotoError
from plumage.models.preprocessing import Preprocessing

CROP = Augmentation(min_scale=0.5, flip=False)


def gradient(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, (x + y) / 2], axis=-1).astype(np.uint8))


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (256, 256), (31, 47)])
def test_the_central_crop_matches_torchvisions_resize_and_crop(size: tuple[int, int]) -> None:
    view = eval_view(np.asarray(gradient(*size)), Preprocessing(size=224, crop_fraction=0.875)).astype(int)
    theirs = v2.Compose([v2.Resize(256, v2.InterpolationMode.BICUBIC), v2.CenterCrop(224)])(gradient(*size))
    assert np.abs(view - np.asarray(theirs)).mean() < 1.5


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    buffer = io.BytesIO()
    gradient(40, 20).save(buffer, "JPEG", exif=exif)
    assert decode(buffer.getvalue()).size == (20, 40)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "I;16"])
def test_other_colour_modes_become_rgb(mode: str) -> None:
    buffer = io.BytesIO()
    image = gradient(20, 20).convert("L").convert("I;16") if mode == "I;16" else gradient(20, 20).convert(mode)
    image.save(buffer, "TIFF")
    assert decode(buffer.getvalue()).mode == "RGB"


@pytest.mark.parametrize("data", [b"", b"not a photo", make_photo((9, 9, 9), 0)[:-400]])
def test_an_incomplete_photo_is_one_line_the_same_each_time(data: bytes) -> None:
    with pytest.raises(PhotoError) as caught:
        decode(data)
    assert "\n" not in str(caught.value)
    assert " at 0x" not in str(caught.value), "an object's address differs from run to run"


def test_augmentation_draws_are_uniform_and_depend_on_the_key_alone() -> None:
    drawn = np.array([augmentation_draws(0, epoch, row) for epoch in range(10) for row in range(1_000)])
    assert augmentation_draws(0, 9, 999) == tuple(drawn[-1])
    assert len(np.unique(drawn)) == drawn.size, "no epoch, photo or position repeats another's"
    assert drawn.min() >= 0 and drawn.max() < 1
    for column in drawn.T:
        assert kstest(column, "uniform").pvalue > 1e-3
    between = np.corrcoef(drawn.T) - np.eye(5)
    assert np.abs(between).max() < 0.04, "four standard errors"


def test_a_random_crop_depends_on_its_draws_alone_and_covers_the_area_asked_for() -> None:
    photo, pre = np.array(gradient(64, 64)), Preprocessing(size=32, crop_fraction=1.0)
    views = [train_view(photo, pre, augmentation_draws(seed), CROP) for seed in (1, 1, 2)]
    assert np.array_equal(views[0], views[1])
    assert not np.array_equal(views[0], views[2])
    for seed in range(50):
        red = train_view(photo, pre, augmentation_draws(seed), CROP)[:, :, 0].astype(int)
        assert (red.max() - red.min()) / 255 > 0.55  # a side of sqrt(0.5 * 3/4) or more, in a gradient from 0 to 255


def pillows(photo: np.ndarray, box: tuple[float, float, float, float], size: int, interpolation: str) -> np.ndarray:
    (left, top, right, bottom), method, height = box, Image.Resampling[interpolation.upper()], len(photo)
    wide = Image.fromarray(photo).resize((size, height), method, (left, 0, right, height))
    return np.asarray(wide.resize((size, size), method, (0, top, size, bottom)))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("own", [True, False], ids=["own kernels", "Pillow's"])
def test_crops_are_resampled_byte_for_byte_as_by_pillow(
    own: bool, interpolation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Photos of strong contrast: larger, smaller, tall, wide, and of a single row or column."""
    if not own:
        monkeypatch.setattr(kernels, "compiled", lambda *_: None)
    rng = np.random.default_rng(0)
    for seed in range(200):
        height, width = (int(side) for side in rng.integers(1, 300, 2))
        photo = rng.choice([0, 255, 255], (height, width, 3)).astype(np.uint8)
        size, crop = int(rng.integers(8, 250)), float(rng.uniform(0.3, 1))
        pre = Preprocessing(size=size, crop_fraction=crop, interpolation=interpolation)  # type: ignore[arg-type]
        shorter = min(height, width)
        side = shorter * crop
        left, top = (width - side) / 2, (height - side) / 2
        central = pillows(photo, (left, top, left + side, top + side), size, interpolation)
        assert np.array_equal(eval_view(photo, pre), central)
        assert np.array_equal(eval_view(photo, pre, mirrored=True), central[:, ::-1])
        square, whole = photo[:shorter, :shorter], pre.model_copy(update={"crop_fraction": 1.0})
        at_once = Image.fromarray(square).resize((size, size), Image.Resampling[interpolation.upper()])
        assert np.array_equal(eval_view(square, whole), np.asarray(at_once)), "no way first in a square"
        view = train_view(photo, pre, augmentation_draws(seed), CROP)
        draw = augmentation_draws(seed)
        area, ratio = height * width * (0.5 + draw[0] / 2), np.exp(np.log(3 / 4) + draw[1] * np.log(16 / 9))
        across, down = (
            max(1, min(width, round(np.sqrt(area * ratio)))),
            max(1, min(height, round(np.sqrt(area / ratio)))),
        )
        left, top = int(draw[2] * (width - across + 1)), int(draw[3] * (height - down + 1))
        cut = photo[top : top + down, left : left + across]
        assert np.array_equal(view, pillows(cut, (0, 0, across, down), size, interpolation))


def test_flip_mirrors_half_of_the_crops() -> None:
    photo, pre = np.array(gradient(64, 64)), Preprocessing(size=32, crop_fraction=1.0)
    flip = Augmentation(min_scale=1.0, flip=True)
    views = [train_view(photo, pre, augmentation_draws(seed), flip).astype(int) for seed in range(200)]
    mirrored = sum(view[0, 0, 0] > view[0, -1, 0] for view in views)
    assert 70 < mirrored < 130


def test_model_input_is_normalised_and_channels_last() -> None:
    pre = Preprocessing(size=8, crop_fraction=1.0)
    batch = torch.randint(0, 256, (2, 8, 8, 3), dtype=torch.uint8)
    images = to_model_input(batch, pre, "cpu")
    theirs = v2.functional.normalize(batch.permute(0, 3, 1, 2).float() / 255, list(pre.mean), list(pre.std))
    torch.testing.assert_close(images, theirs)
    assert images.is_contiguous(memory_format=torch.channels_last)
