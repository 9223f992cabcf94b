"""Measure training and inference on one GPU: `python benchmarks/gpu.py --photos PHOTOS.tar --weights LITE0.pth`.

Results are written after each part, as gpu.json and gpu.md, so that a run that is cut off keeps what it has. Networks compiled by
torch.compile take some five minutes more (`--only compiled`). Needs torch with CUDA, torchvision, timm, and what
`plumage.training` imports; neither MLflow nor DVC.
"""

import fcntl
import hashlib
import io
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1] / "src"), str(HERE.parent)]

from tables import Rows, table  # noqa: E402

from plumage.accelerate.graphs import Graphed  # noqa: E402
from plumage.accelerate.inference import _folded_forward, compile_for_inference  # noqa: E402
from plumage.accelerate.layers import accelerate  # noqa: E402
from plumage.config import Train  # noqa: E402
from plumage.data.dataset.ingest import ingest  # noqa: E402
from plumage.data.dataset.store import Dataset  # noqa: E402
from plumage.data.loading.gpu import load_batches_on_gpu  # noqa: E402
from plumage.data.loading.loader import batched, central_view, load_batches  # noqa: E402
from plumage.data.loading.model_input import to_model_input  # noqa: E402
from plumage.data.loading.transforms import RandomCrops  # noqa: E402
from plumage.data.sources.archive import ArchiveSource  # noqa: E402
from plumage.data.sources.folder import FolderSource  # noqa: E402
from plumage.data.sources.sample import SampleSource  # noqa: E402
from plumage.inference.predict import predict  # noqa: E402
from plumage.models import create_model  # noqa: E402
from plumage.models.preprocessing import Preprocessing  # noqa: E402
from plumage.training.build import choose_preprocessing  # noqa: E402
from plumage.training.checkpoints import Checkpoints  # noqa: E402
from plumage.training.context import TrainingContext, TrainingData  # noqa: E402
from plumage.training.gradients import GradientAccumulator  # noqa: E402
from plumage.training.optim import WeightUpdate, build_optimizer  # noqa: E402
from plumage.training.recipes import train_model  # noqa: E402
from plumage.training.seeding import seed_everything  # noqa: E402

CUDA = torch.device("cuda")
CLASSES, SIDE, ROUNDS = 100, 224, 3
BATCHES, INFERENCE_BATCHES = (16, 64, 256), (1, 32, 256)
COMPILE_SECONDS = 200
"""After which what torch.compile has not finished is given up."""
NOT_EXACT = "ours, not deterministic"
INFERENCE = "torchvision's inference in fp16, compiled, with CUDA graphs"
COMPILED = ("torchvision, compiled", "timm, compiled", INFERENCE)
PARTS = ("steps", "inference", "epochs", "exactness", "recipes")
NOTES = {
    "steps": "Forward, backward and AdamW of EfficientNet-B0 at 224 pixels, bf16, channels_last, with random photos. Ours is what "
    "training does by default; torchvision may choose kernels that are not deterministic. Memory is the peak of a step and its weights.",
    "compiled": "Steps at the largest batch size, with torch.compile, beside ours, which is not compiled, and inference.",
    "inference": "EfficientNet-B0 at 224 pixels, channels_last, photos already on the GPU. Ours is not compiled.",
    "epochs": "EfficientNet-B0 at 224 pixels, JPEG photos of 500 pixels on disk. The article's: ImageFolder, Pillow, ToTensor, fp32, NCHW "
    "memory, Adam, batch 16, measured on the first 512 photos.",
    "recipes": "EfficientNet-Lite0 with ImageNet weights: trained on the official train photos, accuracy on the official valid photos.",
    "exactness": "Weights after four epochs of EfficientNet-B0 from scratch; probabilities in fp32, with temperature 1.",
}


@dataclass
class Run:
    """Where photos and weights are, and what was measured so far."""

    output: Path
    work: Path
    photos: Path | None
    weights: Path | None
    results: dict[str, Any]
    started: float = field(default_factory=time.perf_counter)

    def dataset(self) -> Dataset:
        """The photos as a data set, made on the first call."""
        folder = self.work / "dataset"
        if not folder.is_dir():
            source = ArchiveSource(self.photos, self.work) if self.photos else SampleSource(CLASSES, 40, SIDE, 0)
            ingest(source, folder, min_size=1, max_refused=1, processes=0)
        return Dataset(folder)

    def save(self) -> None:
        """Write gpu.json and gpu.md."""
        self.output.mkdir(parents=True, exist_ok=True)
        (self.output / "gpu.json").write_text(json.dumps(self.results, indent=2) + "\n")
        text = ["# GPU benchmarks", "", f"Made by `python benchmarks/gpu.py`. Rates are medians of {ROUNDS} rounds in turn.", "",
                f"On {self.results['machine']}."]  # fmt: skip
        for name in (name for name in NOTES if name in self.results):
            text += ["", f"## {name.capitalize()}", "", NOTES[name], ""]
            text += ["\n\n".join(map(table, self.results[name]))]
        (self.output / "gpu.md").write_text("\n".join(text) + "\n")


