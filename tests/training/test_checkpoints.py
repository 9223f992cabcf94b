"""A training goes on after any end, to the same bytes; nothing but its own checkpoints is gone on from."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from plumage.config import ResolvedTrain, Train
from plumage.data.dataset.store import Dataset
from plumage.errors import TrainingError
from plumage.training.batches import Batch, Batches
from plumage.training.checkpoints import KEPT, Checkpoints, checkpoints, training_key
from plumage.training.trainer import History, Trainer

CPU = torch.device("cpu")
EPOCHS, STEPS = 3, 4
ALWAYS = 1e-9
"""Minutes between checkpoints."""


class Killed(BaseException):
    """The end of a process, as far as a test within it can have one."""


def settings(**changes: Any) -> ResolvedTrain:
    return Train(
        epochs=EPOCHS, lr=0.05, head_lr=0.02, ema_decay=0.9, label_smoothing=0.1, max_grad_norm=1.0, **changes
    ).resolved()


def run(
    kept: Checkpoints | None,
    kill_at: tuple[int, int] | None = None,
    told: list[int] | None = None,
    soup: int | None = None,
    **changes: Any,
) -> tuple[dict[str, torch.Tensor], History]:
    """Train a network with dropout and batch norm; killed before a step (epoch, step), or, at STEPS, after the epoch."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))
    inputs = torch.randn(STEPS * 16, 2, generator=torch.Generator().manual_seed(1))
    labels = (inputs[:, 0] > 0).long()

    def of(epoch: int, first: int) -> Iterator[Batch]:
        for step in range(first, STEPS):
            if (epoch, step) == kill_at:
                raise Killed
            rows = slice(step * 16, step * 16 + 16)
            yield inputs[rows], labels[rows]

    def on_epoch(epoch: int, metrics: dict[str, float], timing: dict[str, float]) -> None:
        if (epoch, STEPS) == kill_at:
            raise Killed
        if told is not None:
            told.append(epoch)

    val = Batches(lambda epoch, first: [(inputs, labels)], 1, len(labels), len(labels))
    train = Batches(of, STEPS, len(labels), 16)
    history = Trainer(net, net[3], train, val, settings(**changes), CPU, on_epoch, kept, soup=soup).run()
    return net.state_dict(), history


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("minutes", [ALWAYS, 60])
def test_ended_before_any_step_and_after_any_epoch_it_comes_to_the_same_weights(
    tmp_path: Path, optimizer: str, minutes: float
) -> None:
    weights, history = run(None, optimizer=optimizer)
    for epoch in range(1, EPOCHS + 1):
        for step in range(STEPS + 1):
            folder = tmp_path / f"{epoch}-{step}"
            with pytest.raises(Killed):
                run(Checkpoints(folder, minutes), (epoch, step), optimizer=optimizer)
            told: list[int] = []
            again, its_history = run(Checkpoints(folder, minutes), told=told, optimizer=optimizer)
            assert its_history == history
            assert told == list(range(1, EPOCHS + 1))
            assert all(torch.equal(again[name], value) for name, value in weights.items())


def test_a_soup_ended_in_any_of_its_trainings_comes_to_the_same_weights(tmp_path: Path) -> None:
    weights, history = run(None, soup=2)
    for epoch in range(1, 2 * EPOCHS + 1):
        for step in (0, 2, STEPS):
            folder = tmp_path / f"{epoch}-{step}"
            with pytest.raises(Killed):
                run(Checkpoints(folder, ALWAYS), (epoch, step), soup=2)
            told: list[int] = []
            again, its_history = run(Checkpoints(folder, ALWAYS), told=told, soup=2)
            assert its_history == history and told == list(range(1, 2 * EPOCHS + 1))
            assert all(torch.equal(again[name], value) for name, value in weights.items())


def test_it_goes_on_from_where_it_was_not_from_the_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Killed):
        run(Checkpoints(tmp_path, ALWAYS), (2, 3))
    run(Checkpoints(tmp_path))
    assert "goes on from epoch 2, step 3" in capsys.readouterr().out


SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from plumage.config import Train
from plumage.data.dataset.store import Dataset
from plumage.models.preprocessing import Preprocessing
from plumage.models import create_model
from plumage.models.saved_model import save_model
from plumage.training.checkpoints import checkpoints
from plumage.training import recipes
from plumage.training.recipes import seed_everything, train_model


def dies(name, at):
    "Have the process die at this call of a function of the recipes."
    function, calls = getattr(recipes, name), []

    def called(*arguments, **named):
        calls.append(name)
        if len(calls) == int(at):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)

    setattr(recipes, name, called)


signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with it ignored
torch.set_num_threads(1)
root = Path(sys.argv[1])
dataset = Dataset(root / "dataset")
rows = {"train": [row for row in range(len(dataset)) if row % 4], "val": list(range(0, len(dataset), 4))}
train = Train(device="cpu", recipe=sys.argv[2], epochs=int(sys.argv[3]), batch_size=4, ema_decay=0.9, soup=2).resolved()
if sys.argv[4:]:
    dies(*sys.argv[4:])
pre = Preprocessing(size=32, crop_fraction=1.0)
seed_everything(0)
model = create_model("efficientnet_lite0", len(dataset.classes), "imagenet" if train.recipe == "finetune" else None)
with checkpoints(root, "key", 0.005) as kept:
    train_model(model, dataset, rows, pre, train, torch.device("cpu"), lambda epoch, *_: print("epoch", epoch, flush=True), kept)
    save_model(root / "models", model, dataset.classes, pre)
"""


class Training:
    """A training in a process of its own."""

    def __init__(self, root: Path, recipe: str = "scratch", epochs: int = 3) -> None:
        self.root, self.recipe, self.epochs = root, recipe, epochs
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def start(self, *dies: str) -> subprocess.Popen[str]:
        """`dies`: at which call of which function of the recipes."""
        command = [sys.executable, "-c", SCRIPT, str(self.root), self.recipe, str(self.epochs), *dies]
        return subprocess.Popen(
            command, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def wait_for(self, process: subprocess.Popen[str], epoch: int) -> None:
        """Wait until `epoch` is told, which checkpoints may have been before."""
        assert process.stdout
        while line := process.stdout.readline():
            if line == f"epoch {epoch}\n":
                return
        raise AssertionError("the process is gone")

    def finish(self) -> bytes:
        """The weights' file in the end."""
        process = self.start()
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, said
        file = self.root / "models" / "model.safetensors"
        weights = file.read_bytes()
        file.unlink()
        assert not (self.root / ".checkpoints" / "key").exists()
        return weights


@pytest.fixture
def trainings(tmp_path: Path, color_dataset: Callable[[int], Dataset]) -> list[Training]:
    """The same training in two places."""
    color_dataset(8)
    for name in "ab":
        shutil.copytree(tmp_path / "dataset", tmp_path / name / "dataset")
    return [Training(tmp_path / name) for name in "ab"]


@pytest.mark.slow
def test_killed_at_ten_random_moments_and_at_every_epoch_and_stopped_by_ctrl_c_it_ends_the_same(
    trainings: list[Training],
) -> None:
    started = time.monotonic()
    undisturbed = trainings[0].finish()
    lasts = time.monotonic() - started

    at_work: list[bool] = []

    def survive(training: Training, kills: list[float | int]) -> bytes:
        """What comes out in the end: after Ctrl-C, then kills after so many seconds (a float) or an epoch (a whole number)."""
        process = training.start()
        training.wait_for(process, 1)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=60)
        assert "a checkpoint is saved; the same command goes on from epoch " in said and "KeyboardInterrupt" in said
        for kill in kills:
            process = training.start()
            if isinstance(kill, int):
                training.wait_for(process, kill)
            else:
                time.sleep(kill)
            at_work.append(process.poll() is None)
            process.kill()
            process.communicate()
        return training.finish()

    moments = [random.Random(number).uniform(0.4 * lasts, 0.9 * lasts) for number in range(10)]
    with ThreadPoolExecutor(2) as pool:  # a core each
        ends: list[list[float | int]] = [[*moments[:4], 1, 2, 3], [*moments[4:]]]
        assert list(pool.map(survive, trainings, ends)) == [undisturbed, undisturbed]
    assert sum(at_work) >= 10


