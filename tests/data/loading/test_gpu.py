"""Photos that a GPU decodes: what it refuses is decoded on the cores, and what is decoded at a time is bounded."""

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from plumage.config import Augmentation
from plumage.data.dataset.ingest import ingest
from plumage.data.dataset.store import Dataset
from plumage.data.loading import gpu
from plumage.data.loading.loader import load_batches
from plumage.data.loading.transforms import RandomCrops
from plumage.data.sources.folder import FolderSource
from plumage.errors import DataError
from plumage.models.preprocessing import Preprocessing

CPU = torch.device("cpu")


def jpeg(grey: int, side: int = 40) -> memoryview:
    file = io.BytesIO()
    Image.new("RGB", (side, side), (grey, grey, grey)).save(file, "JPEG")
    return memoryview(file.getvalue())


def test_a_photo_that_nvjpeg_refuses_does_not_change_how_the_others_are_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    files, refused = [jpeg(grey) for grey in (10, 60, 110, 160)], bytes(jpeg(110))

    def decode_jpeg(tensors: list[torch.Tensor], mode: object, device: torch.device) -> list[torch.Tensor]:
        if any(bytes(tensor.numpy()) == refused for tensor in tensors):
            raise RuntimeError("nvjpegDecodeBatched failed")
        return [tensor.max()[None, None, None] for tensor in tensors]

    monkeypatch.setattr(torchvision.io, "decode_jpeg", decode_jpeg)
    decoded = gpu._decoded(files, CPU)
    assert [photo is None for photo in decoded] == [False, False, True, False]


def test_a_full_gpu_is_not_taken_for_a_photo_that_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    def decode_jpeg(*_: object) -> list[torch.Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torchvision.io, "decode_jpeg", decode_jpeg)
    with (
        ThreadPoolExecutor(1) as pool,
        pytest.raises(DataError, match=r"^train\.batch_size: the GPU is out of memory"),
    ):
        gpu._handed_over(pool.submit(gpu._decoded, [jpeg(0)], CPU), CPU)  # type: ignore[arg-type]


@pytest.mark.parametrize(("free", "kept"), [(51, 4), (49, 0)])
def test_decoded_photos_stay_while_half_of_the_memory_is_free(
    class_folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, kept: int
) -> None:
    ingest(FolderSource(class_folders), tmp_path / "data", min_size=1, max_refused=1, processes=0)
    asked: list[int] = []

    def decode_jpeg(tensors: list[torch.Tensor], mode: object, device: torch.device) -> list[torch.Tensor]:
        asked.append(len(tensors))
        return [torchvision.io.image.decode_image(tensor) for tensor in tensors]

    monkeypatch.setattr(torchvision.io, "decode_jpeg", decode_jpeg)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free * 10**9, 100 * 10**9))
    photos = gpu.DecodedPhotos(Dataset(tmp_path / "data"), CPU)
    first, again = photos.decode([3, 0, 7, 30]), photos.decode([30, 3, 0, 7, 5])
    assert asked == [4, 5 - kept]
    for photo, same in zip(first, [again[1], again[2], again[3], again[0]], strict=True):
        assert photo is not None and same is not None and torch.equal(photo, same)


def test_photos_decoded_at_a_time_have_a_bounded_area() -> None:
    areas = [gpu.PIXELS // 2, gpu.PIXELS // 2, 1, gpu.PIXELS * 3, 5]
    assert list(gpu._parts(areas)) == [[0, 1], [2], [3], [4]]


def test_the_cores_decode_on_a_cpu() -> None:
    assert not gpu.decodes_jpegs(CPU)


@pytest.mark.skipif(
    not (torch.cuda.is_available() and gpu.decodes_jpegs(torch.device("cuda"))),
    reason="there is no GPU that decodes JPEGs",
)
def test_a_gpu_gives_the_cores_crops_whatever_is_loaded_together(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for number in range(12):
        folder = tmp_path / "photos" / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        small = Image.fromarray(generator.integers(0, 256, (6, 9, 3), np.uint8)).resize(
            (90 + number, 70), Image.Resampling.BICUBIC
        )
        small.save(folder / (f"{number}.png" if number % 5 == 0 else f"{number}.jpg"), quality=95)
    ingest(FolderSource(tmp_path / "photos"), tmp_path / "data", min_size=1, max_refused=1, processes=0)
    dataset, device = Dataset(tmp_path / "data"), torch.device("cuda")
    crops = RandomCrops(Preprocessing(size=32, crop_fraction=1.0), Augmentation(0.5, True), 0, 1)
    rows = list(range(12))
    together, apart = (
        torch.cat(list(gpu.load_batches_on_gpu(gpu.DecodedPhotos(dataset, device), batches, crops))).cpu()
        for batches in ([rows], [rows[:5], rows[5:10], rows[10:]])
    )
    (cores,) = load_batches(dataset, [rows], crops, 32)
    assert torch.equal(together, apart)
    assert (together.int() - cores.int()).abs().float().mean() < 2