def main(
    output: Annotated[Path, typer.Option(help="folder for gpu.json and gpu.md")] = Path(),
    photos: Annotated[
        Path | None, typer.Option(help="archive of real photos with train and valid; default: drawn")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="EfficientNet-Lite0's ImageNet weights, for the recipes")] = None,
    work: Annotated[Path, typer.Option(help="folder for photos and checkpoints")] = Path(".bench/gpu"),
    only: Annotated[list[str] | None, typer.Option(help=f"of {', '.join(NOTES)}; other results stay")] = None,
    child: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the parts and write their results after each."""
    if not torch.cuda.is_available():
        sys.exit("error: this machine has no GPU that torch can use")
    work.mkdir(parents=True, exist_ok=True)
    file = output / "gpu.json"
    run = Run(output, work.resolve(), photos, weights, json.loads(file.read_text()) if file.exists() else {})
    if child:
        as_child(run, *child.split(":"))
        return
    run.results["machine"] = (
        f"{torch.cuda.get_device_name()}, {os.cpu_count()} cores, torch {torch.__version__}, Python {sys.version.split()[0]}"
    )
    for name in only or PARTS:
        before = time.perf_counter()
        try:
            run.results[name] = globals()[name](run)
        except Exception as error:  # the parts that follow still count
            traceback.print_exception(error)
        run.save()
        torch.cuda.empty_cache()
        for rows in run.results.get(name, []):
            print(table(rows), flush=True)
        print(f"{name}: {time.perf_counter() - before:.0f} s", flush=True)
    print(f"all: {time.perf_counter() - run.started:.0f} s", flush=True)


# --- steps


def steps(run: Run) -> list[Rows]:
    """Training steps of torchvision's network and of ours, alternately."""
    rows: Rows = []
    for batch in BATCHES:
        rows += step_rows(["torchvision", "ours", *([NOT_EXACT] if batch != BATCHES[1] else [])], batch)
        print(table(rows), flush=True)
    return [rows, profile_rows()]


def step_rows(names: list[str], batch: int) -> Rows:
    work, extra = {}, {}
    for name in names:
        before, started = torch.cuda.memory_allocated(), time.perf_counter()
        torch.cuda.reset_peak_memory_stats()
        work[name] = training_step(name, batch)
        for _ in range(3):
            work[name]()
        torch.cuda.synchronize()
        extra[name] = time.perf_counter() - started, (torch.cuda.max_memory_allocated() - before) / 1e9
        print(f"{name}, batch {batch}: ready after {extra[name][0]:.1f} s", flush=True)
    seconds = in_turn(work)
    return [
        {
            "batch": batch,
            "network": name,
            "images/s": round(batch / seconds[name]),
            "times torchvision's": seconds["torchvision"] / seconds[name],
            "memory, GB": extra[name][1],
            "first three steps, s": extra[name][0],
        }
        for name in work
    ]


def training_step(name: str, batch: int) -> Callable[[], object]:
    """A step of the network `name` on random photos."""
    torch.manual_seed(0)
    inputs = torch.randn(batch, 3, SIDE, SIDE, device=CUDA).to(memory_format=torch.channels_last)
    labels = torch.randint(0, CLASSES, (batch,), device=CUDA)
    return our_step(name, inputs, labels) if name.startswith("ours") else their_step(name, inputs, labels)


def our_step(name: str, inputs: Tensor, labels: Tensor) -> Callable[[], object]:
    batch, exact = len(inputs), name != NOT_EXACT
    train = Train(batch_size=batch, deterministic=exact, compile="compiled" in name).resolved()
    network = create_model("efficientnet_b0", CLASSES).to(CUDA, memory_format=torch.channels_last)  # type: ignore[call-overload]
    accelerate(network).train()
    gradients = GradientAccumulator(network, TrainingContext(train, CUDA))
    update = WeightUpdate(network, build_optimizer(network, network.classifier, train), train.max_grad_norm, CUDA)
    seed_everything(0, exact)

    def step() -> None:
        torch.manual_seed(0)
        gradients.accumulate(iter([(inputs, labels)]), 1, batch)
        update(gradients.norm(), gradients.are_recorded)

    step()
    if gradients._recorded is None:
        print(f"{name}: NOT RECORDED as a CUDA graph", flush=True)
    return step


