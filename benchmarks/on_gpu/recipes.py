"""Probe and fine-tuning with pretrained weights, and whether lower precision or a CPU changes a trained model's answers."""

import time
from typing import Any

import torch
from tables import Rows
from torch import Tensor

from on_gpu.common import CUDA, Run
from plumage.accelerate.inference import _folded_forward
from plumage.config import Train
from plumage.data.dataset.store import Dataset
from plumage.data.loading.loader import batched, central_view, load_batches
from plumage.data.loading.model_input import to_model_input
from plumage.inference.predict import predict
from plumage.models import create_model
from plumage.models.preprocessing import Preprocessing
from plumage.training.build import choose_preprocessing
from plumage.training.context import TrainingContext, TrainingData
from plumage.training.recipes import train_model
from plumage.training.seeding import seed_everything

NOTE = "EfficientNet-Lite0 with ImageNet weights: trained on the official train photos, accuracy on the official valid photos."


def measure(run: Run) -> list[Rows]:
    if run.weights is None:
        return []
    dataset = run.dataset()
    rows: Rows = []
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
        torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        train_model(model, TrainingData(dataset, split, preprocessing), TrainingContext(settings, CUDA))
        seconds, memory = time.perf_counter() - started, torch.cuda.max_memory_allocated() / 1e9
        logits = torch.from_numpy(predict(model, dataset, test, preprocessing, CUDA).logits)
        accuracy = (logits.argmax(1) == truth).float().mean().item()
        rows.append({"recipe": recipe, "s": seconds, "accuracy": accuracy, "photos": len(test), "memory, GB": memory})
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
    largest = float((probabilities[0] - probabilities[1]).abs().max())
    return [{"photos": len(rows), "largest difference of a probability, CPU and GPU": f"{largest:.1e}"}]
