"""A registered model's page in MLflow: its promotions in words, as its description."""

from mlflow import MlflowClient

from plumage.common.text import markdown
from plumage.registry.promotions import Promotion, promotions

DESCRIPTION = "Photo to class probabilities, registered by Plumage."
SHOWN = 10
"""The newest promotions. `plumage registry history` has all."""
LONGEST_WHY = 200
"""Characters, so that the list stays below the 5,000 that MLflow takes."""


def describe_model(client: MlflowClient, name: str) -> None:
    """Bring the description of the registered model `name` up to date, unless a person wrote it. Call it with `lock_model`."""
    model = client.get_registered_model(name)
    text = model_description(promotions(model.tags))
    if (model.description or DESCRIPTION).startswith(DESCRIPTION) and model.description != text:
        client.update_registered_model(name, text)


def model_description(history: list[Promotion]) -> str:
    """The model's description and its promotions, newest first, in Markdown.

    It is a list because MLflow's page breaks the cells of a table into lines of a word.
    """
    if not history:
        return DESCRIPTION
    entries = [
        f"- **Version {entry.to}** since {entry.when[:16].replace('T', ' ')} UTC: {markdown(_cut(entry.why))} "
        f"({entry.how}, {markdown(entry.who[:80])})"
        for entry in reversed(history[-SHOWN:])
    ]
    return "\n".join([f"{DESCRIPTION} Its champions, the newest first:", "", *entries])


def _cut(why: str) -> str:
    return why if len(why) <= LONGEST_WHY else f"{why[: LONGEST_WHY - 1]}…"
