"""A registered model's page in MLflow: its promotions in words, as its description."""

from mlflow import MlflowClient

from plumage.common.text import markdown
from plumage.registry.promotions import Promotion, promotions

DESCRIPTION = "Photo to class probabilities, registered by Plumage."
SHOWN = 10
"""The newest promotions. `plumage registry history` has all."""
LONGEST_WHY = 200
"""Characters, so that the table stays below the 5,000 that MLflow takes."""


def describe_model(client: MlflowClient, name: str) -> None:
    """Bring the description of the registered model `name` up to date, unless a person wrote it. Call it with `lock_model`."""
    model = client.get_registered_model(name)
    text = model_description(promotions(model.tags))
    if (model.description or DESCRIPTION).startswith(DESCRIPTION) and model.description != text:
        client.update_registered_model(name, text)


def model_description(history: list[Promotion]) -> str:
    """What the model is, and who or what made which version champion, when and why, the newest first, in Markdown."""
    if not history:
        return DESCRIPTION
    rows = [
        f"| {entry.when[:16].replace('T', ' ')} | {entry.to} | {entry.how} | {markdown(entry.who[:80])} | "
        f"{markdown(_cut(entry.why))} |"
        for entry in reversed(history[-SHOWN:])
    ]
    head = ["| when (UTC) | champion | by | who | why |", "|---|---|---|---|---|"]
    return "\n".join([f"{DESCRIPTION} Which version is champion, and since when:", "", *head, *rows])


def _cut(why: str) -> str:
    return why if len(why) <= LONGEST_WHY else f"{why[: LONGEST_WHY - 1]}…"
