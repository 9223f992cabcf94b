"""What an experiment's pages in MLflow show: its kind, its description and the view to compare runs by."""

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from plumage.tracking.saved_view import VIEW_NAME, VIEW_TAG, differing, saved_view
from plumage.tracking.tags import EXPERIMENT_KIND, EXPERIMENT_NOTE

KIND = "custom_model_development"
"""MLflow's word for trained models: its pages then leave out what is for language models."""
NOTE = f"""Image classifiers trained by Plumage, one run per `dvc repro` or `dvc exp run`.

- **Compare runs**: *Views > {VIEW_NAME}*. Its table has accuracies and the parameters that differ; its chart icon shows curves, and
  confusion matrices side by side.
- **Choose** by `val/accuracy`. `test/accuracy`, with its 95% interval, says how good the choice is.
- **One run**: its artifacts have `report.html`, tables, and `lineage.json` with every hash.
- **The model to use** is the registered model's version with the alias `champion`.
"""
MAX_RUNS = 200
"""The newest runs, whose parameters and metrics decide on columns and charts."""


def prepare_pages(client: MlflowClient, experiment_id: str) -> None:
    """Give an experiment a kind and a description where it has none, and bring its saved view up to date."""
    experiment = client.get_experiment(experiment_id)
    runs = client.search_runs([experiment_id], max_results=MAX_RUNS)
    params, metrics = differing(run.data.params for run in runs), {name for run in runs for name in run.data.metrics}
    tags = {EXPERIMENT_KIND: KIND, EXPERIMENT_NOTE: NOTE} | experiment.tags
    tags[VIEW_TAG] = saved_view(params, metrics, experiment.creation_time or 0)
    for name, value in tags.items():
        if experiment.tags.get(name) != value:
            _set_tag(client, experiment_id, name, value)


def _set_tag(client: MlflowClient, experiment_id: str, name: str, value: str) -> None:
    """Set a tag, also when another process adds it at the same moment: MLflow then fails where it would update the tag."""
    try:
        client.set_experiment_tag(experiment_id, name, value)
    except MlflowException:
        if name not in client.get_experiment(experiment_id).tags:
            raise
        client.set_experiment_tag(experiment_id, name, value)
