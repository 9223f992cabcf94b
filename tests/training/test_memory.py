"""A batch that does not fit is refused with a size that does; `auto` takes that and accumulates gradients."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from plumage.config import Train
from plumage.errors import TrainingError
from plumage.models import create_model
from plumage.training import memory
from plumage.training.distributed import ProcessGroup
from plumage.training.memory import fit_batch_size, step_bytes

SCRIPT = """
import psutil, torch
from plumage.models import create_model
torch.set_num_threads(1)
model = create_model("efficientnet_b0", 4).to(memory_format=torch.channels_last).train()
def forward(batch):
    return model(torch.zeros(batch, 3, 64, 64).to(memory_format=torch.channels_last)).sum()
forward(2).backward()
before = psutil.Process().memory_info().rss
loss = forward(128)
print((psutil.Process().memory_info().rss - before) / 128)
"""


def test_the_estimated_memory_per_photo_is_close_to_the_measured() -> None:
    measured = float(subprocess.run([sys.executable, "-c", SCRIPT], text=True, check=True, capture_output=True).stdout)
    _, per_photo = step_bytes(create_model("efficientnet_b0", 4), 64, "fp32")
    assert 0.9 < per_photo / measured < 1.5


def test_estimating_has_no_side_effects() -> None:
    model = create_model("efficientnet_b0", 4).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    step_bytes(model, 32, "fp32")
    assert not model.training and torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.fixture
def memory_for_10(monkeypatch: pytest.MonkeyPatch) -> torch.nn.Module:
    model = create_model("efficientnet_b0", 4)
    fixed, per_photo = step_bytes(model, 32, "fp32")
    monkeypatch.setattr(memory, "free_bytes", lambda device: fixed + 10 * per_photo + per_photo // 2)
    return model


def test_a_batch_that_does_not_fit_is_refused_with_a_size_that_does(memory_for_10: torch.nn.Module) -> None:
    with pytest.raises(TrainingError, match="train.batch_size: 64 photos don't fit in memory; takes 8, or auto"):
        fit_batch_size(memory_for_10, 32, Train(precision="fp32", batch_size=64).resolved(), ProcessGroup())
    assert fit_batch_size(memory_for_10, 32, Train(precision="fp32", batch_size=10).resolved(), ProcessGroup()) == (
        10,
        1,
    )


def test_a_batch_in_micro_batches_needs_the_memory_of_one(memory_for_10: torch.nn.Module) -> None:
    train = Train(precision="fp32", recipe="finetune", batch_size=64).resolved()
    assert train.freeze_norm and fit_batch_size(memory_for_10, 32, train, ProcessGroup()) == (64, 1)


def test_auto_takes_a_size_that_fits_and_accumulates_to_the_recipes_batch(memory_for_10: torch.nn.Module) -> None:
    assert fit_batch_size(memory_for_10, 32, Train(precision="fp32", batch_size="auto").resolved(), ProcessGroup()) == (
        8,
        2,
    )  # 16 is the recipe's


def test_if_no_photo_fits_the_error_asks_for_a_smaller_model(
    memory_for_10: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 0)
    with pytest.raises(TrainingError, match="not even one photo fits"):
        fit_batch_size(memory_for_10, 32, Train(precision="fp32", batch_size="auto").resolved(), ProcessGroup())


LIMITED = """
import resource
import torch
from torch import nn
from plumage.config import Train
from plumage.errors import TrainingError
from plumage.models import create_model
from plumage.training.batches import Batches
from plumage.training.context import TrainingContext
from plumage.training.trainer import Trainer
torch.set_num_threads(1)
model = create_model("efficientnet_b0", 4)
batch = torch.zeros(256, 3, 96, 96), torch.arange(256) % 4
batches = Batches(lambda epoch, first: [batch], 1, 256, 256)
import psutil
limit = psutil.Process().memory_info().vms + 1_000_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    context = TrainingContext(Train(epochs=1).resolved(), torch.device("cpu"))
    Trainer(model, model.classifier, batches, batches, context).fit()
except TrainingError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory can be limited on Linux only")
def test_a_step_that_runs_out_of_memory_names_a_batch_size_that_fits() -> None:
    process = subprocess.run([sys.executable, "-c", LIMITED], text=True, capture_output=True)
    assert "train.batch_size: 256 photos don't fit in memory; takes " in process.stdout, process.stderr
    assert 1 <= int(process.stdout.split("; takes ")[1].split(",")[0]) <= 128


def test_processes_share_a_machines_memory(memory_for_10: torch.nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed, per_photo = step_bytes(memory_for_10, 32, "fp32")
    monkeypatch.setattr(memory, "free_bytes", lambda device: 2 * (fixed + 5 * per_photo + per_photo // 2))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(ProcessGroup, "broadcast", lambda group, value: value)
    assert fit_batch_size(memory_for_10, 32, Train(precision="fp32", batch_size=10).resolved(), ProcessGroup(0, 2)) == (
        10,
        1,
    )
    with pytest.raises(TrainingError, match="12 photos don't fit in memory; takes 8, or auto"):
        fit_batch_size(memory_for_10, 32, Train(precision="fp32", batch_size=12).resolved(), ProcessGroup(0, 2))


def test_the_page_cache_counts_as_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("900000\n")
    (tmp_path / "memory.stat").write_text("anon 100000\nactive_file 300000\ninactive_file 400000\n")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory.free_bytes(torch.device("cpu")) == 800_000
