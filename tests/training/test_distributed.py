"""Two processes train as one does; if one dies, both end, and any number of processes resumes."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from warm_python import warm_python

from plumage.data.dataset.store import Dataset

SCRIPT = """
import json, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs start with SIGINT ignored
from pathlib import Path
import torch
from plumage.config import Train
from plumage.data.dataset.store import Dataset
from plumage.models.preprocessing import Preprocessing
from plumage.errors import PlumageError
from plumage.models import create_model
from plumage.models.saved_model import save_model
from plumage.training.checkpoints import Checkpoints
from plumage.training.context import TrainingContext, TrainingData
from plumage.training.distributed import join_process_group
from plumage.training.launch import launch, num_processes
from plumage.training.recipes import train_model
from plumage.training.seeding import seed_everything

torch.set_num_threads(1)
root, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
kill = settings.pop("kill", None)
train = Train(device="cpu", **settings).resolved()
if (count := num_processes(train)) > 1:
    try:
        launch(count, sys.argv)
    except PlumageError as error:
        sys.exit(f"error: {error}")
    sys.exit()
with join_process_group() as group:
    dataset = Dataset(root / "dataset")
    rows = {"train": [row for row in range(len(dataset)) if row % 4], "val": list(range(0, len(dataset), 4))[:-1]}
    pre = Preprocessing(size=32, crop_fraction=1.0)
    seed_everything(0)
    weights = None if train.recipe == "scratch" else "imagenet"
    model = create_model("efficientnet_lite0", len(dataset.classes), weights, drop_rate=0.0, drop_path_rate=0.0)
    def on_epoch(epoch, metrics, timing):
        if group.is_main:
            print(json.dumps([epoch, metrics]), flush=True)
        if kill == [group.rank, epoch]:
            os.kill(os.getpid(), signal.SIGKILL)
    checkpoints = Checkpoints(root / "checkpoints") if group.is_main else None
    context = TrainingContext(train, torch.device("cpu"), group, checkpoints, on_epoch)
    train_model(model, TrainingData(dataset, rows, pre), context)
    if group.is_main:
        save_model(root / "models", model, dataset.classes, pre)
