"""Whether the same training gives the same bytes, also after kill -9, in processes of their own."""

import hashlib
import signal
import subprocess
import time

from tables import Rows

from on_gpu.common import CUDA, SIDE, Run
from plumage.config import Train
from plumage.models import create_model
from plumage.models.preprocessing import Preprocessing
from plumage.training.checkpoints import Checkpoints
from plumage.training.context import TrainingContext, TrainingData
from plumage.training.recipes import train_model
from plumage.training.seeding import seed_everything

NOTE = "Weights after four epochs of EfficientNet-B0 from scratch, in deterministic mode."


def measure(run: Run) -> list[Rows]:
    run.dataset()
    first, second, killed = (
        subprocess.Popen(run.command(f"train:{name}"), stdout=subprocess.PIPE, text=True)
        for name in ("first", "second", "killed")
    )
    checkpoint = run.work / "killed" / "trainer.pt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    resumed = subprocess.run(run.command("train:killed"), capture_output=True, text=True).stdout
    digest, again, after_kill = (last_line(said) for said in (first.communicate()[0], second.communicate()[0], resumed))
    return [[
        {"what": "the same training twice", "same bytes": str(digest == again != "")},
        {"what": "killed after an epoch's checkpoint, and resumed", "same bytes": str(after_kill == digest != "")},
        {"what": "it did resume", "same bytes": str("resuming from" in resumed)},
    ]]  # fmt: skip


def last_line(said: str) -> str:
    return said.strip().splitlines()[-1] if said.strip() else ""


def train_and_print_digest(run: Run, name: str) -> None:
    """Train with checkpoints in the folder `name`, and print a digest of the weights."""
    dataset, folder = run.dataset(), run.work / name
    folder.mkdir(exist_ok=True)
    train = Train(epochs=4, batch_size=256).resolved()
    seed_everything(0)
    model = create_model("efficientnet_b0", len(dataset.classes))
    rows = {"train": list(range(1, len(dataset), 2))[:1100], "val": list(range(0, len(dataset), 2))[:64]}
    context = TrainingContext(train, CUDA, checkpoints=Checkpoints(folder))
    train_model(model, TrainingData(dataset, rows, Preprocessing(size=SIDE, crop_fraction=1.0)), context)
    values = b"".join(value.cpu().numpy().tobytes() for value in model.state_dict().values())
    print(hashlib.sha256(values).hexdigest(), flush=True)