@pytest.mark.slow
def test_killed_while_the_classifier_is_solved_for_again_it_ends_the_same(
    tmp_path: Path, color_dataset: Callable[[int], Dataset]
) -> None:
    color_dataset(8)
    for name in "ab":
        shutil.copytree(tmp_path / "dataset", tmp_path / name / "dataset")
    undisturbed, training = (Training(tmp_path / name, "finetune", epochs=1) for name in "ab")
    # Features are of train, of train mirrored and of val: the probe's, then the tuned network's, each kept once it is there.
    for function, call in (("fit_classifier", "1"), ("_features", "2"), ("_features", "2"), ("fit_classifier", "1")):
        process = training.start(function, call)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL, said
    assert "solves for the classifier again" in said and "epoch 1/2" not in said
    assert training.finish() == undisturbed.finish()


def test_a_key_is_of_parameters_files_and_code(tmp_path: Path) -> None:
    file = tmp_path / "splits.csv"
    file.write_text("a")
    keys = [training_key(file, settings().decisive()), training_key(file, settings(seed=1).decisive())]
    file.write_text("b")
    keys.append(training_key(file, settings().decisive()))
    assert len(set(keys)) == 3
    assert training_key(file, settings(checkpoint_minutes=1).decisive()) == keys[2]


def test_one_process_at_a_time_trains_the_same(tmp_path: Path) -> None:
    with (
        checkpoints(tmp_path, "one", 1),
        checkpoints(tmp_path, "two", 1),
        pytest.raises(TrainingError, match="another process"),
        checkpoints(tmp_path, "one", 1),
    ):
        pass


def test_checkpoints_go_at_the_end_and_stay_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(Killed), checkpoints(tmp_path, "key", 1) as kept:
        kept.run_id = "run"
        raise Killed
    with checkpoints(tmp_path, "key", 1) as kept:
        assert kept.run_id == "run"
    assert not list((tmp_path / ".checkpoints").iterdir())


def test_of_trainings_given_up_only_the_newest_keep_theirs(tmp_path: Path) -> None:
    for number in range(KEPT + 3):
        with pytest.raises(Killed), checkpoints(tmp_path, str(number), 1) as kept:
            kept.save("network", {"number": number})
            os.utime(tmp_path / ".checkpoints" / str(number), (number, number))
            raise Killed
    left = sorted(folder.name for folder in (tmp_path / ".checkpoints").iterdir())
    assert left == [str(number) for number in range(2, KEPT + 3)]


def test_a_broken_checkpoint_is_said_and_not_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, _ = run(None)
    with pytest.raises(Killed):
        run(Checkpoints(tmp_path, ALWAYS), (2, 1))
    file = tmp_path / "network.pt"
    file.write_bytes(file.read_bytes()[:1000])
    assert not Checkpoints(tmp_path).has("network")
    again, _ = run(Checkpoints(tmp_path))
    assert "network.pt can't be read" in capsys.readouterr().out
    assert all(torch.equal(again[name], value) for name, value in weights.items())


def test_on_a_full_disk_training_goes_on_without(small_disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, _ = run(None)
    (small_disk / "else").write_bytes(bytes(2**21 - 8192))
    again, _ = run(Checkpoints(small_disk, ALWAYS))
    assert capsys.readouterr().out.count("can't be written") == 1
    assert all(torch.equal(again[name], value) for name, value in weights.items())
    assert [path.name for path in small_disk.iterdir()] == ["else"]
