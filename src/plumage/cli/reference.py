"""The parameters as a page for people, made from their classes."""

import yaml

from plumage.config import RECIPES, Scalar, sections


def reference() -> str:
    """The parameters as a Markdown page: docs/params.md."""
    lines = [
        "# params.yaml",
        "",
        "Made from `src/plumage/config.py` by `plumage params`. A key left out takes its default; `null` in `train` takes the",
        "recipe's, in the last table.",
    ]
    for name, section in sections().items():
        lines += ["", f"## {name}", "", section.__doc__ or "", "", "| key | default | takes |", "|---|---|---|"]
        lines += [
            f"| `{name}.{key}` | `{yaml.safe_dump(field.default).split(chr(10))[0]}` | {(field.description or '').replace('|', ' or ')} |"
            for key, field in section.model_fields.items()
        ]
    recipes = list(RECIPES)
    lines += [
        "",
        "## What the recipes fill in",
        "",
        f"| key | {' | '.join(recipes)} |",
        "|---" * (len(recipes) + 1) + "|",
    ]
    lines += [
        f"| `train.{key}` | {' | '.join(_cell(RECIPES[recipe], key) for recipe in recipes)} |"
        for key in RECIPES["finetune"]
    ]
    return "\n".join(lines) + "\n"


def _cell(recipe: dict[str, Scalar], key: str) -> str:
    return yaml.safe_dump(recipe[key]).split("\n")[0] if key in recipe else "–"
