"""Stage train: a model from the train photos, its best epoch chosen on val, in an MLflow run; goes on after a kill."""

from pathlib import Path

from _stage import run_stage
from plumage.config import Params
from plumage.data.loader import typical_side
from plumage.data.split import read_split
from plumage.data.store import Dataset
from plumage.files import write_json
from plumage.models.bundle import save_model
from plumage.models.weights import create_model
from plumage.project import project_root
from plumage.tracking.runs import training_run
from plumage.training.checkpoints import checkpoints, training_key
from plumage.training.history import epoch_line, write_history
from plumage.training.loop import Diverged, choose_device
from plumage.training.recipes import be_deterministic, input_for, train_model

SPLITS, DATA = Path("data/splits.csv"), Path("data/dataset")


def main(params: Params) -> None:
    dataset = Dataset(DATA)
    rows = read_split(SPLITS, dataset)
    train, wanted, root = params.train.resolved(), params.model, project_root()
    device, weights = choose_device(train.device), wanted.weights_from(root)
    be_deterministic(train.seed)
    model = create_model(wanted.name, len(dataset.classes), weights, dropout=wanted.dropout, drop_path=wanted.drop_path)
    preprocessing = input_for(model, wanted.image_size, wanted.crop, None if weights else typical_side(dataset))
    key = training_key(dataset.bytes_column("sha256").tobytes(), SPLITS, wanted, Path(weights or ""), train.decisive())
    with (
        checkpoints(root, key, train.checkpoint_minutes) as kept,
        training_run(root, params.tracking.experiment, params.flat(), kept.run_id) as run,
    ):
        kept.run_id = run.id
        for file in ("params.yaml", "reports/data.json"):
            run.log_artifact(Path(file))
        run.log_dataset("photos", SPLITS, str(DATA))

        def on_epoch(epoch: int, metrics: dict[str, float], speed: float) -> None:
            run.log_epoch(epoch, {**metrics, "train/images_per_second": speed})
            print(epoch_line(epoch, train.epochs, metrics, speed), flush=True)

        try:
            history, diverged = train_model(model, dataset, rows, preprocessing, train, device, on_epoch, kept), None
        except Diverged as error:
            history, diverged = error.history, error
        if history.epochs:
            save_model(Path("models"), model, dataset.classes, preprocessing)
            write_history(Path("reports/history.csv"), history)
            write_json(Path("models/run.json"), {"run_id": run.id})
            run.log_metrics({"best_epoch": history.best_epoch})
        if diverged:
            raise diverged


if __name__ == "__main__":
    run_stage(main)
