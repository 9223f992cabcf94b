"""What `plumage params` prints: the reference of params.yaml, as a page for people and as a JSON schema for editors."""

from typing import Any

import yaml

from plumage.config import RECIPES, Params, Scalar, sections


def reference() -> str:
    """Return the reference as a Markdown page: docs/params.md."""
    lines = [
        "# params.yaml",
        "",
        "Generated from `src/plumage/config.py` by `plumage params`. A missing key takes its default. In `train`, `null` takes",
        "the recipe's value in the last table.",
    ]
    for name, section in sections().items():
        lines += ["", f"## {name}", "", section.__doc__ or "", "", "| key | default | takes |", "|---|---|---|"]
        for key, field in section.model_fields.items():
            lines.append(f"| `{name}.{key}` | `{_as_yaml(field.default)}` | {field.description} |")
    recipes = list(RECIPES)
    lines += ["", "## Defaults by recipe", "", f"| key | {' | '.join(recipes)} |", "|---" * (len(recipes) + 1) + "|"]
    for key in RECIPES["finetune"]:
        cells = (_as_yaml(RECIPES[recipe][key]) if key in RECIPES[recipe] else "–" for recipe in recipes)
        lines.append(f"| `train.{key}` | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _as_yaml(value: Scalar) -> str:
    return yaml.safe_dump(value).split("\n")[0]


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of params.yaml, which editors complete from: docs/params.schema.json."""
    schema = Params.model_json_schema(by_alias=True)
    for section in (schema, *schema["$defs"].values()):
        del section["title"]
        for key in section["properties"].values():
            key.pop("title", None)
    for key in schema["properties"].values():
        del key["default"]  # each section's keys have their own
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