"""


def start_script(root: Path, python: str = sys.executable, **settings: Any) -> subprocess.Popen[str]:
    script = root / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    command = [python, str(script), str(root), json.dumps(settings)]
    return subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def run_script(root: Path, **settings: Any) -> tuple[list[Any], subprocess.CompletedProcess[str]]:
    process = start_script(root, warm_python(), **settings)
    stdout, stderr = process.communicate()
    curve = [json.loads(line) for line in stdout.splitlines() if line.startswith("[")]
    return curve, subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


@pytest.fixture
def dataset(color_dataset: Callable[[int], Dataset]) -> Dataset:
    return color_dataset(9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings",
    [
        {
            "recipe": "finetune",
            "epochs": 1,
            "batch_size": 9,
            "grad_accumulation": 2,
            "frozen_stages": 0,
            "precision": "fp32",
            "lr": 5e-5,  # keeps rounding, which bf16 and AdamW amplify, below 1e-4
        },
        {"recipe": "probe", "epochs": 20},
    ],
    ids=["whole network, accumulated gradients", "probe"],
)
def test_two_processes_have_the_curve_of_one(tmp_path: Path, dataset: Dataset, settings: dict[str, Any]) -> None:
    one, _ = run_script(tmp_path, **settings)
    shutil.rmtree(tmp_path / "checkpoints")
    two, ended = run_script(tmp_path, processes=2, **settings)
    assert len(one) == len(two) > 0, ended.stderr
    for (epoch, expected), (same_epoch, metrics) in zip(one, two, strict=True):
        assert epoch == same_epoch
        assert metrics == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_two_torchrun_agents_like_two_machines_have_the_curve_of_one_process(tmp_path: Path, dataset: Dataset) -> None:
    settings = {"recipe": "probe", "epochs": 20}
    one, _ = run_script(tmp_path, **settings)
    shutil.rmtree(tmp_path / "checkpoints")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    torchrun = [warm_python(), "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--rdzv-id=plumage"]
    command = [
        *torchrun,
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={endpoint}",
        str(tmp_path / "script.py"),
        str(tmp_path),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "OMP_NUM_THREADS": "1"}
    agents = [
        subprocess.Popen([*command, json.dumps(settings)], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(2)
    ]  # fmt: skip
    outputs = [agent.communicate(timeout=120) for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], outputs
    curves = [[json.loads(line) for line in out.splitlines() if line.startswith("[")] for out, _ in outputs]
    [curve] = filter(None, curves)  # the main process alone reports
    for (epoch, expected), (same_epoch, metrics) in zip(one, curve, strict=True):
        assert epoch == same_epoch
        assert metrics == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_if_one_process_dies_both_end_and_one_process_resumes(tmp_path: Path, dataset: Dataset) -> None:
    settings = {"recipe": "scratch", "epochs": 3, "batch_size": 8}
    _, ended = run_script(tmp_path, processes=2, kill=[1, 2], **settings)
    assert ended.returncode == 1
    assert "error: process 1 of 2 was ended by SIGKILL" in ended.stderr
    assert "resumes from the last checkpoint" in ended.stderr and "Traceback" not in ended.stderr, ended.stderr
    curve, ended = run_script(tmp_path, **settings)
    assert [epoch for epoch, _ in curve] == [1, 2, 3], ended.stderr
    assert re.search(r"resuming from epoch [23], step", ended.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_both_with_a_checkpoint(tmp_path: Path, dataset: Dataset, number: signal.Signals) -> None:
    settings = {"recipe": "scratch", "epochs": 50, "batch_size": 9}
    before = set(psutil.Process().children(recursive=True))
    process = start_script(tmp_path, processes=2, **settings)
    assert process.stdout and any(line.startswith("[1,") for line in process.stdout)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode and re.search(r"a checkpoint is saved; the same command resumes from epoch \d", output), (
        output
    )
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.mark.slow
def test_an_error_is_printed_once(tmp_path: Path, dataset: Dataset) -> None:
    next((tmp_path / "dataset").glob("*.arrow")).write_bytes(b"not photos")
    _, ended = run_script(tmp_path, processes=2, recipe="scratch", epochs=1, batch_size=8)
    assert ended.returncode == 1
    assert ended.stderr.count("error: ") == 1, ended.stderr


NORM = """
import sys
import torch
from torch import nn
from plumage.training.launch import launch
from plumage.training.distributed import convert_sync_batchnorm, join_process_group
import os
if "RANK" not in os.environ:
    launch(2, sys.argv)
    sys.exit()
with join_process_group() as group:
    torch.manual_seed(0)
    x, wanted = 3 * torch.randn(9, 4, 5, 6) + 7, torch.randn(9, 4, 5, 6)
    synced, whole = (nn.Sequential(nn.BatchNorm2d(4)) for _ in range(2))
    convert_sync_batchnorm(synced)
    results = []
    for net, rows in ((whole, slice(None)), (synced, slice(group.rank, None, group.size))):
        inputs = x[rows].clone().requires_grad_()
        outputs = net(inputs)
        (outputs * wanted[rows]).sum().backward()
        results.append([outputs.detach(), inputs.grad, net[0].weight.grad, net[0].bias.grad, net[0].running_mean, net[0].running_var])
    expected, got = results
    expected[0], expected[1] = expected[0][group.rank::group.size], expected[1][group.rank::group.size]
    got[2], got[3] = (group.all_reduce_sum(tensor) for tensor in got[2:4])
    for one, other in zip(expected, got, strict=True):
        torch.testing.assert_close(other.float(), one, atol=1e-5, rtol=1e-5)
    print("the same on", group.rank, flush=True)
"""


@pytest.mark.slow
def test_sync_batch_norm_equals_batch_norm_over_the_whole_batch(tmp_path: Path) -> None:
    (tmp_path / "norm.py").write_text(NORM)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    ended = subprocess.run([warm_python(), str(tmp_path / "norm.py")], env=environment, text=True, capture_output=True)
    assert sorted(line for line in ended.stdout.splitlines() if line) == ["the same on 0", "the same on 1"], (
        ended.stderr
    )
