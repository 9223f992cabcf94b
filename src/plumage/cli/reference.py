"""The reference of params.yaml: a page for people and a JSON schema for editors, both made from its classes."""

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
        lines += [
            f"| `{name}.{key}` | `{yaml.safe_dump(field.default).split(chr(10))[0]}` | {field.description} |"
            for key, field in section.model_fields.items()
        ]
    recipes = list(RECIPES)
    lines += ["", "## Defaults by recipe", "", f"| key | {' | '.join(recipes)} |", "|---" * (len(recipes) + 1) + "|"]
    lines += [
        f"| `train.{key}` | {' | '.join(_cell(RECIPES[recipe], key) for recipe in recipes)} |"
        for key in RECIPES["finetune"]
    ]
    return "\n".join(lines) + "\n"


def _cell(recipe: dict[str, Scalar], key: str) -> str:
    return yaml.safe_dump(recipe[key]).split("\n")[0] if key in recipe else "–"


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