def their_step(name: str, inputs: Tensor, labels: Tensor) -> Callable[[], object]:
    network = peer(name).to(CUDA, memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    forward = torch.compile(network, dynamic=False) if "compiled" in name else network

    def step() -> None:
        be_free()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(CUDA.type, torch.bfloat16):
            loss = F.cross_entropy(forward(inputs).float(), labels)
        loss.backward()
        optimizer.step()

    return step


def peer(name: str) -> nn.Module:
    if name.startswith("timm"):
        import timm

        return timm.create_model("efficientnet_b0", num_classes=CLASSES)  # type: ignore[no-any-return]
    from torchvision.models import efficientnet_b0

    return efficientnet_b0(num_classes=CLASSES)  # type: ignore[no-any-return]


def be_free() -> None:
    """Let torch choose the fastest kernels, deterministic or not."""
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = True


def in_turn(work: dict[str, Callable[[], object]], seconds: float = 0.5) -> dict[str, float]:
    """Median seconds of each piece of work. They take turns."""
    took: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(ROUNDS):
        for name, do in work.items():
            took[name].append(timed(do, seconds))
    return {name: statistics.median(values) for name, values in took.items()}


def timed(do: Callable[[], object], seconds: float) -> float:
    """Seconds that `do` takes, on average over this many seconds."""
    do()
    torch.cuda.synchronize()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        for _ in range(4):
            do()
        torch.cuda.synchronize()
        count += 4
    return (time.perf_counter() - started) / count


def profile_rows() -> Rows:
    """The kernels that take the most time of a step of ours and of torchvision's at the largest batch size."""
    rows: Rows = []
    for name in ("ours", "torchvision"):
        step = training_step(name, BATCHES[-1])
        for _ in range(3):
            step()
        torch.cuda.synchronize()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            step()
            torch.cuda.synchronize()
        events = sorted(profile.key_averages(), key=lambda event: -event.self_device_time_total)
        total = sum(event.self_device_time_total for event in events)
        rows += [
            {"network": name, "kernel": event.key[:70], "calls": event.count,
             "ms": event.self_device_time_total / 1e3, "share": event.self_device_time_total / total}
            for event in events[:14]
        ]  # fmt: skip
    return rows


# --- inference


def inference(run: Run) -> list[Rows]:
    """Inference of ours and of torchvision's, eager and compiled with CUDA graphs."""
    torch.manual_seed(0)
    rows: Rows = []
    ours = create_model("efficientnet_b0", 1000).to(CUDA, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    half = half_network()
    for batch in INFERENCE_BATCHES:
        photos = random_photos(batch)
        work: dict[str, Callable[[Tensor], Tensor]] = {
            "torchvision fp16": lambda x: half(x.half()),
            "ours bf16": compile_for_inference(ours, "bf16"),
            "ours fp16": Graphed(_folded_forward(ours, torch.float16, False)),
            "ours fp32": compile_for_inference(ours, "fp32"),
        }
        with torch.inference_mode():
            be_free()
            for do in work.values():
                for _ in range(4):
                    do(photos)
            seconds = in_turn({name: partial(do, photos) for name, do in work.items()}, 0.3)
        rows += [{"batch": batch, "network": name, "images/s": round(batch / took)} for name, took in seconds.items()]
    return [rows]


# --- compiled


def compiled(run: Run) -> list[Rows]:
    """Networks that torch.compile has finished in time, and ours, each in a process of its own; they take turns."""
    started, folder = time.perf_counter(), run.work / "compiled"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    environment = {**os.environ, "TORCHINDUCTOR_COMPILE_THREADS": str(max(1, (os.cpu_count() or 1) // len(COMPILED)))}
    processes = {name: subprocess.Popen(self_command(run, f"compile:{name}"), env=environment) for name in COMPILED}
    while time.perf_counter() - started < COMPILE_SECONDS and any(
        process.poll() is None and not (folder / f"{name} is ready").exists() for name, process in processes.items()
    ):
        time.sleep(0.2)
    for name, process in processes.items():
        if not (folder / f"{name} is ready").exists():
            print(f"{name}: given up after {COMPILE_SECONDS} s", flush=True)
            process.kill()
    print(f"compiled after {time.perf_counter() - started:.0f} s", flush=True)
    (folder / "go").touch()
    take_turns(folder, "ours", training_step("ours", BATCHES[-1]))
    for process in processes.values():
        process.wait()
    rows: Rows = []
    for file in sorted(folder.glob("*.json")):
        seconds = statistics.median(json.loads(file.read_text()))
        rows.append({"batch": BATCHES[-1], "network": file.stem, "images/s": round(BATCHES[-1] / seconds)})
    return [rows]


def take_turns(folder: Path, name: str, work: Callable[[], object]) -> None:
    """Time `work` in rounds, of which other processes' come between, and write the seconds into `folder`."""
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    (folder / f"{name} is ready").touch()
    while not (folder / "go").exists():
        time.sleep(0.05)
    seconds = []
    for _ in range(ROUNDS):
        with (folder / "turn").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            seconds.append(timed(work, 0.5))
        time.sleep(0.2)
    (folder / f"{name}.json").write_text(json.dumps(seconds))


def half_network() -> nn.Module:
    return peer("torchvision").half().to(CUDA, memory_format=torch.channels_last).eval()  # type: ignore[call-overload,no-any-return]


def random_photos(batch: int) -> Tensor:
    return torch.randn(batch, 3, SIDE, SIDE, device=CUDA).to(memory_format=torch.channels_last)


def compiled_work(name: str) -> Callable[[], object]:
    """A step, or inference, of the largest batch size."""
    if name != INFERENCE:
        return training_step(name, BATCHES[-1])
    be_free()
    network, photos = half_network(), random_photos(BATCHES[-1]).half()
    forward = torch.compile(network, dynamic=False, mode="reduce-overhead")

    @torch.inference_mode()
    def run() -> None:
        torch.compiler.cudagraph_mark_step_begin()
        forward(photos)

    return run


# --- epochs


def epochs(run: Run) -> list[Rows]:
    """Photos on disk to trained weights, against the loader alone and the article's way."""
    root, dataset = large_photos(run)
    train = list(range(len(dataset) - 256))
    rows: Rows = [
        {"what": "photos", "value": len(dataset)},
        {"what": "mean bytes", "value": int(sum(dataset.sizes()) / len(dataset))},
    ]
    rows += [{"what": f"{name}, images/s", "value": round(rate)} for name, rate in decoding(dataset).items()]
    rows += same_views(dataset)
    for batch, times in ((256, 4), (16, 1)):
        rates = epoch_rates(dataset, train[: len(train) // batch * batch] * times, batch)
        rows.append(
            {"what": f"ours, batch {batch}, images/s in each epoch (and waiting for photos)", "value": ", ".join(rates)}
        )
    rows.append({"what": "the article's, batch 16, images/s", "value": round(article_rate(root, 512))})
    return [rows]


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
        "decoded and cropped on the GPU": lambda rows: load_batches_on_gpu(dataset, batched(rows, 256), crops, CUDA),
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
        torch.cat(list(load_batches_on_gpu(dataset, batched(rows, size), crops, CUDA))).cpu() for size in (256, 24)
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


def epoch_rates(dataset: Dataset, rows: list[int], batch: int) -> list[str]:
    """Images/s of three epochs of ours, and the share of the time that it waits for photos."""
    rates: list[str] = []

    def note(_: int, __: object, timing: dict[str, float]) -> None:
        rates.append(f"{timing['train/images_per_second']:,.0f} ({timing['train/waiting_for_photos']:.0%})")

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


# --- recipes


def recipes(run: Run) -> list[Rows]:
    """Probe and fine-tuning with pretrained weights, and whether lower precision changes a trained model's answers."""
    if run.weights is None:
        return []
    dataset, rows = run.dataset(), []
    parts = dataset.official_splits
    train = [row for row in range(len(dataset)) if parts[row] == "train"]
    split = {"train": [row for row in train if row % 20], "val": [row for row in train if row % 20 == 0]}
    test = [row for row in range(len(dataset)) if parts[row] != "train"]
    truth = torch.from_numpy(dataset.targets()[test])
    for recipe in ("probe", "finetune"):
        settings = Train(recipe=recipe).resolved()  # type: ignore[arg-type]
        seed_everything(0)
        model = create_model("efficientnet_lite0", len(dataset.classes), run.weights, drop_rate=0.0, drop_path_rate=0.0)
        preprocessing = choose_preprocessing(model, None, None)
        started = time.perf_counter()
        train_model(model, TrainingData(dataset, split, preprocessing), TrainingContext(settings, CUDA))
        seconds = time.perf_counter() - started
        logits = torch.from_numpy(predict(model, dataset, test, preprocessing, CUDA).logits)
        accuracy = (logits.argmax(1) == truth).float().mean().item()
        rows.append({"recipe": recipe, "s": seconds, "accuracy": accuracy, "photos": len(test)})
    return [rows, agreement(model, dataset, test, preprocessing), cpu_rows(model, dataset, test[:512], preprocessing)]


def agreement(model: Any, dataset: Dataset, rows: list[int], preprocessing: Preprocessing) -> Rows:
    """Share of photos with the same first class as in fp32."""
    forwards = {
        dtype: _folded_forward(model.eval(), dtype, False) for dtype in (torch.float32, torch.bfloat16, torch.float16)
    }
    answers: dict[torch.dtype, list[Tensor]] = {dtype: [] for dtype in forwards}
    with torch.inference_mode():
        for views in load_batches(dataset, batched(rows, 256), central_view(preprocessing), preprocessing.size):
            inputs = to_model_input(views, preprocessing, CUDA)
            for dtype, forward in forwards.items():
                answers[dtype].append(forward(inputs).argmax(1))
    classes = {dtype: torch.cat(values) for dtype, values in answers.items()}
    return [
        {"precision": str(dtype).removeprefix("torch."), "same first class as fp32":
         (classes[dtype] == classes[torch.float32]).float().mean().item()}
        for dtype in (torch.bfloat16, torch.float16)
    ]  # fmt: skip


def cpu_rows(model: Any, dataset: Dataset, rows: list[int], preprocessing: Preprocessing) -> Rows:
    """How far a CPU's probabilities are from this GPU's, in fp32."""
    probabilities = [
        torch.from_numpy(predict(model, dataset, rows, preprocessing, device).logits).double().softmax(1)
        for device in (CUDA, torch.device("cpu"))
    ]
    return [
        {
            "photos": len(rows),
            "largest difference of a probability, CPU and GPU": f"{float((probabilities[0] - probabilities[1]).abs().max()):.1e}",
        }
    ]


# --- exactness


def exactness(run: Run) -> list[Rows]:
    """Whether the same training gives the same bytes, also after kill -9, in processes of their own."""
    run.dataset()
    twice = [
        subprocess.Popen(self_command(run, f"train:{name}"), stdout=subprocess.PIPE, text=True)
        for name in ("first", "second")
    ]
    digests = [process.communicate()[0].strip().splitlines()[-1:] for process in twice]
    killed = subprocess.Popen(self_command(run, "train:killed"), stdout=subprocess.PIPE, text=True)
    checkpoint = run.work / "killed" / "trainer.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    resumed = subprocess.run(self_command(run, "train:killed"), capture_output=True, text=True).stdout
    return [[
        {"what": "the same training twice", "same bytes": str(digests[0] == digests[1] != [])},
        {"what": "killed after an epoch's checkpoint, and resumed", "same bytes": str(resumed.strip().splitlines()[-1:] == digests[0])},
        {"what": "it did resume", "same bytes": str("resuming from" in resumed)},
    ]]  # fmt: skip


def as_child(run: Run, task: str, *arguments: str) -> None:
    """What this script does in a process of its own."""
    if task == "compile":
        take_turns(run.work / "compiled", arguments[0], compiled_work(arguments[0]))
        return
    dataset, folder = run.dataset(), run.work / arguments[0]
    folder.mkdir(exist_ok=True)
    train = Train(epochs=4, batch_size=256).resolved()
    seed_everything(0)
    model = create_model("efficientnet_b0", len(dataset.classes))
    rows = {"train": list(range(1, len(dataset), 2))[:1100], "val": list(range(0, len(dataset), 2))[:64]}
    context = TrainingContext(train, CUDA, checkpoints=Checkpoints(folder))
    train_model(model, TrainingData(dataset, rows, Preprocessing(size=SIDE, crop_fraction=1.0)), context)
    values = b"".join(value.cpu().numpy().tobytes() for value in model.state_dict().values())
    print(hashlib.sha256(values).hexdigest(), flush=True)


def self_command(run: Run, child: str) -> list[str]:
    photos = ["--photos", str(run.photos.resolve())] if run.photos else []
    return [sys.executable, str(HERE), "--work", str(run.work), *photos, "--child", child]


if __name__ == "__main__":
    typer.run(main)
