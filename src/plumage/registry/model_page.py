"""A registered model's page in MLflow: its promotions in words, as its description."""

from urllib.parse import quote

from mlflow import MlflowClient

from plumage.common.text import markdown
from plumage.registry.model_card import LONGEST_DESCRIPTION
from plumage.registry.promotions import Promotion, promotions

DESCRIPTION = "Photo to class probabilities, registered by Plumage."
LONGEST_WHY = 500
"""Characters. `plumage registry history` has the whole reason."""


def describe_model(client: MlflowClient, name: str) -> None:
    """Bring the description of the registered model `name` up to date, unless a person wrote it. Call it with `lock_model`."""
    model = client.get_registered_model(name)
    text = model_description(name, promotions(model.tags))
    if (model.description or DESCRIPTION).startswith(DESCRIPTION) and model.description != text:
        client.update_registered_model(name, text)


def model_description(name: str, history: list[Promotion]) -> str:
    """The model's description and its promotions, in Markdown: the newest first, as many as fit, with links to the versions.

    It is a list because MLflow's page breaks the cells of a table into lines of a word.
    """
    if not history:
        return DESCRIPTION
    text = f"{DESCRIPTION} Its champions, the newest first:\n"
    for entry in reversed(history):
        link = f"[Version {entry.to}](#/models/{quote(name, safe='')}/versions/{entry.to})"
        line = (
            f"\n- **{link}** since {entry.when[:16].replace('T', ' ')} UTC: {markdown(_cut(entry.why))} "
            f"({entry.how}, {markdown(entry.who[:80])})"
        )
        if len(text) + len(line) > LONGEST_DESCRIPTION:
            break
        text += line
    return text


def _cut(why: str) -> str:
    return why if len(why) <= LONGEST_WHY else f"{why[: LONGEST_WHY - 1]}…"
