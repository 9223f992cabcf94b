"""Stage train: a model from the train photos, its best epoch chosen on val; opens the MLflow run of this execution."""

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
from plumage.training.history import write_history
from plumage.training.loop import choose_device
from plumage.training.recipes import be_deterministic, input_for, train_model


def main(params: Params) -> None:
    dataset = Dataset(Path("data/dataset"))
    rows = read_split(Path("data/splits.csv"), dataset)
    train, wanted = params.train.resolved(), params.model
    device = choose_device(train.device)
    be_deterministic(train.seed)
    model = create_model(
        wanted.name,
        len(dataset.classes),
        wanted.weights_from(project_root()),
        dropout=wanted.dropout,
        drop_path=wanted.drop_path,
    )
    photo_side = None if wanted.weights else typical_side(dataset)
    preprocessing = input_for(model, wanted.image_size, wanted.crop, photo_side)
    with training_run(project_root(), params.tracking.experiment, params.flat()) as run:
        run.log_artifact(Path("params.yaml"))
        run.log_artifact(Path("reports/data.json"))
        run.log_dataset("photos", Path("data/splits.csv"), "data/dataset")

        def on_epoch(epoch: int, metrics: dict[str, float], photos_per_second: float) -> None:
            run.log_metrics({**metrics, "train/images_per_second": photos_per_second}, epoch)
            shown = "  ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            print(f"epoch {epoch}/{train.epochs}  {shown}  {photos_per_second:.0f} images/s", flush=True)

        history = train_model(model, dataset, rows, preprocessing, train, device, on_epoch)
        save_model(Path("models"), model, dataset.classes, preprocessing)
        write_history(Path("reports/history.csv"), history)
        write_json(Path("models/run.json"), {"run_id": run.id})
        run.log_metrics({"best_epoch": history.best_epoch})


if __name__ == "__main__":
    run_stage(main)
