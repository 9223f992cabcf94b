"""Photos on disk to trained weights, against the loader alone and the article's way."""

import io
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
import torch.nn.functional as F
from tables import Rows

from on_gpu.common import CUDA, SIDE, Run, peer
from plumage.config import Train
from plumage.data.dataset.ingest import ingest
from plumage.data.dataset.store import Dataset
from plumage.data.loading.gpu import DecodedPhotos, load_batches_on_gpu
from plumage.data.loading.loader import batched, load_batches
from plumage.data.loading.transforms import RandomCrops
from plumage.data.sources.folder import FolderSource
from plumage.models import create_model
from plumage.models.preprocessing import Preprocessing
from plumage.training.context import TrainingContext, TrainingData
from plumage.training.recipes import train_model

NOTE = (
    "EfficientNet-B0 at 224 pixels, JPEG photos of 500 pixels on disk. Ours decodes photos in the first epoch, and crops them on the GPU "
    "in each. The article's: ImageFolder, Pillow, ToTensor, fp32, NCHW memory, Adam, batch 16, measured on the first 512 photos."
)


def measure(run: Run) -> list[Rows]:
    if run.preparing:
        run.preparing.wait()
    root, dataset = large_photos(run)
    train = list(range(len(dataset) - 256))
    rows: Rows = [
        {"what": "photos", "value": len(dataset)},
        {"what": "mean bytes", "value": int(sum(dataset.sizes()) / len(dataset))},
    ]
    rows += [{"what": f"{name}, images/s", "value": round(rate)} for name, rate in decoding(dataset).items()]
    rows += same_views(dataset)
    for batch, times in ((256, 4), (16, 1)):
        torch.cuda.reset_peak_memory_stats()
        rates = epoch_rates(dataset, train[: len(train) // batch * batch] * times, batch)
        what = f"ours, batch {batch}, images/s in each epoch (and waiting for photos)"
        rows.append({"what": what, "value": ", ".join(f"{rate:,.0f} ({waiting:.0%})" for rate, waiting in rates)})
        if alone := step_alone(run, batch):
            rows.append(
                {"what": f"ours, batch {batch}, last epoch against the step alone", "value": rates[-1][0] / alone}
            )
        rows.append(peak(f"ours, batch {batch}"))
    torch.cuda.reset_peak_memory_stats()
    rows.append({"what": "the article's, batch 16, images/s", "value": round(article_rate(root, 512))})
    rows.append(peak("the article's, batch 16"))
    return [rows]


def step_alone(run: Run, batch: int) -> float | None:
    """Images/s of training steps on photos that are on the GPU, if the part `steps` has been measured."""
    steps = (run.results.get("steps") or [[]])[0]
    return next((row["images/s"] for row in steps if row["network"] == "ours" and row["batch"] == batch), None)


def peak(what: str) -> dict[str, object]:
    return {"what": f"{what}, peak of memory, GB", "value": f"{torch.cuda.max_memory_allocated() / 1e9:.1f}"}


def large_photos(run: Run) -> tuple[Path, Dataset]:
    """The photos enlarged to 500 pixels, at least 8,448 of them, in class folders and as a data set."""
    root, folder = run.work / "large", run.work / "large-dataset"
    if not folder.is_dir():
        from PIL import Image

        small = run.dataset()
        copies = -(-8_448 // len(small))

        def enlarge(row: int) -> None:
            with Image.open(io.BytesIO(small.photo(row))) as photo:
                enlarged = photo.convert("RGB").resize((500, 500), Image.Resampling.BICUBIC)
            parent = root / small.labels[row].replace("/", "_")
            parent.mkdir(parents=True, exist_ok=True)
            for copy in range(copies):  # of different quality, so that none is a duplicate
                enlarged.save(parent / f"{row}-{copy}.jpg", quality=90 - copy)

        with ThreadPoolExecutor() as pool:
            list(pool.map(enlarge, range(len(small))))
        ingest(FolderSource(root), folder, min_size=1, max_refused=1, processes=0)
    return root, Dataset(folder)


def decoding(dataset: Dataset) -> dict[str, float]:
    """Images/s that are decoded and cropped: on the cores, and on the GPU."""
    rows = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(0)).tolist()
    crops = RandomCrops(Preprocessing(size=SIDE, crop_fraction=1.0), Train().resolved().augmentation, 0, 1)
    loaders = {
        "decoded and cropped on the cores": lambda rows: load_batches(
            dataset, batched(rows, 256), crops, SIDE, pinned=True
        ),
        "decoded and cropped on the GPU": lambda rows: load_batches_on_gpu(
            DecodedPhotos(dataset, CUDA), batched(rows, 256), crops
        ),
    }
    rates = {}
    for name, load in loaders.items():
        deque(load(rows[:512]), maxlen=0)  # compiles the kernels
        started, count = time.perf_counter(), 2048 if "cores" in name else len(rows)
        deque(load(rows[:count]), maxlen=0)
        torch.cuda.synchronize()
        rates[name] = count / (time.perf_counter() - started)
    return rates


def same_views(dataset: Dataset) -> Rows:
    """Whether the GPU decodes the same bytes each time, in whatever company, and how far they are from the cores'."""
    rows = list(range(256))
    crops = RandomCrops(Preprocessing(size=SIDE, crop_fraction=1.0), Train().resolved().augmentation, 0, 1)
    first, again = (
        torch.cat(list(load_batches_on_gpu(DecodedPhotos(dataset, CUDA), batched(rows, size), crops))).cpu()
        for size in (256, 24)
    )
    (cores,) = load_batches(dataset, [rows], crops, SIDE)
    difference = (first.int() - cores.int()).abs().float()
    return [
        {"what": "decoded on the GPU twice, same bytes", "value": str(bool(torch.equal(first, again)))},
        {
            "what": "difference from the cores' bytes, mean and largest",
            "value": f"{difference.mean():.2f}, {difference.max():.0f}",
        },
    ]


def epoch_rates(dataset: Dataset, rows: list[int], batch: int) -> list[tuple[float, float]]:
    """Images/s of three epochs of ours, and the share of the time that it waits for photos."""
    rates: list[tuple[float, float]] = []

    def note(_: int, __: object, timing: dict[str, float]) -> None:
        rates.append((timing["train/images_per_second"], timing["train/waiting_for_photos"]))

    train = Train(epochs=3, batch_size=batch).resolved()
    val = list(range(len(dataset) - 256, len(dataset)))
    data = TrainingData(dataset, {"train": rows, "val": val}, Preprocessing(size=SIDE, crop_fraction=1.0))
    train_model(
        create_model("efficientnet_b0", len(dataset.classes)), data, TrainingContext(train, CUDA, on_epoch=note)
    )
    return rates


def article_rate(root: Path, count: int) -> float:
    from torch.utils.data import DataLoader, Subset
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    torch.use_deterministic_algorithms(False)
    images = ImageFolder(str(root), transforms.Compose([transforms.Resize((SIDE, SIDE)), transforms.ToTensor()]))
    model = peer("torchvision").to(CUDA).train()
    optimizer = torch.optim.Adam(model.parameters())
    started = 0.0
    for number, (inputs, labels) in enumerate(DataLoader(Subset(images, range(count + 64)), 16, shuffle=True)):
        if number == 4:  # warm
            torch.cuda.synchronize()
            started = time.perf_counter()
        optimizer.zero_grad()
        loss = F.cross_entropy(model(inputs.to(CUDA)), labels.to(CUDA))
        loss.backward()
        optimizer.step()
        loss.item()
    return count / (time.perf_counter() - started)
